"""Made-up tables beside the heads table: null bands, contrasts with position removed, positional profiles."""

from __future__ import annotations

import numpy as np
import pandas as pd

INDEX = ["model", "layer", "head", "scheme", "token_class", "n_tokens"]
STATISTICS = {"contrast": 0.0, "auroc": 0.5, "alignment": 0.0, "amplification": 0.0}


def nulls(heads: pd.DataFrame, seed: int = 1) -> pd.DataFrame:
    """Random directions for every statistic, and labels for the contrast; bands of very different widths."""
    random, tables = np.random.default_rng(seed), []
    for null, statistic in [*(("direction", name) for name in STATISTICS), ("label", "contrast")]:
        sd = random.gamma(2.0, 0.05, len(heads))
        tables.append(
            heads[INDEX].assign(null=null, statistic=statistic, null_mean=STATISTICS[statistic],
                                null_sd=np.where(heads["n_tokens"] > 0, sd, np.nan), q=random.uniform(size=len(heads)))
        )  # fmt: skip
    return pd.concat(tables, ignore_index=True)


def adjusted(heads: pd.DataFrame, seed: int = 2) -> pd.DataFrame:
    """Half of every contrast is left once position is removed, a quarter once frequency is too."""
    random, tables = np.random.default_rng(seed), []
    for name, left in (("nothing", 1.0), ("position", 0.5), ("position and frequency", 0.25)):
        value, half = heads["bias_score_contrast"] * left, random.gamma(2.0, 0.05, len(heads))
        columns = {"bias_score_contrast": value, "ci_low": value - half, "ci_high": value + half}
        tables.append(heads[INDEX].assign(adjusted_for=name, **columns))
    return pd.concat(tables, ignore_index=True)


def positions(layers: int, heads: int, length: int = 48, seed: int = 3) -> pd.DataFrame:
    """Every head's profile rises by 0.05 nats a position, but for a first position of +9."""
    random = np.random.default_rng(seed)
    index = pd.MultiIndex.from_product([range(layers), range(heads), range(length)], names=["layer", "head", "pos"])
    table = index.to_frame(index=False)
    mean = np.where(table["pos"] == 0, 9.0, 0.05 * table["pos"])
    half = random.gamma(2.0, 0.03, len(table))
    return table.assign(
        model="tiny-bqbv", n_tokens=4000 - 50 * table["pos"], bias_score_mean=mean, bias_score_sd=1.0,
        ci_low=mean - half, ci_high=mean + half,
    )  # fmt: skip
