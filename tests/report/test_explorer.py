"""The explorer without a notebook: what is chosen, what is shown, and that the buttons do no more than `set`."""

from __future__ import annotations

import numpy as np
import pytest

import interp
from interp.errors import InterpError
from interp.report.explorer import explorer as module
from interp.report.explorer.explorer import explore
from interp.report.explorer.figures import attention_received

TEXT = "The dog <b>sleeps</b> in 1905."


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


def test_a_result_adds_the_grid_and_the_bars(make_model, make):
    model = make_model(n_ctx=60, n_layers=4, n_heads=6)
    explorer = explore(model, make(4, 6, passages=1), text=TEXT, schemes=["function"])
    assert set(explorer.figures()) == {"attention", "loss", "predictions", "pattern", "heads", "classes"}
    heads = explorer.result.heads
    rows = heads.query("scheme == 'function' and n_tokens >= 30")
    rows = rows.loc[rows["token_class"].isin(explorer.sentence.tokens["function"].tolist()[1:])]
    row = rows.loc[rows["log2_amplification"].abs().idxmax()]
    assert (explorer.view.head, explorer.view.token_class) == (f"L{row['layer']}H{row['head']}", row["token_class"])


def test_a_result_of_another_model_is_refused(make_model, make):
    with pytest.raises(InterpError, match="4 layers of 6 heads, the model has 2 of 3"):
        explore(make_model(), make(4, 6, passages=1))


def test_a_still_picture_stands_beside_the_widget(explorer):
    bundle = explorer._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert "still picture" in bundle["text/html"] and explorer.view.head in bundle["text/html"]
    assert "<b>sleeps" not in bundle["text/html"] and "<script" not in bundle["text/html"]
    assert bundle["text/plain"] == explorer.summary()


def test_without_ipywidgets_the_still_picture_says_what_to_install(explorer, monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    bundle = explorer._repr_mimebundle_()
    assert list(bundle) == ["text/html", "text/plain"]
    assert "ipywidgets is not installed" in bundle["text/html"]
