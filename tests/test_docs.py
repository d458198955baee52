"""What the README and the docs say of the house is so."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))
import tree  # noqa: E402 - a script of the docs


def test_the_readme_has_the_tree_as_it_is():
    assert tree.README.read_text(encoding="utf-8") == tree.written(), "run python docs/tree.py"


def test_every_file_of_the_tree_says_what_it_holds():
    empty = [line for line in tree.tree(ROOT / "interp") if len(line.split(maxsplit=1)) < 2]
    assert not empty


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.name
)
def test_paths_and_links_that_pages_name_are_there(page):
    text = page.read_text(encoding="utf-8")
    named = {ROOT / path for path in re.findall(r"`((?:interp|tests|docs|notebooks)/[\w/.-]+\.\w+)`", text)}
    linked = {page.parent / path for path in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)}
    missing = [str(path) for path in named | linked if not path.exists()]
    assert not missing
