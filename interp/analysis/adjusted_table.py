"""The table `adjusted`, and the intervals of the positional profile, from sums by fold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64
from torch import Tensor

from interp.analysis.adjusted import Estimate, adjusted_contrasts, jackknife
from interp.analysis.batch import Ranges
from interp.analysis.significance import corrected_within, p_of_deviation
from interp.analysis.strata import StratifiedSums


def adjusted_table(heads: pd.DataFrame, sums: Sequence[StratifiedSums], ranges: Ranges) -> pd.DataFrame:
    """Return the table `adjusted` of `Amplification`: first for nothing, then for each of `sums`."""
    index = heads.loc[:, ["model", "layer", "head", "scheme", "token_class", "n_tokens"]]
    estimates = {"nothing": _estimates(sums[0], ranges, collapsed=True)}
    estimates |= {each.strata.name: _estimates(each, ranges) for each in sums}
    frame = pd.concat(
        [index.assign(adjusted_for=name, **_columns(estimate)) for name, estimate in estimates.items()],
        ignore_index=True,
    )
    return frame.assign(q=corrected_within(frame, ["adjusted_for", "scheme"]))


def position_profile(sums: StratifiedSums, ranges: Ranges) -> Estimate:
    """Return each head's mean bias score per position, one row per head and one column per position."""
    first, last = next(iter(ranges.values()))  # every token has one class of the first scheme
    count = sums.count[:, first:last].sum(1).cpu().numpy()  # [fold, pos]
    total = _by_fold(sums.by_stratum)  # [fold, head, pos]
    used = count.any(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        without = (total.sum(0) - total[used]) / (count.sum(0) - count[used])[:, None]
        return jackknife(total.sum(0) / count.sum(0), without)


def _columns(estimate: Estimate) -> dict[str, np.ndarray]:
    low, high = estimate.interval()
    p = p_of_deviation(estimate.value, np.zeros_like(estimate.value), estimate.error, max(estimate.folds - 1, 1))
    columns = {"bias_score_contrast": estimate.value, "ci_low": low, "ci_high": high, "p": p}
    return {name: values.ravel() for name, values in columns.items()} | {"folds": np.full(p.size, estimate.folds)}


def _estimates(sums: StratifiedSums, ranges: Ranges, collapsed: bool = False) -> Estimate:
    """The contrasts of all schemes' classes, one row per head; `collapsed` puts all tokens into one stratum."""
    parts = sums.count.cpu().numpy(), _by_fold(sums.by_class), _by_fold(sums.by_stratum)  # each [fold, ...]
    if collapsed:
        parts = parts[0].sum(-1, keepdims=True), parts[1], parts[2].sum(-1, keepdims=True)
    count, by_class, by_stratum = (part.sum(0) for part in parts)
    without = [
        _fitted(count - of_fold[0], by_class - of_fold[1], by_stratum - of_fold[2], ranges)
        for of_fold in zip(*parts, strict=True)
        if of_fold[0].any()
    ]
    return jackknife(_fitted(count, by_class, by_stratum, ranges), np.stack(without))


def _fitted(
    count: Int64[np.ndarray, "token_class stratum"],
    by_class: Float64[np.ndarray, "head token_class"],
    by_stratum: Float64[np.ndarray, "head stratum"],
    ranges: Ranges,
) -> Float64[np.ndarray, "head token_class"]:
    spans = ranges.values()
    return np.concatenate([adjusted_contrasts(count[a:b], by_class[:, a:b], by_stratum) for a, b in spans], axis=1)


def _by_fold(sums: Float64[Tensor, "layer head_index fold column"]) -> Float64[np.ndarray, "fold head column"]:
    return sums.flatten(0, 1).transpose(0, 1).cpu().numpy()
