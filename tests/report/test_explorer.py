"""The explorer without a notebook: what is chosen, what is shown, and that the buttons do no more than `set`."""

from __future__ import annotations

import html
import re

import numpy as np
import pandas as pd
import pytest

import interp
from interp.errors import InterpError
from interp.report.explorer.explorer import explore
from interp.report.explorer.figures import attention_received
from interp.report.explorer.painting import ROOM, _quoted, bars
from interp.report.panels.classes import BARS, class_bars

TEXT = "The dog <b>sleeps</b> in 1905."
HOSTILE = "</style><b>\"x'}"


@pytest.fixture
def explorer(make_model):
    return explore(make_model(n_ctx=60), text=TEXT, schemes=["surface", "freq"], corpus=["The dog sleeps in 1905."] * 2)


@pytest.fixture
def panel(explorer):
    explorer._repr_mimebundle_()
    return explorer._widget


def test_it_begins_with_the_head_and_class_whose_attention_the_bias_moves_most(explorer):
    shares = explorer.sentence.shares("surface").query("token_class != 'bos'")
    moved = (shares["share_unchanged"] - shares["share_unbiased"]).abs()
    row = shares.loc[moved.idxmax()]
    assert explorer.view.head == f"L{row['layer']}H{row['head']}"
    assert explorer.view.token_class == row["token_class"]
    assert explorer.view.scale == 1


@pytest.mark.parametrize(("where", "named"), [("head", "L1H2"), ("layer", "L1"), ("all", "all")])
def test_what_it_shows_is_one_call_away(explorer, where, named):
    explorer.set(head="L1H2", scale=0, where=where)
    expected = interp.read_sentence(explorer.model, TEXT, ["surface"], scale=0, where=named)
    np.testing.assert_allclose(explorer.rows()["attention"], expected.of_head(1, 2)["attention"])
    np.testing.assert_allclose(explorer.sentence.tokens["loss"], expected.tokens["loss"])
    drawn = attention_received(expected.of_head(1, 2), "L1H2").data[1]
    np.testing.assert_allclose(explorer.figures()["attention"].data[1].y, drawn.y)


def test_the_python_it_prints_gives_what_it_shows(explorer):
    explorer.set(head="L0H1", scale=1.5, where="layer", part="v", place=4)
    names = {"interp": interp, "model": explorer.model}
    exec(explorer.python, names)
    np.testing.assert_allclose(names["sentence"].tokens["loss"], explorer.sentence.tokens["loss"])
    assert names["sentence"].run == explorer.sentence.run


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"head": "L7H0"}, "There is no L7H0"),
        ({"head": "7"}, "names no head"),
        ({"scheme": "pos"}, "There is no scheme 'pos' here"),
        ({"token_class": "nouns"}, "has no class 'nouns'"),
        ({"haed": "L0H0"}, "did you mean 'head'"),
        ({"text": " "}, "no text"),
        ({"text": "dog " * 90}, "at most 60"),
        ({"place": 400}, "There is no place 400"),
    ],
)
def test_a_choice_that_does_not_exist_is_refused_and_changes_nothing(explorer, changes, said):
    before = explorer.view, explorer.sentence
    with pytest.raises(InterpError, match=said):
        explorer.set(**changes)
    assert (explorer.view, explorer.sentence) == before


def test_the_summary_holds_the_numbers_of_the_tables(explorer):
    explorer.set(head="L1H0", token_class="digits", scale=0, where="all")
    row = explorer.sentence.shares("surface").query("layer == 1 and head == 0 and token_class == 'digits'").iloc[0]
    after, before = explorer.sentence.loss()
    assert f"{row['share_unchanged']:.1%} → {row['share']:.1%}" in explorer.summary()
    assert f"{before:.3f} → {after:.3f}" in explorer.summary()
    explorer.set(scale=1)
    assert f"without its own b_Q {row['share_unbiased']:.1%}" in explorer.summary()


def test_a_button_does_what_set_does(explorer, panel):
    for name, value in {"head": "L1H1", "scale": 0.0, "where": "all", "token_class": "digits", "place": 3}.items():
        panel.controls[name].value = value
        assert getattr(explorer.view, name) == value
    assert explorer.summary() in panel.message.value.replace("&#x27;", "'")
    figure = panel.figures["loss"].outputs[0]["data"]["application/vnd.plotly.v1+json"]
    assert figure["config"]["showSendToCloud"] is False
    assert figure["layout"]["title"]["text"] == explorer.figures()["loss"].layout.title.text


def test_set_moves_the_buttons(explorer, panel):
    explorer.set(text="in 1905 the dog", scheme="freq", scale=2)
    assert (panel.controls["scale"].value, panel.controls["scheme"].value) == (2, "freq")
    assert panel.controls["token_class"].options == explorer.schemes["freq"].classes
    assert len(panel.controls["place"].options) == len(explorer.sentence.tokens)
    assert panel.controls["place"].value == explorer.place == len(explorer.sentence.tokens) - 1


def test_what_cannot_be_read_is_said_where_the_numbers_stand_and_mended_by_the_next_text(explorer, panel):
    panel.controls["text"].value = " "
    assert "There is no text to read" in panel.message.value
    panel.controls["text"].value = "in 1905"
    assert "nats per token" in panel.message.value


def test_an_error_in_a_click_is_not_swallowed(explorer, panel, monkeypatch):
    monkeypatch.setattr(explorer, "figures", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # in a kernel the output shows the trace instead
        panel.controls["scale"].value = 0.5
    assert "interp-old" in panel.box._dom_classes


def test_what_is_of_the_text_before_is_dimmed_until_a_text_can_be_read(explorer, panel):
    old = "interp-old"
    assert old not in panel.box._dom_classes
    panel.controls["text"].value = "dog " * 90
    assert old in panel.box._dom_classes and "What is dimmed is of the text" in panel.message.value
    assert f"{_scope(panel)}.interp-old .interp-shown {{opacity" in panel.style.value
    panel.controls["text"].value = "in 1905"
    assert old not in panel.box._dom_classes
    panel.controls["typed"].value = 1e39
    assert "no finite numbers; scale by less" in panel.message.value and old in panel.box._dom_classes
    explorer.set(scale=2)
    assert old not in panel.box._dom_classes and panel.controls["typed"].value == 2


def test_the_dial_goes_from_minus_1_to_4_and_any_number_can_be_typed(explorer, panel):
    dial, typed = panel.controls["scale"], panel.controls["typed"]
    assert (dial.min, dial.max) == (-1, 4)
    typed.value = 12.5
    assert (explorer.view.scale, dial.value) == (12.5, 4)
    expected = interp.read_sentence(explorer.model, TEXT, ["surface"], scale=12.5, where=explorer.view.head)
    np.testing.assert_allclose(explorer.sentence.tokens["loss"], expected.tokens["loss"])
    dial.value = -1 + 10 * 0.1 - 1e-16
    assert explorer.view.scale == typed.value == 0 and "× 0 in" in explorer.summary()
    explorer.set(scale=-3)
    assert (typed.value, dial.value) == (-3, -1)


def test_a_click_on_a_token_chooses_its_class_and_what_comes_after_it(explorer, panel):
    words = panel.clicked["tokens"]
    strings, names = explorer.sentence.tokens["token_string"], explorer.sentence.tokens["surface"].astype(str)
    assert [value for _, value in words.options] == list(range(len(strings)))
    place = next(place for place, name in enumerate(names) if name == "digits")
    words.value = place
    assert (explorer.view.place, explorer.view.token_class) == (place, "digits")
    explorer.set(token_class="punctuation")
    assert words.value is None  # so that a click there is one again
    words.value = place
    assert explorer.view.token_class == "digits"


def test_without_a_result_there_are_tokens_to_click_and_no_heads_or_classes(panel):
    assert {name: column.layout.display for name, column in panel.columns.items()} == {
        "heads": "none", "classes": "none", "tokens": None,
    }  # fmt: skip


@pytest.fixture
def measured(make_model, make):
    """An explorer with a result, one of whose classes has a hostile name, and its panel."""
    result = make(4, 6, passages=1)
    result.heads["token_class"] = result.heads["token_class"].astype(str).replace({"kind 13": HOSTILE})
    explorer = explore(make_model(n_ctx=60, n_layers=4, n_heads=6), result, text=TEXT, schemes=["function"])
    explorer._repr_mimebundle_()
    return explorer, explorer._widget


def test_a_click_on_a_head_or_a_class_chooses_it(measured):
    explorer, panel = measured
    panel.clicked["heads"].value = "L3H2"
    assert explorer.view.head == panel.controls["head"].value == "L3H2"
    assert panel.above["classes"].value.count("L3H2") == 1
    panel.clicked["classes"].value = "content"
    assert explorer.view.token_class == panel.controls["token_class"].value == "content"
    assert "content" in panel.above["heads"].value
    assert (panel.clicked["heads"].value, panel.clicked["classes"].value) == ("L3H2", "content")
    explorer.set(head="L0H5")
    assert panel.clicked["heads"].value == "L0H5"


def test_heads_and_classes_show_the_numbers_and_the_hatching_of_the_figures(measured):
    explorer, panel = measured
    explorer.set(token_class="content")
    drawn, rules = explorer.figures(), panel.style.value
    cells, hatch = drawn["heads"].data
    hatched = {(int(y), x) for x, y in zip(hatch.x, hatch.y, strict=True)}
    assert 0 < len(hatched) < 24
    for place in range(24):
        at = divmod(place, 6)
        style, beside = _rule(panel, "heads", place)
        assert ("repeating-linear-gradient" in style) == (at in hatched)
        assert beside == cells.text[at[0]][at[1]]
    [bars] = drawn["classes"].select_traces({"name": BARS})
    labels = [label for label, _ in panel.clicked["classes"].options]
    assert labels == [html.unescape(text) for text in drawn["classes"].layout.yaxis.ticktext][::-1]
    assert [_rule(panel, "classes", place)[1] for place in range(len(labels))] == list(bars.text)[::-1]
    said = panel.clicked["classes"].tooltips
    assert sum("n = 0" in each for each in said) == 1 and not any("nan" in each for each in said)
    assert rules.count("inset 0 0 0 2.5px") == 3  # the chosen head, class and token


def test_a_bar_stands_from_no_effect_to_its_value_on_one_scale_for_all_classes():
    rows = np.array([[-1.0, 500], [0.5, 500], [8.0, 7]])
    table = pd.DataFrame(
        {"token_class": ["a", "b", "rare"], "log2_amplification": rows[:, 0], "n_tokens": rows[:, 1].astype(int)}
    )
    table = table.assign(model="m", layer=0, head=0, scheme="s", ci_low=rows[:, 0] - 0.5, ci_high=rows[:, 0] + 0.5)
    painted = bars(class_bars(table, 0, 0, "s"), "a", "light")
    assert list(painted.values) == ["b", "a", "rare"]  # rare classes stand last
    start, end = ROOM
    low, high = -1.5 - 0.06 * 2.5, 1.0 + 0.06 * 2.5  # what a and b need, and 6% on each side
    at = lambda value: start + (end - start) * (min(value, high) - low) / (high - low)  # noqa: E731
    for style, value in zip(painted.styles, [0.5, -1.0, 8.0], strict=True):
        boxes = [
            (float(x), float(width), height)
            for x, width, height in re.findall(r"(\S+)% 50%/max\((\S+)%,1px\) (\S+)", style)
        ]
        left = {height: (x * (100 - width) / 100, width) for x, width, height in boxes}  # as CSS places a background
        np.testing.assert_allclose(left["13px"][0], at(min(value, 0.0)), atol=0.02)
        np.testing.assert_allclose(left["13px"][1], abs(at(value) - at(0)), atol=0.02)
        np.testing.assert_allclose(left["1.6px"][0], at(value - 0.5), atol=0.02)
        np.testing.assert_allclose(left["100%"][0], at(0), atol=0.02)


def test_no_name_ends_the_style_sheet_or_becomes_markup(measured):
    _, panel = measured
    assert panel.style.value.count("</style>") == 1 and HOSTILE not in panel.style.value
    assert _read(_quoted(HOSTILE)) == HOSTILE
    assert "<b>" not in panel.above["classes"].value.replace("<b style", "")


def _scope(panel):
    return f".interp-{panel.style.model_id}"


def _rule(panel, name, place):
    """What is declared of a button, and the text beside its label."""
    start = f"{_scope(panel)} .interp-{name} .jupyter-button.jupyter-button:nth-child({place + 1})"
    parts = panel.style.value.split(start)
    style, after = (next(part for part in parts if part.startswith(first)) for first in ("{background", "::after"))
    return style.split("}")[0], _read(after.split("content:")[1].split("}")[0])


def _read(quoted):
    """A string of CSS as a browser reads it."""
    return re.sub(r"\\([0-9a-f]+) ", lambda found: chr(int(found[1], 16)), quoted[1:-1])
