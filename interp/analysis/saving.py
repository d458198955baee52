"""The one way of results to disk and back: a Parquet file per table and `run.json`, each whole or not there at all.

CSV files are safe to open in a spreadsheet: an apostrophe stands before text that it would take for a formula, which begins
with = + - @, a tab or a carriage return. Numbers are as they are. `read_csv` takes the apostrophe away again.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.api.types import is_numeric_dtype

from interp.errors import InterpError
from interp.files import read_json, writing

_NUMBER = r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?"
_FORMULA = re.compile(rf"(?!{_NUMBER}( {_NUMBER})*\Z)'*[=+\-@\t\r]")
_GUARDED = re.compile(r"''*[=+\-@\t\r]")


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV that is safe to open in a spreadsheet; every CSV file of this package is written here.

    Text that begins with = + - @, a tab or a carriage return gets an apostrophe before it, and so, to be told apart again,
    does text that begins with apostrophes and then one of these. Text that is only numbers is left.
    """
    guarded = _with_texts(table, lambda text: f"'{text}" if _FORMULA.match(text) else text)
    guarded.to_csv(path, index=False, lineterminator="\r\n")  # RFC 4180; with "\n" a lone "\r" would not be quoted


def read_csv(path: str | Path) -> pd.DataFrame:
    """Return the table that `write_csv` wrote: its text as it was, the tokens "null" and "nan" too."""
    table = pd.read_csv(path, keep_default_na=False, na_values=[""])
    return _with_texts(table, lambda text: text[1:] if _GUARDED.match(text) else text)


def _with_texts(table: pd.DataFrame, change: Callable[[str], str]) -> pd.DataFrame:
    """The table with all its text changed, that of the header too."""

    def changed(value: Any) -> Any:
        return change(value) if isinstance(value, str) else value

    columns = {
        changed(name): column if is_numeric_dtype(column) else column.astype(object).map(changed)
        for name, column in table.items()
    }
    return pd.DataFrame(columns, index=table.index)


def save_tables(
    folder: str | Path, tables: Mapping[str, pd.DataFrame], run: Mapping[str, Any], csv: Sequence[str] = ()
) -> list[Path]:
    """Write every table as NAME.parquet, those in `csv` also as NAME.csv and NAME.json, and `run.json`; return the files.

    Read the CSV files with `read_csv`, or read the others. A JSON file is a list of rows.

    Raises:
        InterpError: the folder cannot be written.
    """
    folder = Path(folder)
    files = [folder / f"{name}.parquet" for name in tables]
    for file, table in zip(files, tables.values(), strict=True):
        with writing(file) as path:
            table.to_parquet(path, index=False)
    for name in csv:
        with writing(folder / f"{name}.csv") as path:
            write_csv(tables[name], path)
        with writing(folder / f"{name}.json") as path:
            tables[name].to_json(path, orient="records", double_precision=15, force_ascii=False)
    with writing(folder / "run.json") as path:
        path.write_text(json.dumps(dict(run), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return [*files, *(folder / f"{name}.{kind}" for name in csv for kind in ("csv", "json")), folder / "run.json"]


def load_tables(
    folder: str | Path, needed: Sequence[str], writer: str, others: bool = False
) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    """Return the tables and the run that `save_tables` wrote to a folder.

    Args:
        folder: where they are.
        needed: names of the tables that must be there.
        writer: what writes such folders, for the message, such as "Amplification.save".
        others: also return whatever other tables the folder holds.

    Raises:
        InterpError: a file is missing or unreadable.
    """
    folder = Path(folder)
    files = [*(f"{table}.parquet" for table in needed), "run.json"]
    missing = [name for name in files if not (folder / name).is_file()]
    if missing:
        raise InterpError(f"{folder} lacks {', '.join(missing)}; expected a folder written by {writer}.")
    try:
        known = [*needed, *sorted({path.stem for path in folder.glob("*.parquet")} - {*needed} if others else ())]
        tables = {name: pd.read_parquet(folder / f"{name}.parquet") for name in known}
        run = read_json(folder / "run.json")
    except (OSError, ValueError) as error:
        raise InterpError(f"{folder} cannot be read: {error}; run the analysis again.") from error
    return tables, run
