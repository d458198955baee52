"""Two models or readings side by side: A, B and the difference on one colour scale, and class by class over all heads."""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from interp.analysis.findings import rankable
from interp.page.look import Theme, layout
from interp.report.look import colorscale
from interp.report.metrics import AMPLIFICATION, escaped, require, rows_of_class, rows_of_scheme, signed
from interp.report.panels.heads import axis, hatch, plane
from interp.report.panels.packing import block, columns
from interp.report.panels.panel import View
from interp.report.panels.position import dot_chart, dots

PLANES = {"log2_amplification_a": "A", "log2_amplification_b": "B", "difference": "B − A"}
WIDE = 12  # with more heads than this a cell has no room for its number


def comparison_grids(
    heads: pd.DataFrame, scheme: str, token_class: str, palette: str = "red-blue", theme: Theme = "light"
) -> go.Figure:
    """Draw one class as three layer x head grids: A, B and B - A in doublings, on one colour scale.

    Cells whose 95% interval holds 0 have a ring; that of the difference is paired over documents. Heads of two trainings
    do not correspond (`Comparison`).

    Args:
        heads: the table of a `Comparison`.
        scheme: of the class.
        token_class: which class.
        palette: "red-blue" or "orange-purple".
        theme: "light" or "dark".

    Raises:
        InterpError: a column, the scheme or the class does not exist.
    """
    ends = ["ci_low_a", "ci_high_a", "ci_low_b", "ci_high_b", "ci_low", "ci_high"]
    require(heads, ["layer", "head", "scheme", "token_class", "n_tokens", *PLANES, *ends], "comparison's heads")
    limit = comparison_range(rows_of_scheme(heads, scheme))
    rows = rows_of_class(heads, scheme, token_class)
    layers, columns = sorted(rows["layer"].unique()), sorted(rows["head"].unique())
    figure = go.Figure(layout=layout(f"{escaped(token_class)} · amplification A and B (log₂ ratio)", theme,
                                     170 + 30 * len(layers)))  # fmt: skip
    for place, (column, name) in enumerate(PLANES.items()):
        number = "" if place == 0 else str(place + 1)
        side = ["_a", "_b", ""][place]
        sure = (rows[f"ci_low{side}"] > 0) | (rows[f"ci_high{side}"] < 0)
        values = plane(rows, column, layers, columns).astype(float)
        figure.add_trace(_cells(values, name, number, len(columns) <= WIDE))
        marks = {"xaxis": f"x{number}", "yaxis": f"y{number}", "showlegend": place == 0}
        ring = {"name": "ring: 95% interval holds 0", "marker": {"symbol": "circle-open"}}
        figure.add_trace(hatch(rows.loc[~sure], layers, columns).update(marks | ring))
        figure.update_layout({
            f"xaxis{number}": axis("H", columns) | {"domain": [0.36 * place, 0.36 * place + 0.28], "title": {"text": name}},
            f"yaxis{number}": axis("L", layers) | {"autorange": "reversed", "anchor": f"x{number}"},
        })  # fmt: skip
    colours = {"colorscale": colorscale(AMPLIFICATION, palette, theme), "cmin": -limit, "cmax": limit,
               "colorbar": {"title": {"text": "← suppressed · amplified →", "side": "right"}}}  # fmt: skip
    return figure.update_layout(
        coloraxis=colours, legend={"orientation": "h", "y": -0.2}, margin={"l": 48, "r": 16, "t": 48, "b": 60}
    )


def comparison_range(heads: pd.DataFrame) -> float:
    """Return the value at which the colours of A, B and the difference saturate: the 99th percentile of rankable rows."""
    values = np.abs(heads.loc[rankable(heads), list(PLANES)].to_numpy(float))
    values = values[np.isfinite(values)]
    return float(np.quantile(values, 0.99)) or 1.0 if len(values) else 1.0


def class_differences(
    classes: pd.DataFrame, scheme: str, statistic: str = "mean_absolute", theme: Theme = "light"
) -> go.Figure:
    """Draw B - A of one statistic over all heads, a dot per class with its paired 95% interval over documents.

    Args:
        classes: the table of a `Comparison`.
        scheme: whose classes are drawn.
        statistic: one of `interp.analysis.comparison`.
        theme: "light" or "dark".

    Raises:
        InterpError: a column or the scheme does not exist.
    """
    columns = ["difference", "ci_low", "ci_high"]
    require(classes, ["scheme", "token_class", "n_tokens", "statistic", *columns], "comparison's classes")
    rows = rows_of_scheme(classes, scheme)
    rows = rows.loc[rows["statistic"] == statistic].sort_values("difference", na_position="first")
    title = f"{escaped(scheme)} · {statistic.replace('_', ' ')} over all heads"
    return dot_chart([dots(rows, columns, "B − A", "after", theme)], rows, title, "B − A", theme)


def _cells(values: np.ndarray, name: str, number: str, roomy: bool) -> go.Heatmap:
    text = [[signed(value, AMPLIFICATION) for value in row] for row in values] if roomy else None
    return go.Heatmap(
        z=values, text=text, texttemplate="%{text}" if roomy else None, coloraxis="coloraxis", xgap=1, ygap=1, name=name,
        xaxis=f"x{number}", yaxis=f"y{number}", hovertemplate="%{y}%{x}: %{z:.2f}<extra>" + name + "</extra>",
    )  # fmt: skip


VALUES = ("log2_amplification_a", "ci_low_a", "ci_high_a", "log2_amplification_b", "ci_low_b", "ci_high_b", "difference",
          "ci_low", "ci_high", "q")  # fmt: skip

STATISTICS = ("value_a", "value_b", "difference", "ci_low", "ci_high")


def available(view: View) -> bool:
    """Only a page with two results has this panel."""
    return view.comparison is not None


def figures(view: View) -> dict[str, go.Figure]:
    """Return the differences of classes, and the three grids if the heads correspond in number."""
    if (found := view.comparison) is None:
        return {}
    drawn = {"differences": class_differences(found.classes, str(found.classes["scheme"].iloc[0]))}
    if len(found.heads):
        row = found.heads.iloc[0]
        drawn["compared"] = comparison_grids(found.heads, str(row["scheme"]), str(row["token_class"]))
    return drawn


def payload(view: View) -> dict[str, Any] | None:
    """Return a block [head, class] for every scheme both results have, and the table of classes in columns."""
    if (found := view.comparison) is None:
        return None
    names = [str(found.run[side]["model"]) for side in ("a", "b")]
    known = set(found.heads["scheme"].astype(str)) if len(found.heads) else set()
    shared = [name for name in view.schemes if name in known]
    kept = ("scheme", "token_class", "statistic", "interval_over")
    return {
        "names": [f"{name} ({side})" if names[0] == names[1] else name for name, side in zip(names, "AB", strict=True)],
        "heads": {name: _heads(view, found.heads.loc[found.heads["scheme"] == name], name) for name in shared},
        "classes": columns(found.classes, {"n_tokens": "i4", **dict.fromkeys(STATISTICS, "f4")}, texts=kept),
    }


def _heads(view: View, rows: pd.DataFrame, scheme: str) -> dict[str, Any]:
    axes = {"head_number": view.head_numbers, "token_class": view.schemes[scheme]}
    return {"range": comparison_range(rows), **block(view.numbered(rows), axes, VALUES)}
