"""Pictures as PNG files: written with kaleido, and one clear sentence without it."""

from __future__ import annotations

import re
import struct
import sys
import zlib

import numpy as np
import plotly.graph_objects as go
import pytest

from interp.errors import InterpError
from interp.report import pictures
from interp.report.figures import (
    adjusted_contrasts,
    attention_change,
    class_bars,
    class_differences,
    comparison_grids,
    head_grid,
    loss_change,
    paper,
    position_profile,
    token_bars,
    with_evidence,
)
from tests import commands
from tests.report.turned import comparison, interventions


def test_without_kaleido_one_sentence_says_what_to_do_and_no_file_is_left(result, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "find_spec", lambda name: None)
    with pytest.raises(
        InterpError, match=r"need the package kaleido and Chrome: pip install 'interp\[pictures\]', or save any chart"
    ):
        pictures.write_pictures(result, tmp_path)
    assert not list(tmp_path.iterdir())


def test_without_chrome_one_sentence_says_what_to_do(result, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("\nKaleido requires Google Chrome to be installed.\nmore lines")

    monkeypatch.setattr(pictures, "find_spec", lambda name: sys)
    monkeypatch.setattr(go.Figure, "to_image", refuse)
    with pytest.raises(InterpError) as refused:
        pictures.write_pictures(result, tmp_path)
    assert str(refused.value).startswith(
        "kaleido cannot draw grid.png (Kaleido requires Google Chrome to be installed.)"
    )
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_three_pictures_are_written_of_the_strongest_head(result, tmp_path, monkeypatch):
    drawn = []

    def draw(figure, **_):
        drawn.append(figure.layout.title.text)
        return b"\x89PNG"

    monkeypatch.setattr(pictures, "find_spec", lambda name: sys)
    monkeypatch.setattr(go.Figure, "to_image", draw)
    files = pictures.write_pictures(result, tmp_path)
    assert [file.name for file in files] == ["grid.png", "bars.png", "tokens.png"]
    assert {file.read_bytes() for file in files} == {b"\x89PNG"}
    assert drawn[1].split(" · ")[0] == drawn[2].split(" · ")[0]


@pytest.mark.slow
def test_kaleido_draws_real_pictures_with_an_installed_browser(result, tmp_path, chromium):
    result.save(tmp_path / "result")
    code = (
        "from interp.analysis.result import Amplification; from interp.report.pictures import write_pictures; "
        "from pathlib import Path; write_pictures(Amplification.load('result'), Path('pictures'))"
    )  # in a process of its own: kaleido and Playwright each want the event loop
    commands.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    for name in ("grid", "bars", "tokens"):
        head = (tmp_path / "pictures" / f"{name}.png").read_bytes()[:24]
        assert head[:8] == b"\x89PNG\r\n\x1a\n"
        assert struct.unpack(">I", head[16:20]) == (2000,)  # 1,000 pixels wide, drawn twice as fine


@pytest.fixture(scope="module")
def drawn(make):
    """A figure of every function that made-up tables are enough for."""
    result = make(4, 6, passages=1)
    heads, found, differences = with_evidence(result), interventions(result.heads), comparison(result.heads)
    return {
        "head_grid": head_grid(heads, "pos", "NOUN"),
        "class_bars": class_bars(heads, 0, 5, "pos"),
        "token_bars": token_bars(result.tokens, 0, 5),
        "position_profile": position_profile(result.positions, 0, 5),
        "adjusted_contrasts": adjusted_contrasts(heads, 0, 5, "pos"),
        "attention_change": attention_change(found.attention, 0, 5, "pos"),
        "loss_change": loss_change(found.loss, "pos"),
        "comparison_grids": comparison_grids(differences.heads, "pos", "NOUN"),
        "class_differences": class_differences(differences.classes, "pos"),
        "heatmap of another": go.Figure(
            go.Heatmap(z=[[1]], textfont={"size": 9}), {"xaxis": {"tickfont": {"size": 18}}}
        ),
    }


def test_any_figure_takes_the_size_and_the_letters_of_a_paper_and_stays_as_it_was(drawn):
    for name, figure in drawn.items():
        before = figure.to_json()
        made = paper(figure, width=3.25, height=2.5, font=8, family="Times New Roman")
        layout = made.layout
        assert (layout.width, layout.height) == (312, 240), name  # 96 pixels an inch
        assert layout.font.size == pytest.approx(8 / 72 * 96) and layout.font.family == "Times New Roman"
        assert [trace.to_plotly_json().keys() for trace in made.data] == [
            t.to_plotly_json().keys() for t in figure.data
        ]
        assert figure.to_json() == before, name


def test_what_has_letters_of_its_own_and_what_holds_letters_grows_with_them(drawn):
    for name, figure in drawn.items():
        ratio = 24 / 72 * 96 / (figure.layout.font.size or 12)
        made = paper(figure, font=24)
        if figure.layout.height is not None:
            assert made.layout.height == pytest.approx(figure.layout.height * ratio, abs=1), name
        assert made.layout.margin.t == (None if figure.layout.margin.t is None else figure.layout.margin.t * ratio)
    made = paper(drawn["heatmap of another"], font=24)
    assert made.data[0].textfont.size == pytest.approx(9 * 32 / 12)
    assert made.layout.xaxis.tickfont.size == pytest.approx(18 * 32 / 12)


def test_a_template_brings_its_ground_and_a_caption_takes_the_place_of_the_title(drawn):
    figure = drawn["class_bars"]
    plain = paper(figure, template="simple_white", title=False)
    assert plain.layout.paper_bgcolor is None and plain.layout.xaxis.gridcolor is None
    assert plain.layout.template.layout.plot_bgcolor == "white"
    assert plain.layout.title.text is None and plain.layout.height < paper(figure).layout.height
    np.testing.assert_array_equal(plain.data[1].x, figure.data[1].x)


@pytest.mark.parametrize("size", [{"width": 0}, {"font": -8}, {"height": float("nan")}, {"width": 4000}])
def test_a_size_that_is_none_is_refused_by_name(drawn, size):
    [(name, value)] = size.items()
    with pytest.raises(InterpError, match=f"A {name} of {value} cannot be drawn; give inches"):
        paper(drawn["head_grid"], **size)


@pytest.mark.slow
def test_a_pdf_has_the_size_that_was_asked_for_and_its_letters_are_letters(result, tmp_path, chromium):
    result.save(tmp_path / "result")
    code = (
        "from interp.analysis.result import Amplification; "
        "from interp.report.figures import head_grid, paper, with_evidence; "
        "figure = head_grid(with_evidence(Amplification.load('result')), 'pos', 'NOUN'); "
        "paper(figure, width=3.25, height=2.5, font=8).write_image('grid.pdf')"
    )  # in a process of its own: kaleido and Playwright each want the event loop
    commands.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    written = (tmp_path / "grid.pdf").read_bytes()
    box = re.search(rb"/MediaBox\s*\[([^\]]*)\]", written)
    np.testing.assert_allclose([float(x) for x in box[1].split()], [0, 0, 3.25 * 72, 2.5 * 72], atol=0.5)
    assert b"/FontFile2" in written and b"/Type3" not in written  # fonts are embedded, as outlines
    shown = _text(written)
    assert "NOUN" in shown and "H5" in shown and "−1.31" in shown and "hatched" in shown


def _text(pdf):
    """The text of a PDF with one font: its glyphs, by the table that the font has for those who copy and search."""
    streams = []
    for found in re.finditer(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL):
        try:
            streams.append(zlib.decompress(found[1]).decode("latin-1"))
        except zlib.error:
            streams.append(found[1].decode("latin-1"))
    [table] = [stream for stream in streams if "begincmap" in stream]
    letters = {}
    for block in re.findall(r"beginbfchar(.*?)endbfchar", table, re.DOTALL):
        letters |= {int(a, 16): chr(int(b, 16)) for a, b in re.findall(r"<(\w+)> <(\w+)>", block)}
    for block in re.findall(r"beginbfrange(.*?)endbfrange", table, re.DOTALL):
        for low, high, start in re.findall(r"<(\w+)> <(\w+)> <(\w+)>", block):
            letters |= {
                code: chr(int(start, 16) + code - int(low, 16)) for code in range(int(low, 16), int(high, 16) + 1)
            }
    shown = [text for stream in streams for text in re.findall(r"<([0-9A-Fa-f]+)>\s*Tj", stream)]
    return "".join(letters[int(text[at : at + 4], 16)] for text in shown for at in range(0, len(text), 4))
