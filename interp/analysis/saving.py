"""The one way of results to disk and back: a Parquet file per table and `run.json`, each whole or not there at all."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from interp.errors import InterpError
from interp.files import read_json, writing


def save_tables(
    folder: str | Path, tables: Mapping[str, pd.DataFrame], run: Mapping[str, Any], csv: Sequence[str] = ()
) -> list[Path]:
    """Write every table as NAME.parquet, those in `csv` also as NAME.csv and NAME.json, and `run.json`; return the files.

    A CSV reader turns tokens such as "null" and "nan" into missing values: read the CSV files with
    ``pd.read_csv(path, keep_default_na=False, na_values=[""])``, or read the others. A JSON file is a list of rows.

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
            tables[name].to_csv(path, index=False)
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
