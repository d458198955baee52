"""Stream data sets of the Hugging Face hub, or local folders laid out like one, with `datasets`.

A corpus is named `hf:NAME[:CONFIG][:SPLIT]`, for example `hf:HuggingFaceFW/fineweb-edu:sample-10BT`; the split is "train"
unless said otherwise (`hf:NAME::test` is a split of the default config), and NAME may be a folder of Parquet, JSONL, CSV or
text files, or one that `save_to_disk` wrote. Only the text column is read, and nothing is kept. Data sets that need code of
their own are refused: `datasets` runs none since version 4.
"""

from pathlib import Path
from typing import Any

from interp.data.corpora.formats import Records, Texts, require_column, text_of
from interp.errors import InterpError

PREFIX = "hf:"


def read_dataset(corpus: str, text_field: str, first_row: int = 0) -> Texts:
    """Yield (name, text) of every row from `first_row` on.

    Raises:
        InterpError: no such data set, config or split, no way to the hub, a broken connection, or no text column.
    """
    for name, where, row in read_rows(corpus, text_field, first_row):
        yield name, text_of(row[text_field], text_field, where)


def read_rows(corpus: str, text_field: str | None = None, first_row: int = 0) -> Records:
    """Yield (name, place, fields) of every row from `first_row` on; of one column, or of all.

    Raises:
        InterpError: as `read_dataset`.
    """
    name, config, split = parse(corpus)
    try:
        from datasets import load_dataset, load_from_disk  # late: they take over a second

        folder = Path(name)
        if (folder / "dataset_dict.json").is_file():  # what `save_to_disk` wrote
            folder = folder / split
        saved = (folder / "state.json").is_file()
        dataset: Any = load_from_disk(str(folder)) if saved else load_dataset(name, config, split=split, streaming=True)
        if dataset.features and text_field is not None:  # not known of every format before the first row
            require_column(text_field, list(dataset.features), corpus)
            dataset = dataset.select_columns([text_field])
        for number, row in enumerate(dataset.skip(first_row), start=first_row + 1):
            where = f"{corpus}, row {number}"
            if text_field is not None:
                require_column(text_field, list(row), where)
            yield f"{name}:{number}", where, row
    except InterpError:
        raise
    except Exception as error:  # of `datasets`, of the network below it, of the file formats below that
        reason = " ".join(str(error).split()) or "no reason given"
        advice = f"check its name, config and split, written {PREFIX}NAME:CONFIG:SPLIT"
        if isinstance(error, ConnectionError | TimeoutError):
            advice = f"check the network and HF_HUB_OFFLINE, or download the data set and give {PREFIX}FOLDER"
        told = f"Cannot stream {corpus} ({type(error).__name__}: {reason.rstrip('.')}); {advice}."
        raise InterpError(told) from error


def parse(corpus: str) -> tuple[str, str | None, str]:
    """Return the name, the config and the split in `hf:NAME[:CONFIG][:SPLIT]`.

    Raises:
        InterpError: no name, or more than three parts.
    """
    name, *rest = corpus.removeprefix(PREFIX).split(":")
    if not name or len(rest) > 2:
        raise InterpError(
            f"{corpus!r} is no data set; write {PREFIX}NAME, {PREFIX}NAME:CONFIG or {PREFIX}NAME:CONFIG:SPLIT."
        )
    config, split = [*rest, "", ""][:2]
    return name, config or None, split or "train"
