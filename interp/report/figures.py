"""One function per picture: a table in, a Plotly figure out, nothing else happens.

Red is amplified and blue is suppressed, the sign is printed too, and what cannot be told from no effect is hatched.

    head_grid(result.heads, "pos", "PUNCT").show()
    class_bars(result.heads, layer=3, head=7, scheme="pos").show()
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from interp.report.colours import GREY, colorscale, colour_range, colours_of
from interp.report.metrics import FEW, METRICS, Metric, metric_named
from interp.report.tables import (
    KEYS,
    covers_zero,
    require,
    require_one_model,
    rows_of_class,
    rows_of_head,
    rows_of_scheme,
)
from interp.report.text import direction, escaped, signed

FONT = {"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 12}
WIDE = 16  # with more heads than this a cell has room for the sign only


def head_grid(
    heads: pd.DataFrame, scheme: str, token_class: str, metric: str = "log2_amplification", palette: str = "red-blue"
) -> go.Figure:
    """Draw one class as a layer x head grid; hatched cells have a 95% interval of A that covers 0.

    Raises:
        InterpError: a column, the scheme, the class or the metric does not exist, or a row repeats.
    """
    look = metric_named(metric)
    _check(heads, look)
    rows = rows_of_class(heads, scheme, token_class)
    limit = colour_range(rows_of_scheme(heads, scheme), look)
    layers, columns = sorted(rows["layer"].unique()), sorted(rows["head"].unique())
    figure = go.Figure([_cells(rows, look, limit, layers, columns, palette), _hatch(rows, layers, columns)])
    figure.update_layout(_grid_layout(f"{escaped(token_class)} · {look.title} ({look.unit})", layers, columns))
    return figure


def class_bars(
    heads: pd.DataFrame,
    layer: int,
    head: int,
    scheme: str,
    metric: str = "log2_amplification",
    palette: str = "red-blue",
) -> go.Figure:
    """Draw what one head does to every class of a scheme: a bar each, its 95% interval and its n.

    Classes with fewer than 30 tokens are grey, classes without tokens keep their place with "n = 0".

    Raises:
        InterpError: a column, the head, the scheme or the metric does not exist, or a row repeats.
    """
    look = metric_named(metric)
    _check(heads, look)
    in_scheme = rows_of_scheme(heads, scheme)
    rows = rows_of_head(in_scheme, layer, head).sort_values(metric, ascending=True, na_position="first")
    limit = colour_range(in_scheme, look)
    figure = go.Figure(_bars(rows, look, limit, palette))
    names = _names(rows, "token_class")
    title = f"L{layer}H{head} · {escaped(scheme)} · {look.title} ({look.unit})"
    figure.update_layout(_bars_layout(title, names, look))
    return figure


def token_bars(tokens: pd.DataFrame, layer: int, head: int, each: int = 15, min_count: int = 10) -> go.Figure:
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
    counts = rows.rename(columns={"count": "n_tokens"}).assign(n_documents=np.nan, share=np.nan, share_unbiased=np.nan)
    figure = go.Figure(_bars(counts, look, limit, "red-blue", interval=True))
    names = _names(counts, "token_string")
    figure.update_layout(_bars_layout(f"L{layer}H{head} · tokens · bias score minus its mean (nats)", names, look))
    return figure


def _names(rows: pd.DataFrame, column: str) -> list[str]:
    return [f"{escaped(str(name))} · n = {n:,}" for name, n in zip(rows[column], rows["n_tokens"], strict=True)]


def _check(heads: pd.DataFrame, look: Metric) -> None:
    require(heads, ["model", *KEYS, "n_tokens", "n_documents", look.name, "ci_low", "ci_high"], "heads")
    require(heads, ["share", "share_unbiased"], "heads")
    require_one_model(heads)


def _cells(rows: pd.DataFrame, look: Metric, limit: float, layers: list, columns: list, palette: str) -> go.Heatmap:
    def plane(column: str) -> np.ndarray:  # [layer, head]
        return (
            rows.pivot(index="layer", columns="head", values=column).reindex(index=layers, columns=columns).to_numpy()
        )

    values = plane(look.name).astype(float)
    low, high, n_tokens = plane("ci_low").astype(float), plane("ci_high").astype(float), plane("n_tokens")
    printed = [
        [direction(value, look) if len(columns) > WIDE else signed(value, look) for value in row] for row in values
    ]
    spoken = [
        [
            f"L{layer}H{head}: {signed(values[i, j], look)}<br>95% interval of A [{low[i, j]:.2f}, {high[i, j]:.2f}]"
            f"<br>n = {n_tokens[i, j]:,}"
            for j, head in enumerate(columns)
        ]
        for i, layer in enumerate(layers)
    ]
    return go.Heatmap(
        z=values,
        text=printed,
        texttemplate="%{text}",
        colorscale=colorscale(look, palette),
        zmin=look.centre - limit if look.signed else 0.0,
        zmax=look.centre + limit,
        hovertext=spoken,
        hoverinfo="text",
        colorbar={"title": {"text": "← suppressed · amplified →" if look.signed else look.unit, "side": "right"}},
        xgap=1,
        ygap=1,
    )


def _hatch(rows: pd.DataFrame, layers: list, columns: list) -> go.Scatter:
    covered = rows.loc[covers_zero(rows)]
    return go.Scatter(
        x=[columns.index(head) for head in covered["head"]],
        y=[layers.index(layer) for layer in covered["layer"]],
        mode="markers",
        name="hatched: 95% interval of A covers 0",
        marker={"symbol": "line-ne-open", "size": 16, "color": "rgba(90,90,90,0.55)"},
        hoverinfo="skip",
        showlegend=True,
    )


def _grid_layout(title: str, layers: list, columns: list) -> dict:
    def axis(letter: str, numbers: list) -> dict:
        text = [f"{letter}{number}" for number in numbers]
        return {"tickvals": list(range(len(numbers))), "ticktext": text, "showgrid": False, "zeroline": False}

    return {
        "title": {"text": title},
        "xaxis": axis("H", columns),
        "yaxis": axis("L", layers) | {"autorange": "reversed"},
        "height": 150 + 34 * len(layers),
        "legend": {"orientation": "h", "y": -0.12},
        "template": "none",
        "font": FONT,
        "margin": {"l": 48, "r": 16, "t": 48, "b": 40},
    }


def _known(lengths: np.ndarray) -> list[float | None]:
    """Plotly draws no error bar for None, but one of no length, which would look like certainty, for 0."""
    return [float(length) if np.isfinite(length) else None for length in lengths]


def _bars(rows: pd.DataFrame, look: Metric, limit: float, palette: str, interval: bool = False) -> go.Bar:
    values, n_tokens = rows[look.name].to_numpy(float), rows["n_tokens"].to_numpy()
    low, high = rows["ci_low"].to_numpy(float), rows["ci_high"].to_numpy(float)
    colours = colours_of(values, look, limit, palette)
    return go.Bar(
        x=np.nan_to_num(values - look.centre),
        base=look.centre,
        y=list(range(len(rows))),
        orientation="h",
        error_x={
            "type": "data",
            "symmetric": False,
            "array": _known(high - values),
            "arrayminus": _known(values - low),
            "visible": look.interval or interval,
            "thickness": 1.6,
            "width": 3,
        },
        marker={
            "color": [colour if n >= FEW else GREY for colour, n in zip(colours, n_tokens, strict=True)],
            "pattern": {
                "shape": ["/" if covered else "" for covered in covers_zero(rows)],
                "size": 6,
                "solidity": 0.35,
            },
        },
        text=[signed(value, look) if n else "n = 0" for value, n in zip(values, n_tokens, strict=True)],
        textposition="none",
        customdata=np.column_stack([low, high, n_tokens, rows["share"], rows["share_unbiased"]]),
        hovertemplate="%{text} [%{customdata[0]:.2f}, %{customdata[1]:.2f}]<br>share %{customdata[3]:.2%}, "
        "without the bias %{customdata[4]:.2%}<br>n = %{customdata[2]:,}<extra></extra>",
    )


def _bars_layout(title: str, names: list[str], look: Metric) -> dict:
    return {
        "title": {"text": title},
        "xaxis": {"title": {"text": f"{look.title} ({look.unit})"}, "zeroline": False, "automargin": True},
        "yaxis": {"tickvals": list(range(len(names))), "ticktext": names, "automargin": True, "showgrid": False},
        "shapes": [{"type": "line", "x0": look.centre, "x1": look.centre, "yref": "paper", "y0": 0, "y1": 1,
                    "line": {"width": 1, "color": "#777"}}],
        "height": 110 + 22 * len(names),
        "bargap": 0.25,
        "showlegend": False,
        "template": "none",
        "font": FONT,
        "margin": {"l": 16, "r": 16, "t": 48, "b": 48},
    }  # fmt: skip
