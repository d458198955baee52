"""Which heads do something? One class over all heads: the layer x head grid."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from interp.page.look import Theme, layout
from interp.report.look import colorscale, colour_range
from interp.report.metrics import (
    Metric,
    direction,
    escaped,
    indistinct,
    metric_named,
    require_drawable,
    rows_of_class,
    rows_of_scheme,
    signed,
)
from interp.report.panels.panel import View

WIDE = 16  # with more heads than this a cell has room for the sign only


def figures(view: View) -> dict[str, go.Figure]:
    """Return the grid that the page draws as a picture to take away."""
    return {"grid": head_grid(view.heads, view.first["scheme"], view.first["token_class"])}


def head_grid(
    heads: pd.DataFrame, scheme: str, token_class: str, metric: str = "log2_amplification", palette: str = "red-blue",
    theme: Theme = "light",
) -> go.Figure:  # fmt: skip
    """Draw one class as a layer x head grid; what is not beyond its control is hatched (`metrics.indistinct`).

    Raises:
        InterpError: a column, the scheme, the class or the metric does not exist, or a row repeats.
    """
    look = metric_named(metric)
    require_drawable(heads, look)
    rows = rows_of_class(heads, scheme, token_class)
    limit = colour_range(rows_of_scheme(heads, scheme), look)
    layers, columns = sorted(rows["layer"].unique()), sorted(rows["head"].unique())
    cells = _cells(rows, look, limit, layers, columns).update(colorscale=colorscale(look, palette, theme))
    figure = go.Figure([cells, hatch(rows.loc[indistinct(rows, look)], layers, columns)])
    title = f"{escaped(token_class)} · {look.title} ({look.unit})"
    more = {
        "xaxis": axis("H", columns),
        "yaxis": axis("L", layers) | {"autorange": "reversed"},
        "legend": {"orientation": "h", "y": -0.12},
        "margin": {"l": 48, "r": 16, "t": 48, "b": 40},
    }
    return figure.update_layout(layout(title, theme, 150 + 34 * len(layers), **more))


def axis(letter: str, numbers: list) -> dict:
    """Return the axis of layers (letter L) or heads (H) of a grid."""
    text = [f"{letter}{number}" for number in numbers]
    return {"tickvals": list(range(len(numbers))), "ticktext": text, "showgrid": False, "zeroline": False}


def plane(rows: pd.DataFrame, column: str, layers: list, columns: list) -> np.ndarray:
    """Return a column as [layer, head], missing where there is no row."""
    return rows.pivot(index="layer", columns="head", values=column).reindex(index=layers, columns=columns).to_numpy()


def _cells(rows: pd.DataFrame, look: Metric, limit: float, layers: list, columns: list) -> go.Heatmap:
    values, low, high = (plane(rows, name, layers, columns).astype(float) for name in (look.name, "ci_low", "ci_high"))
    n_tokens = plane(rows, "n_tokens", layers, columns)
    shown = direction if len(columns) > WIDE else signed
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
        text=[[shown(value, look) for value in row] for row in values],
        texttemplate="%{text}",
        zmin=look.centre - limit if look.signed else 0.0,
        zmax=look.centre + limit,
        hovertext=spoken,
        hoverinfo="text",
        colorbar={"title": {"text": "← suppressed · amplified →" if look.signed else look.unit, "side": "right"}},
        xgap=1,
        ygap=1,
    )


def hatch(rows: pd.DataFrame, layers: list, columns: list) -> go.Scatter:
    """Return the hatching over the cells of `rows`."""
    return go.Scatter(
        x=[columns.index(head) for head in rows["head"]],
        y=[layers.index(layer) for layer in rows["layer"]],
        mode="markers",
        name="hatched: not beyond its control",
        marker={"symbol": "line-ne-open", "size": 16, "color": "rgb(110,110,110)", "line": {"width": 1.4}},
        hoverinfo="skip",
        showlegend=True,
    )
