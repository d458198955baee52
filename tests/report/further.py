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


def top_passages(heads: pd.DataFrame, vocabulary: pd.DataFrame, seed: int = 5) -> pd.DataFrame:
    """Three tokens at either end of every class that occurs, the strongest first; each text at the ends of several heads."""
    random, index = np.random.default_rng(seed), ["layer", "head", "scheme", "token_class"]
    table = heads.loc[heads["n_tokens"] > 0, index]
    places = pd.DataFrame(
        {"end": np.repeat(["top", "bottom"], 3), "rank": [0, 1, 2] * 2, "bias_score": [4, 3, 2, -4, -3, -2]}
    )
    table = table.merge(places, how="cross")
    texts = 4000
    strings = vocabulary["token_string"].to_numpy()
    spoken = ["".join(random.choice(strings, 8)) for _ in range(2 * texts)]
    which, token = random.integers(texts, size=len(table)), random.integers(len(strings), size=texts)
    return table.assign(
        bias_score_contrast=table["bias_score"] - 0.5, document=which // 100, title=[f"Article {n // 100}" for n in which],
        pos=which % 100, token_index=vocabulary["token_index"].to_numpy()[token[which]], token_string=strings[token[which]],
        before=[spoken[n] for n in which], after=[spoken[texts + n] for n in which],
    )  # fmt: skip


def writes(layers: int, heads: int, vocabulary: pd.DataFrame, seed: int = 6) -> pd.DataFrame:
    """Ten tokens at either end of what every head looks for and writes."""
    axes = {
        "layer": range(layers),
        "head": range(heads),
        "of": ("b_Q", "OV", "b_V"),
        "end": ("top", "bottom"),
        "rank": range(10),
    }
    table = pd.MultiIndex.from_product(axes.values(), names=axes.keys()).to_frame(index=False)
    rows = vocabulary.iloc[np.random.default_rng(seed).integers(len(vocabulary), size=len(table))].reset_index(
        drop=True
    )
    sign = np.where(table["end"] == "top", 1, -1)
    return table.assign(**rows[["token_index", "token_string", "count"]], value=sign * (1 - 0.09 * table["rank"]))


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
