"""One text read twice, as the model is and with its biases scaled: attention, loss and predictions side by side.

sentence = interp.read_sentence(model, "The cat sat on the mat.", scale=0, where="L1H5")
attention_received(sentence.of_head(1, 5), "L1H5")
loss_per_token(sentence.tokens)
next_token(sentence.predictions, place=6)
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from interp.errors import InterpError
from interp.page.look import PAGE
from interp.report.colours import Theme
from interp.report.figures.theme import layout
from interp.report.tables import require
from interp.report.text import escaped, number

LONGEST_LABEL = 14
SCALED, UNCHANGED = "biases scaled", "as trained"


def attention_received(
    rows: pd.DataFrame, title: str, scaled: str = SCALED, marked: Collection[int] = (), first_token: bool = False,
    theme: Theme = "light",
) -> go.Figure:  # fmt: skip
    """Draw the attention that each token receives from itself and the later ones, in one head.

    Args:
        rows: `Sentence.of_head`.
        title: what names the head.
        scaled: what the second reading is called.
        marked: places of tokens in bold.
        first_token: whether to draw bos, an attention sink that often dwarfs all others.
        theme: "light" or "dark".

    Raises:
        InterpError: a column is missing.
    """
    columns = {"attention_unchanged": UNCHANGED, "attention": scaled, "attention_unbiased": "without its own b_Q"}
    require(rows, ["place", "token_string", *columns], "sentence's")
    rows = rows if first_token else rows.loc[rows["place"] > 0]
    figure = go.Figure([
        *_pair(rows, ("attention_unchanged", "attention"), (UNCHANGED, scaled), ":.1%", theme),
        _crosses(rows, "attention_unbiased", columns["attention_unbiased"], theme),
    ])  # fmt: skip
    axis = _value_axis("mean attention received", theme) | {"tickformat": ".0%", "rangemode": "tozero"}
    return _finished(figure, rows, f"{escaped(title)} · attention to each token", axis, marked, theme)


def loss_per_token(
    tokens: pd.DataFrame, scaled: str = SCALED, marked: Collection[int] = (), theme: Theme = "light"
) -> go.Figure:
    """Draw what it costs to predict each token (nats), in both readings.

    Args:
        tokens: `Sentence.tokens`.
        scaled: what the second reading is called.
        marked: places of tokens in bold.
        theme: "light" or "dark".

    Raises:
        InterpError: a column is missing.
    """
    require(tokens, ["place", "token_string", "loss", "loss_unchanged"], "sentence's")
    rows = tokens.loc[tokens["place"] > 0]
    figure = go.Figure(_pair(rows, ("loss_unchanged", "loss"), (UNCHANGED, scaled), ":.2f", theme))
    before, after = (float(np.mean(rows[name].to_numpy(float))) for name in ("loss_unchanged", "loss"))
    title = f"Loss per token · mean {before:.2f} → {after:.2f} nats ({number(after - before)})"
    return _finished(figure, rows, title, _value_axis("loss (nats)", theme), marked, theme)


def next_token(predictions: pd.DataFrame, place: int, scaled: str = SCALED, theme: Theme = "light") -> go.Figure:
    """Draw the most probable next tokens after a place of the text, in both readings.

    Raises:
        InterpError: a column or the place does not exist.
    """
    require(predictions, ["place", "token_string", "probability", "probability_unchanged"], "predictions")
    rows = predictions.loc[predictions["place"] == place]
    if rows.empty:
        raise InterpError(f"There is no place {place}; the text has places 0 to {predictions['place'].max()}.")
    rows = rows.iloc[::-1]  # the most probable on top
    names = ("probability_unchanged", "probability")
    bars = _pair(rows, names, (UNCHANGED, scaled), ":.1%", theme, sideways=True)[::-1]  # Plotly stacks upwards
    axis = {"tickvals": list(range(len(rows))), "ticktext": _labels(rows), "automargin": True, "showgrid": False}
    more = _legend() | {
        "xaxis": _value_axis("probability", theme) | {"tickformat": ".0%", "rangemode": "tozero"}, "yaxis": axis,
        "bargap": 0.3, "legend": {**_legend()["legend"], "traceorder": "reversed"},
        "margin": {"l": 16, "r": 16, "t": 100, "b": 16},  # beside another figure the legend takes two lines
    }  # fmt: skip
    return go.Figure(bars, layout("Most probable next tokens", theme, 174 + 26 * len(rows), **more))


def _pair(
    rows: pd.DataFrame, columns: tuple[str, str], names: tuple[str, str], form: str, theme: Theme, sideways: bool = False
) -> list[go.Bar]:  # fmt: skip
    colours, places = (PAGE["soft"][theme], PAGE["accent"][theme]), list(range(len(rows)))
    value, tokens = ("x", "y") if sideways else ("y", "x")
    return [
        go.Bar(
            **{value: rows[column].to_numpy(float), tokens: places}, orientation="h" if sideways else "v",
            name=escaped(name), marker={"color": colour}, customdata=_labels(rows), opacity=0.55 if first else 1,
            hovertemplate=f"%{{customdata}}: %{{{value}{form}}}<extra>{escaped(name)}</extra>",
        )
        for column, name, colour, first in zip(columns, names, colours, (True, False), strict=True)
    ]  # fmt: skip


def _crosses(rows: pd.DataFrame, column: str, name: str, theme: Theme) -> go.Scatter:
    return go.Scatter(
        x=list(range(len(rows))), y=rows[column].to_numpy(float), mode="markers", name=name, customdata=_labels(rows),
        marker={"symbol": "line-ew-open", "size": 13, "color": PAGE["text"][theme], "line": {"width": 2}},
        hovertemplate=f"%{{customdata}}: %{{y:.1%}}<extra>{name}</extra>",
    )  # fmt: skip


def _labels(rows: pd.DataFrame) -> list[str]:
    """Return tokens as labels, short and escaped; an empty one is a dot."""
    cut = (text if len(text) <= LONGEST_LABEL else f"{text[: LONGEST_LABEL - 1]}…" for text in rows["token_string"])
    return [escaped(text) or "·" for text in cut]


def _finished(
    figure: go.Figure, rows: pd.DataFrame, title: str, axis: dict[str, Any], marked: Collection[int], theme: Theme
) -> go.Figure:
    places = rows["place"].tolist()
    ticks = [f"<b>{text}</b>" if place in marked else text for text, place in zip(_labels(rows), places, strict=True)]
    tokens = {"tickvals": list(range(len(rows))), "ticktext": ticks, "tickangle": -45, "automargin": True,
              "range": [-0.6, len(rows) - 0.4]}  # fmt: skip
    more = _legend() | {"xaxis": tokens | {"showgrid": False, "zeroline": False}, "yaxis": axis, "bargap": 0.25}
    return figure.update_layout(layout(title, theme, 320, **more))


def _value_axis(title: str, theme: Theme) -> dict[str, Any]:
    return {"title": {"text": title}, "zeroline": False, "gridcolor": PAGE["line"][theme], "automargin": True}


def _legend() -> dict[str, Any]:
    return {
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "margin": {"l": 16, "r": 16, "t": 76, "b": 16},
    }
