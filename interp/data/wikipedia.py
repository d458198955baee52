"""The corpus `wikipedia-sample`: the excerpt of the English Wikipedia that gensim ships, as plain text.

gensim takes the pages out of the dump and most of the markup out of the pages; `interp.data.markup` does the rest.
Case, punctuation and digits stay. The outcome is kept as Parquet in the cache folder.
"""

import bz2
import hashlib
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from interp.data.cache import cache_folder
from interp.data.markup import CLEANING_VERSION, tidy, unwrap
from interp.errors import InterpError
from interp.files import writing

DUMP = "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"

SHORTEST_ARTICLE = 500
"""Characters; below it are stubs."""

NO_ARTICLE = re.compile(r"\A\s*#redirect|\{\{(?:\w+ )?(?:disambig|disambiguation|geodis|hndis)\b", re.IGNORECASE)
"""Redirects, and pages that only list what a title may mean."""


def wikipedia_sample() -> Iterator[tuple[str, str]]:
    """Yield (title, text) of every article; redirects, disambiguation and project pages are left out.

    The first call takes some seconds to parse the dump, later ones read the cache.

    Raises:
        InterpError: gensim, which ships the dump, is not installed.
    """
    dump = _dump()
    checksum = hashlib.sha256(dump.read_bytes()).hexdigest()[:16]
    cached = cache_folder() / "wikipedia" / f"{checksum}-{CLEANING_VERSION}.parquet"
    yield from _read(cached) or _parse_into(cached, dump)


def _dump() -> Path:
    try:
        from gensim.test.utils import datapath
    except ImportError as error:
        raise InterpError(
            "The corpus wikipedia-sample comes with gensim, which is not installed; "
            "run `pip install 'interp[samples]'`."
        ) from error
    return Path(datapath(DUMP))


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
