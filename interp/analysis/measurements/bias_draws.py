"""How far every figure moves with b: the whole analysis once more under each of M draws, or under each component.

One draw is one b_Q and one b_V for every layer, drawn as training draws them for one step (mean + std * N(0, 1), arXiv
2601.22257), and held for the whole corpus as a training step holds it for its batch. In a draw both the forward pass and
the direction looked along use the drawn b, so a figure is what would be found of a model that has just this bias.

Two kinds of spread stand beside each other, and neither contains the other: over draws, the noise of the bias on these
documents; over documents, the choice of documents at the bias of the run.

Where b is drawn from a mixture, a figure under its mean is that of no bias the model was trained with: `Components` gives
those under the mean of each component, the forward pass and the direction as in a draw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp.analysis.accumulators import Sums
from interp.analysis.batch import Batch
from interp.analysis.measurement import Context, Found, LayerView, Measurement
from interp.analysis.measurements.bias_scores import BiasScores
from interp.analysis.measurements.shares import Shares
from interp.analysis.readers.reader import SeenLayer
from interp.analysis.result import HEAD_COLUMNS
from interp.errors import InterpError
from interp.model.bias import Replacement
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


class _UnderBiases(Measurement):
    """The sums behind `heads` under each of several biases.

    Each takes a forward pass and memory for the sums of one table `heads`: of n_layers * n_heads * n_classes, 2 KB for the
    histograms and 16 bytes for each of the `replicates` behind intervals.
    """

    PARTS = ("draws",)

    def __init__(self, context: Context, biases: Sequence[Replacement], replicates: int | None = None) -> None:
        self.context, self.biases, self.draws = context, biases, []
        for drawn in biases:
            with context.reader.model.bias(bias=drawn):
                shifts = context.reader.shifts(context.settings.direction)
                self.draws.append(_Draw(replace(context, shifts=shifts, means=()), replicates))

    def start(self, batch: Batch) -> None:
        """Run the model over the batch under every bias, and add it."""
        for drawn, draw in zip(self.biases, self.draws, strict=True):
            for part in draw.measurements:
                part.start(batch)
            with self.context.reader.model.bias(bias=drawn):
                self.context.reader.visit(batch, draw.context.shifts, partial(draw.add, batch))

    def heads(self, found: Found, name: str, columns: Sequence[str]) -> pd.DataFrame:
        """Return these columns of the tables `heads` of all biases, whose number stands in the column `name`."""
        frames = []
        for number, draw in enumerate(self.draws):
            of_draw = Found(draw.context, found.counts, draw.measurements)
            values = {name: v for part in draw.measurements for name, v in part.columns(of_draw).items()}
            frames.append(of_draw.per_class(values).assign(**{name: number}).loc[:, [name, *columns]])
        return pd.concat(frames, ignore_index=True)


class BiasDraws(_UnderBiases):
    """What every draw gives, without intervals."""

    def __init__(self, context: Context) -> None:
        settings, model = context.settings, context.reader.model
        if not isinstance(model, HookedSymmetryBrokenTransformer):
            raise InterpError(
                f"bias_samples draws unlearned biases again, and {context.reader.name} has none; leave it at 0."
            )
        super().__init__(context, drawn_biases(model, settings.bias_samples, settings.seed), replicates=0)

    @classmethod
    def wanted(cls, context: Context) -> BiasDraws | None:
        """Return a fresh one if draws are asked for."""
        return cls(context) if context.settings.bias_samples else None

    def tables(self, found: Found) -> Mapping[str, pd.DataFrame]:
        """Return the tables `bias_draws` and `bias_samples` of `Amplification`."""
        draws = self.heads(found, "draw", [*ROW, *STATISTICS])
        return {"bias_samples": samples_table(found.heads, draws), "bias_draws": draws}


class Components(_UnderBiases):
    """What the mean of each component gives, with intervals over documents. `component` k is ``bias="component:k"``."""

    def __init__(self, context: Context) -> None:
        model = context.reader.model
        names = model.component_names if isinstance(model, HookedSymmetryBrokenTransformer) else []
        if not names:
            raise InterpError(
                f"components measures each component of a bias that is drawn from several directions, and "
                f"{context.reader.name} has none such; leave it out."
            )
        super().__init__(context, names)

    @classmethod
    def wanted(cls, context: Context) -> Components | None:
        """Return a fresh one if components are asked for."""
        return cls(context) if context.settings.components else None

    def tables(self, found: Found) -> Mapping[str, pd.DataFrame]:
        """Return the table `components` of `Amplification`."""
        return {"components": self.heads(found, "component", [*HEAD_COLUMNS, "bias_score_sd"])}


class _Draw(Sums):
    """What one bias gives, along its own direction."""

    PARTS = ("measurements",)

    def __init__(self, context: Context, replicates: int | None) -> None:
        self.context, self.measurements = context, [Shares(context, replicates), BiasScores(context)]

    def add(self, batch: Batch, layer: int, seen: SeenLayer) -> None:
        view = LayerView(self.context, batch, layer, seen)
        for part in self.measurements:
            part.layer(view, batch)


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
