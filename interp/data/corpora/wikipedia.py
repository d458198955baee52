"""The corpus `wikipedia-sample`: the excerpt of the English Wikipedia that gensim ships, as plain text.

gensim takes the pages out of the dump and most of the markup out of the pages; this module does the rest.
Case, punctuation and digits stay. The outcome is kept as Parquet in the cache folder.
"""

import bz2
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from interp.errors import InterpError
from interp.files import cache_folder, writing
from interp.provenance import file_sha256

CLEANING_VERSION = 2
"""Raise it when `unwrap` or `tidy` changes, so that cached texts are made again."""

DUMP = "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
SHORTEST_ARTICLE = 500
"""Characters; below it are stubs."""

NO_ARTICLE = re.compile(r"\A\s*#redirect|\{\{(?:\w+ )?(?:disambig|disambiguation|geodis|hndis)\b", re.IGNORECASE)
"""Redirects, and pages that only list what a title may mean."""

BACK_MATTER = frozenset({
    "bibliography", "citations", "external links", "footnotes", "further reading", "notes", "notes and references",
    "publications", "references", "see also", "sources", "works cited",
})  # fmt: skip
"""Sections of links and citations. Their entries are templates, so that only bullets and fragments would be left."""

_MEDIA = re.compile(r"\[\[(?:File|Image|Category):(?:[^\[\]]|\[\[[^\[\]]*\]\]|\[[^\[\]]*\])*\]\]", re.IGNORECASE)
_GALLERY = re.compile(r"<(gallery|timeline|imagemap)\b.*?</\1>", re.IGNORECASE | re.DOTALL)
_TABLE = re.compile(r"\{\|(?:(?!\{\||\|\}).)*\|\}", re.DOTALL)  # innermost first
_CONVERT = re.compile(
    r"\{\{(?:convert|cvt)\|([^{}|]+)(?:\|(-|–|to|and|by)\|([^{}|]+))?\|([^{}|]+)[^{}]*\}\}", re.IGNORECASE
)
_SHOWN = re.compile(
    r"\{\{(?:lang|lang-\w+|transl|nowrap|small|smaller|flag|quote)\|(?:[^{}]*\|)?([^{}|]*)\}\}", re.IGNORECASE
)
_HEADING = re.compile(r"^(=+)\s*(.*?)\s*=+\s*$")
_QUOTES = re.compile(r"'{2,}")
_SWITCH = re.compile(r"__[A-Z]+__")
_BULLET = re.compile(r"^[*#:;]+\s*")
_HOLLOW = re.compile(r"\s*\((?:[\s,;:.]|or|from)*\)")
_OPENING = re.compile(r"\(\s*(?:[,;:]\s*)*")
_CLOSING = re.compile(r"(?:\s*[,;:])*\s+\)")
_SPACED_COMMA = re.compile(r"[ \t\xa0]+([,;.])(?=\s|$)")
_BLANKS = re.compile(r"[ \t\xa0]+")
_GAP = re.compile(r"\n{3,}")


def wikipedia_sample() -> Iterator[tuple[str, str]]:
    """Yield (title, text) of every article; redirects, disambiguation and project pages are left out.

    The first call takes some seconds to parse the dump, later ones read the cache.

    Raises:
        InterpError: gensim, which ships the dump, is not installed.
    """
    try:
        from gensim.test.utils import datapath
    except ImportError as error:
        raise InterpError(
            "The corpus wikipedia-sample comes with gensim, which is not installed; "
            "run `pip install 'interp[samples]'`."
        ) from error
    dump = Path(datapath(DUMP))
    checksum = file_sha256(dump)[:16]
    cached = cache_folder() / "wikipedia" / f"{checksum}-{CLEANING_VERSION}.parquet"
    yield from _read(cached) or _parse_into(cached, dump)


def _read(cached: Path) -> list[tuple[str, str]]:
    """The cached articles, or none when there is no readable cache."""
    try:
        table = pq.read_table(cached, columns=["title", "text"]).to_pydict()
    except (OSError, pa.ArrowException):
        return []
    return list(zip(table["title"], table["text"], strict=True))


def _parse_into(cached: Path, dump: Path) -> list[tuple[str, str]]:
    articles = list(_parse(dump))
    titles, texts = map(list, zip(*articles, strict=True))
    with suppress(InterpError), writing(cached) as path:  # without a cache it only takes longer
        pq.write_table(pa.table({"title": titles, "text": texts}), path)
    return articles


def _parse(dump: Path) -> Iterator[tuple[str, str]]:
    from gensim.corpora.wikicorpus import extract_pages, filter_wiki

    with bz2.open(dump) as file:
        namespaces: Any = ("0",)  # articles; gensim's annotation says bool, its documentation a list
        for title, source, _ in extract_pages(file, filter_namespaces=namespaces):
            if NO_ARTICLE.search(source):
                continue
            text = tidy(filter_wiki(unwrap(source)))
            if len(text) > SHORTEST_ARTICLE:
                yield title, text


def unwrap(source: str) -> str:
    """Return wiki source ready for `filter_wiki`: visible template text kept, pictures and tables gone."""
    source = _GALLERY.sub("", _MEDIA.sub("", source))
    source = _CONVERT.sub(lambda quantity: " ".join(filter(None, quantity.groups())), source)  # as 25 - 35 mm
    source = _SHOWN.sub(r"\1", source)
    while (smaller := _TABLE.sub("", source)) != source:
        source = smaller
    return source


def tidy(text: str) -> str:
    """Return plain paragraphs, headings and list entries from the output of `filter_wiki`."""
    lines = [_tidy_line(line) for line in _without_back_matter(text.splitlines())]
    return _GAP.sub("\n\n", "\n".join(line if re.search(r"\w", line) else "" for line in lines)).strip()


def _without_back_matter(lines: list[str]) -> list[str]:
    kept, skipping = [], 0  # the level of the heading whose section is being left out
    for line in lines:
        if heading := _HEADING.match(line.strip()):
            level = len(heading[1])
            if not skipping or level <= skipping:
                skipping = level if heading[2].lower() in BACK_MATTER else 0
        if not skipping:
            kept.append(line)
    return kept


def _tidy_line(line: str) -> str:
    line = _BLANKS.sub(" ", _SWITCH.sub("", _QUOTES.sub("", line))).strip()
    if heading := _HEADING.match(line):
        return f"{heading[2]}\n"
    line = _CLOSING.sub(")", _OPENING.sub("(", _HOLLOW.sub("", _BULLET.sub("", line))))
    return _SPACED_COMMA.sub(r"\1", line)
