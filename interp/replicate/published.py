"""What was published of the matrix: validation losses of 124M models after 500M tokens of FineWeb-Edu, seed 42.

Source: Silverstein, Kunin, Shyam, "Symmetry Breaking in Transformers for Efficient and Interpretable Training",
arXiv 2601.22257, 2026. One seed, so without intervals.
"""

from __future__ import annotations

PUBLISHED: dict[tuple[str, str, str], float] = {  # activation, optimizer, variant: nats per token
    ("prelu", "adamw", "symmetric"): 3.38,
    ("prelu", "adamw", "bq"): 3.35,
    ("gelu", "adamw", "symmetric"): 2.856,
    ("gelu", "adamw", "bqbv"): 2.830,
    ("gelu", "ecd", "symmetric"): 3.185,
    ("gelu", "ecd", "bq"): 3.137,
    ("gelu", "ecd", "bqbv"): 3.161,
    ("gelu", "sgdm", "symmetric"): 3.552,
    ("gelu", "sgdm", "bqbv"): 3.563,
    ("gelu", "soap", "symmetric"): 3.313,
    ("gelu", "soap", "bqbv"): 3.314,
}
ENRICHMENT = (0.5, 1.7)
"""Median log2 enrichment of function words and frequent tokens among the most aligned ones; AdamW, nonzero mean."""


def published_loss(activation: str, optimizer: str, variant: str) -> float | None:
    """Return the published validation loss of a cell, None where there is none."""
    return PUBLISHED.get((activation, optimizer, variant))


def published_difference(activation: str, optimizer: str, variant: str) -> float | None:
    """Return the published loss of a variant minus that of the symmetric model, None where one of them is missing."""
    broken, symmetric = (published_loss(activation, optimizer, name) for name in (variant, "symmetric"))
    return None if broken is None or symmetric is None else round(broken - symmetric, 6)
