"""What an amplification run found: tidy tables, how they were made, and their way to disk and back."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from interp.analysis.interventions.result import FOLDER, Interventions, discard
from interp.analysis.saving import load_tables, save_tables
from interp.errors import InterpError

HEAD_COLUMNS = (
    "model", "layer", "head", "scheme", "token_class", "n_tokens", "n_documents", "share", "share_unbiased",
    "log2_amplification", "ci_low", "ci_high", "bias_score_mean", "bias_score_contrast", "hedges_g", "auroc",
    "auroc_error_bound", "alignment",
)  # fmt: skip
TABLES = ("heads", "tokens", "positions", "passages", "passage_scores")
FURTHER_TABLES = (
    "nulls", "adjusted", "selectivity", "replicates", "bias_samples", "bias_draws", "static_tokens", "static_positions",
    "static_agreement", "static_enrichment", "value_tokens", "value_components",
)  # fmt: skip
"""Tables that folders of earlier versions lack; empty where a run did not ask for them."""


@dataclass(frozen=True)
class Amplification:
    """Direct amplification of token classes by attention heads (definitions: `interp.analysis.run`).

    Attributes:
        heads: one row per (layer, head, scheme, class), columns `HEAD_COLUMNS`, then `bias_score_sd` over the tokens of the
            class, and a q per null and statistic (`nulls`). Shares are fractions of the attention
            of all queries, `log2_amplification` and its 95% interval are in doublings, bias scores in nats.
            A class that does not occur has ``n_tokens == 0`` and missing values, never a sentinel.
        tokens: one row per (layer, head, token): `token_index, token_string, count`, one column per scheme with the
            token's most frequent class, `bias_score_mean`, its `bias_score_contrast` to the head's mean, and a 95%
            normal interval of the contrast over occurrences, `ci_low, ci_high` (missing below two occurrences), and
            `alignment`, the mean cosine of its keys and b_Q.
        positions: one row per (layer, head, pos): `n_tokens, bias_score_mean, bias_score_sd`, and the mean's 95% interval
            over documents, `ci_low, ci_high`.
        passages: one row per token of the sample passages: `passage, document, place, token_index, token_string`, and
            one column per scheme with the class of this token.
        passage_scores: one row per (layer, head, passage, place): `bias_score` and the mean `attention` and
            `attention_unbiased` that the token receives from itself and the later tokens of its context.
        nulls: one row per (null, statistic, layer, head, scheme, class), see `interp.analysis.nulls.table`: the `value`, the
            mean and the standard deviation of its null, two-sided `p`, `p_rank` of as many `draws` (0: the null is exact),
            and `q`, p corrected over all heads and classes of the scheme (Benjamini-Hochberg). `heads` has the q too.
        adjusted: one row per (adjusted_for, layer, head, scheme, class): `bias_score_contrast` between tokens of the same
            stratum (`measurements.position`), its 95% interval over `folds` of documents, two-sided `p`, and `q` as
            above. `adjusted_for` is "nothing", "position" or "position and frequency". Missing where classes share none.
        selectivity: one row per (layer, head, scheme), see `measurements.selectivity`: `eta_squared`, `best_class`,
            `best_auroc`, `profile_entropy`, `divergence`, and the `cluster` and `order` of the head's profile.
        replicates: the bootstrap replicates of `log2_amplification`, in the rows of `heads` (`measurements.shares`):
            what a comparison of two runs pairs.
        bias_samples: how far every figure of `heads` moves over draws of b, one row per (layer, head, scheme, class,
            statistic), with the spread over draws and that over documents (`measurements.bias_draws`).
        bias_draws: the same figures draw by draw: the columns of `heads` without intervals, and `draw`.
        static_tokens: the tokens that a head's mean direction points at most (`end` "top") and least ("bottom"), by the
            weights alone, one row per (layer, head, end, rank), rank 0 the most extreme: `token_index, token_string, count`,
            `static_alignment`, the cosine of W_E W_K and the direction (`measurements.static_alignment`), and beside it
            `alignment`, the mean cosine of its keys in the text. Up to 50 at either end, of the tokens that occur at least
            10 times. Like the three tables that follow, empty where no head has a direction.
        static_positions: one row per (layer, head, pos): `static_alignment` of W_pos W_K; empty with RoPE.
        static_agreement: one row per (layer, head): `pearson` and `spearman`, the correlation of static and contextual
            alignment over the `n_tokens` token types that occur at least 10 times.
        static_enrichment: one row per (layer, head, scheme, end, class): how much more often a class is met among the tokens
            of `static_tokens` (`n_chosen`) than among the other frequent ones (`n_pool` in all): `log2_odds` with its 95%
            interval `ci_low, ci_high` (`measurements.top_tokens`). A token is of its most frequent class.
        value_tokens: the frequent tokens whose logits a head's mean b_V raises ("top") and lowers ("bottom") most, on its
            direct path through the final norm and the unembedding: the columns of `static_tokens`, but `logit` (nats, less
            the mean over the vocabulary) for the cosines. Like `value_components` empty without a mean value bias.
        value_components: one row per (layer, head, scheme, class): mean and standard deviation of v along b_V,
            `component_mean, component_sd`, and `component_contrast` to the head's mean, over `n_tokens` tokens, the first
            of each document; `bias_norm` |b_V| is what the bias adds (`measurements.value_bias`).
        run: how it was made: model, corpus, n_tokens, n_documents, schemes, bias, direction, seed, versions, warnings ...
        interventions: what changes when the biases are scaled and the model is run again, with the tables `attention`,
            `loss`, `predictions` and `paths` (`interp.analysis.interventions.result`); None where it was not asked for.
    """

    heads: pd.DataFrame
    tokens: pd.DataFrame
    positions: pd.DataFrame
    passages: pd.DataFrame
    passage_scores: pd.DataFrame
    run: dict[str, Any]
    nulls: pd.DataFrame = field(default_factory=pd.DataFrame)
    adjusted: pd.DataFrame = field(default_factory=pd.DataFrame)
    selectivity: pd.DataFrame = field(default_factory=pd.DataFrame)
    replicates: pd.DataFrame = field(default_factory=pd.DataFrame)
    bias_samples: pd.DataFrame = field(default_factory=pd.DataFrame)
    bias_draws: pd.DataFrame = field(default_factory=pd.DataFrame)
    static_tokens: pd.DataFrame = field(default_factory=pd.DataFrame)
    static_positions: pd.DataFrame = field(default_factory=pd.DataFrame)
    static_agreement: pd.DataFrame = field(default_factory=pd.DataFrame)
    static_enrichment: pd.DataFrame = field(default_factory=pd.DataFrame)
    value_tokens: pd.DataFrame = field(default_factory=pd.DataFrame)
    value_components: pd.DataFrame = field(default_factory=pd.DataFrame)
    interventions: Interventions | None = None

    def save(self, folder: str | Path) -> list[Path]:
        """Write every table as Parquet, `heads` also as CSV, and `run.json`; return the files written.

        The interventions, if any, go to the folder `interventions` inside.

        A CSV reader turns tokens such as "null" and "nan" into missing values: read `heads.csv` with
        ``pd.read_csv(path, keep_default_na=False, na_values=[""])``, or read the Parquet file.
        """
        tables = {name: getattr(self, name) for name in (*TABLES, *FURTHER_TABLES)}
        files = save_tables(folder, tables, self.run, csv=["heads"])
        if self.interventions is None:
            discard(Path(folder) / FOLDER)
            return files
        return [*files, *self.interventions.save(Path(folder) / FOLDER)]

    @classmethod
    def load(cls, folder: str | Path) -> Amplification:
        """Read what `save` wrote.

        Raises:
            InterpError: a file is missing or unreadable.
        """
        tables, run = load_tables(folder, TABLES, "Amplification.save", FURTHER_TABLES)
        further = Path(folder) / FOLDER
        found = Interventions.load(further) if (further / "run.json").is_file() else None
        return cls(**tables, run=run, interventions=found)

    def __post_init__(self) -> None:
        missing = [column for column in HEAD_COLUMNS if column not in self.heads]
        if missing:
            raise InterpError(
                f"The heads table lacks the columns {', '.join(missing)}; make it with interp.amplification."
            )
