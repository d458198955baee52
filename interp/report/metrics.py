"""What can be shown of a head and a class: name, unit, centre and one sentence of meaning each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from interp.errors import InterpError, nearest

FEW = 30  # a class with fewer tokens is drawn grey: its numbers are mostly noise
SINK = "bos"  # the first token of a document: an attention sink, left out of rankings


@dataclass(frozen=True)
class Metric:
    """A column of the heads table and how to read it.

    Attributes:
        name: the column.
        title: what a reader calls it.
        unit: printed on axes and legends.
        meaning: one sentence for the page.
        centre: the value that means "no effect"; colours diverge from here.
        signed: False for a plain quantity, which gets a sequential colour scale.
        low, high: the columns with the ends of its 95% interval, "" if it has none.
        null: what the columns of its null start with (`interp.report.evidence`), "" if it has none.
    """

    name: str
    title: str
    unit: str
    meaning: str
    centre: float = 0.0
    signed: bool = True
    low: str = ""
    high: str = ""
    null: str = ""


METRICS = {
    metric.name: metric
    for metric in (
        Metric(
            "log2_amplification", "amplification A", "log₂ ratio",
            "log₂ of the class's share of attention with the bias over its share without; +1 is twice the attention.",
            low="ci_low", high="ci_high", null="amplification",
        ),
        Metric(
            "bias_score_contrast", "bias score contrast", "nats",
            "Mean of what the bias adds to the score of the class's tokens, minus the mean over all tokens.",
            low="contrast_low", high="contrast_high", null="contrast",
        ),
        Metric(
            "contrast_position", "contrast, position removed", "nats",
            "Bias score contrast between tokens at the same positions: what is left when position is not the reason.",
            low="contrast_position_low", high="contrast_position_high",
        ),
        Metric(
            "contrast_frequency", "contrast, position and frequency removed", "nats",
            "Bias score contrast between equally frequent tokens at the same positions.",
            low="contrast_frequency_low", high="contrast_frequency_high",
        ),
        Metric(
            "hedges_g", "Hedges' g", "standard deviations",
            "Difference of mean bias score between the class and all other tokens, in pooled standard deviations.",
        ),
        Metric(
            "auroc", "AUROC", "probability",
            "Chance that a token of the class has a higher bias score than another token; 0.5 is no difference.",
            centre=0.5, null="auroc",
        ),
        Metric(
            "alignment", "alignment", "cosine", "Mean cosine between the keys of the class and the bias direction.",
            null="alignment",
        ),
        Metric(
            "share", "share of attention", "of all attention",
            "Part of the head's attention that the class receives with the bias; a quantity, not an effect.",
            signed=False,
        ),
    )
}  # fmt: skip
AMPLIFICATION = METRICS["log2_amplification"]


def metrics_of(columns: Iterable[str]) -> list[Metric]:
    """Return the metrics whose column is among `columns`, in the order in which a reader chooses."""
    known = set(columns)
    return [metric for metric in METRICS.values() if metric.name in known]


def metric_named(name: str) -> Metric:
    """Return the metric called `name`.

    Raises:
        InterpError: there is none; the message suggests the nearest.
    """
    if name not in METRICS:
        raise InterpError(f"There is no metric {name!r}; use one of {', '.join(METRICS)}{nearest(name, METRICS)}")
    return METRICS[name]
