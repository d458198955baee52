"""Docstrings as reStructuredText, for the API reference: ours are plain text in Google's layout.

What is indented below a line that ends in a colon is a list, if its lines begin with `name: ` (arguments, errors, columns
of a table, lists in lists); all else that is indented is code.
"""

from __future__ import annotations

import re
from textwrap import dedent

ITEM = re.compile(r"(\*{0,2}[\w.]+(?:, \*{0,2}[\w.]+)*):(?: (.*))?$")
CODE = re.compile(r"``?(.+?)``?(\w?)", re.DOTALL)


def to_rst(lines: list[str]) -> list[str]:
    """Return the lines of a docstring, which begin at the margin, as reStructuredText."""
    found: list[str] = []
    for paragraph, below in _paragraphs(lines):
        if below and paragraph.startswith("- "):  # a bullet, and its further lines
            paragraph, below = " ".join([paragraph, *map(str.strip, below)]), []
        heading = below and re.fullmatch(r"[A-Z]\w*:", paragraph)
        found += [f"**{paragraph[:-1]}**" if heading else _inline(paragraph), ""]
        if below and paragraph.endswith(":") and all(ITEM.match(line) for line in below if line and line[0] != " "):
            found += _items(below)
        elif below:
            found += ["::", "", *(f"    {line}" for line in below), ""]
    return found


def _paragraphs(lines: list[str]) -> list[tuple[str, list[str]]]:
    """Return each paragraph or bullet as one line, with the lines indented below it, which then begin at the margin."""
    found: list[tuple[list[str], list[str]]] = []
    after_blank = True
    for line in lines:
        if not line or (line[0] == " " and found):
            if found and (line or found[-1][1]):
                found[-1][1].append(line)
        elif after_blank or found[-1][1] or line.startswith("- "):
            found.append(([line], []))
        else:
            found[-1][0].append(line)
        after_blank = not line
    return [(" ".join(head), dedent("\n".join(below)).rstrip().splitlines()) for head, below in found]


def _items(lines: list[str]) -> list[str]:
    """Return `name: text` lines as bullets; what hangs below one goes on with its text, or is a list of its own."""
    groups: list[list[str]] = []
    for line in filter(None, lines):
        if line[0] == " ":
            groups[-1].append(line)
        else:
            groups.append([line])
    found = []
    for head, *below in groups:
        name, text = ITEM.match(head).groups("")  # type: ignore[union-attr]
        below = dedent("\n".join(below)).splitlines()
        inner = next((n for n, line in enumerate(below) if ITEM.match(line)), len(below))
        if not any(line[0] == " " for line in below):  # nothing hangs, so this is text with a colon in it
            inner = len(below)
        text = _inline(" ".join([text, *map(str.strip, below[:inner])]).strip())
        found += [f"- **{_plain(name)}**: {text}", ""]
        found += [f"  {line}".rstrip() for line in _items(below[inner:])]
    return found


def _inline(text: str) -> str:
    """Return a paragraph whose `code` is literal, and in which nothing else is markup."""
    found, end = [], 0
    for span in CODE.finditer(text):
        joined = f"\\ {span[2]}" if span[2] else ""  # a letter right behind
        found += [_plain(text[end : span.start()]), f"``{span[1]}``{joined}"]
        end = span.end()
    return "".join([*found, _plain(text[end:])])


def _plain(text: str) -> str:
    """Return text in which stars, bars and the like are what they are."""
    return re.sub(r"([\\*|`]|(?<=\w)_(?!\w))", r"\\\1", text)
