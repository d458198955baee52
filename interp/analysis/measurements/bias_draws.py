"""How far every figure moves because b is drawn anew: the whole analysis once more under each of M draws.

One draw is one b_Q and one b_V for every layer, drawn as training draws them for one step (mean + std * N(0, 1), arXiv
2601.22257), and held for the whole corpus as a training step holds it for its batch. In a draw both the forward pass and
the direction looked along use the drawn b, so a figure is what would be found of a model that has just this bias.

Two kinds of spread stand beside each other, and neither contains the other: over draws, the noise of the bias on these
documents; over documents, the choice of documents at the bias of the run.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp.analysis.batch import Batch, Ranges, visit_queries_and_keys
from interp.analysis.direction import Direction, query_shifts
from interp.analysis.measurements.bias_scores import HeadSums
from interp.errors import InterpError
from interp.model.transformer import HookedSymmetryBrokenTransformer

Biases = Float[Tensor, "layer head_index d_head"]

ROW = ["model", "layer", "head", "scheme", "token_class", "n_tokens", "n_documents"]

STATISTICS = [
    "share", "share_unbiased", "log2_amplification", "bias_score_mean", "bias_score_contrast", "bias_score_sd", "hedges_g",
    "auroc", "alignment",
]  # fmt: skip


@torch.no_grad()
def drawn_biases(model: HookedSymmetryBrokenTransformer, draws: int, seed: int) -> list[tuple[Biases, Biases]]:
    """Return b_Q and b_V of `draws` draws, each [layer, head_index, d_head]; the model is left as it was.

    Draw m is `draw_biases` of step m under `seed`. Biases that are fixed or learned are the same in every draw.
    """
    parts = (model.bias_q, model.bias_v)
    before = [part.value.detach().clone() for part in parts]
    found = []
    try:
        for draw in range(draws):
            model.draw_biases(draw, seed)
            found.append((model.bias_q("sample").clone(), model.bias_v("sample").clone()))
    finally:
        for part, value in zip(parts, before, strict=True):
            part.value.copy_(value)
    return found


class BiasSamples:
    """The sums of every draw; `update` with a batch, `merge` with another's.

    Each draw takes a forward pass and memory for the sums of one table `heads`, of which the histograms are most: n_layers *
    n_heads * n_classes * 2 KB.

    Raises:
        InterpError: fewer than 2 draws, which show no spread.
    """

    PARTS = ("sums",)

    def __init__(
        self, model: HookedSymmetryBrokenTransformer, direction: Direction, ranges: Ranges, draws: int, seed: int
    ) -> None:
        if draws < 2:
            raise InterpError(f"{draws} draws of the bias show no spread; take at least 2, or 0 for none.")
        self.model = model
        self.biases = drawn_biases(model, draws, seed)
        self.sums = []
        for drawn in self.biases:
            with model.bias(bias=drawn):
                self.sums.append(HeadSums(model, query_shifts(model, direction), ranges, replicates=0, seed=seed))

    def update(self, batch: Batch) -> None:
        """Run the model over a batch under every draw, and add it."""
        for drawn, sums in zip(self.biases, self.sums, strict=True):
            sums.start(batch)
            with self.model.bias(bias=drawn):
                visit_queries_and_keys(
                    self.model, batch.contexts, lambda layer, q, k, sums=sums: sums.add(layer, q, k, batch)
                )

    def merge(self, other: BiasSamples) -> None:
        """Add what another accumulator, of the same seed, saw of other documents."""
        for mine, others in zip(self.sums, other.sums, strict=True):
            mine.merge(others)


def draws_table(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Return the table `bias_draws` of `Amplification` from the tables `heads` of all draws."""
    columns = ["draw", *ROW, *STATISTICS]
    frames = [table.assign(draw=draw).loc[:, columns] for draw, table in enumerate(tables)]
    return pd.concat(frames, ignore_index=True)


def samples_table(heads: pd.DataFrame, draws: pd.DataFrame) -> pd.DataFrame:
    """Return the table `bias_samples` of `Amplification`; `draws` is its table `bias_draws`.

    One row per (layer, head, scheme, class, statistic), `statistic` a column of `heads`. `value` is that of the run itself;
    `mean_over_draws`, `sd_over_draws`, `min_over_draws`, `max_over_draws` are of the `draws`; `ci_low_over_documents` and
    `ci_high_over_documents` repeat the document interval of `value` where it has one (log2_amplification).
    """
    n_draws, frames = len(draws) // len(heads), []
    for statistic in STATISTICS:
        values = draws[statistic].to_numpy(np.float64).reshape(n_draws, len(heads))  # [draw, row]
        known = statistic == "log2_amplification"
        frames.append(
            heads.loc[:, ROW].assign(
                statistic=statistic, value=heads[statistic], draws=n_draws, mean_over_draws=values.mean(0),
                sd_over_draws=values.std(0, ddof=1), min_over_draws=values.min(0), max_over_draws=values.max(0),
                ci_low_over_documents=heads["ci_low"] if known else np.nan,
                ci_high_over_documents=heads["ci_high"] if known else np.nan,
            )
        )  # fmt: skip
    return pd.concat(frames, ignore_index=True)
