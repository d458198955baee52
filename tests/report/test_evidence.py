"""Nulls, adjusted contrasts and profiles: joined to the right cells, hatched where they say so, drawn and packed whole."""

from __future__ import annotations

import base64
import dataclasses
import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from interp.analysis.run import measure
from interp.analysis.settings import Settings
from interp.report.figures import adjusted_contrasts, class_bars, head_grid, position_profile
from interp.report.findings import findings
from interp.report.metrics import METRICS, indistinct, metrics_of, null_band, with_evidence
from interp.report.panels import position
from interp.report.panels.panel import View
from tests.report.further import positions


def unpacked(packed):
    return np.frombuffer(base64.b64decode(packed["base64"]), f"<{packed['dtype']}")


@pytest.fixture(scope="module")
def table(result):
    return with_evidence(result)


def cell_of(table, **wanted):
    return table.loc[np.logical_and.reduce([table[name] == value for name, value in wanted.items()])].iloc[0]


WHERE = {"layer": 2, "head": 3, "scheme": "function", "token_class": "number"}


def test_every_null_and_adjusted_contrast_comes_to_its_own_head_and_class(result, table):
    shuffled = {name: getattr(result, name).sample(frac=1, random_state=1) for name in ("nulls", "adjusted")}
    found = cell_of(with_evidence(dataclasses.replace(result, **shuffled)), **WHERE)
    null = cell_of(result.nulls, **WHERE, statistic="contrast", null="equal spread")
    adjusted = cell_of(result.adjusted, **WHERE, adjusted_for="position")
    assert found["bias_score_contrast_null_high"] == pytest.approx(1.959964 * null["null_sd"])
    assert found["contrast_position"] == adjusted["bias_score_contrast"]
    assert found["contrast_position_high"] == adjusted["ci_high"]
    assert len(with_evidence(result)) == len(result.heads)


def test_metrics_without_a_column_are_not_offered(result):
    bare = dataclasses.replace(result, nulls=pd.DataFrame(), adjusted=pd.DataFrame())
    assert {metric.name for metric in metrics_of(with_evidence(bare).columns)} == set(METRICS) - {
        "contrast_position",
        "contrast_frequency",
    }


@pytest.mark.parametrize("name", METRICS)
def test_a_cell_is_hatched_exactly_where_it_is_not_beyond_its_control(result, table, name):
    metric = METRICS[name]
    hatched = indistinct(table, metric)
    if not metric.null:
        assert not hatched.any()  # an interval that holds no effect is another matter
        return
    null = result.nulls.query("null == @metric.null and statistic == @metric.statistic")
    p = 2 * stats.norm.sf(np.abs(table[name].to_numpy() - null["null_mean"].to_numpy()) / null["null_sd"].to_numpy())
    np.testing.assert_array_equal(hatched, ~(p < 0.05))
    assert 0 < hatched.sum() < len(hatched)


@pytest.mark.parametrize("shifts", [3, 8, 60])
def test_band_and_hatching_of_a_real_result_say_what_its_p_says(make_model, make_documents, make_scheme, shifts):
    model, scheme = make_model(), make_scheme("s", 6)
    documents = make_documents([scheme], model.cfg.d_vocab, [33, 7, 50, 21, 64])
    found = measure(model, documents, [scheme], Settings(nulls=0, shifts=shifts, fit_tokens=100))
    for changed in (found, dataclasses.replace(found, nulls=found.nulls.drop(columns=["null_low", "null_high"]))):
        heads = with_evidence(changed)  # the second as an earlier version saved it: for shifts by their number alone
        for name, p in {"log2_amplification": "shifted_p", "log2_amplification_beyond": "beyond_shifted_p"}.items():
            np.testing.assert_array_equal(indistinct(heads, METRICS[name]), ~(heads[p].to_numpy() < 0.05))
            low, high = null_band(heads, METRICS[name])
            np.testing.assert_array_equal(heads[name].between(low, high), heads[p] >= 0.05)
            alone = head_grid(found.heads, "s", "s1", name).data[1]  # the heads table has p without a band
            rows = found.heads.query("token_class == 's1'")
            assert len(alone.x) == (~(rows[p] < 0.05)).sum()
            banded = indistinct(heads.drop(columns=p), METRICS[name])
            np.testing.assert_array_equal(banded, indistinct(heads, METRICS[name]))
    heads = with_evidence(found)
    for name, p in {"bias_score_contrast": "class_p", "contrast_position": "class_beyond_p"}.items():
        np.testing.assert_array_equal(indistinct(heads, METRICS[name]), ~(heads[p].to_numpy() < 0.05))


def test_hatched_cells_are_the_same_in_the_grid_and_in_the_bars(table):
    look = METRICS["bias_score_contrast"]
    hatch = head_grid(table, "pos", "NOUN", look.name).data[1]
    cells = set(zip(hatch.y, hatch.x, strict=True))
    for layer, head in [(0, 0), (1, 0), (3, 5)]:
        figure = class_bars(table, layer, head, "pos", look.name)
        place = next(i for i, name in enumerate(figure.layout.yaxis.ticktext) if name.startswith("NOUN"))
        assert (figure.data[1].marker.pattern.shape[place] == "/") == ((layer, head) in cells)


def test_the_band_behind_a_bar_spans_the_null_of_its_class(table):
    figure = class_bars(table, 0, 5, "pos")
    place = next(i for i, name in enumerate(figure.layout.yaxis.ticktext) if name.startswith("PUNCT"))
    row = cell_of(table, layer=0, head=5, scheme="pos", token_class="PUNCT")
    low, high = null_band(table.loc[[row.name]], METRICS["log2_amplification"])
    assert figure.data[0].base[place] == pytest.approx(low[0])
    assert figure.data[0].x[place] == pytest.approx(high[0] - low[0])


def test_without_nulls_there_is_no_band_and_nothing_is_hatched(result):
    figure = class_bars(result.heads, 0, 5, "pos")
    assert len(figure.data[0].x) == 0
    assert set(figure.data[1].marker.pattern.shape) == {""}
    assert null_band(result.heads, METRICS["auroc"]) is None


def test_a_profile_has_every_position_and_leaves_out_the_first_on_request(result):
    band, line = position_profile(result.positions, 1, 2).data
    rows = result.positions.query("layer == 1 and head == 2")
    assert list(line.x) == list(rows.pos)
    assert list(line.y) == list(rows.bias_score_mean)
    assert sorted(band.y) == sorted([*rows.ci_low, *rows.ci_high])
    assert list(position_profile(result.positions, 1, 2, first_token=False).data[1].x) == list(rows.pos[1:])


def test_contrasts_stand_beside_what_is_left_of_them(table):
    before, after = adjusted_contrasts(table, 0, 5, "pos", removed="frequency").data
    np.testing.assert_allclose(np.array(after.x, float), np.array(before.x, float) / 4)
    names = adjusted_contrasts(table, 0, 5, "pos", first_token=False).layout.yaxis.ticktext
    assert not any(name.startswith("bos") for name in names)


@pytest.mark.parametrize(("layers", "heads", "length"), [(4, 6, 48), (48, 25, 79)])
def test_a_packed_profile_keeps_every_token_and_the_mean_over_them(make, layers, heads, length):
    table = positions(layers, heads, length)
    result = make(layers, heads, classes=3, passages=1, places=2)
    packed = position.payload(View.of(dataclasses.replace(result, positions=table.sample(frac=1, random_state=0))))
    counts, block = (
        unpacked(packed["n_tokens"]),
        unpacked(packed["values"]["bias_score_mean"]).reshape(layers * heads, -1),
    )
    first, last = unpacked(packed["first"]), unpacked(packed["last"])
    rows = table.query("layer == 1 and head == 2")
    assert counts.sum() == rows.n_tokens.sum()
    assert list(first[1:]) == list(last[:-1] + 1)
    assert (first[0], last[-1]) == (0, rows.pos.max())
    overall = np.average(rows.bias_score_mean, weights=rows.n_tokens)
    assert np.average(block[heads + 2], weights=counts) == pytest.approx(overall, rel=2e-3)
    assert block[heads + 2, 0] == 9.0  # the first position is a step of its own


def test_themes_change_colours_and_nothing_else(table):
    light, dark = (class_bars(table, 0, 5, "pos", theme=theme) for theme in ("light", "dark"))
    assert light.layout.paper_bgcolor != dark.layout.paper_bgcolor
    assert light.data[1].marker.color != dark.data[1].marker.color
    assert np.array_equal(light.data[1].x, dark.data[1].x)


def found_in(result, **columns):
    changed = dataclasses.replace(result, heads=result.heads.assign(**columns))
    return findings(changed, with_evidence(changed), "pos")


def test_a_finding_must_be_beyond_position_and_beyond_shifted_labels(result):
    some = found_in(result, beyond_shifted_q=0.01, class_q=0.5, class_beyond_q=0.5)
    assert some.found > 0 == some.singled_out and not some.why_none
    assert found_in(result, beyond_shifted_q=0.01, class_beyond_q=0.01).singled_out == some.found
    assert {each.singled_out for each in found_in(result, beyond_shifted_q=0.01, class_beyond_q=0.01).strongest} == {
        True
    }
    for changed in (
        {"beyond_shifted_q": 0.2},
        {"beyond_shifted_q": 0.01, "beyond_ci_low": -1.0, "beyond_ci_high": 1.0},
    ):
        none = found_in(result, **changed)
        assert none.found == 0 and none.why_none.startswith("No pair")
        assert bool(none.strongest) == ("beyond_ci_low" not in changed)  # the largest changes, which the page calls so


def test_of_a_direction_that_is_not_in_force_nothing_is_found(result):
    elsewhere = dataclasses.replace(result, run=result.run | {"direction": "b_Q of tiny-bq"})
    none = found_in(elsewhere, beyond_shifted_q=0.01)
    assert none.found == 0 and "not in force" in none.why_none


def test_parts_of_a_finding_add_up_and_stand_beside_it(result):
    shown = found_in(result, beyond_shifted_q=0.01).strongest
    assert len(shown) == 5
    for each in shown:
        texts = [each.value.split()[0], *re.findall(r"(?:^|, )(\S+) (?:by|\[)", each.parts)]
        value, position, beyond = (float(text.replace("\u2212", "-")) for text in texts)
        assert value == pytest.approx(position + beyond, abs=0.011)
        assert float(each.times.rstrip("×")) == pytest.approx(2**value, abs=0.06)
        assert each.way == ("up" if value > 0 else "down") and each.q == "q = 0.010"
