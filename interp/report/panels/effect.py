"""Does it matter? What scaling or removing the bias does to attention and loss, beside a random change of the same size."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from interp.analysis.findings import vector_of
from interp.errors import InterpError
from interp.page.look import Theme
from interp.report.look import ranked
from interp.report.metrics import escaped, require, rows_of_head, rows_of_scheme
from interp.report.panels.packing import block
from interp.report.panels.panel import View
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
        layer, head: which head.
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
        intervention, scale, theme: as in `attention_change`.

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
    found = ranked(found, value)
    control = control.reindex(found.index)
    traces = [dots(control.assign(n_tokens=found["n_tokens"]), columns, KINDS["random"], "before", theme),
              dots(found, columns, KINDS["bias"], "after", theme)]  # fmt: skip
    return dot_chart(traces, found, title, axis, theme)


PLACES = ("all", "layer", "head")
PATHS = ("total", "direct", "direct position", "direct beyond position", "indirect")
ATTENTION = ("log2_change", "ci_low", "ci_high")
LOSS = ("difference", "ci_low", "ci_high")
PREDICTIONS = ("kl", "kl_ci_low", "kl_ci_high", "top1_changed", "top1_ci_low", "top1_ci_high")
SHARES = ("log2_amplification", "ci_low", "ci_high")


def figures(view: View) -> dict[str, go.Figure]:
    """Return the chart of a change, if interventions were made."""
    if (found := view.result.interventions) is None:
        return {}
    made = found.loss.iloc[0]
    return {"effect": loss_change(found.loss, "overall", made["intervention"], made["scale"])}


def payload(view: View) -> dict[str, Any] | None:
    """Return blocks [where, scale, direction, head, class] of attention, [intervention, scale, direction, class] of loss.

    The attention of a head is kept for biases scaled everywhere, in its own layer and in itself: what others do to it is in
    the tables. Random directions of one size are averaged. None where no intervention was made.
    """
    if (found := view.result.interventions) is None:
        return None
    scales = [float(scale) for scale in sorted(set(found.loss["scale"]) - {1.0})]  # a scale of 1 changes nothing
    names = list(dict.fromkeys(found.loss["intervention"]))
    heads, ways = {"head_number": view.head_numbers}, {"scale": scales, "direction": list(KINDS)}
    in_head = [(_placed(view.numbered(found.attention)), ATTENTION)]
    of_tokens = [(found.loss, LOSS), (found.predictions, PREDICTIONS)]
    through = [(view.numbered(found.paths), SHARES)]
    schemes = [(name, {"token_class": known}) for name, known in view.schemes.items()]
    overall = [*schemes, ("overall", {"token_class": ["overall"]})]
    return {
        "part": str(found.run.get("part", "q")),
        "vector": vector_of(found.run),
        "draws": found.loss.loc[found.loss["direction"] == "random", "draw"].nunique(),
        "scales": scales,
        "names": names,
        "attention": {
            name: _packed(in_head, name, {"where": PLACES, **ways, **heads, **known}) for name, known in schemes
        },
        "loss": {name: _packed(of_tokens, name, {"intervention": names, **ways, **known}) for name, known in overall},
        "paths": {name: _packed(through, name, {"path": PATHS, **heads, **known}) for name, known in schemes},
    }


def _placed(attention: pd.DataFrame) -> pd.DataFrame:
    """Add `where` the biases are scaled, as a head sees it: one of `PLACES`, or elsewhere."""
    own_layer = attention["changed_layer"] == attention["layer"]
    own_head = own_layer & (attention["changed_head"] == attention["head"])
    seen = [attention["intervention"] == "all", own_layer & attention["changed_head"].isna(), own_head]
    return attention.assign(where=np.select(seen, list(PLACES), ""))


def _packed(
    tables: Sequence[tuple[pd.DataFrame, Sequence[str]]], scheme: str, axes: Mapping[str, Sequence]
) -> dict[str, Any]:
    """Return columns of tables along axes, the last of classes, and `n_tokens` that the interventions read of each class.

    These are fewer than the rest of the page is about.
    """
    own = [(table.loc[table["scheme"] == scheme], list(columns)) for table, columns in tables]
    blocks = [block(mean_of_draws(rows, columns, list(axes)), axes, columns) for rows, columns in own]
    first = own[0][0].drop_duplicates("token_class")
    counts = first.set_index(first["token_class"].astype(str))["n_tokens"].reindex(axes["token_class"], fill_value=0)
    values = {name: packed for each in blocks for name, packed in each["values"].items()}
    return {"n_tokens": counts.astype(int).to_list(), "shape": blocks[0]["shape"], "values": values}
