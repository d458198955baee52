"""Pages from small templates."""

import json
import re

import jinja2
import plotly.graph_objects as go
import pytest

from interp.errors import InterpError
from interp.page.document import panels_of, render, write_page
from interp.page.look import PAGE

HOSTILE = "</script><b>&"


@pytest.fixture
def folder(tmp_path):
    templates = {
        "own.html": '{% extends "base.html" %}{% block title %}{{ name }}{% endblock %}'
        '{% block style %}{{ read("own.css") }}{% endblock %}',
        "own.css": "a > b { color: red; } /* {{ not a template }} */",
        "figures.html": '{% extends "panels.html" %}{% block header %}{{ name }}{% endblock %}',
    }
    for name, text in templates.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def data_of(html):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)[1])


def test_values_are_escaped_while_files_stand_as_they_are(folder):
    html = render(folder, "own.html", name=HOSTILE, data={"name": HOSTILE})
    assert "<title>&lt;/script&gt;&lt;b&gt;&amp;</title>" in html
    assert (folder / "own.css").read_text() in html
    assert data_of(html) == {"name": HOSTILE}


def test_every_colour_is_a_variable_in_both_themes(folder):
    html = render(folder, "own.html", name="", data={})
    for name, pair in PAGE.items():
        assert f"--{name}: light-dark({pair['light']}, {pair['dark']});" in html


def test_a_file_of_the_pages_own_folder_goes_before_a_shared_one(folder):
    (folder / "base.css").write_text("own-base {}")
    assert "own-base {}" in render(folder, "own.html", name="", data={})


def test_a_value_that_a_template_misses_is_an_error(folder):
    with pytest.raises(jinja2.UndefinedError, match="name"):
        render(folder, "own.html", data={})


def test_a_page_of_figures_has_a_place_and_the_data_of_each(folder):
    figures = {"one": go.Figure(go.Scatter(y=[1, 2, 4])), "two": go.Figure(layout={"title": {"text": HOSTILE}})}
    html = render(folder, "figures.html", name="", panels=panels_of(figures))
    assert re.findall(r'<div class="chart" id="(\w+)">', html) == ["one", "two"]
    panels = data_of(html)["panels"]
    assert panels["one"]["data"][0]["y"] == [1, 2, 4] and panels["two"]["layout"]["title"]["text"] == HOSTILE


def test_a_page_is_written_whole_also_with_half_a_character(tmp_path):
    place = tmp_path / "new" / "page.html"
    assert write_page("a\ud83d–", place) == place
    assert place.read_bytes() == "a?–".encode()
    assert list(place.parent.iterdir()) == [place]


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InterpError, match="Cannot write"):
        write_page("", tmp_path / "file" / "page.html")
