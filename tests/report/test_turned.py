"""Figures and payload of interventions and comparisons: whole, at their place, refused by name."""

from __future__ import annotations

import base64
import dataclasses

import numpy as np
import pytest

from interp.errors import InterpError
from interp.report.dashboard import render
from interp.report.figures import (
    attention_change,
    class_differences,
    class_distributions,
    comparison_grids,
    loss_change,
)
from interp.report.panels import compare, effect
from interp.report.panels.panel import View
from tests.report.turned import comparison, interventions


def unpacked(packed, *shape):
    return np.frombuffer(base64.b64decode(packed["base64"]), f"<{packed['dtype']}").reshape(shape).astype(float)


@pytest.fixture(scope="module")
def small(make):
    return make(3, 2, classes=5, passages=2, places=5)


@pytest.fixture(scope="module")
def made(small):
    return interventions(small.heads)


def values_of(heads, layer, head, scheme="pos"):
    rows = heads[(heads["layer"] == layer) & (heads["head"] == head) & (heads.scheme == scheme)]
    return rows.set_index("token_class")["log2_amplification"]


def test_an_intervention_stands_beside_its_control(small, made):
    figure = attention_change(made.attention, 2, 1, "pos", intervention="L2H1", scale=0)
    ring, diamond = figure.data
    names = [name.split(" · ")[0] for name in figure.layout.yaxis.ticktext]
    amplification = values_of(small.heads, 2, 1).reindex(names).to_numpy()
    np.testing.assert_allclose(np.array(diamond.x, float), -amplification)
    np.testing.assert_allclose(np.array(ring.x, float), -0.1 * amplification)  # the mean of 0.05 and 0.15
    assert ring.marker.symbol != diamond.marker.symbol


def test_the_change_of_loss_has_every_class_or_all_tokens(made):
    assert len(loss_change(made.loss, "function", "L1", 2).data[1].x) == 5
    assert list(loss_change(made.loss, "overall", "all", 2).data[1].x) == pytest.approx([0.1])


def test_the_page_keeps_of_every_head_the_interventions_that_concern_it(small, made):
    view = View.of(dataclasses.replace(small, interventions=made))
    page = effect.payload(view)
    assert page["scales"] == [0.0, 2.0]  # at 1 nothing changes
    assert page["draws"] == 2
    classes = view.schemes["pos"]
    block = unpacked(page["attention"]["pos"]["values"]["log2_change"], 3, 2, 2, 6, 5)
    amplification = values_of(small.heads, 1, 1).reindex(classes).to_numpy()
    for place in range(3):  # everywhere, in its layer, in itself
        np.testing.assert_allclose(block[place, 1, 0, 3], amplification, rtol=2e-3)
        np.testing.assert_allclose(block[place, 0, 1, 3], -0.1 * amplification, rtol=2e-3)
    loss = unpacked(page["loss"]["overall"]["values"]["difference"], len(page["names"]), 2, 2, 1)
    np.testing.assert_allclose(loss[:, :, 0], 0.1, rtol=1e-3)
    paths = unpacked(page["paths"]["pos"]["values"]["log2_amplification"], 5, 6, 5)
    np.testing.assert_allclose(paths[0], paths[1] + paths[4], atol=2e-3)
    np.testing.assert_allclose(paths[1], paths[2] + paths[3], atol=2e-3)
    earlier = made.paths[~made.paths["path"].str.startswith("direct ")]  # of a result without the parts
    older = effect.payload(View.of(dataclasses.replace(small, interventions=dataclasses.replace(made, paths=earlier))))
    values = unpacked(older["paths"]["pos"]["values"]["log2_amplification"], 5, 6, 5)
    assert np.isnan(values[2:4]).all()
    np.testing.assert_array_equal(values[[0, 1, 4]], paths[[0, 1, 4]])
    assert page["attention"]["pos"]["n_tokens"] == [n // 3 for n in view.payload()["schemes"][0]["n_tokens"]]
    assert effect.payload(View.of(small)) is None


def test_a_comparison_has_one_colour_scale_and_rings_where_an_interval_holds_zero(small):
    found = comparison(small.heads)
    figure = comparison_grids(found.heads, "pos", "NOUN")
    cells = [trace for trace in figure.data if trace.type == "heatmap"]
    assert {trace.coloraxis for trace in cells} == {"coloraxis"}
    assert figure.layout.coloraxis.cmin == -figure.layout.coloraxis.cmax
    np.testing.assert_allclose(cells[1].z - cells[0].z, cells[2].z)
    assert cells[2].z[0][1] == pytest.approx(-3)
    rings = [trace for trace in figure.data if trace.type == "scatter"]
    assert {trace.marker.symbol for trace in rings} == {"circle-open"}  # hatching means another thing
    for trace, side in zip(rings, ("_a", "_b", ""), strict=True):
        rows = found.heads[(found.heads.scheme == "pos") & (found.heads.token_class == "NOUN")]
        covered = rows[(rows[f"ci_low{side}"] <= 0) & (rows[f"ci_high{side}"] >= 0)]
        assert set(zip(np.floor(trace.y), trace.x, strict=True)) == set(
            covered[["layer", "head"]].itertuples(index=False, name=None)
        )


def test_classes_differ_with_their_interval(small):
    [trace] = class_differences(comparison(small.heads).classes, "pos").data
    assert list(trace.x) == [0.5] * 5
    assert list(trace.error_x.array) == [0.25] * 5


def test_a_box_holds_the_quantiles_over_heads_of_each_model(small):
    boxes = class_distributions(comparison(small.heads).classes, "pos").data
    assert [trace.name for trace in boxes] == ["A", "B"]
    for box, start in zip(boxes, (1.0, 1.5), strict=True):
        for part, quantile in (("lowerfence", 0.1), ("q1", 0.25), ("median", 0.5), ("q3", 0.75), ("upperfence", 0.9)):
            np.testing.assert_allclose(box[part], [start + quantile] * 5)


def changed(found, rows, **values):
    """The comparison with other numbers in the rows of strength of some classes."""
    classes = found.classes.copy()
    chosen = (classes["statistic"] == "root_mean_square") & classes["token_class"].isin(rows)
    classes.loc[chosen, list(values)] = list(values.values())
    return dataclasses.replace(found, classes=classes)


def test_the_answer_counts_classes_by_the_side_of_their_interval_and_names_the_clearest(small):
    found = changed(comparison(small.heads), ["PUNCT"], difference=-0.5, ci_low=-0.6, ci_high=-0.4, value_b=0.5)
    found = changed(found, ["ADP"], difference=0.9, ci_low=-0.1, ci_high=1.9)
    told = found.answer("pos")
    assert (
        "more in tiny-bq than in tiny-bqbv for 2 of 4 classes of pos, less for 1; for 1 the interval holds 0." in told
    )
    assert told.endswith(
        "Clearest for PUNCT: 1.00 doublings in tiny-bqbv, 0.50 in tiny-bq, difference −0.50 [−0.60, −0.40]."
    )
    names = set(found.classes["token_class"])
    nothing = changed(found, names, ci_low=-0.5, ci_high=0.5).answer("pos")
    assert "no evidence" in nothing and nothing.endswith(
        "for all 4 classes of pos the interval of the difference holds 0."
    )
    unknown = changed(found, names, ci_low=np.nan, ci_high=np.nan).answer("pos")
    assert unknown.startswith("Nothing can be said of differences")


def test_rare_classes_and_first_tokens_are_no_answer(small):
    found = comparison(small.heads)
    rare = dataclasses.replace(found, classes=found.classes.assign(n_tokens=99))
    assert rare.strongest("pos").empty
    sink = found.classes.replace({"token_class": {"NOUN": "bos"}})
    assert "bos" not in set(dataclasses.replace(found, classes=sink).strongest("pos")["token_class"])


def test_losses_of_other_numbers_of_tokens_have_no_difference(small):
    run = comparison(small.heads).run
    run["losses"]["b"]["n_tokens"] = 7
    first, *_ = compare.losses_told(run)
    assert first == "Loss in nats per token, on 5,000 tokens: tiny-bqbv 4.500, tiny-bq 4.250."
    assert compare.losses_told(run | {"losses": {}}) == []


def test_where_one_model_has_no_bias_the_page_suggests_the_direction_of_the_other(small):
    found = comparison(small.heads)
    command = "python -m interp.amplify tiny-bqbv tiny-bq --direction tiny-bq"
    found = dataclasses.replace(found, classes=found.classes.assign(value_a=0.0), run=found.run | {"instead": command})
    assert found.answer("pos").startswith("tiny-bqbv has no b_Q in force, so its amplification is 0 everywhere")
    html = render(small, found)
    assert f"<code>{command}</code>" in html and html.index(command) < html.index('id="controls"')
    assert "Better:" not in render(small, comparison(small.heads))


def test_a_packed_comparison_is_at_its_head_and_class(small):
    view = View.of(small, comparison(small.heads))
    page = compare.payload(view)
    block = unpacked(page["heads"]["function"]["values"]["difference"], 6, 5)
    classes = view.schemes["function"]
    np.testing.assert_allclose(block[3], values_of(small.heads, 1, 1, "function").reindex(classes), rtol=2e-3)
    assert page["names"] == ["tiny-bqbv", "tiny-bq"]
    assert compare.payload(View.of(small, comparison(small.heads, same_sizes=False)))["heads"] == {}
    assert not compare.available(View.of(small))


CASES = [
    (lambda i, c: attention_change(i.attention, 9, 0, "pos"), "no head L9H0"),
    (
        lambda i, c: attention_change(i.attention, 0, 0, "pos", "L1H0", 0.5),
        "was not scaled by 0.5; this result has all × 0",
    ),
    (lambda i, c: loss_change(i.loss.drop(columns="difference"), "pos"), "loss table lacks the column(s) difference"),
    (lambda i, c: comparison_grids(c.heads, "pos", "NUON"), "did you mean 'NOUN'"),
    (lambda i, c: class_differences(c.classes, "poss"), "did you mean 'pos'"),
]


@pytest.mark.parametrize(("draw", "message"), CASES, ids=[message for _, message in CASES])
def test_bad_input_is_refused_in_a_sentence_that_names_it(small, made, draw, message):
    with pytest.raises(InterpError) as refused:
        draw(made, comparison(small.heads))
    assert message in str(refused.value)
