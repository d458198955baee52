"""How much attention each class of keys receives, with and without the bias, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from jaxtyping import Float32, Float64
from torch import Tensor

from interp.analysis.accumulators import BootstrapSums, poisson_weights
from interp.analysis.attention import log2_ratio
from interp.analysis.batch import Batch
from interp.analysis.measurement import Context, Found, LayerView, Measurement
from interp.analysis.significance import interval_over_documents, replicate_deviation


class Shares(Measurement):
    """Sums of attention per class over all queries, and the same sums under Poisson-bootstrap weights of documents.

    M_c(r) = sum over queries of their share of class c, in every reading r of the scores (`Context.readings`): with the
    bias (0), without (1), and with what position, or type, explain of it. A_c = log2(M_c(bias) / M_c(none)), and its parts
    are the steps of the way there (`interp.analysis.fitted`). In replicate r the queries of document d count w_dr ~
    Poisson(1) times; the weights are keyed by (seed, d), so they do not depend on batches or workers. Memory: replicates *
    n_layers * readings * n_heads * n_classes.
    """

    PARTS = ("sums",)

    def __init__(self, context: Context, replicates: int | None = None) -> None:
        layers, heads, classes = context.per_class
        self.seed, self.replicates = context.settings.seed, context.settings.replicates
        self.replicates = self.replicates if replicates is None else replicates
        self.readings = context.readings
        self.sums = BootstrapSums((layers, len(self.readings), heads, classes), self.replicates, context.device)

    def start(self, batch: Batch) -> None:
        """Draw the weights of the batch's documents."""
        self.weights = poisson_weights(batch.document_indices, self.replicates, self.seed)

    def layer(self, view: LayerView, batch: Batch) -> None:
        """Add the shares of one layer's queries."""
        self.sums.add(view.layer, view.shares, self.weights)

    def amplification(self, to: str = "bias", start: str = "none") -> Float64[Tensor, "layer head_index token_class"]:
        """Return log2 of M_c in the reading `to` over M_c in `start`, A_c by default; nan without any attention."""
        return log2_ratio(self.sums.total, *self._numbers(to, start))

    def resampled_amplification(
        self, to: str = "bias", start: str = "none"
    ) -> Float64[Tensor, "replicate layer head_index token_class"]:
        """Return it for every replicate, to first order; missing (nan) for a class that received no attention."""
        replicates = self.sums.log2_replicates()  # [replicate, layer, reading, head_index, token_class]
        to_number, start_number = self._numbers(to, start)
        return replicates[:, :, to_number] - replicates[:, :, start_number]

    def interval(
        self, effective_documents: Float64[np.ndarray, " token_class"], to: str = "bias", start: str = "none"
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the ends of its 95% interval, each [layer, head_index, token_class] (`interval_over_documents`)."""
        spread = replicate_deviation(self.resampled_amplification(to, start).movedim(0, -1).cpu().numpy())
        return interval_over_documents(self.amplification(to, start).cpu().numpy(), spread, effective_documents)

    def _numbers(self, *readings: str) -> list[int]:
        return [self.readings.index(name) for name in readings]

    def columns(self, found: Found) -> Mapping[str, np.ndarray]:
        """Return shares as fractions of the attention of all queries, A and its parts in doublings, 95% intervals."""
        effective = found.counts.effective()
        low, high = self.interval(effective)
        shares = (self.sums.total / found.counts.tokens).cpu().numpy()
        columns = {
            "share": shares[:, 0], "share_unbiased": shares[:, 1],
            "log2_amplification": self.amplification().cpu().numpy(), "ci_low": low, "ci_high": high,
            "effective_documents": np.broadcast_to(found.counts.effective(), low.shape),
        }  # fmt: skip
        for name in self.readings[2:]:
            beyond = "beyond" if name == "position" else f"beyond_{name}"
            low, high = self.interval(effective, "bias", name)
            columns |= {
                f"log2_amplification_{name}": self.amplification(name, "none").cpu().numpy(),
                f"log2_amplification_{beyond}": self.amplification("bias", name).cpu().numpy(),
                f"{beyond}_ci_low": low, f"{beyond}_ci_high": high,
            }  # fmt: skip
        return columns

    def tables(self, found: Found) -> Mapping[str, pd.DataFrame]:
        """Return `replicates`, and `replicates_beyond` of what is beyond position: what a comparison of two runs pairs.

        In the rows of `heads`; columns: layer, head, scheme, token_class, the class's `effective_documents`, and the value
        of every replicate in "0", "1", ... as float32: 4 bytes * heads * classes * replicates each, 19 MB for 1,200 heads,
        20 classes and 200 replicates.
        """
        parts = {"replicates": "none"} | ({"replicates_beyond": "position"} if "position" in self.readings else {})
        return {name: self._replicates(found, start) for name, start in parts.items()}

    def _replicates(self, found: Found, start: str) -> pd.DataFrame:
        rows = self.resampled_amplification("bias", start).flatten(1).T.float().cpu().numpy()  # [row, replicate]
        effective = np.tile(found.counts.effective(), len(rows) // found.context.classes.number)
        named = found.index.loc[:, list(KEY)].assign(effective_documents=effective)
        numbers = pd.DataFrame(rows, columns=[str(replicate) for replicate in range(rows.shape[1])])
        return pd.concat([named, numbers], axis=1)


KEY = ("layer", "head", "scheme", "token_class")


def replicate_values(table: pd.DataFrame) -> Float32[np.ndarray, "row replicate"]:
    """Return the numbers of a table `replicates`."""
    return table.drop(columns=[*KEY, "effective_documents"]).to_numpy(np.float32)
