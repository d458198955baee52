"""What an amplification run found: tidy tables, how they were made, and their way to disk and back."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from interp.analysis.interventions.result import FOLDER, Interventions, discard
from interp.analysis.interventions.uses import FOLDER as USES_FOLDER
from interp.analysis.interventions.uses import Uses
from interp.analysis.saving import load_tables, save_tables
from interp.errors import InterpError, nearest
from interp.provenance import Summarized, model_and_text

if TYPE_CHECKING:
    from interp.analysis.direction import Direction
    from interp.analysis.measurements.patterns import AttentionPattern
    from interp.data.classes.scheme import Scheme
    from interp.data.contexts import TaggedDocument
    from interp.model.transformer import HookedSymmetryBrokenTransformer

HEAD_COLUMNS = (
    "model", "layer", "head", "scheme", "token_class", "n_tokens", "n_documents", "share", "share_unbiased",
    "log2_amplification", "ci_low", "ci_high", "bias_score_mean", "bias_score_contrast", "hedges_g", "auroc",
    "auroc_error_bound", "alignment",
)  # fmt: skip
FEW_DOCUMENTS = 20  # fewer deserve a warning, and longer beginnings of each
PAGE = "interp.report.dashboard"
"""What draws a result. It is found by name, since the analysis stands below the report and must not need it."""

TABLES = ("heads", "tokens", "positions", "passages", "passage_scores")
LATER_TABLES = ("nulls", "adjusted")
"""Tables that folders of earlier versions lack, or that a run was not asked for; empty then."""


@dataclass(frozen=True, repr=False)
class Amplification(Summarized):
    """Direct amplification of token classes by attention heads (definitions: `interp.analysis.attention`).

    Attributes:
        heads: one row per (layer, head, scheme, class), columns `HEAD_COLUMNS`, then `bias_score_sd` over the tokens of the
            class, the class's `effective_documents`, and a q per null and statistic (`nulls`). `class_p, class_q` say if
            the bias singles the class out among directions of equal spread, `class_beyond_p, class_beyond_q` with position
            removed; `shifted_p, shifted_q` whether A is beyond labels shifted along the documents, `beyond_shifted_p,
            beyond_shifted_q` the part of it beyond position. With fewer than 4.2 effective documents `ci_low` is missing,
            here and below (`significance.why_no_interval` says why). `log2_amplification` and its parts (`fitted`) have
            intervals over documents here, `bias_score_contrast` in `adjusted`; `auroc_error_bound` is the histogram's
            rounding, and `hedges_g`, `auroc` and `alignment` have no interval. Shares are fractions of the attention of all
            queries, amplification and its parts are in doublings, bias scores in nats.
            A class that does not occur has ``n_tokens == 0`` and missing values, never a sentinel.
        tokens: one row per (layer, head, token): `token_index, token_string, count`, one column per scheme with the
            token's most frequent class, `bias_score_mean`, its `bias_score_contrast` to the head's mean, and a 95%
            normal interval of the contrast over occurrences, as if independent, not over documents, `ci_low, ci_high`
            (missing below two occurrences), and
            `alignment`, the mean cosine of its keys and b_Q.
        positions: one row per (layer, head, pos): `n_tokens, bias_score_mean, bias_score_sd`, and the mean's 95% interval
            over documents, `ci_low, ci_high`, on the position's `effective_documents`.
        passages: one row per token of the sample passages: `passage, document`, the document's `title`, `place, token_index,
            token_string`, and one column per scheme with the class of this token. They begin and end with a word.
        passage_scores: one row per (layer, head, passage, place): `bias_score` and the mean `attention` and
            `attention_unbiased` that the token receives from itself and the later tokens of its context.
        nulls: one row per (null, statistic, layer, head, scheme, class), see `interp.analysis.nulls.table`: the `value`, the
            mean and the standard deviation of its null, two-sided `p`, `p_rank` of as many `draws` (0: the null is exact),
            and `q`, p corrected over all heads and classes of the scheme (Benjamini-Hochberg); missing where so small a p is
            not known (AUROC). `heads` has the q too. Of the nulls, random directions as long as the bias ("direction") say
            whether the keys spread along it and nothing about classes; "equal spread" does.
        adjusted: one row per (adjusted_for, layer, head, scheme, class): `bias_score_contrast` between tokens of the same
            stratum (`measurements.position`), its 95% interval over `folds` of documents on the class's
            `effective_documents`, two-sided `p`, and `q` as above. `adjusted_for` is "nothing", "position" or "position and
            frequency". Missing where classes share none.
        further: tables by name that only some runs have; with those above they are `tables`. They may be
            replicates: the bootstrap replicates of `log2_amplification`, in the rows of `heads` (`measurements.shares`):
                what a comparison of two runs pairs, to first order in the documents' weights; `replicates_beyond` of the
                part beyond position.
            bias_samples: how far every figure of `heads` moves over draws of b, one row per (layer, head, scheme, class,
                statistic), with the spread over draws and that over documents (`measurements.bias_draws`).
            components: of a run with `components`, the columns of `heads` from `model` to `alignment` and `bias_score_sd` as
                they are with the mean of each component of the mixture in force, and `component`
                (`measurements.bias_draws`).
            top_passages: where each head's bias scores are largest ("top") and smallest ("bottom") among the tokens of a
                class: one row per (layer, head, scheme, class, end, rank), rank 0 the most extreme, at most one token of a
                context: `bias_score`, in half precision, `bias_score_contrast` to the head's mean, `document, title, pos` in
                the context, `token_index, token_string`, and the text `before` and `after` it, from a word to a word.
            writes: what each head looks for and what it writes, from the weights alone (the method `writes`).
            explained: what the bias scores vary with, one row per (layer, head, scheme): key spread, and eta squared of
                position, token type and class, alone and beyond each other (`measurements.explained`).
            patterns: attention from query to key in a few of the passages, one row per (layer, head, passage, query, key):
                `attention` and `attention_unbiased`; `pattern` gives those of one head. `query` and `key` are places in the
                passage, key -1 is all keys before it in its context (`measurements.patterns`).
            head_scores: what kind of head each is, one row per (layer, head): attention to the token before, to earlier
                occurrences of the same token, to the first; induction, entropy, distance (`measurements.head_scores`).
            chosen: of a run with `held_out`, the rows that are findings in the half of the documents that chose; all else
                here is of the other half.
            bias_draws: the same figures draw by draw: the columns of `heads` without intervals, and `draw`.
        run: how it was made: model, corpus, n_tokens, n_documents, schemes, bias, direction, seed, versions, warnings ...
        interventions: what changes when the biases are scaled and the model is run again, with the tables `attention`,
            `loss`, `predictions` and `paths` (`interp.analysis.interventions.result`); None where it was not asked for.
        uses: what the loss is when bias scores know only the position, class or type of a key, in the table `loss`
            (`interp.analysis.interventions.uses`); None where it was not asked for.
    """

    heads: pd.DataFrame
    tokens: pd.DataFrame
    positions: pd.DataFrame
    passages: pd.DataFrame
    passage_scores: pd.DataFrame
    run: dict[str, Any]
    nulls: pd.DataFrame = field(default_factory=pd.DataFrame)
    adjusted: pd.DataFrame = field(default_factory=pd.DataFrame)
    further: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    interventions: Interventions | None = None
    uses: Uses | None = None

    @classmethod
    def of(cls, tables: Mapping[str, pd.DataFrame], run: dict[str, Any]) -> Amplification:
        """Return the result that these tables are."""
        own = {name: tables[name] for name in (*TABLES, *LATER_TABLES) if name in tables}
        further = {name: table for name, table in tables.items() if name not in (*TABLES, *LATER_TABLES)}
        whole = cls(
            own["heads"], own["tokens"], own["positions"], own["passages"], own["passage_scores"], run, further=further
        )
        return replace(whole, **{name: own[name] for name in LATER_TABLES if name in own})

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Every table that is not empty, by the name it is saved under; those of `TABLES` always."""
        own = {name: getattr(self, name) for name in (*TABLES, *LATER_TABLES)}
        return {name: table for name, table in {**own, **self.further}.items() if name in TABLES or not table.empty}

    def with_tables(self, tables: Mapping[str, pd.DataFrame]) -> Amplification:
        """Return the result with further tables, such as those of `static` and `values`."""
        return replace(self, further={**self.further, **tables})

    def selectivity(self, clusters: int = 8) -> pd.DataFrame:
        """Return how well classes explain each head's bias scores, and which heads have like profiles.

        One row per (layer, head, scheme), see `measurements.selectivity`: `eta_squared`, `best_class`, `best_auroc`,
        `profile_entropy`, `divergence`, and the `cluster` and `order` of the head's profile.
        """
        from interp.analysis.measurements.selectivity import selectivity_table  # scipy.cluster takes a while

        return selectivity_table(self.heads, clusters)

    def pattern(self, layer: int, head: int, passage: int | None = None) -> AttentionPattern:
        """Return the attention of a head from each query to each key of a passage, with the bias and without.

        Of every passage kept in the table `patterns` there are the first tokens; by default it is the first of them. What
        goes to keys before the passage stands in `before`; with it rows sum to 1.

        Raises:
            InterpError: no such head, or no pattern of this passage.
        """
        from interp.analysis.measurements.patterns import pattern_of  # it knows this class

        return pattern_of(self.tables.get("patterns"), self.passages, layer, head, passage)

    def findings(self) -> pd.DataFrame:
        """Return the pairs of a head and a class of which something may be said (`interp.analysis.findings`)."""
        from interp.analysis.findings import findings  # they know this class

        return findings(self)

    def find(self, token: str | int) -> pd.DataFrame:
        """Return what every head does to a token, the head that amplifies it most first: rows of `tokens`.

            result.find(" the")  # with its space; " The", "the" and "The" are other tokens
            result.find(262)  # by its index

        Some head comes first for every token, along directions that mean nothing too: read `bias_score_contrast` (nats) with
        its interval, which is over occurrences, not over documents.

        Args:
            token: its text, exactly as in the column `token_string`, or its `token_index`.

        Raises:
            InterpError: the token does not occur in the text.
        """
        from interp.analysis.measurements.tokens import find_token  # it knows this class

        return find_token(self.tokens, token)

    def static(
        self, model: HookedSymmetryBrokenTransformer, direction: Direction | None = None
    ) -> dict[str, pd.DataFrame]:
        """Return what the mean direction points at by the weights alone, as four tables; no forward pass is run.

        They are empty where no head has a direction.

        - static_tokens: the tokens that a head's direction points at most (`end` "top") and least ("bottom"), one row per
          (layer, head, end, rank), rank 0 the most extreme: `token_index, token_string, count`, `static_alignment`, the
          cosine of W_E W_K and the direction, and beside it `alignment`, the mean cosine of its keys in the text. Up to 50
          at either end, of the tokens that occur at least 10 times.
        - static_positions: one row per (layer, head, pos): `static_alignment` of W_pos W_K; empty with RoPE.
        - static_agreement: one row per (layer, head): `pearson` and `spearman`, the correlation of static and contextual
          alignment over the `n_tokens` token types that occur at least 10 times.
        - static_enrichment: one row per (layer, head, scheme, end, class): how much more often a class is met among the
          tokens of `static_tokens` (`n_chosen`) than among the other frequent ones (`n_pool` in all): `log2_odds` with its
          95% interval `ci_low, ci_high` over token types (`measurements.top_tokens`), not over documents. A token is of its
          most frequent class.

        Args:
            model: the model that was measured.
            direction: that of the run; needs to be given where it is another model's or a vector.

        Raises:
            InterpError: a direction from elsewhere that is not given, or a model of other sizes.
        """
        from interp.analysis.measurements.static_alignment import static_tables

        along = self._direction(direction)
        return static_tables(model, self.tokens, self.run["schemes"], bias=self.run["bias"], direction=along)

    def writes(self, model: HookedSymmetryBrokenTransformer, direction: Direction | None = None) -> pd.DataFrame:
        """Return what each head looks for and what it writes, from the weights alone; no forward pass is run.

        One row per (layer, head, of, end, rank), rank 0 the most extreme: `token_index, token_string, count` and `value`, of
        up to 10 tokens at either end ("top", "bottom"), of those that occur at least 10 times. `of` is

        - "b_Q": what the head's bias points at, the cosine of W_E W_K and b_Q;
        - "OV": what the head then writes, the logits of the tokens that it raises ("top") and lowers most where it attends
          to the top ones of "b_Q" instead of to frequent tokens at large;
        - "b_V": the logits that b_V moves most, everywhere alike.

        Logits are on the direct path, less their mean over the vocabulary, at a norm of scale 1: they compare in a layer,
        their size in text does not follow. Heads without such a bias have no rows. Whatever a direction, some tokens come
        first: the lists say what the weights point at, not that it matters.

        Args:
            model: the model that was measured.
            direction: that of the run; needs to be given where it is another model's or a vector.

        Raises:
            InterpError: a direction from elsewhere that is not given.
        """
        from interp.analysis.measurements.static_alignment import writes_table

        return writes_table(model, self.tokens, bias=self.run["bias"], direction=self._direction(direction))

    def _direction(self, given: Direction | None) -> Any:
        """The direction of the run, in the words of `query_shifts`."""
        along: Any = self.run["direction"] if given is None else given
        if isinstance(along, str) and along not in ("bias", "effective", "folded"):
            raise InterpError(f"The run looked along {along}, which is not this model's; give it as direction=.")
        return along

    def values(
        self, model: HookedSymmetryBrokenTransformer, documents: Iterable[TaggedDocument], schemes: Sequence[Scheme]
    ) -> dict[str, pd.DataFrame]:
        """Return what the mean b_V writes and meets, as two tables; both are empty without a mean value bias.

        - value_tokens: the frequent tokens whose logits a head's mean b_V raises ("top") and lowers ("bottom") most, on its
          direct path through the final norm and the unembedding: the columns of `static_tokens`, but `logit` (nats, less the
          mean over the vocabulary) for the cosines.
        - value_components: one row per (layer, head, scheme, class): mean and standard deviation of v along b_V,
          `component_mean, component_sd`, and `component_contrast` to the head's mean, over `n_tokens` tokens, the first of
          each document; `bias_norm` |b_V| is what the bias adds (`measurements.value_bias`).

        Args:
            model: the model that was measured; it is run over the documents.
            documents: tagged with exactly these schemes; the first `n_documents` of the run are read, 6,000 tokens in all.
            schemes: of the run.

        Raises:
            InterpError: no document.
        """
        from interp.analysis.measurements.value_bias import VALUE_TOKENS, value_tables

        n_documents = self.run["n_documents"]
        length = math.ceil(VALUE_TOKENS / min(n_documents, FEW_DOCUMENTS))
        beginnings = (document.beginning(length) for document in itertools.islice(documents, n_documents))
        return value_tables(model, self.tokens, beginnings, schemes, bias=self.run["bias"], max_tokens=VALUE_TOKENS)

    def to_html(self, path: str | Path) -> Path:
        """Write the interactive dashboard as one offline HTML file and return its path."""
        return import_module(PAGE).write_dashboard(self, path)

    def save(self, folder: str | Path) -> list[Path]:
        """Write every table as Parquet, `heads` also as CSV, and `run.json`; return the files written.

        Empty tables are not written, and files of them that an earlier run left are removed. The interventions and the uses
        of b_Q, if any, go to the folders `interventions` and `uses` inside.

        Read the Parquet files, or `heads.csv` with `interp.analysis.saving.read_csv`: in CSV, text that a spreadsheet would
        take for a formula has an apostrophe before it, and other readers take tokens such as "nan" for missing values.
        """
        files = save_tables(folder, self.tables, self.run, csv=["heads"])
        for left in set(Path(folder).glob("*.parquet")) - set(files):
            if left.stem in KNOWN_TABLES:
                left.unlink()
        if self.interventions is None:
            discard(Path(folder) / FOLDER)
        else:
            files += self.interventions.save(Path(folder) / FOLDER)
        if self.uses is None:
            Uses.discard(Path(folder) / USES_FOLDER)
        else:
            files += self.uses.save(Path(folder) / USES_FOLDER)
        return files

    @classmethod
    def load(cls, folder: str | Path) -> Amplification:
        """Read what `save` wrote, in this version or an earlier one.

        Raises:
            InterpError: a file is missing or unreadable.
        """
        tables, run = load_tables(folder, TABLES, "Amplification.save", others=True)
        inside = {"interventions": (Interventions, FOLDER), "uses": (Uses, USES_FOLDER)}
        found = {
            name: kind.load(Path(folder) / inner)
            for name, (kind, inner) in inside.items()
            if (Path(folder) / inner / "run.json").is_file()
        }
        return replace(cls.of(tables, run), **found)

    def _summary(self) -> dict[str, str]:
        from interp.analysis.findings import answer, rankable, why_none  # they know this class

        found, pairs = self.findings(), int(rankable(self.heads).sum())
        counted = f"{len(found):,} of {pairs:,} pairs of a head and a class"
        for row in found.head(1).to_dict("records"):
            counted += f", strongest L{row['layer']}H{row['head']} {row['token_class']}: "
            counted += f"A = {row['log2_amplification']:+.2f}"
        return {
            **model_and_text(self.run), "answer": answer(self), "findings": counted if len(found) else str(why_none(self)),
            "next": '.findings(), .heads, .tables, .to_html("report.html")',
        }  # fmt: skip

    def __post_init__(self) -> None:
        missing = [column for column in HEAD_COLUMNS if column not in self.heads]
        if missing:
            raise InterpError(
                f"The heads table lacks the columns {', '.join(missing)}; make it with interp.amplification."
            )

    def __getattr__(self, name: str) -> Any:
        """Tell where a table is that was an attribute in earlier versions."""
        if name in KNOWN_TABLES and not name.startswith("__"):
            raise AttributeError(f"This table is in result.tables, as result.tables[{name!r}], where it was made.")
        known = [f.name for f in fields(self)] + dir(type(self))
        raise AttributeError(f"Amplification has no attribute {name!r}{nearest(name, known)}")


KNOWN_TABLES = frozenset({
    *TABLES, *LATER_TABLES, "selectivity", "replicates", "replicates_beyond", "bias_samples", "bias_draws", "static_tokens",
    "static_positions", "static_agreement", "static_enrichment", "value_tokens", "value_components", "explained", "chosen",
    "components", "head_scores", "patterns", "top_passages", "writes",
})  # fmt: skip
"""Tables that this version or an earlier one may have written to a report's folder."""
