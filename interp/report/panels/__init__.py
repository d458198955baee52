"""The panels of the page, in the order of a reader's questions."""

from interp.report.panels import (
    classes,
    compare,
    effect,
    explained,
    heads,
    passages,
    pattern,
    position,
    scatter,
    tokens,
    uses,
    writes,
)
from interp.report.panels.panel import Panel

PANELS = (
    Panel("heads", figures=heads.figures, wide=False),
    Panel("classes", figures=classes.figures, wide=False),
    Panel("tokens", payload=tokens.payload),
    Panel("explained", "variance", payload=explained.payload, figures=explained.figures, available=explained.available),
    Panel("scatter", "heads among heads", payload=scatter.payload, figures=scatter.figures),
    Panel("position", payload=position.payload, figures=position.figures),
    Panel("passages", "text", payload=passages.payload),
    Panel("pattern", payload=pattern.payload, figures=pattern.figures, available=pattern.available),
    Panel("writes", payload=writes.payload),
    Panel("uses", payload=uses.payload, figures=uses.figures, available=uses.available),
    Panel("effect", payload=effect.payload, figures=effect.figures),
    Panel(
        "compare",
        "comparison",
        payload=compare.payload,
        figures=compare.figures,
        available=compare.available,
        leads=True,
    ),
)
