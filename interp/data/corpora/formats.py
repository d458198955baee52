"""Read documents from .txt, .jsonl, .csv and .parquet files, one at a time, never a whole table in memory.

Every reader of texts yields (name, text) pairs, every reader of records (name, place, fields); what their bytes are is told
by `interp.data.corpora.encoding`.
"""

import csv
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from interp.data.corpora.encoding import PACKED, open_text, suffix_of
from interp.errors import InterpError, nearest
from interp.files import parse_json
from interp.options import say

PIECE = 10_000
"""Characters of the documents that a long .txt is cut into, so that a book has documents to hold out and to resample."""

BORDERS = (re.compile(r"\n\s*\n"), re.compile(r"\n"), re.compile(r"\s"))
Texts = Iterator[tuple[str, str]]
Records = Iterator[tuple[str, str, Mapping[str, Any]]]
Check = Callable[[list[str], str], object]  # sees the names of the columns, and where they stand


def read_path(path: Path, text_field: str) -> Texts:
    """Yield (name, text) for every document of a file, or of all readable files in a folder, recursively and sorted.

    Raises:
        InterpError: nothing readable there, an unknown file format, a broken line or table, or no text column.
    """
    for file in files_in(path, list(READERS)):
        with _readable(file):
            yield from READERS[suffix_of(file)](file, text_field)


def read_records(path: Path, fields: list[str]) -> Records:
    """Yield (name, place, fields) for every record of such files; the place is for messages, as in "a.jsonl, line 3".

    Args:
        path: the file or folder.
        fields: by which the delimiter of a CSV is told; a record may have others, and need not have these.

    Raises:
        InterpError: nothing readable there, an unknown file format, or a broken line or table.
    """
    for file in files_in(path, list(RECORD_READERS)):
        with _readable(file):
            yield from RECORD_READERS[suffix_of(file)](file, fields, lambda names, where: None)


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InterpError(f"Cannot read {file}: {error.strerror or error}.") from error


def files_in(path: Path, endings: list[str]) -> list[Path]:
    """Return a file, or the files of a folder that end so, recursively and sorted; say once what else is in the folder.

    Raises:
        InterpError: there is none.
    """
    if path.is_dir():
        return _files_in(path, endings)
    if suffix_of(path) not in endings:
        raise InterpError(
            f"{path} has the ending {path.suffix!r}; a corpus file ends in {', '.join(endings)}, all but the last also "
            f"packed ({', '.join(PACKED)})."
        )
    return [path]


def _files_in(folder: Path, endings: list[str]) -> list[Path]:
    every = (file for file in sorted(folder.rglob("*")) if file.is_file())
    visible = [file for file in every if not any(part.startswith(".") for part in file.relative_to(folder).parts)]
    if any((folder / name).is_file() for name in ("dataset_dict.json", "state.json")):
        raise InterpError(f"{folder} is a data set that `save_to_disk` wrote; give hf:{folder}.")
    files = [file for file in visible if suffix_of(file) in endings]
    if not files:
        raise InterpError(f"The folder {folder} holds no corpus file; expected one that ends in {', '.join(endings)}.")
    if others := Counter(file.suffix or "no ending" for file in visible if suffix_of(file) not in endings):
        _say_left_out(folder, ", ".join(f"{n} × {ending}" for ending, n in sorted(others.items())))
    return files


@cache
def _say_left_out(folder: Path, what: str) -> None:
    say(f"Left out of {folder}: {what}.")


def _read_txt(path: Path, text_field: str) -> Texts:
    with open_text(path) as file:
        pieces = list(_pieces(file.read()))
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


def _jsonl_records(path: Path, fields: list[str], check: Check) -> Records:
    with open_text(path, newline="\n") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            try:
                record = parse_json(line)
            except ValueError as error:
                raise InterpError(f"{where} is not JSON ({error}); expected one JSON object a line.") from error
            if not isinstance(record, dict):
                raise InterpError(f"{where} holds a JSON {type(record).__name__}; expected one JSON object a line.")
            check(list(record), where)
            yield f"{path.stem}:{number}", where, record


def _csv_records(path: Path, fields: list[str], check: Check) -> Records:
    csv.field_size_limit(sys.maxsize)  # Python's default refuses documents over 128 KiB
    with open_text(path) as lines:
        # Before Python 3.11 the csv module stops at a NUL.
        clean = (line.replace("\0", "\N{REPLACEMENT CHARACTER}") for line in lines)
        first = next(clean, "")
        rows = csv.reader(chain([first], clean), delimiter=_delimiter(path, first, fields), strict=True)
        try:
            header = next(rows, [])
            if twice := [name for name, n in Counter(header).items() if n > 1 and name]:
                raise InterpError(f"{path} has two columns {twice[0]!r}; give each column a name of its own.")
            check(header, str(path))
            for number, row in enumerate(rows, start=1):
                if row and len(row) != len(header):
                    raise InterpError(
                        f"{path}, line {rows.line_num} has {len(row)} fields, its header {len(header)}; quote fields that "
                        "hold commas, or use .jsonl."
                    )
                yield f"{path.stem}:{number}", f"{path}, line {rows.line_num}", dict(zip(header, row, strict=False))
        except csv.Error as error:
            raise InterpError(
                f"{path}, line {rows.line_num} is not CSV ({error}); quote the field or use .jsonl."
            ) from error


def _delimiter(path: Path, header: str, fields: list[str]) -> str:
    """The comma, or what else stands between the names of the header, one of the fields among them."""
    if suffix_of(path) == ".tsv":
        return "\t"
    for delimiter in (",", ";", "\t", "|"):
        names = next(csv.reader([header], delimiter=delimiter), [])
        if set(fields) & set(names):
            return delimiter
    return ","


def _json_records(path: Path, fields: list[str], check: Check) -> Records:
    """A list of objects, or one object a line."""
    with open_text(path) as file:
        whole = file.read(1000).lstrip().startswith("[")
    if not whole:
        yield from _jsonl_records(path, fields, check)
        return
    with open_text(path) as file:
        try:
            records = parse_json(file.read())
        except ValueError as error:
            raise InterpError(
                f"{path} is not JSON ({error}); expected a list of objects, or one object a line."
            ) from error
    for number, record in enumerate(records, start=1):
        where = f"{path}, item {number}"
        if not isinstance(record, dict):
            raise InterpError(f"{where} is a JSON {type(record).__name__}; expected objects.")
        check(list(record), where)
        yield f"{path.stem}:{number}", where, record


def _parquet_records(path: Path, fields: list[str], check: Check) -> Records:
    with _parquet(path) as table:
        check(table.schema_arrow.names, str(path))
        number = 0
        for batch in table.iter_batches(batch_size=64):
            for record in batch.to_pylist():
                number += 1
                yield f"{path.stem}:{number}", f"{path}, row {number}", record


@contextmanager
def _parquet(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(path) as table:
            yield table
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise InterpError(f"{path} is not a readable Parquet file ({str(error).splitlines()[0]}).") from error


def _read_parquet(path: Path, text_field: str) -> Texts:
    """Bytes that are no UTF-8 become U+FFFD, and only the column of the text is read."""
    with _parquet(path) as table:
        require_column(text_field, table.schema_arrow.names, str(path))
        number = 0
        for batch in table.iter_batches(batch_size=64, columns=[text_field]):
            for value in _bytes(batch.column(0), text_field, path):
                number += 1
                yield f"{path.stem}:{number}", (value or b"").decode("utf-8", errors="replace")


def _bytes(column: pa.Array, text_field: str, path: Path) -> list[bytes | None]:
    """Strings before decoding: Arrow does not check that they are UTF-8, and Python would stop at one that is not."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_null(column.type):
        return [None] * len(column)
    if pa.types.is_string_view(column.type):
        column = column.cast(pa.large_string())
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    if not any(is_kind(column.type) for is_kind in kinds):
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
        examples = {"prompt", "completion"} <= set(columns) or "messages" in columns
        raise InterpError(
            f"{where} has no column {text_field!r} for the text; the columns are {found}{hint} Name it with --text-field "
            f"(text_field=){', or train on completions with --examples' * examples}."
        )
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


def _read_texts(records: Callable[[Path, list[str], Check], Records], path: Path, text_field: str) -> Texts:
    for name, where, record in records(path, [text_field], partial(require_column, text_field)):
        yield name, text_of(record.get(text_field), text_field, where)  # an empty line of a CSV has none


RECORD_READERS: dict[str, Callable[[Path, list[str], Check], Records]] = {
    ".jsonl": _jsonl_records,
    ".ndjson": _jsonl_records,
    ".json": _json_records,
    ".csv": _csv_records,
    ".tsv": _csv_records,
    ".parquet": _parquet_records,
}
READERS: dict[str, Callable[[Path, str], Texts]] = {
    ".txt": _read_txt,
    **{ending: partial(_read_texts, reader) for ending, reader in RECORD_READERS.items()},
    ".parquet": _read_parquet,
}
