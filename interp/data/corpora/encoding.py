"""Bytes as text: which encoding a file is in, what is packed in it, and what is no text at all.

UTF-8 is read, and UTF-16 and UTF-32 with a byte-order mark; .gz, .bz2 and .zst are unpacked. A few bytes that are not UTF-8
become U+FFFD, so that one broken line does not stop a run; many of them are another encoding, and are refused with its name.
"""

import codecs
import io
from pathlib import Path

import pyarrow as pa

from interp.errors import InterpError

PACKED = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
"""Endings of packed files, and how Arrow calls them."""

MARKS = (  # the longer first: UTF-32's mark begins as UTF-16's does
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"), (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
NO_TEXT = {
    b"\x1f\x8b": "gzip data", b"PK\x03\x04": "a ZIP archive or an office document", b"%PDF": "a PDF",
    b"\x89PNG": "a PNG image", b"\xff\xd8\xff": "a JPEG image", b"GIF8": "a GIF image", b"\x28\xb5\x2f\xfd": "zstd data",
    b"BZh": "bzip2 data", b"PAR1": "a Parquet file", b"\x7fELF": "a program", b"SQLite format 3": "a database",
}  # fmt: skip
SAMPLE = 1 << 20
MANY = 10  # bytes that are not UTF-8, where they are more than one in `RARE`
RARE = 5000


def suffix_of(path: Path) -> str:
    """Return the ending that names the format, that of packing left out: ".jsonl" of "a.jsonl.gz"."""
    ends = [suffix.lower() for suffix in path.suffixes[-2:]]
    return ends[-2] if len(ends) == 2 and ends[-1] in PACKED else path.suffix.lower()


def open_text(path: Path, newline: str | None = "") -> io.TextIOWrapper:
    """Open a file as text, unpacked and in its own encoding.

    Args:
        path: of the file.
        newline: as for `open`; by default line ends stay as they are.

    Raises:
        InterpError: it is no regular file, no text, or in an encoding that is not known.
        OSError: it cannot be read.
    """
    if not path.is_file():
        raise InterpError(
            f"{path} is no regular file (a pipe, a device or a folder); give a file that can be read again."
        )
    with _unpacked(path) as sample:
        encoding = encoding_of(sample.read(SAMPLE), path)
    return io.TextIOWrapper(_unpacked(path), encoding, errors="replace", newline=newline)


def _unpacked(path: Path) -> io.BufferedReader:
    packing = PACKED.get(path.suffix.lower())
    if packing is None:
        return path.open("rb")
    return io.BufferedReader(pa.input_stream(str(path), compression=packing))  # type: ignore[arg-type] # it is readable


def encoding_of(start: bytes, path: Path) -> str:
    """Return the encoding of a file that starts like this.

    Raises:
        InterpError: it is no text, or in an encoding without a byte-order mark other than UTF-8; the likely one is named.
    """
    for mark, encoding in MARKS:
        if start.startswith(mark):
            return encoding
    for magic, what in NO_TEXT.items():
        if start.startswith(magic):
            raise InterpError(f"{path} is {what}, no text; give plain text, or a file whose ending says what it is.")
    nul = start.count(0)
    if nul > len(start) // 8:
        little = start[1::2].count(0) > start[::2].count(0)
        wide = "UTF-32" if nul > 0.6 * len(start) else "UTF-16LE" if little else "UTF-16BE"
        raise InterpError(f"{path} is likely {wide} without a byte-order mark; {_convert(wide)}.")
    if nul >= MANY and nul > len(start) // RARE:
        raise InterpError(
            f"{path} holds {nul:,} NUL bytes in its first {len(start):,}: it is no text; give plain text."
        )
    text = codecs.getincrementaldecoder("utf-8")("replace").decode(start)  # the last character may be cut
    bad = text.count("\N{REPLACEMENT CHARACTER}") - start.count("\N{REPLACEMENT CHARACTER}".encode())
    if bad >= MANY and bad > len(start) // RARE:
        first = _first_bad(start)
        raise InterpError(
            f"{path} is not UTF-8: {bad:,} of its first {len(start):,} bytes, the first 0x{start[first]:02x} at {first:,}; "
            f"it is likely cp1252 or another 8-bit encoding; {_convert('CP1252')}."
        )
    return "utf-8"


def _first_bad(start: bytes) -> int:
    try:
        start.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start
    return 0


def _convert(encoding: str) -> str:
    return f"convert it, for example with iconv -f {encoding} -t UTF-8"
