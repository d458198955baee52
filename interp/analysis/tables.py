"""From sums to tidy tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.analysis.accumulate import AmplificationSums
from interp.analysis.adjusted import Estimate
from interp.analysis.batch import class_ranges
from interp.analysis.documents import DocumentCounts
from interp.analysis.head_sums import HeadSums
from interp.analysis.moments import GroupedMoments, variance
from interp.analysis.result import HEAD_COLUMNS
from interp.analysis.significance import Z95
from interp.model.transformer import HookedSymmetryBrokenTransformer


def heads_table(model_name: str, sums: HeadSums, counts: DocumentCounts, names: dict[str, list[str]]) -> pd.DataFrame:
    """Return the table `heads` of `Amplification`; `names` gives the class names of each scheme."""
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = sums.shares.interval(counts.effective())
        columns = {
            "share": _numpy(sums.shares.total[:, 0] / _queries(sums, counts, names)),
            "share_unbiased": _numpy(sums.shares.total[:, 1] / _queries(sums, counts, names)),
            "log2_amplification": _numpy(sums.shares.amplification()),
            "ci_low": low,
            "ci_high": high,
            "bias_score_mean": _numpy(sums.scores.mean()),
            "bias_score_contrast": _numpy(sums.scores.mean() - sums.scores.overall(class_ranges(names).values())),
            "bias_score_sd": _numpy(sums.scores.variance().sqrt()),
            "alignment": _numpy(sums.cosines.mean()),
            **_joined([_scheme_columns(sums, first, last) for first, last in class_ranges(names).values()]),
        }
    layers, heads, classes = columns["share"].shape
    frame = _index({"layer": range(layers), "head": range(heads), "place": range(classes)})
    place = frame.pop("place").to_numpy()
    scheme = np.repeat(list(names), [len(n) for n in names.values()])
    labels = np.concatenate([np.asarray(n, dtype=object) for n in names.values()])
    frame = frame.assign(
        model=model_name, scheme=scheme[place], token_class=labels[place],
        n_tokens=counts.n_tokens[place], n_documents=counts.n_documents[place],
        **{name: value.ravel() for name, value in columns.items()},
    )  # fmt: skip
    return frame.loc[:, [*HEAD_COLUMNS, "bias_score_sd"]]


def hedges_g(moments: GroupedMoments, first: int, last: int) -> Tensor:
    """Return Hedges' g of each class first..last against the rest of its scheme, [layer, head_index, token_class].

    g = J (mean_c - mean_rest) / pooled standard deviation, J = 1 - 3 / (4 (n - 2) - 1) (Hedges, 1981).
    """
    n, total, squares = moments.count[first:last], moments.sum[..., first:last], moments.squares[..., first:last]
    n_rest = n.sum() - n
    total_rest, squares_rest = total.sum(-1, keepdim=True) - total, squares.sum(-1, keepdim=True) - squares
    freedom = (n.sum() - 2).clamp(min=1)
    within = _within(n, total, squares) + _within(n_rest, total_rest, squares_rest)
    pooled = (within / freedom).sqrt()
    return (1 - 3 / (4 * freedom - 1)) * (total / n - total_rest / n_rest) / pooled


def tokens_table(
    model: HookedSymmetryBrokenTransformer, sums: AmplificationSums, counts: DocumentCounts, names: dict[str, list[str]]
) -> pd.DataFrame:
    """Return the table `tokens` of `Amplification`: the tokens that occur, with their string and usual class."""
    seen = sums.tokens.count.nonzero().flatten()
    count = sums.tokens.count[seen]
    layers, heads, _ = sums.tokens.sum.shape
    n_heads, n_seen = layers * heads, len(seen)
    labels = {"token_string": pd.Categorical(model.to_str_tokens(seen))}
    for scheme, (first, last) in class_ranges(names).items():
        usual = counts.token_classes[_numpy(seen), first:last].argmax(-1)
        labels[scheme] = pd.Categorical.from_codes(usual, names[scheme])
    # a layer at a time and in narrow types, because every token stands here once for every head
    values = np.empty((5, layers, heads, n_seen), dtype=np.float32)
    for layer in range(layers):
        values[:4, layer] = _token_values(count, sums.tokens.sum[layer, :, seen], sums.tokens.squares[layer, :, seen])
        values[4, layer] = _numpy(sums.token_cosines.sum[layer, :, seen] / count)
    columns = zip(("bias_score_mean", "bias_score_contrast", "ci_low", "ci_high", "alignment"), values, strict=True)
    return pd.DataFrame(
        {
            "model": pd.Categorical.from_codes(np.zeros(n_heads * n_seen, dtype=np.int8), [model.cfg.model_name]),
            "layer": np.repeat(np.arange(layers, dtype=np.int32), heads * n_seen),
            "head": np.tile(np.repeat(np.arange(heads, dtype=np.int32), n_seen), layers),
            "token_index": np.tile(_numpy(seen).astype(np.int32), n_heads),
            "count": np.tile(_numpy(count).astype(np.int32), n_heads),
            **{name: _tiled(label, n_heads) for name, label in labels.items()},
            **{name: value.ravel() for name, value in columns},
        }
    )


def _token_values(count: Tensor, total: Tensor, squares: Tensor) -> np.ndarray:
    """Mean, contrast to the head's mean and the ends of its interval, [4, head_index, token], of one layer."""
    mean = total / count
    contrast = mean - total.sum(-1, keepdim=True) / count.sum()
    half = Z95 * (variance(count, total, squares) / count).sqrt()
    return np.stack([_numpy(value) for value in (mean, contrast, contrast - half, contrast + half)])


def _tiled(labels: pd.Categorical, times: int) -> pd.Categorical:
    return pd.Categorical.from_codes(np.tile(labels.codes, times), dtype=labels.dtype)


def positions_table(model_name: str, sums: AmplificationSums, profile: Estimate) -> pd.DataFrame:
    """Return the table `positions` of `Amplification`; `profile` has the errors of its means."""
    low, high = profile.interval()
    layers, heads, pos = sums.positions.sum.shape
    frame = _index({"layer": range(layers), "head": range(heads), "pos": range(pos)})
    return frame.assign(
        model=model_name, n_tokens=np.tile(_numpy(sums.positions.count), layers * heads),
        bias_score_mean=_numpy(sums.positions.mean()).ravel(),
        bias_score_sd=_numpy(sums.positions.variance().sqrt()).ravel(), ci_low=low.ravel(), ci_high=high.ravel(),
    )  # fmt: skip


def _scheme_columns(sums: HeadSums, first: int, last: int) -> dict[str, np.ndarray]:
    auroc, bound = sums.histogram.auroc(first, last)
    return {
        "hedges_g": _numpy(hedges_g(sums.scores, first, last)),
        "auroc": auroc,
        "auroc_error_bound": bound,
    }


def _within(n: Tensor, total: Tensor, squares: Tensor) -> Tensor:
    """Sum of squared deviations from the mean of each group; 0 for groups of fewer than two."""
    return (variance(n, total, squares) * (n - 1)).nan_to_num(0.0)


def _queries(sums: HeadSums, counts: DocumentCounts, names: dict[str, list[str]]) -> int:
    return int(sums.scores.count.sum()) // len(names)


def _joined(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts], axis=-1) for name in parts[0]}


def _index(axes: dict[str, Any]) -> pd.DataFrame:
    return pd.MultiIndex.from_product(list(axes.values()), names=list(axes)).to_frame(index=False)


def _numpy(values: Any) -> np.ndarray:
    return values.cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
