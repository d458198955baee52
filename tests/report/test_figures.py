"""Figures are checked by their data, never by their pixels."""

from __future__ import annotations

import numpy as np
import pytest

from interp.errors import InterpError
from interp.report.figures import class_bars, head_grid, token_bars, with_evidence
from interp.report.metrics import METRICS


@pytest.mark.parametrize(("layers", "heads"), [(2, 2), (4, 6), (12, 12), (20, 25)])
def test_the_grid_has_a_cell_for_every_head(make, layers, heads):
    figure = head_grid(make(layers, heads, passages=1).heads, "pos", "PUNCT")
    assert np.shape(figure.data[0].z) == (layers, heads)
    assert figure.data[0].z[0][heads - 1] == pytest.approx(1.62)  # planted


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_is_drawn_symmetric_round_its_centre_unless_it_is_a_plain_quantity(result, metric):
    cells, look = head_grid(with_evidence(result), "function", "content", metric).data[0], METRICS[metric]
    assert cells.zmax > look.centre
    assert cells.zmin == (pytest.approx(2 * look.centre - cells.zmax) if look.signed else 0)


def test_cells_print_their_sign_and_those_not_beyond_their_control_are_hatched(result):
    heads = with_evidence(result)
    cells, hatch = head_grid(heads, "pos", "NOUN").data
    rows = heads.query("scheme == 'pos' and token_class == 'NOUN'")
    assert cells.text[1][0] == "−1.31"
    low, high = (rows[f"log2_amplification_null_{end}"] for end in ("low", "high"))
    hatched = rows.loc[rows["log2_amplification"].between(low, high), ["layer", "head"]]
    assert 0 < len(hatched) < len(rows)
    assert set(zip(np.floor(hatch.y), hatch.x, strict=True)) == set(hatched.itertuples(index=False, name=None))
    assert "not beyond its control" in hatch.name
    assert not head_grid(result.heads, "pos", "NOUN").data[1].x  # without a control


def test_one_colour_means_one_number_for_all_classes_of_a_scheme(result):
    limits = {head_grid(result.heads, "pos", name).data[0].zmax for name in ("NOUN", "PUNCT", "X")}
    assert len(limits) == 1


def test_the_safe_palette_changes_colours_and_nothing_else(result):
    plain, safe = (
        head_grid(result.heads, "pos", "NOUN", palette=name).data[0] for name in ("red-blue", "orange-purple")
    )
    assert plain.colorscale != safe.colorscale
    assert np.array_equal(plain.z, safe.z)


def test_bars_hold_every_class_with_its_interval_and_its_n(result):
    bars, rows = (
        class_bars(result.heads, 0, 5, "pos").data[1],
        result.heads.query("layer == 0 and head == 5 and scheme == 'pos'"),
    )
    names = class_bars(result.heads, 0, 5, "pos").layout.yaxis.ticktext
    place = next(i for i, name in enumerate(names) if name.startswith("PUNCT"))
    row = rows[rows.token_class == "PUNCT"].iloc[0]
    assert len(names) == len(rows) == 20
    assert names[place] == f"PUNCT · n = {row.n_tokens:,}"
    assert bars.x[place] == pytest.approx(1.62)
    assert bars.error_x.array[place] == pytest.approx(row.ci_high - 1.62)
    assert bars.error_x.arrayminus[place] == pytest.approx(1.62 - row.ci_low)


def test_a_missing_interval_draws_no_error_bar(result):
    heads = result.heads.copy()
    heads.loc[heads.token_class == "PUNCT", ["ci_low", "ci_high"]] = float("nan")
    figure = class_bars(heads, 0, 5, "pos")
    place = next(i for i, name in enumerate(figure.layout.yaxis.ticktext) if name.startswith("PUNCT"))
    # null would be read as 0 and drawn as a bar of no length, which looks like certainty
    assert np.isnan(figure.data[1].error_x.array[place])
    assert np.isnan(figure.data[1].error_x.arrayminus[place])
    assert "bdata" in figure.to_dict()["data"][1]["error_x"]["array"]


def test_an_empty_class_keeps_its_place_and_says_so(result):
    figure = class_bars(result.heads, 0, 0, "pos")
    place = next(i for i, name in enumerate(figure.layout.yaxis.ticktext) if name == "EMPTY · n = 0")
    assert figure.data[1].x[place] == 0
    assert figure.data[1].text[place] == "n = 0"


def test_a_class_with_few_tokens_is_grey(result):
    heads = result.heads.copy()
    heads.loc[heads.token_class == "PUNCT", "n_tokens"] = 29
    figure = class_bars(heads, 0, 5, "pos")
    grey = {
        figure.data[1].marker.color[i]
        for i, name in enumerate(figure.layout.yaxis.ticktext)
        if name.startswith("PUNCT")
    }
    assert grey == {"#b9bcc2"}


def test_token_bars_show_both_ends_and_no_rare_token(result):
    [bars] = token_bars(result.tokens, 2, 3, each=5, min_count=100).data
    assert len(bars.x) == 10
    assert list(bars.x) == sorted(bars.x)
    assert min(row[2] for row in bars.customdata) >= 100


def test_tokens_and_classes_cannot_become_markup_of_the_picture(make):
    result = make(2, 2, passages=1)
    heads = result.heads.replace({"token_class": {"PUNCT": "<b>bold</b>"}})
    names = " ".join(class_bars(heads, 0, 1, "pos").layout.yaxis.ticktext)
    tokens = " ".join(token_bars(result.tokens, 0, 0, each=100).layout.yaxis.ticktext)
    assert "&lt;b&gt;bold" in names
    assert "&lt;/script&gt;" in tokens
    assert "<" not in names + tokens
    assert "\n" not in tokens


CASES = [
    (lambda r: head_grid(r.heads.drop(columns=["ci_low", "share"]), "pos", "NOUN"), "lacks the column(s) ci_low"),
    (lambda r: head_grid(r.heads, "poss", "NOUN"), "did you mean 'pos'"),
    (lambda r: head_grid(r.heads, "pos", "NUON"), "did you mean 'NOUN'"),
    (lambda r: head_grid(r.heads, "pos", "NOUN", metric="auc"), "did you mean 'auroc'"),
    (lambda r: class_bars(r.heads, 9, 0, "pos"), "no head L9H0; this result has layers 0 to 3 and heads 0 to 5"),
    (lambda r: class_bars(r.heads.iloc[[0, 0, 1]], 0, 0, "pos"), "1 row(s) of the heads table repeat"),
    (lambda r: class_bars(r.heads.iloc[:0], 0, 0, "pos"), "no rows"),
    (lambda r: class_bars(r.heads.assign(model=range(len(r.heads))), 0, 0, "pos"), "one model at a time"),
    (lambda r: token_bars(r.tokens.drop(columns="count"), 0, 0), "tokens table lacks the column(s) count"),
]


@pytest.mark.parametrize(("draw", "message"), CASES, ids=[message for _, message in CASES])
def test_bad_input_is_refused_in_a_sentence_that_names_it(result, draw, message):
    with pytest.raises(InterpError) as refused:
        draw(result)
    assert message in str(refused.value)
