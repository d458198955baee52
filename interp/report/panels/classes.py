"""What does a head favour? A bar for each class, or for each of its tokens, with interval, n and null band."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from interp.analysis.findings import FEW_TOKENS as FEW
from interp.page.look import PAGE, Theme, layout, number_axis
from interp.report.look import GREY, bound, centre_line, class_axis, colour_range, colours_of
from interp.report.metrics import (
    METRICS,
    Metric,
    escaped,
    indistinct,
    metric_named,
    null_band,
    require,
    require_drawable,
    rows_of_head,
    rows_of_scheme,
    signed,
    strength,
)
from interp.report.panels.panel import View

BARS = "measured"  # the trace of the bars, beside their bands and the marks of what goes on beyond the axis


def figures(view: View) -> dict[str, go.Figure]:
    """Return the bars of a head."""
    return {"bars": class_bars(view.heads, view.first["layer"], view.first["head"], view.first["scheme"])}


def class_bars(
    heads: pd.DataFrame, layer: int, head: int, scheme: str, metric: str = "log2_amplification",
    palette: str = "red-blue", theme: Theme = "light",
) -> go.Figure:  # fmt: skip
    """Draw what one head does to every class of a scheme: a bar each, its 95% interval, its n and its null band.

    Classes with fewer than 100 tokens are grey, stand last and do not set the axis; classes without tokens keep their place
    with "n = 0". The grey band behind a bar holds 95% of what its control gives (`Metric.control`); interval and band are
    drawn if the table has them.

    Raises:
        InterpError: a column, the head, the scheme or the metric does not exist, or a row repeats.
    """
    look = metric_named(metric)
    require_drawable(heads, look)
    in_scheme = rows_of_scheme(heads, scheme)
    rows = _in_order(rows_of_head(in_scheme, layer, head), look)
    low, high = (rows[name] if name in rows else np.full(len(rows), np.nan) for name in (look.low, look.high))
    drawn = rows.assign(low=low, high=high, hatched=indistinct(rows, look), label=rows["token_class"])
    title = f"L{layer}H{head} · {escaped(scheme)} · {look.title} ({look.unit})"
    band, limit = null_band(rows, look), colour_range(in_scheme, look)
    bars = _bars(drawn, look, limit, palette, theme)
    figure = _figure([null_bands(band, look, theme), bars], drawn, look, title, theme)
    ends = np.stack([*drawn[[metric, "low", "high"]].to_numpy(float).T, *(band or ())])
    include = (look.centre - limit / 3, look.centre + limit / 3) if look.signed else (0.0, limit / 3)
    return bound(figure, ends, rows, theme, include)


def _in_order(rows: pd.DataFrame, look: Metric) -> pd.DataFrame:
    """Return the rows from the lowest bar to the highest: rare classes lowest, then from suppressed to amplified.

    By the end of the interval nearest to no effect, as everywhere (`metrics.strength`), where it is beyond it.
    """
    value = rows[look.name].to_numpy(float)
    side = np.maximum(strength(rows, look), 0) * np.sign(np.nan_to_num(value - look.centre))
    return rows.iloc[
        np.lexsort((np.nan_to_num(value, nan=-np.inf), side, ~np.isnan(value), rows["n_tokens"].to_numpy() >= FEW))
    ]


def token_bars(
    tokens: pd.DataFrame, layer: int, head: int, each: int = 15, min_count: int = 10, palette: str = "red-blue",
    theme: Theme = "light",
) -> go.Figure:  # fmt: skip
    """Draw the `each` most amplified and most suppressed tokens of a head that occur at least `min_count` times.

    Raises:
        InterpError: a column or the head does not exist.
    """
    look = METRICS["bias_score_contrast"]
    needed = ["layer", "head", "token_string", "count", look.name, "ci_low", "ci_high"]
    require(tokens, needed, "tokens")
    rows = rows_of_head(tokens, layer, head)
    rows = rows.loc[(rows["count"] >= min_count) & rows[look.name].notna()].sort_values(look.name)
    rows = pd.concat([rows.head(each), rows.iloc[each:].tail(each)])
    limit = float(np.abs(rows[look.name].to_numpy()).max(initial=0)) or 1.0
    drawn = rows.rename(columns={"count": "n_tokens", "token_string": "label", "ci_low": "low", "ci_high": "high"})
    drawn = drawn.assign(hatched=False)  # tokens have no control
    title = f"L{layer}H{head} · tokens · bias score minus its mean (nats)"
    return _figure([_bars(drawn, look, limit, palette, theme)], drawn, look, title, theme)


def null_bands(band: tuple[np.ndarray, np.ndarray] | None, look: Metric, theme: Theme) -> go.Bar:
    """Return the bands behind the bars, from first to last row; without a null a trace that draws nothing."""
    low, high = ([], []) if band is None else band
    return go.Bar(
        x=np.nan_to_num(np.subtract(high, low)), base=np.nan_to_num(low), y=list(range(len(low))), orientation="h",
        width=0.9, marker={"color": PAGE["band"][theme], "line": {"width": 0}}, hoverinfo="skip",
        name=f"95% of {look.control}",
    )  # fmt: skip


def _figure(traces: list[go.Bar], rows: pd.DataFrame, look: Metric, title: str, theme: Theme) -> go.Figure:
    names = [f"{escaped(str(name))} · n = {n:,}" for name, n in zip(rows["label"], rows["n_tokens"], strict=True)]
    more = {
        "xaxis": number_axis(f"{look.title} ({look.unit})", theme), "yaxis": class_axis(names),
        "shapes": [centre_line(look, theme)], "bargap": 0.25, "barmode": "overlay", "showlegend": False,
    }  # fmt: skip
    return go.Figure(traces, layout(title, theme, 110 + 22 * len(names), **more))


def _bars(rows: pd.DataFrame, look: Metric, limit: float, palette: str, theme: Theme) -> go.Bar:
    values, n_tokens = rows[look.name].to_numpy(float), rows["n_tokens"].to_numpy()
    low, high = rows["low"].to_numpy(float), rows["high"].to_numpy(float)
    colours = colours_of(values, look, limit, palette, theme)
    text = PAGE["text"][theme]
    return go.Bar(
        x=np.nan_to_num(values - look.centre),
        base=look.centre,
        y=list(range(len(rows))),
        orientation="h",
        width=0.64,
        error_x={
            "type": "data", "symmetric": False, "array": high - values, "arrayminus": values - low,
            "thickness": 1.6, "width": 3, "color": text,
        },
        marker={
            "color": [colour if n >= FEW else GREY for colour, n in zip(colours, n_tokens, strict=True)],
            "line": {"width": 0.5, "color": text},
            "pattern": {
                "shape": ["/" if hatched else "" for hatched in rows["hatched"]], "size": 6, "solidity": 0.35,
                "fgcolor": text,
            },
        },
        text=[signed(value, look) if n else "n = 0" for value, n in zip(values, n_tokens, strict=True)],
        textposition="none",
        name=BARS,
        meta=[str(name) for name in rows["label"]],
        customdata=np.column_stack([low, high, n_tokens]),
        hovertemplate="%{text} [%{customdata[0]:.2f}, %{customdata[1]:.2f}]<br>n = %{customdata[2]:,}<extra></extra>",
    )  # fmt: skip
