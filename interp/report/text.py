"""Words and numbers as they are printed: signs that are seen, tokens that cannot turn into markup."""

from __future__ import annotations

import html
import math
import re

from interp.report.metrics import Metric

LONGEST = 64
_SHOWN = {"\n": "↵", "\r": "␍", "\t": "⇥"}
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


def escaped(text: str) -> str:
    """Return `text` safe for Plotly, which reads ``<b>`` and ``&lt;`` in labels; unseen characters shown, long text cut."""
    shown = _UNSEEN.sub(lambda found: _SHOWN.get(found[0], f"\\u{ord(found[0]):04x}"), text)
    if len(shown) > LONGEST:
        shown = f"{shown[:LONGEST]}… ({len(text):,} characters)"
    return html.escape(shown, quote=False)


def signed(value: float, metric: Metric, digits: int = 2) -> str:
    """Return a metric's value as printed: with its sign round 0, as a percentage if it is a plain share."""
    if not math.isfinite(value):
        return "–"
    if not metric.signed:
        return f"{value:.1%}"
    return number(value, digits) if metric.centre == 0 else f"{value:.{digits}f}"


def direction(value: float, metric: Metric) -> str:
    """Return ``+`` for amplified, ``−`` for suppressed, nothing for neither: for cells too narrow for a number."""
    if not metric.signed or not math.isfinite(value) or value == metric.centre:
        return ""
    return "+" if value > metric.centre else "−"


def number(value: float, digits: int = 2) -> str:
    """Return ``+0.41``, ``−0.41`` (a true minus) or ``0.00``."""
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")
