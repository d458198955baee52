"""The documentation as a site: built without a warning, whole, and nothing on it is fetched from elsewhere."""

import re
import runpy
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from filelock import FileLock

import interp

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))
from docstrings import to_rst  # noqa: E402

needs_sphinx = pytest.mark.skipif(sys.version_info < (3, 11), reason="what makes the site needs Python 3.11")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, made as `make docs` makes it and in the same folder: what is there already is not made again."""
    folder = ROOT / "site"
    words = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-c", "docs", ".", str(folder)]
    with FileLock(tmp_path_factory.getbasetemp().parent / "site.lock"):  # one test process at a time
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr.strip(), done.stderr
    return folder


class Fetched(HTMLParser):
    """The addresses that a browser fetches by itself as it shows a page: all but the links that a reader may follow."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        names = (
            ("src", "srcset", "data", "poster") if tag in ("a", "area") else ("src", "srcset", "data", "poster", "href")
        )
        self.found += [value for name, value in attrs if name in names and value]


def is_foreign(address):
    return re.match(r"(?:[a-z][a-z0-9+.-]*:)?//", address.strip(), re.IGNORECASE) is not None


def test_foreign_addresses_are_known():
    page = (
        '<a href="https://a.org"><img src="//b.org/c.png"><link href="https://d.org/e.css"><script src="f.js"></script>'
    )
    assert [address for address in Fetched(page).found if is_foreign(address)] == [
        "//b.org/c.png",
        "https://d.org/e.css",
    ]


@needs_sphinx
@pytest.mark.slow
def test_nothing_of_the_site_is_fetched_from_elsewhere(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 25
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert [address for address in Fetched(text).found if is_foreign(address)] == [], page
        assert not re.search(r"@import|url\(\s*[\"']?(?:https?:)?//", text), page
    for style in site.rglob("*.css"):
        assert not re.search(r"@import|url\(\s*[\"']?(?:https?:)?//", style.read_text(encoding="utf-8")), style


@needs_sphinx
@pytest.mark.slow
def test_every_page_and_notebook_is_on_the_site_and_all_that_is_public_in_the_reference(site):
    sources = [*ROOT.glob("docs/*.md"), *ROOT.glob("notebooks/*.ipynb"), ROOT / "README.md"]
    assert [path for path in sources if not (site / path.relative_to(ROOT)).with_suffix(".html").is_file()] == []
    reference = (site / "docs" / "api.html").read_text(encoding="utf-8")
    assert [name for name in interp.__all__ if f'id="interp.{name}"' not in reference] == []
    assert "Contexts per forward pass (default: about 4,096 tokens" in reference  # what only the settings' fields say


@needs_sphinx
@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("page", ["index.html", "docs/api.html", "notebooks/01_explore_heads.html"])
def test_a_browser_asks_for_files_of_the_site_only(site, chromium, page):
    context = chromium.new_context()
    view, asked, wrong = context.new_page(), [], []
    view.on("request", lambda request: asked.append(request.url))
    view.on("pageerror", lambda error: wrong.append(str(error)))
    view.goto((site / page).as_uri(), wait_until="networkidle")
    assert "interp" in view.title() and wrong == [] and len(asked) > 3
    assert [address for address in asked if not address.startswith((site.as_uri(), "data:"))] == []
    context.close()


@needs_sphinx
@pytest.mark.slow
@pytest.mark.browser
def test_the_search_finds_a_word_from_disk(site, chromium):
    view = chromium.new_page()
    view.goto((site / "search.html").as_uri() + "?q=sink")
    view.wait_for_selector("#search-results li a")
    assert "Glossary" in view.inner_text("#search-results")
    view.close()


@needs_sphinx
def test_outputs_of_notebooks_keep_their_own_scripts_only():
    strip = runpy.run_path(str(ROOT / "docs" / "conf.py"))["without_foreign_scripts"]
    own = '<script type="text/javascript">window.PlotlyConfig = {};</script><script src="../a.js"></script>'
    foreign = '<script src="https://a.org/b.min.js" integrity="c" crossorigin="anonymous"></script>'
    assert strip(f"<div>{foreign}{own}</div><script src='//d.org/e.js'></script>") == f"<div>{own}</div>"


DOCSTRING = """Return A* of |b|, as `names` in `a_b`s.

    code(*args)

Columns:
    first, second: one
        and its end: here.
    lists: of
        inner: a
            b

Args:
    **settings: words_

- a bullet
  goes on"""


def test_a_docstring_becomes_lists_code_and_text():
    assert [line for line in to_rst(DOCSTRING.split("\n")) if line] == [
        r"Return A\* of \|b\|, as ``names`` in ``a_b``\ s.",
        "::", "    code(*args)",
        "**Columns**", "- **first, second**: one and its end: here.", "- **lists**: of", "  - **inner**: a b",
        "**Args**", r"- **\*\*settings**: words\_",
        "- a bullet goes on",
    ]  # fmt: skip
