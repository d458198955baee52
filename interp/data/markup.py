"""What gensim's `filter_wiki` leaves of wiki markup, or takes away though a reader sees it, put right."""

import re

CLEANING_VERSION = 2
"""Raise it when `unwrap` or `tidy` changes, so that cached texts are made again."""

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

BACK_MATTER = frozenset(
    [
        "bibliography",
        "citations",
        "external links",
        "footnotes",
        "further reading",
        "notes",
        "notes and references",
        "publications",
        "references",
        "see also",
        "sources",
        "works cited",
    ]
)
"""Sections of links and citations. Their entries are templates, so that only bullets and fragments would be left."""


def unwrap(source: str) -> str:
    """Return wiki source ready for `filter_wiki`: visible template text kept, pictures and tables gone."""
    source = _GALLERY.sub("", _MEDIA.sub("", source))
    source = _SHOWN.sub(r"\1", _CONVERT.sub(_quantity, source))
    while (smaller := _TABLE.sub("", source)) != source:
        source = smaller
    return source


def _quantity(convert: re.Match[str]) -> str:
    """`{{convert|25|-|35|mm|in}}` shows as 25 - 35 mm."""
    return " ".join(part for part in convert.groups() if part)


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
