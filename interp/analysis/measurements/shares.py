"""How much attention each class of keys receives, with and without the bias, and how sure that is."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor

from interp.analysis.accumulators import poisson_weights
from interp.analysis.batch import DocumentCounts
from interp.analysis.significance import interval_over_documents, replicate_deviation

HeadVectors = Float[Tensor, "batch pos head_index d_head"]

HeadBiases = Float[Tensor, "head_index d_head"]

OneHot = Float[Tensor, "batch pos token_class"]


class ShareSums:
    """Sums of attention per class over all queries, and the same sums under Poisson-bootstrap weights of documents.

    M_c = sum over queries of their share of class c, with the bias in force (index 0) and without (index 1);
    A_c = log2(M_c / M0_c). In replicate r the queries of document d count w_dr ~ Poisson(1) times; the weights are keyed by
    (seed, d), so they do not depend on batches or workers. Memory: replicates * n_layers * 2 * n_heads * n_classes.
    """

    PARTS = ("total", "resampled")

    def __init__(
        self, n_layers: int, n_heads: int, n_classes: int, replicates: int, seed: int, device: torch.device | str
    ) -> None:
        self.seed, self.replicates = seed, replicates
        self.total = torch.zeros(n_layers, 2, n_heads, n_classes, dtype=torch.float64, device=device)
        self.resampled = torch.zeros(n_layers, replicates, 2, n_heads, n_classes, dtype=torch.float64, device=device)

    def weights(self, documents: Int64[Tensor, " document"]) -> Float64[Tensor, "document replicate"]:
        """Return the Poisson(1) weights of the documents with these running indices."""
        return poisson_weights(documents, self.replicates, self.seed)

    def update(
        self,
        layer: int,
        shares: Float[Tensor, "2 query head_index token_class"],
        documents: Float64[Tensor, "query document"],
        weights: Float64[Tensor, "document replicate"],
    ) -> None:
        """Add one layer's shares; `documents` is one-hot over the documents of the batch."""
        per_document = torch.einsum("sqhc,qd->dshc", shares.double(), documents)
        self.total[layer] += per_document.sum(0)
        self.resampled[layer] += torch.einsum("dr,dshc->rshc", weights, per_document)

    def merge(self, other: ShareSums) -> None:
        """Add what another accumulator, of the same seed, saw of other documents."""
        self.total += other.total
        self.resampled += other.resampled

    def amplification(self) -> Float64[Tensor, "layer head_index token_class"]:
        """Return A_c = log2(M_c / M0_c); missing (nan) for a class that received no attention."""
        return torch.log2(self.total[:, 0] / self.total[:, 1])

    def resampled_amplification(self) -> Float64[Tensor, "layer replicate head_index token_class"]:
        """Return A_c of every replicate; missing (nan) where a replicate drew no document of the class."""
        return torch.log2(self.resampled[:, :, 0] / self.resampled[:, :, 1])

    def interval(
        self, effective_documents: Float64[np.ndarray, " token_class"], level: float = 0.95
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the ends of the interval of A_c, each [layer, head_index, token_class] (`interval_over_documents`)."""
        spread = replicate_deviation(self.resampled_amplification().movedim(1, -1).cpu().numpy())
        return interval_over_documents(self.amplification().cpu().numpy(), spread, effective_documents, level)


KEY = ("layer", "head", "scheme", "token_class")


def replicates_table(heads: pd.DataFrame, shares: ShareSums, counts: DocumentCounts) -> pd.DataFrame:
    """Return the table `replicates` of `Amplification`, in the rows of the table `heads`.

    Columns: layer, head, scheme, token_class, the class's `effective_documents`, and A_c of every replicate in "0", "1",
    ... as float32: 4 bytes * heads * classes * replicates, 19 MB for 1,200 heads, 20 classes and 200 replicates.
    """
    values = shares.resampled_amplification()  # [layer, replicate, head_index, token_class]
    rows = values.permute(0, 2, 3, 1).flatten(0, 2).float().cpu().numpy()  # [row, replicate]
    effective = np.tile(counts.effective(), len(rows) // values.shape[-1])
    named = heads.loc[:, list(KEY)].assign(effective_documents=effective)
    numbers = pd.DataFrame(rows, columns=[str(replicate) for replicate in range(rows.shape[1])])
    return pd.concat([named, numbers], axis=1)


def replicate_values(table: pd.DataFrame) -> Float32[np.ndarray, "row replicate"]:
    """Return the numbers of a table `replicates`."""
    return table.drop(columns=[*KEY, "effective_documents"]).to_numpy(np.float32)
