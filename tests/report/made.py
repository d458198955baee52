"""A made-up result of any shape, with structure planted where a test looks for it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from interp.analysis.result import Amplification
from tests.report import further

UPOS = (
    "NOUN", "PUNCT", "ADP", "DET", "VERB", "PROPN", "ADJ", "AUX", "PRON", "ADV", "CCONJ", "NUM", "PART", "SCONJ",
    "SPACE", "bos", "INTJ", "SYM", "X", "EMPTY",
)  # fmt: skip
FUNCTION = ("content", "function", "punctuation", "number", "space", "other", *(f"kind {i}" for i in range(14)))
HOSTILE = ("<b>", "</script>", "\n", "nan", "null", "😀", "שלום", 'say "hi", you', "=1+1", " the")
FORMULAS = [  # and what is like them: text that a spreadsheet may or may not take for a formula
    "=1+1", "+1-2", "-", "-x", "@SUM(A1)", "\t", "\t=", "\r", "\r\n=", "'", "'tis", "'=1", "''=1", "'-5", "-5", "+3",
    "-0.5 1e-05", "-5\n", "- 5", " =1", "\n", "", "null", "nan", '"', "a,b", '=a"b,c', "<0xF0 9F>", "–5",
]  # fmt: skip
WORDS = ("the", "of", "and", "in", "to", "a", "is", "was", "for", "as", "on", "with", "by", "at", "from", "city", "war")


def make_result(
    layers: int = 4, heads: int = 6, classes: int = 20, passages: int = 20, places: int = 40, seed: int = 0
) -> Amplification:
    """Random numbers of the right shape; L0's last head amplifies PUNCT, L1's first head suppresses NOUN."""
    random = np.random.default_rng(seed)
    schemes = {"pos": (*UPOS[: classes - 1], "EMPTY"), "function": FUNCTION[:classes]}
    table = pd.concat(
        [_heads(random, layers, heads, name, list(known)) for name, known in schemes.items()], ignore_index=True
    )
    means = table.groupby(["layer", "head"])[["bias_score_mean", "bias_score_contrast"]].first()
    vocabulary = _vocabulary(random, schemes)
    return Amplification(
        heads=further.parts(table),
        tokens=_tokens(random, layers, heads, vocabulary),
        positions=further.positions(layers, heads),
        passages=(text := _passages(random, vocabulary, passages, places, list(schemes))),
        passage_scores=_scores(random, layers, heads, text, means["bias_score_mean"] - means["bias_score_contrast"]),
        run={
            "model": "tiny-bqbv", "corpus": "wikipedia-sample", "split": "held out", "n_tokens": 183_402,
            "n_documents": 31, "n_layers": layers, "n_heads": heads, "pipeline": "en_core_web_sm 3.8.0", "seed": 0,
            "date": "2026-03-01", "schemes": list(schemes), "bias": "mean", "direction": "bias",
            "versions": {"torch": "2.13.0", "spacy": "3.8.7"}, "command": "python -m interp.amplify",
            "wall_seconds": 41.3, "warnings": ["The corpus is small: 31 documents."],
        },
        nulls=further.nulls(table),
        adjusted=further.adjusted(table),
        further={
            "head_scores": further.head_scores(layers, heads),
            "top_passages": further.top_passages(table, vocabulary),
            "writes": further.writes(layers, heads, vocabulary),
        },
    )  # fmt: skip


def _heads(random: np.random.Generator, layers: int, heads: int, scheme: str, classes: list[str]) -> pd.DataFrame:
    index = pd.MultiIndex.from_product([range(layers), range(heads), classes], names=["layer", "head", "token_class"])
    table = index.to_frame(index=False)
    place, n_heads = table["token_class"].map(classes.index).to_numpy(), layers * heads
    n_tokens = np.maximum((60_000 / 1.5 ** np.arange(len(classes))).astype(int), 12)
    n_tokens[-1] = 0
    strength = np.repeat(random.gamma(1.2, 0.25, n_heads), len(classes))  # some heads do much, most do little
    effect = strength * random.normal(size=len(table)) * np.where(table["token_class"] == "bos", 3, 1)
    effect[(table["layer"] == 0) & (table["head"] == heads - 1) & (table["token_class"] == "PUNCT")] = 1.62
    effect[(table["layer"] == 1) & (table["head"] == 0) & (table["token_class"] == "NOUN")] = -1.31
    table["n_tokens"] = n_tokens[place]
    spread = 0.04 + 0.8 / np.sqrt(np.maximum(table["n_tokens"], 1)) * random.uniform(0.5, 1.5, len(table))
    share = np.repeat(random.dirichlet(np.ones(len(classes)), n_heads).ravel(), 1)
    head_mean = np.repeat(2 + np.sin(np.arange(n_heads)), len(classes))  # the same in every scheme
    table = table.assign(
        model="tiny-bqbv", scheme=scheme, n_documents=np.minimum(31, table["n_tokens"]),
        log2_amplification=effect, ci_low=effect - 1.96 * spread, ci_high=effect + 1.96 * spread,
        share=share * np.exp2(effect / 2), share_unbiased=share * np.exp2(-effect / 2),
        bias_score_contrast=effect * 0.7, bias_score_mean=head_mean + effect * 0.7, hedges_g=effect * 0.8,
        auroc=1 / (1 + np.exp(-effect)), auroc_error_bound=0.002, alignment=np.tanh(effect * 0.4),
    )  # fmt: skip
    numbers = [
        "log2_amplification",
        "ci_low",
        "ci_high",
        "share",
        "share_unbiased",
        "bias_score_contrast",
        "bias_score_mean",
        "hedges_g",
        "auroc",
        "alignment",
    ]
    table.loc[table["n_tokens"] == 0, numbers] = np.nan
    return table


def _vocabulary(random: np.random.Generator, schemes: dict[str, tuple[str, ...]]) -> pd.DataFrame:
    strings = [*HOSTILE, *(f" {word}" for word in WORDS), *(f"tok{i}" for i in range(365))]
    table = pd.DataFrame({"token_index": np.arange(len(strings)) * 7, "token_string": strings})
    table["count"] = np.maximum(9000 // (1 + random.permutation(len(strings))), 1)
    table.loc[: len(HOSTILE) - 1, "count"] = 500
    return table.assign(**{name: random.choice(known[:-2], len(strings)) for name, known in schemes.items()})


def _each_head(layers: int, heads: int, table: pd.DataFrame) -> pd.DataFrame:
    pairs = pd.MultiIndex.from_product([range(layers), range(heads)], names=["layer", "head"]).to_frame(index=False)
    return pairs.merge(table, how="cross")


def _tokens(random: np.random.Generator, layers: int, heads: int, vocabulary: pd.DataFrame) -> pd.DataFrame:
    table = _each_head(layers, heads, vocabulary)
    contrast = random.normal(0, 0.6, len(table))
    hostile = table["token_string"].isin(HOSTILE).to_numpy()
    contrast[hostile] = np.sign(contrast[hostile]) * random.uniform(1.8, 3.2, hostile.sum())
    half = np.where(table["count"] > 1, 1.2 / np.sqrt(table["count"]), np.nan)
    return table.assign(
        bias_score_mean=contrast + 2, bias_score_contrast=contrast, ci_low=contrast - half, ci_high=contrast + half
    )


def _passages(
    random: np.random.Generator, vocabulary: pd.DataFrame, passages: int, places: int, schemes: list[str]
) -> pd.DataFrame:
    chosen = vocabulary.iloc[random.choice(len(HOSTILE) + len(WORDS), passages * places)].reset_index(drop=True)
    where = {"passage": np.repeat(np.arange(passages), places), "place": np.tile(np.arange(places), passages)}
    return chosen[["token_index", "token_string", *schemes]].assign(
        **where, document=where["passage"] // 2, title=[f"Title {n // 2}" for n in where["passage"]]
    )


def _scores(
    random: np.random.Generator, layers: int, heads: int, passages: pd.DataFrame, means: pd.Series
) -> pd.DataFrame:
    table = _each_head(layers, heads, passages[["passage", "place"]])
    mean = np.repeat(means.to_numpy(), len(passages))
    contrast = random.normal(0, 0.5, len(table)) * (1 + table["passage"] / 10)
    attention = random.beta(1, 30, len(table))
    return table.assign(
        bias_score=mean + contrast, attention=attention * np.exp(contrast / 3), attention_unbiased=attention
    )
