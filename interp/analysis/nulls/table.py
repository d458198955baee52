"""The table `nulls`: columns of `heads` beside what they are held against, whatever null it comes from."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float64
from torch import Tensor

from interp.analysis.attention import log2_ratio
from interp.analysis.significance import corrected_within, p_of_deviation, p_of_rank, reach_of_draws

COLUMN_OF = {
    "contrast": "bias_score_contrast", "auroc": "auroc", "alignment": "alignment", "amplification": "log2_amplification",
    "amplification_beyond": "log2_amplification_beyond"
}  # fmt: skip
"""Which column of the heads table holds each statistic."""

COLUMNS = (
    "model", "layer", "head", "scheme", "token_class", "n_tokens", "statistic", "null", "value", "null_mean", "null_sd",
    "null_low", "null_high", "p", "p_rank", "draws", "q",
)  # fmt: skip

PerClass = Float64[np.ndarray, "layer head_index token_class"]


class Null(NamedTuple):
    """One null of one statistic, in the order of the heads table; `draws` is 0 where mean and sd are exact.

    `value` is needed where the statistic is no column of `heads`. Columns of `heads` hold the q, or the p and the q under
    names that begin with `columns`. A null whose p is not known far enough out to be corrected is not `corrected`: no q.
    p is 0.05 at `null_mean` -+ `reach`, and 95% of the null lie between (`null_low, null_high` of the table); by default as
    far as Student's t of the draws goes, or the normal law of an exact null (`reach_of_draws`).
    """

    null: str
    statistic: str
    null_mean: PerClass
    null_sd: PerClass
    p: PerClass
    p_rank: PerClass
    draws: int
    value: PerClass | None = None
    columns: str = ""
    corrected: bool = True
    reach: PerClass | None = None


def nulls_table(index: pd.DataFrame, heads: pd.DataFrame, found: Sequence[Null]) -> pd.DataFrame:
    """Return the table `nulls`: a row per null and row of `heads`, q within null, statistic and scheme."""
    frames = [_rows(index, heads, null) for null in found]
    if not frames:
        return pd.DataFrame(columns=list(COLUMNS))
    frame = pd.concat(frames, ignore_index=True)
    q = corrected_within(frame, ["null", "statistic", "scheme"])
    corrected = np.repeat([null.corrected for null in found], len(index))
    return frame.assign(q=np.where(corrected, q, np.nan)).loc[:, list(COLUMNS)]


def with_q(heads: pd.DataFrame, nulls: pd.DataFrame, found: Sequence[Null]) -> pd.DataFrame:
    """Return the heads table with columns of `nulls`, its nulls `found`, such as `contrast_q` and `contrast_shifted_q`."""
    columns = {}
    for number, null in enumerate(found):
        rows = nulls.iloc[number * len(heads) : (number + 1) * len(heads)]
        name = null.statistic if null.null == "direction" else f"{null.statistic}_{null.null}"
        if null.columns:
            columns[f"{null.columns}_p"] = rows["p"].to_numpy()
        if null.corrected:
            columns[f"{null.columns or name}_q"] = rows["q"].to_numpy()
    return heads.assign(**columns)


def _rows(index: pd.DataFrame, heads: pd.DataFrame, null: Null) -> pd.DataFrame:
    value = null.value
    value = heads[COLUMN_OF.get(null.statistic, null.statistic)].to_numpy() if value is None else value.ravel()
    frame = index.drop(columns="n_documents").assign(statistic=null.statistic, null=null.null, value=value)
    numbers = {name: getattr(null, name).ravel() for name in ("null_mean", "null_sd", "p", "p_rank")}
    reach = (reach_of_draws(null.null_sd, null.draws) if null.reach is None else null.reach).ravel()
    numbers |= {"null_low": numbers["null_mean"] - reach, "null_high": numbers["null_mean"] + reach}
    numbers["p_rank"] = np.where(np.isnan(numbers["p"]), np.nan, numbers["p_rank"])  # no spread, nothing to rank
    return frame.assign(**numbers, draws=null.draws)


def value_of(heads: pd.DataFrame, statistic: str, shape: tuple[int, ...]) -> PerClass:
    """Return a statistic's column of `heads` as [layer, head_index, token_class]."""
    return np.asarray(heads[COLUMN_OF.get(statistic, statistic)], dtype=np.float64).reshape(shape)


def shifted_null(
    statistic: str,
    heads: pd.DataFrame,
    shares: Float64[Tensor, "shift layer reading head_index token_class"],
    start: int,
) -> Null:
    """Return the null of a log2 ratio of shares from shifted labels: with the bias over reading `start`.

    p is Student's t of the deviation from the shifts' mean, with their spread: so many comparisons are corrected for that
    a rank among a few hundred shifts could never be small enough.
    """
    draws = log2_ratio(shares, 0, start).cpu().numpy()
    draws = np.where(np.isfinite(draws), draws, np.nan)
    value = value_of(heads, statistic, draws.shape[1:])
    mean, sd = draws.mean(0), draws.std(0, ddof=1)
    sd = np.where(sd > 1e-9, sd, np.nan)  # where no shift changes anything, nothing is said
    p = p_of_deviation(value, mean, sd * np.sqrt(1 + 1 / len(draws)), len(draws) - 1)
    column = {"amplification": "shifted", "amplification_beyond": "beyond_shifted"}[statistic]
    return Null("shifted", statistic, mean, sd, p, p_of_rank(value - mean, draws - mean), len(draws), columns=column)


def amplified(null: str, heads: pd.DataFrame, shares: Float64[Tensor, "draw layer 2 head_index token_class"]) -> Null:
    """Return the null of A from the sums of shares of every draw; t of the draws' spread, which is itself uncertain."""
    draws = log2_ratio(shares).cpu().numpy()
    value = value_of(heads, "amplification", draws.shape[1:])
    mean, sd = draws.mean(0), draws.std(0, ddof=1) if len(draws) > 1 else np.full_like(value, np.nan)
    p = p_of_deviation(value, mean, sd * np.sqrt(1 + 1 / len(draws)), max(len(draws) - 1, 1))
    return Null(null, "amplification", mean, sd, p, p_of_rank(value, draws), len(draws))
