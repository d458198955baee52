"""The panels of the page, in the order of a reader's questions."""

from interp.report.panels import classes, compare, effect, heads, passages, position, tokens
from interp.report.panels.panel import Panel

PANELS = (
    Panel("heads", figures=heads.figures, wide=False),
    Panel("classes", figures=classes.figures, wide=False),
    Panel("tokens", payload=tokens.payload),
    Panel("position", payload=position.payload, figures=position.figures),
    Panel("passages", "text", payload=passages.payload),
    Panel("effect", payload=effect.payload, figures=effect.figures),
    Panel("compare", payload=compare.payload, figures=compare.figures, available=compare.available),
)
