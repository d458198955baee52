"""Pictures as PNG files: written with kaleido, and one clear sentence without it."""

from __future__ import annotations

import struct
import sys

import plotly.graph_objects as go
import pytest

from interp.errors import InterpError
from interp.report import pictures
from tests import commands


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
