"""What can be shown of a head and a class: name, unit, centre and one sentence of meaning each."""

from __future__ import annotations

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
        interval: True if `ci_low` and `ci_high` belong to this column.
    """

    name: str
    title: str
    unit: str
    meaning: str
    centre: float = 0.0
    signed: bool = True
    interval: bool = False


METRICS = {
    metric.name: metric
    for metric in (
        Metric(
            "log2_amplification", "amplification A", "log₂ ratio",
            "log₂ of the class's share of attention with the bias over its share without; +1 is twice the attention.",
            interval=True,
        ),
        Metric(
            "bias_score_contrast", "bias score contrast", "nats",
            "Mean of what the bias adds to the score of the class's tokens, minus the mean over all tokens.",
        ),
        Metric(
            "hedges_g", "Hedges' g", "standard deviations",
            "Difference of mean bias score between the class and all other tokens, in pooled standard deviations.",
        ),
        Metric(
            "auroc", "AUROC", "probability",
            "Chance that a token of the class has a higher bias score than another token; 0.5 is no difference.",
            centre=0.5,
        ),
        Metric("alignment", "alignment", "cosine", "Mean cosine between the keys of the class and the bias direction."),
        Metric(
            "share", "share of attention", "of all attention",
            "Part of the head's attention that the class receives with the bias; a quantity, not an effect.",
            signed=False,
        ),
    )
}  # fmt: skip


def metric_named(name: str) -> Metric:
    """Return the metric called `name`.

    Raises:
        InterpError: there is none; the message suggests the nearest.
    """
    if name not in METRICS:
        raise InterpError(f"There is no metric {name!r}; use one of {', '.join(METRICS)}{nearest(name, METRICS)}")
    return METRICS[name]
