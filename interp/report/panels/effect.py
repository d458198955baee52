"""Does it matter? What scaling or removing the bias does to attention and loss, beside a random change of the same size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from interp.analysis.interventions.result import Interventions
from interp.errors import InterpError
from interp.report.look import Theme
from interp.report.metrics import escaped, require, rows_of_head, rows_of_scheme
from interp.report.panels.packing import codes, head_index, pack
from interp.report.panels.position import dot_chart, dots

PLACE = ["intervention", "scale", "direction", "draw", "scheme", "token_class", "n_tokens", "ci_low", "ci_high"]

KINDS = {"bias": "bias", "random": "random direction of the same size"}


def attention_change(
    attention: pd.DataFrame, layer: int, head: int, scheme: str, intervention: str = "all", scale: float = 0.0,
    theme: Theme = "light",
) -> go.Figure:  # fmt: skip
    """Draw how the attention of one head to every class changes (doublings, 95% intervals) when the bias is scaled.

    Args:
        attention: the table of `result.interventions`.
        layer: of the head.
        head: its number.
        scheme: whose classes are drawn.
        intervention: where the bias is scaled: "all", "L3" or "L3H7".
        scale: what it is multiplied by; 0 removes it.
        theme: "light" or "dark".

    Raises:
        InterpError: a column, the head, the scheme, the place or the scale does not exist.
    """
    require(attention, [*PLACE, "layer", "head", "log2_change"], "attention")
    rows = rows_of_head(rows_of_scheme(_made(attention, intervention, scale), scheme), layer, head)
    title = f"L{layer}H{head} · {escaped(scheme)} · bias of {intervention} × {scale:g}"
    return _chart(rows, "log2_change", title, "change of attention (log₂ ratio)", theme)


def loss_change(
    loss: pd.DataFrame, scheme: str, intervention: str = "all", scale: float = 0.0, theme: Theme = "light"
) -> go.Figure:
    """Draw how the loss on every class of predicted token changes (nats, 95% intervals) when the bias is scaled.

    Args:
        loss: the table of `result.interventions`.
        scheme: whose classes are drawn; "overall" is all tokens together.
        intervention: where the bias is scaled: "all", "L3" or "L3H7".
        scale: what it is multiplied by; 0 removes it.
        theme: "light" or "dark".

    Raises:
        InterpError: a column, the scheme, the place or the scale does not exist.
    """
    require(loss, [*PLACE, "difference"], "loss")
    rows = rows_of_scheme(_made(loss, intervention, scale), scheme)
    title = f"{escaped(scheme)} of the predicted token · bias of {intervention} × {scale:g}"
    return _chart(rows, "difference", title, "change of loss (nats)", theme)


def mean_of_draws(rows: pd.DataFrame, values: list[str], keys: list[str]) -> pd.DataFrame:
    """Return one row per key: the mean of `values` over the random directions, if there are several."""
    return pd.DataFrame(rows.groupby(keys, sort=False, observed=True, dropna=False, as_index=False)[values].mean())


def _made(table: pd.DataFrame, intervention: str, scale: float) -> pd.DataFrame:
    rows = table.loc[(table["intervention"] == intervention) & (table["scale"] == scale)]
    if rows.empty:
        made = table[["intervention", "scale"]].drop_duplicates().itertuples(index=False)
        known = ", ".join(f"{place} × {number:g}" for place, number in list(made)[:12])
        raise InterpError(f"The bias of {intervention!r} was not scaled by {scale:g}; this result has {known} ...")
    return rows


def _chart(rows: pd.DataFrame, value: str, title: str, axis: str, theme: Theme) -> go.Figure:
    columns = [value, "ci_low", "ci_high"]
    both = mean_of_draws(rows, columns, ["direction", "token_class", "n_tokens"])
    found, control = (both.loc[both["direction"] == kind].set_index("token_class", drop=False) for kind in KINDS)
    found = found.sort_values(value, na_position="first")
    control = control.reindex(found.index)
    traces = [dots(control.assign(n_tokens=found["n_tokens"]), columns, KINDS["random"], "before", theme),
              dots(found, columns, KINDS["bias"], "after", theme)]  # fmt: skip
    return dot_chart(traces, found, title, axis, theme)


PLACES = ("all", "layer", "head")

PATHS = ("total", "direct", "indirect")

LOSS = ("difference", "ci_low", "ci_high")

PREDICTIONS = ("kl", "kl_ci_low", "kl_ci_high", "top1_changed", "top1_ci_low", "top1_ci_high")


def effect_payload(found: Interventions | None, head: dict[str, Any]) -> dict[str, Any] | None:
    """Return blocks [place, scale, direction, head, class] of attention, [intervention, scale, direction, class] of loss.

    The attention of a head is kept for biases scaled everywhere, in its own layer and in itself: what others do to it is in
    the tables. Random directions of one size are averaged. None where no intervention was made.

    Args:
        found: `result.interventions`.
        head: what `heads_payload` returned.
    """
    if found is None:
        return None
    scales = sorted(set(found.loss["scale"]) - {1.0})  # a scale of 1 changes nothing
    names = list(dict.fromkeys(found.loss["intervention"]))
    schemes = {scheme["name"]: scheme["classes"] for scheme in head["schemes"]}
    return {
        "part": str(found.run.get("part", "q")),
        "draws": len(set(found.loss["draw"][found.loss["direction"] == "random"])),
        "scales": [float(scale) for scale in scales],
        "names": names,
        "attention": {name: _attention(found.attention, name, known, scales, head) for name, known in schemes.items()},
        "loss": {
            name: _loss(found, name, known, scales, names)
            for name, known in {**schemes, "overall": ["overall"]}.items()
        },
        "paths": {name: _paths(found.paths, name, known, head) for name, known in schemes.items()},
    }


def _attention(
    table: pd.DataFrame, scheme: str, known: list[str], scales: Sequence[float], head: dict
) -> dict[str, Any]:
    rows = table.loc[table["scheme"] == scheme]
    own_layer = (rows["changed_layer"] == rows["layer"]) & rows["changed_head"].isna()
    own_head = (rows["changed_layer"] == rows["layer"]) & (rows["changed_head"] == rows["head"])
    place = np.select([rows["intervention"] == "all", own_layer, own_head], range(3), -1)
    columns = ["log2_change", "ci_low", "ci_high"]
    rows = mean_of_draws(
        rows.assign(place=place), columns, ["place", "scale", "direction", "layer", "head", "token_class"]
    )
    index = [rows["place"].to_numpy(), codes(rows, "scale", list(scales)), codes(rows, "direction", list(KINDS)),
             head_index(rows, head["layers"], head["heads"]), codes(rows, "token_class", known)]  # fmt: skip
    n_heads = len(head["layers"]) * len(head["heads"])
    blocks = _blocks(rows, columns, index, (len(PLACES), len(scales), len(KINDS), n_heads, len(known)))
    return {"n_tokens": _counts(table, scheme, known), "values": blocks}


def _loss(
    found: Interventions, scheme: str, known: list[str], scales: Sequence[float], names: Sequence[str]
) -> dict[str, Any]:
    keys = ["intervention", "scale", "direction", "token_class"]
    blocks, shape = {}, (len(names), len(scales), len(KINDS), len(known))
    for table, columns in ((found.loss, LOSS), (found.predictions, PREDICTIONS)):
        rows = mean_of_draws(table.loc[table["scheme"] == scheme], list(columns), keys)
        index = [codes(rows, "intervention", list(names)), codes(rows, "scale", list(scales)),
                 codes(rows, "direction", list(KINDS)), codes(rows, "token_class", known)]  # fmt: skip
        blocks |= _blocks(rows, list(columns), index, shape)
    return {"n_tokens": _counts(found.loss, scheme, known), "values": blocks}


def _paths(table: pd.DataFrame, scheme: str, known: list[str], head: dict) -> dict[str, Any]:
    rows = table.loc[(table["scheme"] == scheme) & table["path"].isin(PATHS)]
    index = [codes(rows, "path", list(PATHS)), head_index(rows, head["layers"], head["heads"]),
             codes(rows, "token_class", known)]  # fmt: skip
    shape = (len(PATHS), len(head["layers"]) * len(head["heads"]), len(known))
    blocks = _blocks(rows, ["log2_amplification", "ci_low", "ci_high"], index, shape)
    return {"n_tokens": _counts(table, scheme, known), "values": blocks}


def _counts(table: pd.DataFrame, scheme: str, known: list[str]) -> list[int]:
    """Return the tokens of each class that the interventions read: fewer than the rest of the page is about."""
    rows = table.loc[table["scheme"] == scheme].drop_duplicates("token_class")
    counts = dict(zip(rows["token_class"].astype(str), rows["n_tokens"], strict=True))
    return [int(counts.get(name, 0)) for name in known]


def _blocks(rows: pd.DataFrame, columns: list[str], index: list[np.ndarray], shape: tuple[int, ...]) -> dict[str, Any]:
    kept = np.all([place >= 0 for place in index], axis=0)
    places = tuple(place[kept] for place in index)
    packed = {}
    for column in columns:
        block = np.full(shape, np.nan)
        block[places] = rows[column].to_numpy(float)[kept]
        packed[column] = pack(block, "f2")
    return packed
