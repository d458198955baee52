"""Made-up interventions and comparisons of a made-up result, with numbers that a test can foretell."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd

from interp.analysis.comparison.paired import QUANTILES
from interp.analysis.comparison.result import NO_CORRESPONDENCE, Comparison
from interp.analysis.interventions.result import OVERALL, Interventions

SCALES = (0.0, 1.0, 2.0)


def interventions(heads: pd.DataFrame, draws: int = 2) -> Interventions:
    """The bias undoes A at every place: log2 change (scale - 1) A, loss +0.1 everywhere; random directions do a tenth."""
    cells = heads[["layer", "head", "scheme", "token_class", "n_tokens", "n_documents", "log2_amplification"]]
    cells = cells.assign(n_tokens=cells["n_tokens"] // 3)  # interventions read a part of the text
    classes = cells.drop_duplicates(["scheme", "token_class"])[["scheme", "token_class", "n_tokens", "n_documents"]]
    overall = pd.DataFrame({"scheme": [OVERALL], "token_class": [OVERALL], "n_tokens": [5000], "n_documents": [31]})
    attention, losses = [], []
    for place, scale, (direction, draw) in itertools.product(_places(heads), SCALES, _ways(draws)):
        start = {**place, "part": "q", "scale": scale, "direction": direction, "draw": draw}
        factor = (scale - 1) * (1.0 if direction == "bias" else 0.1 * (draw + 0.5))
        later = cells.loc[
            cells["layer"] >= (place["changed_layer"] if place["changed_layer"] == place["changed_layer"] else 0)
        ]
        change = factor * later["log2_amplification"]
        attention.append(later.assign(**start, share=0.1, share_unchanged=0.1, log2_change=change, **_ends(change)))
        rows = pd.concat([overall, classes], ignore_index=True)
        difference = pd.Series(0.1 * abs(factor), rows.index)
        losses.append(
            rows.assign(**start, loss=3.0 + difference, loss_unchanged=3.0, difference=difference, **_ends(difference))
        )
    loss = pd.concat(losses, ignore_index=True)
    names = {"difference": "kl", "ci_low": "kl_ci_low", "ci_high": "kl_ci_high"}
    predictions = loss.rename(columns=names).assign(top1_changed=0.25, top1_ci_low=0.2, top1_ci_high=0.3)
    return Interventions(
        pd.concat(attention, ignore_index=True), loss, predictions, _paths(cells), {"part": "q", "scales": SCALES}
    )


def _places(heads: pd.DataFrame) -> list[dict]:
    pairs = heads[["layer", "head"]].drop_duplicates().itertuples(index=False)
    layers = [(f"L{layer}", layer, np.nan) for layer in sorted(set(heads["layer"]))]
    named = [("all", np.nan, np.nan), *layers, *((f"L{layer}H{head}", layer, head) for layer, head in pairs)]
    return [{"intervention": name, "changed_layer": layer, "changed_head": head} for name, layer, head in named]


def _ways(draws: int) -> list[tuple[str, int]]:
    return [("bias", 0), *(("random", draw) for draw in range(draws))]


def _ends(value: pd.Series, half: float = 0.02) -> dict[str, pd.Series]:
    return {"ci_low": value - half, "ci_high": value + half}


def _paths(cells: pd.DataFrame) -> pd.DataFrame:
    parts = {"total": 1.0, "direct": 0.75, "direct position": 0.5, "direct beyond position": 0.25, "indirect": 0.25}
    tables = []
    for path, part in parts.items():
        value = part * cells["log2_amplification"]
        tables.append(cells.assign(path=path, source_layer=np.nan, log2_amplification=value, **_ends(value)))
    return pd.concat(tables, ignore_index=True)


def comparison(heads: pd.DataFrame, same_sizes: bool = True) -> Comparison:
    """B is twice A, but for L0H1, where B is A less 3; without `same_sizes` no head has a partner."""
    rows = heads[["layer", "head", "scheme", "token_class", "n_tokens", "n_documents"]]
    a = heads["log2_amplification"]
    other = (rows["layer"] == 0) & (rows["head"] == 1)
    b = pd.Series(np.where(other, a - 3, 2 * a), a.index)
    ends = {
        f"{name}{side}": value
        for side, x in (("_a", a), ("_b", b), ("", b - a))
        for name, value in _ends(x, 0.1).items()
    }
    table = rows.assign(log2_amplification_a=a, log2_amplification_b=b, difference=b - a, **ends, p=0.01, q=0.02)
    classes = rows.drop_duplicates(["scheme", "token_class"]).drop(columns=["layer", "head"])
    names = ["mean", "mean_absolute", "root_mean_square", *QUANTILES]
    statistics = [
        classes.assign(statistic=name, n_heads_a=24, n_heads_b=24, value_a=1.0 + QUANTILES.get(name, 0), difference=0.5,
                       value_b=1.5 + QUANTILES.get(name, 0), ci_low=0.25, ci_high=0.75, interval_over="documents")
        for name in names
    ]  # fmt: skip
    read = {"corpus": "wikipedia-sample", "n_tokens": 183_402, "n_documents": 31}
    runs = {"a": {"model": "tiny-bqbv", **read}, "b": {"model": "tiny-bq", **read, "bias": "none"}}
    loss = {"n_tokens": 5000, "loss_unchanged": 4.5, "difference": 0.1, "ci_low": 0.08, "ci_high": 0.12, "control": 0.01,
            "vector": "b_Q", "control_kind": "a random change of the same size"}  # fmt: skip
    losses = {"a": loss, "b": loss | {"loss_unchanged": 4.25, "difference": 0.0, "ci_low": 0.0, "ci_high": 0.0}}
    run = {**runs, "shared": {}, "notes": [NO_CORRESPONDENCE, "Another note."], "losses": losses}
    return Comparison(table if same_sizes else table[:0], pd.concat(statistics, ignore_index=True), run)
