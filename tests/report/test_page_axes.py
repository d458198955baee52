"""Axes that rare classes do not set, titles that follow their box, and what files are called."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from interp.report.dashboard import write_dashboard
from interp.report.figures import adjusted_contrasts, class_bars, class_differences, loss_change, position_profile
from interp.report.metrics import with_evidence
from tests.report.reading import downloaded, ready, settle, watched
from tests.report.turned import comparison, interventions

RARE = "X"  # 27 tokens in the made result
WHERE = "#head=L1H0&class=NOUN&scheme=pos"
FAR = 50.0


def with_a_far_rare_class(make, value=FAR):
    """A result whose rarest class has a value far from all others, in every table, and a last position of one token."""
    result = make(3, 4, passages=4)
    heads, adjusted, positions = (getattr(result, name).copy() for name in ("heads", "adjusted", "positions"))
    heads.loc[heads["token_class"] == RARE, ["log2_amplification", "ci_low", "ci_high"]] = [value, value - 9, value + 9]
    adjusted.loc[adjusted["token_class"] == RARE, ["bias_score_contrast", "ci_low", "ci_high"]] = [-value, -60, -40]
    heads.loc[heads["token_class"] == RARE, "bias_score_contrast"] = -value
    last = positions["pos"] == 47
    positions.loc[last, ["n_tokens", "bias_score_mean", "ci_low", "ci_high"]] = [1, value, value - 9, value + 9]
    result = dataclasses.replace(result, heads=heads, adjusted=adjusted, positions=positions)
    return dataclasses.replace(result, interventions=interventions(heads))


@pytest.fixture(scope="module")
def far(make):
    return with_a_far_rare_class(make)


def compared(far):
    found = comparison(far.heads)
    classes = found.classes.copy()
    classes.loc[classes["token_class"] == RARE, ["difference", "ci_low", "ci_high"]] = [FAR, FAR - 9, FAR + 9]
    return dataclasses.replace(found, classes=classes)


FIGURES = {
    "class_bars": lambda r: class_bars(with_evidence(r), 1, 0, "pos"),
    "adjusted_contrasts": lambda r: adjusted_contrasts(with_evidence(r), 1, 0, "pos"),
    "loss_change": lambda r: loss_change(
        r.interventions.loss.assign(
            difference=lambda t: t["difference"].where(t["token_class"] != RARE, FAR),
            ci_low=lambda t: t["ci_low"].where(t["token_class"] != RARE, FAR),
            ci_high=lambda t: t["ci_high"].where(t["token_class"] != RARE, FAR),
        ),
        "pos",
    ),
    "class_differences": lambda r: class_differences(compared(r).classes, "pos", "mean"),
}


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)
def test_a_rare_class_sets_no_axis_stands_last_and_ends_in_a_mark(far, draw):
    figure = draw(far)
    low, high = figure.layout.xaxis.range
    assert -20 < low < 0 < high < 20
    assert f"goes on (n < {100})" in figure.layout.xaxis.title.text
    names = [name.split(" · ")[0] for name in figure.layout.yaxis.ticktext]
    counts = {
        name.split(" · ")[0]: int(name.split("n = ")[1].replace(",", "")) for name in figure.layout.yaxis.ticktext
    }
    rare = {name for name, n in counts.items() if n < 100}
    assert set(names[: len(rare)]) == rare and RARE in rare  # the lowest lines
    marks = figure.data[-1]
    assert [names[int(y)] for y in marks.y] == [RARE]
    assert marks.x[0] == (low if draw is FIGURES["adjusted_contrasts"] else high)


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)
def test_nothing_is_cut_that_has_enough_tokens(make, draw):
    """The control: the same value of a class with enough tokens is on the axis, and nothing is marked or said."""
    result = with_a_far_rare_class(make)
    enough = {"heads": result.heads, "adjusted": result.adjusted, "nulls": result.nulls}
    many = {name: t.assign(n_tokens=t["n_tokens"].where(t["token_class"] != RARE, 5000)) for name, t in enough.items()}
    many["interventions"] = interventions(many["heads"].assign(n_tokens=3 * many["heads"]["n_tokens"]))
    figure = draw(dataclasses.replace(result, **many))
    low, high = figure.layout.xaxis.range
    assert max(-low, high) > FAR
    assert "goes on" not in figure.layout.xaxis.title.text
    assert all(trace.name != "goes on beyond the axis" for trace in figure.data)


def test_a_position_of_one_token_sets_no_axis(far):
    figure = position_profile(far.positions, 1, 0)
    low, high = figure.layout.yaxis.range
    assert high < 12 and low < 0  # the first position, at +9, counts however few tokens it has
    assert list(figure.data[-1].x) == [47] and figure.data[-1].y[0] == high
    alone = position_profile(far.positions.assign(n_tokens=1), 1, 0)
    assert alone.layout.yaxis.range[1] == pytest.approx(9, abs=1.5)  # only the first position is left to set it


@pytest.fixture(scope="module")
def page(context, far, tmp_path_factory):
    page = context.new_page()
    wrong = watched(page)
    path = write_dashboard(far, tmp_path_factory.mktemp("far") / "report.html", compared(far))
    settle(ready(page, path.as_uri() + WHERE))
    yield page
    page.close()
    assert not wrong


@pytest.fixture
def opened(page):
    def at(hash=WHERE):
        page.goto(page.url.split("#")[0] + hash)
        settle(page)
        return page

    return at


def axis(page, box, name="x"):
    return page.evaluate(f"document.getElementById('{box}').layout.{name}axis.range")


@pytest.mark.browser
@pytest.mark.parametrize(("box", "name"), [("bars", "x"), ("adjusted", "x"), ("profile", "y"), ("differences", "x")])
def test_on_the_page_too(opened, box, name):
    page = opened(f"{WHERE}&statistic=mean")
    low, high = axis(page, box, name)
    assert -20 < low < 0 < high < 20
    assert "goes on (n < 100)" in page.locator(f"#{box} .xtitle").text_content()
    marks = page.evaluate(f"document.getElementById('{box}').data.at(-1)")
    assert len(marks["x"]) == 1 and set(marks["marker"]["symbol"][0].split("-")) & {"left", "right", "up"}
    if name == "x":
        labels = page.locator(f"#{box} .yaxislayer-above text").all_text_contents()
        assert [label.split(" · ")[0] for label in labels][int(marks["y"][0])] == RARE
        rare = ["only " in label or "n = 0" in label for label in labels]
        assert any(rare) and rare == sorted(rare)  # rare classes last


@pytest.mark.browser
def test_the_page_and_python_bound_alike(opened, far):
    page = opened()
    np.testing.assert_allclose(axis(page, "bars"), FIGURES["class_bars"](far).layout.xaxis.range, rtol=2e-2)
    shown = page.evaluate("document.getElementById('profile').layout.yaxis.range")
    np.testing.assert_allclose(shown, position_profile(far.positions, 1, 0).layout.yaxis.range, rtol=2e-2)


@pytest.mark.browser
def test_a_share_of_attention_begins_at_nothing_and_rare_bars_can_be_chosen(opened):
    page = opened("#head=L1H0&class=*&scheme=pos&metric=share")
    assert axis(page, "bars")[0] == 0
    page.evaluate("document.getElementById('bars').emit('plotly_click', {points: [{y: 0}]})")
    assert page.locator("#class").input_value() != "*"


@pytest.mark.browser
def test_the_title_of_the_contrasts_follows_its_box(opened):
    page = opened()
    title = page.locator("#adjusted-how").locator("..")
    assert title.inner_text() == "Contrasts of L1H0 as measured"
    page.check("#removed-contrast_position")
    settle(page)
    assert title.inner_text() == "Contrasts of L1H0 with position removed"
    page.uncheck("#removed-contrast_position")
    settle(page)
    assert title.inner_text() == "Contrasts of L1H0 as measured"


NAMES = """async () => {
  const names = {}, click = HTMLAnchorElement.prototype.click;
  const pressed = async (button, key) => {
    const saved = new Promise((done) => (HTMLAnchorElement.prototype.click = function () { done(this.download); }));
    button.click();
    names[key] = await saved;
  };
  for (const box of document.querySelectorAll(".exports"))
    for (const button of box.querySelectorAll("button"))
      await pressed(button, `${box.dataset.panel} ${button.textContent.split(" ")[0]}`);
  HTMLAnchorElement.prototype.click = click;
  return names;
}"""  # chromium stops a page that gives away forty files at once


@pytest.mark.browser
def test_every_file_is_called_after_its_head_class_and_metric(opened):
    names = opened(f"{WHERE}&metric=auroc&removed=contrast_position").evaluate(NAMES)
    panels = {"heads", "classes", "tokens", "profile", "adjusted", "passages", "effect-loss", "paths", "differences"}
    assert {key.split(" ")[0] for key in names} >= panels
    written = [names.pop(f"writes {kind}") for kind in ("CSV", "JSON")]  # of no scheme, class or metric
    assert written == ["tiny-bqbv-writes-L1H0.csv", "tiny-bqbv-writes-L1H0.json"]
    for key, name in names.items():
        panel, kind = key.split(" ")
        assert re.fullmatch(rf"[\w.-]+-{panel}-L1H0-pos-(NOUN|every-class)-[\w-]+\.{kind.lower()}", name), name
    assert names["classes CSV"] == "tiny-bqbv-classes-L1H0-pos-NOUN-auroc.csv"
    assert names["heads SVG"] == "tiny-bqbv-heads-L1H0-pos-NOUN-auroc.svg"
    assert names["adjusted PNG"] == "tiny-bqbv-adjusted-L1H0-pos-every-class-contrast_position.png"
    assert names["tokens JSON"].endswith("-every-class-bias_score_contrast.json")
    assert names["compared CSV"] == "tiny-bqbv-vs-tiny-bq-compared-L1H0-pos-NOUN-log2_amplification.csv"


@pytest.mark.browser
def test_plotlys_own_button_gives_the_same_file(opened):
    page = opened(WHERE)
    with page.expect_download() as download:
        page.evaluate("document.querySelector('#bars .modebar-btn[data-title*=PNG]').click()")
    assert download.value.suggested_filename == "tiny-bqbv-classes-L1H0-pos-NOUN-log2_amplification.png"


@pytest.mark.browser
def test_two_pictures_of_two_classes_have_two_names(opened):
    names = [downloaded(opened(f"#head=L1H0&class={name}&scheme=pos"), "classes", "CSV")[0] for name in ("NOUN", "ADP")]
    assert len(set(names)) == 2
