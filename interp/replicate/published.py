"""What was published of 124M models, as it is: every run, its seed, and how its loss was measured.

Source: Silverstein, Kunin, Shyam, arXiv 2601.22257, 2026, and the curves released with it: models of 124M parameters, 500M
tokens of FineWeb-Edu, batches of 8 x 512 tokens, a constant learning rate without warm-up or clipping.

Each loss is the lowest of evaluations of one batch of 8 x 512 tokens, every 1,000 updates. One evaluation has a standard
deviation of about 0.25 nats in the released curves, so the lowest of many lies below the mean over held-out text. A loss
that is to be held against it is measured the same way (`batch_validation_every` of `interp.train`).
"""

from dataclasses import dataclass

from interp.replicate.hierarchy import Runs

HOW = (
    "Each published loss is the lowest of evaluations of a single batch of 8 x 512 tokens, every 1,000 updates. One such "
    "evaluation scatters by about 0.25 nats, so the lowest lies below the mean over held-out text that our losses are."
)


@dataclass(frozen=True)
class PublishedRun:
    """One run: its loss in nats per token as the module says; `seed` and `mean_v` are None where they are not told."""

    activation: str
    optimizer: str
    variant: str
    loss: float
    seed: int | None
    mean_v: float | None = None


RUNS = (
    PublishedRun("gelu", "adamw", "symmetric", 2.8558, 42),
    PublishedRun("gelu", "adamw", "bqbv", 2.8298, 42, 0.5),
    PublishedRun("gelu", "ecd", "symmetric", 3.1852, 42),
    PublishedRun("gelu", "ecd", "symmetric", 3.1407, 83),
    PublishedRun("gelu", "ecd", "symmetric", 3.1761, 789),
    PublishedRun("gelu", "ecd", "bq", 3.1365, 42),
    PublishedRun("gelu", "ecd", "bq", 3.1279, 83),
    PublishedRun("gelu", "ecd", "bq", 3.1556, 789),
    PublishedRun("gelu", "ecd", "bqbv", 3.1607, 42, 0.5),
    PublishedRun("gelu", "ecd", "bqbv", 3.1479, None, 0.5),  # of the seeds 83 and 789, which is which is not told
    PublishedRun("gelu", "ecd", "bqbv", 3.1515, None, 0.5),
    PublishedRun("gelu", "ecd", "bqbv", 3.1422, None, 0.0),
    PublishedRun("gelu", "ecd", "bqbv", 3.1553, None, 0.0),
    PublishedRun("gelu", "sgdm", "symmetric", 3.5524, 42),
    PublishedRun("gelu", "sgdm", "bqbv", 3.5634, 42, 0.5),
    PublishedRun("gelu", "soap", "symmetric", 3.3130, 42),
    PublishedRun("gelu", "soap", "bqbv", 3.3144, 42, 0.5),
    PublishedRun("prelu", "adamw", "symmetric", 3.38, None),
    PublishedRun("prelu", "adamw", "bq", 3.35, None),
)
SOAP_AND_ADAMW = ((3.367, 3.541), (3.416, 3.572))
"""SOAP's and AdamW's loss with PReLU, in another table than the one of `RUNS`: there SOAP is ahead, with GELU AdamW is."""

ENRICHMENT = (0.5, 1.7)
"""Median log2 enrichment of function words and frequent tokens among the most aligned ones; AdamW, nonzero mean."""


FOUR_DIRECTIONS = 2.848
"""AdamW with GELU and four directions of b_Q, told in notes of March 2026; the seed is not."""


def published_losses(activation: str, optimizer: str, variant: str) -> list[PublishedRun]:
    """Return the published runs of a cell."""
    return [run for run in RUNS if (run.activation, run.optimizer, run.variant) == (activation, optimizer, variant)]


def published_differences(activation: str, optimizer: str, variant: str, other: tuple[str, str] | None = None) -> Runs:
    """Return a cell's losses minus those of another, an optimizer and a variant (unless given, its symmetric runs).

    Runs of b_V count with a mean of 0.5, as in the plans. Paired are runs of one seed, and, under the seed -1, the only runs
    of both cells if neither tells its seed.
    """
    return _by_seed(activation, optimizer, variant) - _by_seed(activation, *(other or (optimizer, "symmetric")))


def published_narrowing(activation: str, optimizer: str, variant: str) -> Runs:
    """Return what a variant does to the published gap to AdamW: below 0 it narrows."""
    own, base = (published_differences(activation, name, variant) for name in (optimizer, "adamw"))
    return own - base


def soap_minus_adamw() -> dict[str, list[float]]:
    """Return SOAP's published loss minus AdamW's, by activation: the sign depends on it."""
    gelu = published_differences("gelu", "soap", "symmetric", ("adamw", "symmetric")).array
    return {"gelu": [round(x, 6) for x in gelu], "prelu": [round(s - a, 6) for s, a in SOAP_AND_ADAMW]}


def _by_seed(activation: str, optimizer: str, variant: str) -> Runs:
    runs = [run for run in published_losses(activation, optimizer, variant) if run.mean_v in (None, 0.5)]
    seeds = [-1 if run.seed is None else run.seed for run in runs]
    return Runs({seed: run.loss for seed, run in zip(seeds, runs, strict=True) if seeds.count(seed) == 1})
