"""A text as HTML: every token on the colour of its bias score, with its class below. No script, no style sheet."""

from __future__ import annotations

import numpy as np
import pandas as pd

from interp.page.look import PAGE
from interp.report.colours import PALETTES, Theme, colours_of
from interp.report.metrics import METRICS
from interp.report.tables import require
from interp.report.text import escaped, number

LOOK = METRICS["bias_score_contrast"]


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
    columns = ["token_string", scheme, "bias_score_contrast", "attention_unchanged", "attention"]
    require(rows, columns, "sentence's")
    limit = limit or float(np.abs(rows["bias_score_contrast"].to_numpy()[1:]).max(initial=0)) or 1.0
    colours = colours_of(rows["bias_score_contrast"].to_numpy(float), LOOK, limit, palette, theme)
    told = rows[columns].to_numpy(object)
    tokens = "".join(
        _token(*told[row], colour=colour, framed=told[row, 1] == token_class, theme=theme)
        for row, colour in enumerate(colours)
    )
    text = f'<div style="line-height:1.2;white-space:pre-wrap;overflow-wrap:anywhere">{tokens}</div>'
    return (
        f'<div style="background:{PAGE["panel"][theme]};color:{PAGE["text"][theme]};padding:10px 12px;'
        f'font:14px system-ui,sans-serif">{text}{_legend(limit, palette, theme)}</div>'
    )


def _token(
    token: str, token_class: str, score: float, before: float, after: float, colour: str, framed: bool, theme: Theme
) -> str:
    shown, tag = escaped(token) or "·", escaped(token_class)
    said = (
        f"{shown} · {tag} · bias score {number(score)} nats against the mean · attention received {before:.1%}, with the "
        f"biases scaled {after:.1%}"
    ).replace('"', "&quot;")
    frame, weight = (PAGE["text"][theme], 700) if framed else ("transparent", 400)
    return (
        f'<span title="{said}" style="display:inline-block;margin:0 2px 7px 0;vertical-align:top;text-align:center;'
        f'max-width:100%"><span style="display:block;padding:3px 2px;background:{colour};color:{_ink(colour)};'
        f'border-radius:3px;border-bottom:3px solid {frame}">{shown}</span>'
        f'<span style="font-size:9px;color:{PAGE["soft"][theme]};font-weight:{weight}">{tag}</span></span>'
    )


def _ink(colour: str) -> str:
    """Return black or white, whichever is read better on a colour "rgb(r, g, b)" (WCAG's relative luminance)."""
    red, green, blue = (float(part) / 255 for part in colour[4:-1].split(","))
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in (red, green, blue)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#111" if luminance > 0.179 else "#fff"


def _legend(limit: float, palette: str, theme: Theme) -> str:
    stops = ", ".join(PALETTES[palette][theme])
    return (
        f'<div style="font-size:12px;color:{PAGE["soft"][theme]};margin-top:2px">bias score against the mean of the text: '
        f'{number(-limit, 1)} nats, suppressed <span style="display:inline-block;width:120px;height:10px;'
        f'vertical-align:middle;background:linear-gradient(to right, {stops})"></span> amplified, {number(limit, 1)} nats'
        "</div>"
    )
