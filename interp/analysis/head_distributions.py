"""Two models compared class by class as distributions over their heads, which need no pairing of single heads.

Statistics of the log2 amplification A_c over all heads of a model (`statistic` of `Comparison.classes`):

- mean; mean_absolute, mean |A_c|; root_mean_square;
- minimum, quantile_10, quantile_25, median, quantile_75, quantile_90, maximum: sorted heads against sorted heads;
- share_amplifying: the share of heads with A_c > 0;
- stronger: P(|A_c| of a head of this model > |A_c| of a head of the other), ties counting half. This is Mann and Whitney's
  U (1947) over the number of pairs, as a size and without its p-value: heads of one model are trained together, on
  residual streams they share, and are not independent draws of anything;
- surviving_X: the share of heads whose q of null X (a column of `heads`, such as `contrast_q`) is below 0.05.

Intervals of `difference` are over documents, paired by replicate. The nulls are not resampled, so for `surviving_X` the
interval is Newcombe's (1998, method 10) for two proportions, as if heads were independent: read it as a lower bound of the
uncertainty. `interval_over` says which it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import stats

from interp.analysis.pairing import Pair
from interp.analysis.significance import interval_over_documents, replicate_deviation

QUANTILES = {
    "minimum": 0.0, "quantile_10": 0.1, "quantile_25": 0.25, "median": 0.5, "quantile_75": 0.75, "quantile_90": 0.9,
    "maximum": 1.0,
}  # fmt: skip
OVER_DOCUMENTS = "documents"
OVER_HEADS = "heads, as if independent"
SURVIVES = 0.05  # q below which a head survives correction

OfHeads = Float[np.ndarray, "head replicate"]
OfOthers = Float[np.ndarray, "other_head replicate"]
PerReplicate = Float[np.ndarray, " replicate"]


def classes_table(a: pd.DataFrame, b: pd.DataFrame, pair: Pair) -> pd.DataFrame:
    """Return the table `classes` of `Comparison`; a and b are the tables `heads` of the two results."""
    rows = []
    for place, known in enumerate(pair.classes.to_dict("records")):
        found = [*_over_documents(pair, place), *_surviving(a, b, len(pair.classes), place)]
        rows += [{**known, **row} for row in found]
    columns = [
        "scheme", "token_class", "statistic", "n_heads_a", "n_heads_b", "n_tokens", "n_documents", "value_a", "value_b",
        "difference", "ci_low", "ci_high", "interval_over",
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def distribution(values: OfHeads) -> dict[str, PerReplicate]:
    """Return the statistics of one model's heads in every replicate; missing where a head has no value."""
    missing = np.isnan(values).any(0)
    quantiles = np.quantile(values, list(QUANTILES.values()), axis=0)
    return {
        "mean": values.mean(0),
        "mean_absolute": np.abs(values).mean(0),
        "root_mean_square": np.sqrt(np.square(values).mean(0)),
        **dict(zip(QUANTILES, quantiles, strict=True)),
        "share_amplifying": np.where(missing, np.nan, (values > 0).mean(0)),
    }


def stronger(values: OfHeads, others: OfOthers) -> PerReplicate:
    """Return P(|value of a head| > |that of one of the others|) in every replicate, ties counting half."""
    ranks = stats.rankdata(np.abs(np.concatenate([values, others])), axis=0, nan_policy="propagate")
    n = len(values)
    return (ranks[:n].sum(0) - n * (n + 1) / 2) / (n * len(others))


def _both(a: OfHeads, b: OfOthers) -> dict[str, tuple[PerReplicate, PerReplicate]]:
    of_a, of_b = distribution(a), distribution(b)
    superior = stronger(b, a)
    return {**{name: (of_a[name], of_b[name]) for name in of_a}, "stronger": (1 - superior, superior)}


def _over_documents(pair: Pair, place: int) -> Iterator[dict[str, Any]]:
    values = _both(pair.a[:, [place]], pair.b[:, [place]])
    replicates = _both(*(of[:, place].astype(np.float64) for of in (pair.replicates_a, pair.replicates_b)))
    for statistic, (a, b) in values.items():
        resampled = replicates[statistic]
        sd = replicate_deviation((resampled[1] - resampled[0])[None])
        low, high = interval_over_documents(b - a, sd, pair.effective_documents[[place]])
        yield {
            "statistic": statistic, "n_heads_a": len(pair.a), "n_heads_b": len(pair.b), "value_a": a[0], "value_b": b[0],
            "difference": b[0] - a[0], "ci_low": low[0], "ci_high": high[0], "interval_over": OVER_DOCUMENTS,
        }  # fmt: skip


def _surviving(a: pd.DataFrame, b: pd.DataFrame, n_classes: int, place: int) -> Iterator[dict[str, Any]]:
    for column in [name for name in a if str(name).endswith("_q") and name in b]:
        q = [np.asarray(heads[column], dtype=np.float64)[place::n_classes] for heads in (a, b)]
        known = [values[~np.isnan(values)] for values in q]
        counts = [int((values < SURVIVES).sum()) for values in known]
        (n_a, n_b), (of_a, of_b) = map(len, known), counts
        low, high = newcombe(of_a, n_a, of_b, n_b)
        value_a, value_b = (k / n if n else np.nan for k, n in zip(counts, (n_a, n_b), strict=True))
        yield {
            "statistic": f"surviving_{str(column).removesuffix('_q')}", "n_heads_a": n_a, "n_heads_b": n_b,
            "value_a": value_a, "value_b": value_b, "difference": value_b - value_a, "ci_low": low, "ci_high": high,
            "interval_over": OVER_HEADS,
        }  # fmt: skip


def newcombe(of_a: int, n_a: int, of_b: int, n_b: int) -> tuple[float, float]:
    """Return the 95% interval of of_b / n_b - of_a / n_a from the Wilson intervals of both; missing where an n is 0.

    With Wilson's l and u of each proportion p, it reaches sqrt((p_b - l_b)^2 + (u_a - p_a)^2) below the difference and
    sqrt((u_b - p_b)^2 + (p_a - l_a)^2) above it (Newcombe, Statistics in Medicine 17, 1998, method 10).
    """
    if not (n_a and n_b):
        return np.nan, np.nan
    (p_a, low_a, high_a), (p_b, low_b, high_b) = (_wilson(k, n) for k, n in ((of_a, n_a), (of_b, n_b)))
    difference = p_b - p_a
    return difference - np.hypot(p_b - low_b, high_a - p_a), difference + np.hypot(high_b - p_b, p_a - low_a)


def _wilson(k: int, n: int) -> tuple[float, float, float]:
    interval = stats.binomtest(k, n).proportion_ci(method="wilson")
    return k / n, float(interval.low), float(interval.high)
