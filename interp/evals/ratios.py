"""Means per cell with intervals over documents, summed as documents pass: documents are independent, tokens are not."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64
from scipy import stats


class DocumentRatios:
    """The mean of token values in each of `n_cells` cells; a token may count in several cells.

    With y_d the sum of the values and x_d the number of tokens of document d in a cell, the mean is R = sum y / sum x and
    its variance D / (D - 1) * sum_d (y_d - R x_d)^2 / (sum x)^2 over the D documents with tokens in the cell; the
    interval is R -+ t * error with D - 1 degrees of freedom. Source: Cochran, "Sampling Techniques", 1977, section 6.3.
    """

    def __init__(self, n_cells: int) -> None:
        self.sums = np.zeros((6, n_cells))  # documents, x, y, xx, xy, yy
        self.open: tuple[int, np.ndarray] | None = (
            None  # the last document, of which more may come, and its x, y [2, cell]
        )

    def update(
        self,
        documents: Int64[np.ndarray, " token"],
        cells: Int64[np.ndarray, "kind token"],
        values: Float64[np.ndarray, " token"],
    ) -> None:
        """Add tokens with their documents, which come in the order of the corpus, and the cells each counts in."""
        if not len(documents):
            return
        known, place = np.unique(documents, return_inverse=True)
        n_cells = self.sums.shape[1]
        index = (place * n_cells + cells).ravel()
        weights = (np.ones(index.size), np.tile(values, len(cells)))
        parts = np.stack([np.bincount(index, w, len(known) * n_cells).reshape(-1, n_cells) for w in weights], axis=1)
        if self.open and self.open[0] == known[0]:
            parts[0] += self.open[1]
        elif self.open:
            self._close(self.open[1][None])
        self._close(parts[:-1])
        self.open = int(known[-1]), parts[-1]

    def table(self, level: float = 0.95) -> pd.DataFrame:
        """Return a row per cell: loss, low, high, n_tokens, n_documents; missing where there is nothing to tell."""
        if self.open:
            self._close(self.open[1][None])
            self.open = None
        documents, x, y, xx, xy, yy = self.sums
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = y / x
            squares = np.maximum(yy - 2 * ratio * xy + ratio**2 * xx, 0)
            error = np.sqrt(documents / (documents - 1) * squares) / x
        half = stats.t.ppf(0.5 + level / 2, np.maximum(documents - 1, 1)) * np.where(documents > 1, error, np.nan)
        counts = {"n_tokens": x.astype(np.int64), "n_documents": documents.astype(np.int64)}
        return pd.DataFrame({"loss": ratio, "low": ratio - half, "high": ratio + half, **counts})

    def _close(self, parts: Float64[np.ndarray, "document 2 cell"]) -> None:
        x, y = parts[:, 0], parts[:, 1]
        self.sums += np.stack([(x > 0).sum(0), x.sum(0), y.sum(0), (x * x).sum(0), (x * y).sum(0), (y * y).sum(0)])
