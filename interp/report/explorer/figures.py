"""One text read twice, as the model is and with its biases scaled: attention, loss and predictions side by side.

sentence = interp.read_sentence(model, "The cat sat on the mat.", scale=0, where="L1H5")
attention_received(sentence.of_head(1, 5), "L1H5")
loss_per_token(sentence.tokens)
next_token(sentence.predictions, place=6)
"""

import html
from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.colors import hex_to_rgb, unlabel_rgb

from interp.errors import InterpError
from interp.page.look import PAGE, Theme, layout, number_axis
from interp.provenance import number
from interp.report.look import PALETTES, colours_of
from interp.report.metrics import METRICS, escaped, require, visible

LONGEST_LABEL = 14
FEW_QUERIES = 5  # the mean over fewer says more of these queries than of the token
SCALED, UNCHANGED = "biases scaled", "as trained"
LEGEND = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}
SHARES = {"tickformat": ".0%", "rangemode": "tozero"}


def attention_received(
    rows: pd.DataFrame, title: str, scaled: str = SCALED, marked: Collection[int] = (), first_token: bool = False,
    theme: Theme = "light", vector: str = "b_Q",
) -> go.Figure:  # fmt: skip
    """Draw the attention that each token receives from itself and the later ones, in one head.

    The last tokens are seen by few: where `n_queries` is below 5 a token's bars are hollow, and do not set the axis.

    Args:
        rows: `Sentence.of_head`.
        title: what names the head.
        scaled: what the second reading is called.
        marked: places of tokens in bold.
        first_token: whether to draw bos, an attention sink that often dwarfs all others.
        theme: "light" or "dark".
        vector: what the one is called that queries lose.

    Raises:
        InterpError: a column is missing.
    """
    columns = ["place", "token_string", "n_queries", "attention_unchanged", "attention", "attention_unbiased"]
    require(rows, columns, "sentence's")
    unbiased = f"without its own {vector}"
    rows = rows if first_token else rows.loc[rows["place"] > 0]
    said = [f"{token}, mean over {n}" for token, n in zip(_labels(rows), rows["n_queries"], strict=True)]
    few = rows["n_queries"].to_numpy() < FEW_QUERIES
    # what rests on few queries does not set the axis, unless there is nothing else
    most = rows[columns[3:]].max(axis=1)
    top = float(most[~few].max()) * 1.06 if (~few).any() else None
    cut = top is not None and most.max() > top
    figure = go.Figure([
        *(_hollow(bars.update(customdata=said), few) for bars in _pair(rows, "attention", scaled, ":.1%", theme)),
        go.Scatter(
            x=list(range(len(rows))), y=rows["attention_unbiased"].to_numpy(float), mode="markers",
            name=unbiased, customdata=said,
            marker={"symbol": "line-ew-open", "size": 13, "color": PAGE["text"][theme], "line": {"width": 2}},
            hovertemplate=f"%{{customdata}}: %{{y:.1%}}<extra>{unbiased}</extra>",
        ),
        go.Scatter(
            x=[None], y=[None], mode="markers",
            name=f"hollow: mean over fewer than {FEW_QUERIES} queries{', cut off' if cut else ''}",
            marker={"symbol": "square-open", "size": 10, "color": PAGE["soft"][theme]}, hoverinfo="skip",
        ),
    ])  # fmt: skip
    axis = number_axis("mean attention received", theme) | SHARES | ({"range": [0, top]} if top else {})
    return _finished(figure, rows, f"{escaped(title)} · attention to each token", axis, marked, theme)


def loss_per_token(
    tokens: pd.DataFrame, scaled: str = SCALED, marked: Collection[int] = (), theme: Theme = "light"
) -> go.Figure:
    """Draw what it costs to predict each token (nats), in both readings.

    Args:
        tokens: `Sentence.tokens`.
        scaled, marked, theme: as in `attention_received`.

    Raises:
        InterpError: a column is missing.
    """
    require(tokens, ["place", "token_string", "loss", "loss_unchanged"], "sentence's")
    rows = tokens.loc[tokens["place"] > 0]
    figure = go.Figure(_pair(rows, "loss", scaled, ":.2f", theme))
    before, after = (float(np.mean(rows[name].to_numpy(float))) for name in ("loss_unchanged", "loss"))
    title = f"Loss per token · mean {before:.2f} → {after:.2f} nats ({number(after - before)})"
    return _finished(figure, rows, title, number_axis("loss (nats)", theme), marked, theme)


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
    bars = _pair(rows, "probability", scaled, ":.1%", theme, sideways=True)[::-1]  # Plotly stacks upwards
    axis = {"tickvals": list(range(len(rows))), "ticktext": _labels(rows), "automargin": True, "showgrid": False}
    more = {
        "xaxis": number_axis("probability", theme) | SHARES, "yaxis": axis, "bargap": 0.3,
        "legend": LEGEND | {"traceorder": "reversed"},
        "margin": {"l": 16, "r": 16, "t": 100, "b": 16},  # beside another figure the legend takes two lines
    }  # fmt: skip
    return go.Figure(bars, layout("Most probable next tokens", theme, 174 + 26 * len(rows), **more))


def _pair(
    rows: pd.DataFrame, column: str, scaled: str, form: str, theme: Theme, sideways: bool = False
) -> list[go.Bar]:
    value, tokens = ("x", "y") if sideways else ("y", "x")
    readings = ((f"{column}_unchanged", UNCHANGED, "soft", 0.55), (column, scaled, "accent", 1))
    return [
        go.Bar(
            **{value: rows[name].to_numpy(float), tokens: list(range(len(rows)))}, orientation="h" if sideways else "v",
            name=escaped(title), marker={"color": PAGE[colour][theme]}, customdata=_labels(rows), opacity=opacity,
            hovertemplate=f"%{{customdata}}: %{{{value}{form}}}<extra>{escaped(title)}</extra>",
        )
        for name, title, colour, opacity in readings
    ]  # fmt: skip


def _hollow(bars: Any, which: np.ndarray) -> go.Bar:
    """Leave only the outline of bars."""
    colour = bars.marker.color
    fill = ["rgba(0,0,0,0)" if hollow else colour for hollow in which]
    return bars.update(marker={"color": fill, "line": {"color": colour, "width": np.where(which, 1.2, 0)}})


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
              "range": [-0.6, len(rows) - 0.4], "showgrid": False, "zeroline": False}  # fmt: skip
    margin = {"l": 16, "r": 16, "t": 76, "b": 16}
    return figure.update_layout(
        layout(title, theme, 320, xaxis=tokens, yaxis=axis, bargap=0.25, legend=LEGEND, margin=margin)
    )


def coloured_text(
    rows: pd.DataFrame, scheme: str, token_class: str | None = None, limit: float | None = None,
    palette: str = "red-blue", theme: Theme = "light",
) -> str:  # fmt: skip
    """Return the tokens of one head's rows as HTML, with a legend.

    Args:
        rows: `Sentence.of_head`.
        scheme: whose classes stand below the tokens.
        token_class: the tokens of this class are framed.
        limit: the bias score contrast (nats) at which colours saturate; by default the largest here but for bos.
        palette: "red-blue" or "orange-purple".
        theme: "light" or "dark".

    Raises:
        InterpError: a column is missing.
    """
    tokens = "".join(
        _token(*token, theme=theme)
        for token in zip(
            rows["token_string"], rows[scheme].astype(str), token_colours(rows, limit, palette, theme),
            told(rows, scheme), rows[scheme] == token_class, strict=True,
        )
    )  # fmt: skip
    return (
        f'<div style="background:{PAGE["panel"][theme]};color:{PAGE["text"][theme]};padding:10px 12px;'
        'font:14px system-ui,sans-serif">'
        f'<div style="line-height:1.2;white-space:pre-wrap;overflow-wrap:anywhere">{tokens}</div>'
        f"{text_legend(rows, limit, palette, theme)}</div>"
    )


def token_colours(
    rows: pd.DataFrame, limit: float | None = None, palette: str = "red-blue", theme: Theme = "light"
) -> list[str]:
    """Return the colour "rgb(r, g, b)" of each token in `coloured_text`."""
    require(rows, ["bias_score_contrast"], "sentence's")
    scores = rows["bias_score_contrast"].to_numpy(float)
    return colours_of(scores, METRICS["bias_score_contrast"], limit or _limit(rows), palette, theme)


def told(rows: pd.DataFrame, scheme: str) -> list[str]:
    """Return what is said of each token where it is pointed at (plain text)."""
    columns = ["token_string", scheme, "bias_score_contrast", "attention_unchanged", "attention", "n_queries"]
    require(rows, columns, "sentence's")
    return [
        f"{visible(token) or '·'} · {visible(name)} · bias score {number(score)} nats against the mean · attention received "
        f"{before:.1%}, with the biases scaled {after:.1%} (mean over {n} {'query' if n == 1 else 'queries'})"
        for token, name, score, before, after, n in rows[columns].itertuples(index=False)
    ]


def text_legend(
    rows: pd.DataFrame, limit: float | None = None, palette: str = "red-blue", theme: Theme = "light"
) -> str:
    """Return what the colours of `coloured_text` mean, as HTML."""
    end = limit or _limit(rows)
    return (
        f'<div style="font-size:12px;color:{PAGE["soft"][theme]};margin-top:2px">bias score against the mean of the text: '
        f'{number(-end, 1)} nats, suppressed <span style="display:inline-block;width:120px;height:10px;vertical-align:'
        f'middle;background:linear-gradient(to right, {", ".join(PALETTES[palette][theme])})"></span> amplified, '
        f"{number(end, 1)} nats</div>"
    )


def _limit(rows: pd.DataFrame) -> float:
    return float(np.abs(rows["bias_score_contrast"].to_numpy(float)[1:]).max(initial=0)) or 1.0


def _token(token: str, token_class: str, colour: str, said: str, framed: bool, theme: Theme) -> str:
    frame, weight = (PAGE["text"][theme], 700) if framed else ("transparent", 400)
    return (
        f'<span title="{html.escape(said)}" style="display:inline-block;margin:0 2px 7px 0;vertical-align:top;'
        f'text-align:center;max-width:100%"><span style="display:block;padding:3px 2px;background:{colour};'
        f'color:{ink(colour)};border-radius:3px;border-bottom:3px solid {frame}">{escaped(token) or "·"}</span>'
        f'<span style="font-size:9px;color:{PAGE["soft"][theme]};font-weight:{weight}">{escaped(token_class)}</span></span>'
    )


def ink(colour: str) -> str:
    """Return black or white, whichever is read better on a colour "rgb(r, g, b)" or "#rrggbb" (WCAG's luminance)."""
    parts = hex_to_rgb(colour) if colour.startswith("#") else unlabel_rgb(colour)
    linear = [
        x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in (float(part) / 255 for part in parts)
    ]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#111" if luminance > 0.179 else "#fff"
