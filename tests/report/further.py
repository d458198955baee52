"""Made-up tables beside the heads table: null bands, contrasts with position removed, positional profiles."""

from __future__ import annotations

import numpy as np
import pandas as pd

from interp.analysis.measurements.head_scores import SCORES

INDEX = ["model", "layer", "head", "scheme", "token_class", "n_tokens"]
STATISTICS = [
    ("direction", "contrast"), ("equal spread", "contrast"), ("equal spread", "contrast beyond position"),
    ("shifted", "amplification"), ("shifted", "amplification_beyond"),
]  # fmt: skip


def nulls(heads: pd.DataFrame, seed: int = 1) -> pd.DataFrame:
    """What contrasts and amplification are held against; bands of very different widths."""
    random, tables = np.random.default_rng(seed), []
    for null, statistic in STATISTICS:
        sd = random.gamma(2.0, 0.05, len(heads))
        tables.append(
            heads[INDEX].assign(null=null, statistic=statistic, null_mean=0.0,
                                null_sd=np.where(heads["n_tokens"] > 0, sd, np.nan), q=random.uniform(size=len(heads)))
        )  # fmt: skip
    return pd.concat(tables, ignore_index=True)


def parts(heads: pd.DataFrame, seed: int = 4) -> pd.DataFrame:
    """The heads table with A in its two parts, a tenth by position, and with the q of its controls."""
    random = np.random.default_rng(seed)
    beyond = 0.9 * heads["log2_amplification"]
    return heads.assign(
        log2_amplification_position=0.1 * heads["log2_amplification"], log2_amplification_beyond=beyond,
        beyond_ci_low=beyond - 0.04, beyond_ci_high=beyond + 0.04,
        **{f"{name}_q": np.where(heads["n_tokens"] > 0, random.uniform(size=len(heads)) ** 4, np.nan)
           for name in ("shifted", "beyond_shifted", "class", "class_beyond")},
    )  # fmt: skip


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


def head_scores(layers: int, heads: int, seed: int = 5) -> pd.DataFrame:
    """L0's last head, which amplifies PUNCT, attends to the previous token; the bias changes nothing of the first head."""
    random, n = np.random.default_rng(seed), layers * heads
    table = pd.MultiIndex.from_product([range(layers), range(heads)], names=["layer", "head"]).to_frame(index=False)
    for name in SCORES:
        scale = {"entropy": 4.0, "distance": 60.0}.get(name, 0.3)
        without = random.beta(1.2, 4, n) * scale
        table[name] = without + np.where(np.arange(n), random.uniform(0, 0.1 * scale, n), 0)
        table[f"{name}_unbiased"], table[f"{name}_uniform"] = without, scale / 7
    table.loc[heads - 1, "previous_token"] = 0.62
    return table.assign(model="tiny-bqbv", n_queries=2044, n_same_token=1400, n_induction=200)
