"""From the sums of interventions to their tidy tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float64

from interp.analysis.documents import DocumentCounts
from interp.analysis.interventions.paths import paths_to
from interp.analysis.interventions.plan import Intervention, Part
from interp.analysis.interventions.result import (
    ATTENTION_COLUMNS,
    LOSS_COLUMNS,
    OVERALL,
    PATH_COLUMNS,
    PREDICTION_COLUMNS,
)
from interp.analysis.interventions.sums import InterventionSums
from interp.analysis.significance import interval_over_documents, replicate_deviation

Values = Float64[np.ndarray, "*shape"]
Replicates = Float64[np.ndarray, "replicate *shape"]


class TableMaker:
    """Makes the tables of `Interventions`; `names` gives the classes of each scheme, `OVERALL` first."""

    def __init__(self, sums: InterventionSums, counts: DocumentCounts, names: Mapping[str, Sequence[str]]) -> None:
        self.sums, self.counts = sums, counts
        classes = pd.DataFrame([(s, c) for s, known in names.items() for c in known], columns=["scheme", "token_class"])
        self.classes = classes.assign(n_tokens=counts.n_tokens, n_documents=counts.n_documents)
        self.effective = counts.effective()

    def attention(self, interventions: Sequence[Intervention], of: Sequence[int], part: Part) -> pd.DataFrame:
        """Return the table `attention`: log2 of each class's share in every layer that an intervention reaches."""
        queries = self.counts.tokens
        frames = []
        for intervention, run in zip(interventions, of, strict=True):
            for layer in range(self.sums.runs.first[run], self.sums.model.cfg.n_layers):
                total, resampled = self._log_share(run, layer)
                before, resampled_before = self._log_share(self.sums.runs.unchanged, layer)
                change = _estimate("log2_change", total - before, resampled - resampled_before, self.effective)
                shares = {"share": np.exp2(total) / queries, "share_unchanged": np.exp2(before) / queries}
                frame = self._of_heads({**shares, **change}).assign(layer=layer)
                frames.append(_labelled(frame, intervention, part))
        return _joined(frames, ATTENTION_COLUMNS)

    def paths(self, of: Sequence[int]) -> pd.DataFrame:
        """Return the table `paths`; `of` gives the run without the biases of layer k and after it, for every k."""
        with_below = [*of, self.sums.runs.unchanged]  # with the biases of the layers below k only
        frames = []
        for layer in range(self.sums.model.cfg.n_layers):
            found = [self._log_share(run, layer) for run in with_below]
            for path in paths_to(layer):
                (upper, resampled_upper), (lower, resampled_lower) = found[path.upper], found[path.lower]
                value = _estimate(
                    "log2_amplification", upper - lower, resampled_upper - resampled_lower, self.effective
                )
                frames.append(self._of_heads(value).assign(layer=layer, path=path.name, source_layer=path.source))
        return _joined(frames, PATH_COLUMNS)

    def loss(self, interventions: Sequence[Intervention], of: Sequence[int], part: Part) -> pd.DataFrame:
        """Return the table `loss`."""
        before, resampled_before = self._mean(self.sums.runs.unchanged, 0)
        frames = []
        for intervention, run in zip(interventions, of, strict=True):
            loss, resampled = self._mean(run, 0)
            change = _estimate("difference", loss - before, resampled - resampled_before, self.effective)
            frame = self._of_predicted({"loss": loss, "loss_unchanged": before, **change})
            frames.append(_labelled(frame, intervention, part))
        return _joined(frames, LOSS_COLUMNS)

    def predictions(self, interventions: Sequence[Intervention], of: Sequence[int], part: Part) -> pd.DataFrame:
        """Return the table `predictions`."""
        frames = []
        for intervention, run in zip(interventions, of, strict=True):
            kl = _estimate("kl", *self._mean(run, 1), self.effective, "kl_")
            top1 = _estimate("top1_changed", *self._mean(run, 2), self.effective, "top1_")
            frames.append(_labelled(self._of_predicted({**kl, **top1}), intervention, part))
        return _joined(frames, PREDICTION_COLUMNS)

    def _log_share(self, run: int, layer: int) -> tuple[Values, Replicates]:
        """Return log2 of a layer's sums of attention in a run, [head_index, token_class], and of their replicates."""
        runs = self.sums.runs
        first = 0 if run == runs.unchanged else runs.first[run]
        values_alone = layer == first and run != runs.unchanged and not bool(runs.changes[run, 0, layer].any())
        if layer < first or values_alone:  # a layer's own b_V comes after its attention
            return self._log_share(self.sums.runs.unchanged, layer)
        sums = self.sums.attention[run]
        with np.errstate(divide="ignore"):
            total, resampled = (x.cpu().numpy() for x in (sums.total[layer - first], sums.resampled[:, layer - first]))
            return np.log2(total), np.log2(resampled)

    def _mean(self, run: int, quantity: int) -> tuple[Values, Replicates]:
        """Return a quantity's mean per class of predicted tokens, [token_class], and its replicates."""
        sums, count = self.sums.predictions, self.sums.predicted
        total, resampled = (
            sums.total[run, quantity] / count.total[0],
            sums.resampled[:, run, quantity] / count.resampled[:, 0],
        )
        return total.cpu().numpy(), resampled.cpu().numpy()

    def _of_heads(self, columns: Mapping[str, Values]) -> pd.DataFrame:
        """Return rows per head and class from columns [head_index, token_class], without the rows of all tokens."""
        heads = pd.DataFrame({"head": range(self.sums.model.cfg.n_heads)}).merge(self.classes, how="cross")
        frame = heads.assign(**{name: value.ravel() for name, value in columns.items()})
        return frame.loc[frame["scheme"] != OVERALL, :]

    def _of_predicted(self, columns: Mapping[str, Values]) -> pd.DataFrame:
        predicted = self.sums.predicted.total[0].cpu().numpy().astype(np.int64)
        return self.classes.assign(n_tokens=predicted, **columns)


def _estimate(
    name: str, value: Values, replicates: Replicates, effective: Float64[np.ndarray, " token_class"], prefix: str = ""
) -> dict[str, Values]:
    """Return a column and the ends of its interval; missing where the value is."""
    value = np.where(np.isfinite(value), value, np.nan)
    spread = replicate_deviation(np.moveaxis(np.where(np.isfinite(replicates), replicates, np.nan), 0, -1))
    low, high = interval_over_documents(value, spread, effective)
    return {name: value, f"{prefix}ci_low": low, f"{prefix}ci_high": high}


def _labelled(frame: pd.DataFrame, intervention: Intervention, part: Part) -> pd.DataFrame:
    name, layer, head = intervention.place
    return frame.assign(
        intervention=name, changed_layer=layer, changed_head=head, part=part, scale=intervention.scale,
        direction=intervention.direction, draw=intervention.draw,
    )  # fmt: skip


def _joined(frames: Sequence[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    """Put tables below each other; numbers of layers and heads that may be missing are floats, so that nan says it."""
    if not frames:
        return pd.DataFrame({column: [] for column in columns})
    nullable = {name: "float64" for name in ("changed_layer", "changed_head", "source_layer") if name in columns}
    return pd.concat([frame.astype(nullable) for frame in frames], ignore_index=True).loc[:, list(columns)]
