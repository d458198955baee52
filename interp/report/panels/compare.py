"""Two models or readings side by side: A, B and the difference on one colour scale, and class by class over all heads."""

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from interp.analysis.comparison.result import Comparison, names_of, with_interval
from interp.analysis.findings import rankable
from interp.page.look import PAGE, Theme, layout
from interp.provenance import number
from interp.report.look import colorscale, ranked
from interp.report.metrics import AMPLIFICATION, escaped, require, rows_of_class, rows_of_scheme, signed
from interp.report.panels.heads import axis, hatch, plane
from interp.report.panels.packing import block, columns
from interp.report.panels.panel import View
from interp.report.panels.position import class_chart, dot_chart, dots

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
        statistic: one of `interp.analysis.comparison.paired`.
        theme: "light" or "dark".

    Raises:
        InterpError: a column or the scheme does not exist.
    """
    columns = ["difference", "ci_low", "ci_high"]
    require(classes, ["scheme", "token_class", "n_tokens", "statistic", *columns], "comparison's classes")
    rows = rows_of_scheme(classes, scheme)
    rows = ranked(rows.loc[rows["statistic"] == statistic], "difference")
    title = f"{escaped(scheme)} · {statistic.replace('_', ' ')} over all heads"
    return dot_chart([dots(rows, columns, "B − A", "after", theme)], rows, title, "B − A", theme)


def class_distributions(classes: pd.DataFrame, scheme: str, theme: Theme = "light") -> go.Figure:
    """Draw how A is distributed over the heads of both models: a box per class and model, which needs no pairs of heads.

    The line in a box is the median over heads, the box holds the middle half of them, its whiskers the middle 80%.

    Args:
        classes: the table of a `Comparison`.
        scheme: whose classes are drawn.
        theme: "light" or "dark".

    Raises:
        InterpError: a column or the scheme does not exist.
    """
    require(classes, ["scheme", "token_class", "n_tokens", "statistic", "value_a", "value_b"], "comparison's classes")
    rows = rows_of_scheme(classes, scheme)
    order = ranked(rows.loc[rows["statistic"] == "median"], "value_b").loc[:, ["token_class", "n_tokens"]]
    traces, ends = [], []
    for name, side, kind, down in (("A", "value_a", "soft", 0.2), ("B", "value_b", "accent", -0.2)):
        table = rows.pivot(index="token_class", columns="statistic", values=side)
        low, q1, median, q3, high = table.loc[order["token_class"], [*BOX]].to_numpy(float).T
        traces.append(go.Box(
            y=np.arange(len(order)) + down, lowerfence=low, q1=q1, median=median, q3=q3, upperfence=high, name=name,
            orientation="h", width=0.34, line={"width": 1.4, "color": PAGE[kind][theme]},
            fillcolor=PAGE["band"][theme] if name == "B" else "rgba(0,0,0,0)",
        ))  # fmt: skip
        ends += [low, high]
    title = f"{escaped(scheme)} · amplification over heads"
    return class_chart(traces, np.stack(ends), order, title, "amplification A (log₂ ratio)", theme)


def _cells(values: np.ndarray, name: str, number: str, roomy: bool) -> go.Heatmap:
    text = [[signed(value, AMPLIFICATION) for value in row] for row in values] if roomy else None
    return go.Heatmap(
        z=values, text=text, texttemplate="%{text}" if roomy else None, coloraxis="coloraxis", xgap=1, ygap=1, name=name,
        xaxis=f"x{number}", yaxis=f"y{number}", hovertemplate="%{y}%{x}: %{z:.2f}<extra>" + name + "</extra>",
    )  # fmt: skip


VALUES = ("log2_amplification_a", "ci_low_a", "ci_high_a", "log2_amplification_b", "ci_low_b", "ci_high_b", "difference",
          "ci_low", "ci_high", "q")  # fmt: skip

BOX = ("quantile_10", "quantile_25", "median", "quantile_75", "quantile_90")
STATISTICS = ("value_a", "value_b", "difference", "ci_low", "ci_high")


def available(view: View) -> bool:
    """Only a page with two results has this panel."""
    return view.comparison is not None


def figures(view: View) -> dict[str, go.Figure]:
    """Return the differences of classes, and the three grids if the heads correspond in number."""
    if (found := view.comparison) is None:
        return {}
    scheme = str(found.classes["scheme"].iloc[0])
    drawn = {"differences": class_differences(found.classes, scheme)}
    if {*BOX} <= set(found.classes["statistic"]):
        drawn["distributions"] = class_distributions(found.classes, scheme)
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


def losses_told(run: Mapping[str, Any]) -> list[str]:
    """Return the losses of A and B, and what each loses without its bias beside its control; none where not measured."""
    losses, names = run.get("losses", {}), names_of(run)
    known = [(name, losses[side]) for name, side in zip(names, "ab", strict=True) if side in losses]
    if not known:
        return []
    told = [f"{name} {loss['loss_unchanged']:.3f}" for name, loss in known]
    sentence = f"Loss in nats per token, on {known[0][1]['n_tokens']:,} tokens: {', '.join(told)}"
    if len(known) == 2 and known[0][1]["n_tokens"] == known[1][1]["n_tokens"]:
        difference = known[1][1]["loss_unchanged"] - known[0][1]["loss_unchanged"]
        sentence += (
            f", difference {number(difference, 3)} (it has no interval here; interp.evals measures losses with one)"
        )
    return [f"{sentence}.", *(_without(name, loss) for name, loss in known)]


def _without(name: str, loss: Mapping[str, Any]) -> str:
    vector = loss["vector"]
    if loss["difference"] == 0 == loss["ci_low"]:
        return f"{name} has no {vector.removeprefix('the ')} to take away."
    control = f"; {loss['control_kind']}: {number(loss['control'], 3)}" if loss["control"] is not None else ""
    return f"Without {vector} the loss of {name} changes by {with_interval(loss, 3)}{control}."


FIRST = 5  # classes in the head of the page


def head(found: Comparison, facts: Callable[[Mapping[str, Any]], list[tuple[str, str]]]) -> dict[str, Any]:
    """Return what the head of a page says of a comparison: names, answers by scheme, losses, notes and facts.

    Args:
        found: the comparison.
        facts: of the run of one side, as label and text; what both have in common is said once.
    """
    schemes = []
    for scheme in dict.fromkeys(found.classes["scheme"].astype(str)):
        rows = found.strongest(scheme)
        shown = [{
            "token_class": str(row["token_class"]), "n_tokens": f"{row['n_tokens']:,}",
            "link": f"#{urlencode({'class': row['token_class'], 'scheme': scheme})}",
            "a": _beside(row, "a"), "b": _beside(row, "b"), "difference": with_interval(row, 2),
        } for row in rows.head(FIRST).to_dict("records")]  # fmt: skip
        schemes.append({"name": scheme, "answer": found.answer(scheme), "rows": shown, "classes": len(rows)})
    of_a, of_b = (dict(facts(found.run[side])) for side in ("a", "b"))
    both = {label: (of_a.get(label, "none"), of_b.get(label, "none")) for label in of_a | of_b}
    return {
        "names": names_of(found.run), "schemes": schemes, "losses": losses_told(found.run), "notes": found.run["notes"],
        "instead": found.run.get("instead", ""),
        "readings": [note for note in found.run["notes"] if "direction from elsewhere" in note],
        "controls": any("(" in row["a"] + row["b"] for scheme in schemes for row in scheme["rows"]),
        "facts": [(label, a if a == b else f"A: {a}; B: {b}") for label, (a, b) in both.items()],
    }  # fmt: skip


def _beside(row: Mapping[Any, Any], side: str) -> str:
    control = row[f"control_{side}"]
    return f"{row[f'value_{side}']:.2f}" + (f" ({control:.2f})" if np.isfinite(control) else "")
