"""Read documents from .txt, .jsonl, .csv and .parquet files, one at a time, never a whole table in memory.

Every reader yields (name, text) pairs. Bytes that are not UTF-8 become U+FFFD here, so a broken file never stops a run.
"""

import csv
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from interp.errors import InterpError, nearest
from interp.files import parse_json

PIECE = 10_000
"""Characters of the documents that a long .txt is cut into, so that a book has documents to hold out and to resample."""

BORDERS = (re.compile(r"\n\s*\n"), re.compile(r"\n"), re.compile(r"\s"))

Texts = Iterator[tuple[str, str]]


def read_path(path: Path, text_field: str) -> Texts:
    """Yield (name, text) for every document of a file, or of all readable files in a folder, recursively and sorted.

    Raises:
        InterpError: nothing readable there, an unknown file format, a broken line or table, or no text column.
    """
    files = files_in(path) if path.is_dir() else [path]
    for file in files:
        reader = READERS.get(file.suffix.lower())
        if reader is None:
            raise InterpError(f"{file} has the ending {file.suffix!r}; a corpus file ends in {', '.join(READERS)}.")
        try:
            yield from reader(file, text_field)
        except OSError as error:
            raise InterpError(f"Cannot read {file}: {error.strerror or error}.") from error


def files_in(folder: Path) -> list[Path]:
    """Return the readable files of a folder, recursively and sorted, hidden ones left out.

    Raises:
        InterpError: there is none.
    """
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and file.suffix.lower() in READERS]
    visible = [file for file in files if not any(part.startswith(".") for part in file.relative_to(folder).parts)]
    if not visible:
        raise InterpError(f"The folder {folder} holds no corpus file; expected one that ends in {', '.join(READERS)}.")
    return visible


def _read_txt(path: Path, text_field: str) -> Texts:
    pieces = list(_pieces(path.read_bytes().decode("utf-8-sig", errors="replace")))
    for number, piece in enumerate(pieces, start=1):
        yield path.stem if len(pieces) == 1 else f"{path.stem}:{number}", piece


def _pieces(text: str) -> Iterator[str]:
    """Cut a long text into documents of about `PIECE` characters: at a blank line, else a line's end, else a space."""
    start = 0
    while len(text) - start > 2 * PIECE:
        place = start + PIECE
        for border in BORDERS:
            if found := border.search(text, place, start + 2 * PIECE):
                place = found.end()
                break
        yield text[start:place]
        start = place
    yield text[start:]


def _read_jsonl(path: Path, text_field: str) -> Texts:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            try:
                record = parse_json(line.decode("utf-8-sig", errors="replace"))
            except ValueError as error:
                raise InterpError(f"{where} is not JSON ({error}); expected one JSON object a line.") from error
            if not isinstance(record, dict):
                raise InterpError(f"{where} holds a JSON {type(record).__name__}; expected one JSON object a line.")
            require_column(text_field, list(record), where)
            yield f"{path.stem}:{number}", text_of(record[text_field], text_field, where)


def _read_csv(path: Path, text_field: str) -> Texts:
    csv.field_size_limit(sys.maxsize)  # Python's default refuses documents over 128 KiB
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as lines:
        # Before Python 3.11 the csv module stops at a NUL.
        rows = csv.reader((line.replace("\0", "\N{REPLACEMENT CHARACTER}") for line in lines), strict=True)
        try:
            header = next(rows, [])
            column = require_column(text_field, header, str(path))
            for number, row in enumerate(rows, start=1):
                yield f"{path.stem}:{number}", row[column] if column < len(row) else ""
        except csv.Error as error:
            raise InterpError(
                f"{path}, line {rows.line_num} is not CSV ({error}); quote the field or use .jsonl."
            ) from error


def _read_parquet(path: Path, text_field: str) -> Texts:
    try:
        with pq.ParquetFile(path) as table:
            require_column(text_field, table.schema_arrow.names, str(path))
            number = 0
            for batch in table.iter_batches(batch_size=64, columns=[text_field]):
                for value in _bytes(batch.column(0), text_field, path):
                    number += 1
                    yield f"{path.stem}:{number}", (value or b"").decode("utf-8", errors="replace")
    except pa.ArrowException as error:
        raise InterpError(f"{path} is not a readable Parquet file ({str(error).splitlines()[0]}).") from error


def _bytes(column: pa.Array, text_field: str, path: Path) -> list[bytes | None]:
    """Strings before decoding: Arrow does not check that they are UTF-8, and Python would stop at one that is not."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise InterpError(f"The column {text_field!r} of {path} is of type {column.type}; expected strings.")
    return column.cast(pa.large_binary()).to_pylist()


def require_column(text_field: str, columns: list[str], where: str) -> int:
    """Return the place of the column that holds the text.

    Raises:
        InterpError: there is none of that name; the message lists the columns.
    """
    if text_field not in columns:
        found = ", ".join(map(repr, columns)) or "none"
        hint = nearest(text_field, columns)
        raise InterpError(f"{where} has no column {text_field!r} for the text; the columns are {found}{hint}")
    return columns.index(text_field)


def text_of(value: object, text_field: str, where: str) -> str:
    """Return the text of a field, "" for none.

    Raises:
        InterpError: the field holds something else.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InterpError(f"{where}: the field {text_field!r} holds a {type(value).__name__}; expected a string.")
    return value


READERS: dict[str, Callable[[Path, str], Texts]] = {
    ".txt": _read_txt,
    ".jsonl": _read_jsonl,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}
