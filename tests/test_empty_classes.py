"""A class of one's own that no token is in says n = 0: in every table, on the pages and in their figures."""

import numpy as np
import pytest

import interp
from interp.evals.held_out import held_out_loss
from interp.report.dashboard import write_dashboard
from interp.report.evaluation import class_figure
from interp.report.figures import class_bars
from interp.report.panels.classes import BARS

TEXTS = ["The quick brown fox sleeps, and none of them mentions it. " * 4] * 3
FILE = """
own:
  overlaps: false
  classes:
    foxes: {words: [fox]}
    unicorns: {words: [unicorn, zzyzx]}
"""
SETTINGS = {"workers": 0, "replicates": 2}


@pytest.fixture
def scheme(tmp_path):
    (tmp_path / "own.yaml").write_text(FILE)
    return str(tmp_path / "own.yaml")


def row(table, **where):
    table = table.loc[table["scheme"] == "own"]
    for name, value in where.items():
        table = table.loc[table[name] == value]
    return table


def test_amplification_keeps_the_class_with_n_0_and_missing_values(make_model, scheme, tmp_path):
    result = interp.amplification(make_model(), TEXTS, scheme, nulls=0, shifts=19, fit_tokens=500, **SETTINGS)
    empty = row(result.heads, token_class="unicorns")
    assert len(empty) == 6 and set(empty["n_tokens"]) == set(empty["n_documents"]) == {0}
    assert empty[["log2_amplification", "bias_score_contrast"]].isna().to_numpy().all()
    assert (row(result.heads, token_class="foxes")["n_tokens"] > 0).all()
    bars = class_bars(result.heads, 0, 0, "own")
    assert "unicorns · n = 0" in bars.layout.yaxis.ticktext
    [bar] = [trace for trace in bars.data if trace.name == BARS]
    assert "n = 0" in bar.text
    page = write_dashboard(result, tmp_path / "page.html").read_text(encoding="utf-8")
    assert '"unicorns"' in page
    saved = interp.Amplification.load(result.save(tmp_path / "report")[0].parent)
    assert set(row(saved.heads, token_class="unicorns")["n_tokens"]) == {0}


def test_comparisons_interventions_uses_and_losses_say_so_too(make_model, scheme):
    model = make_model()
    compared = interp.compare(
        model, make_model(1), corpus=TEXTS, schemes=scheme, nulls=0, shifts=0, fit_tokens=0, **SETTINGS
    )
    assert set(row(compared.classes, token_class="unicorns")["n_tokens"]) == {0}
    changed = interp.interventions(model, TEXTS, scheme, where="all", scales=[0], **SETTINGS)
    for name in ("attention", "loss", "predictions"):
        table = row(getattr(changed, name), token_class="unicorns")
        assert len(table) and set(table["n_tokens"]) == {0}, name
    used = interp.uses(model, TEXTS, scheme, controls=0, **SETTINGS).loss
    table = used.loc[(used["predicted_scheme"] == "own") & (used["predicted_class"] == "unicorns")]
    assert len(table) and set(table["n_tokens"]) == {0}
    losses = held_out_loss(model, TEXTS, [scheme]).classes.assign(model="m")
    lost = row(losses, token_class="unicorns")
    assert list(lost["n_tokens"]) == [0] and np.isnan(lost["loss"].item())
    figure = class_figure(losses, "own")
    assert [text for text in figure.layout.yaxis.ticktext if "unicorns" in text] == ["unicorns · n = 0"]
    assert len(figure.data[0].x) == (losses["n_tokens"] > 0).sum()
    shares = interp.read_sentence(model, "A fox.", [scheme]).shares("own")
    assert set(row(shares, token_class="unicorns")["n_tokens"]) == {0}
