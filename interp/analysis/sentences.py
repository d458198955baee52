"""Read a text with a model as it is, and again with its biases scaled: attention, loss and predictions of both."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.analysis.batch import Batch
from interp.analysis.direction import Direction, direction_name
from interp.analysis.fitted import FIT_TOKENS, ONE_CLASS, beginnings
from interp.analysis.interventions.plan import Intervention, Part, Place, biases_of, changes, places
from interp.analysis.measurements.patterns import AttentionPattern
from interp.analysis.readers.open import ModelLike, open_reader
from interp.analysis.readers.reader import Attended, Reader, SeenLayer, mean_query
from interp.analysis.settings import Settings
from interp.data.classes.built_in import build_schemes, refuse_untagged
from interp.data.classes.scheme import Scheme
from interp.data.classes.spans import Labeller
from interp.data.contexts import Contexts
from interp.data.corpora.corpus import open_corpus
from interp.data.spacy_pipelines import DEFAULT_PIPELINE, Pipeline, is_loaded
from interp.data.tagging.documents import encode, tag_documents
from interp.errors import InterpError, nearest, shown
from interp.model.bias import BiasSource
from interp.provenance import Summarized
from interp.spelling import token_strings

PATTERN_NUMBERS = 2**25
"""Numbers that the patterns of a text may have to be kept, of all heads, with the bias and without."""

BothPatterns = Float[np.ndarray, "2 layer head_index query_pos key_pos"]

SHARES = {"attention": "share", "attention_unchanged": "share_unchanged", "attention_unbiased": "share_unbiased"}


SCORES = ("bias_score", "bias_score_contrast", "attention", "attention_unchanged", "attention_unbiased")


@dataclass(frozen=True, repr=False)
class Sentence(Summarized):
    """A text read by a model as it is ("unchanged"), and read again with its biases scaled.

    Attributes:
        tokens: one row per token, bos (place 0) first: `place, token_index, token_string`, a column per scheme with the
            token's class, `n_queries`, how many tokens see it (itself and the later ones), then what it costs to predict
            this token: `loss` with the scaled biases and `loss_unchanged`, nats, their `difference`, and `kl`,
            KL(unchanged || scaled) of the two predictions, nats. Missing for bos.
        scores: one row per (layer, head, place): `bias_score` of the unchanged model, b_Q . k / sqrt(d_head) in nats (along
            the direction that is read; mean over the queries that see the key, where it depends on them);
            `bias_score_contrast`, the same less its mean over the tokens but bos; and the attention that the token
            receives, mean over its `n_queries`: `attention` with the scaled biases (earlier layers' included),
            `attention_unchanged`, and `attention_unbiased`, of the unchanged model without this head's own b_Q.
        predictions: one row per place and candidate for the *next* token, a candidate being among the most probable ones
            of either reading: `place, token_index, token_string, probability, probability_unchanged, rank,
            rank_unchanged` (1: the most probable).
        run: how it was made: `text, model, scale, where, part, bias, direction`.
        patterns: attention of the unchanged model from query to key, with the head's own b_Q (0) and without (1); `pattern`
            gives those of a head with their tokens. None for a text so long that they would take over 128 MB.
    """

    tokens: pd.DataFrame
    scores: pd.DataFrame
    predictions: pd.DataFrame
    run: dict[str, Any]
    patterns: BothPatterns | None = None

    @property
    def schemes(self) -> list[str]:
        """The names of the schemes that the tokens are divided by."""
        return [str(name) for name in self.tokens if isinstance(self.tokens[name].dtype, pd.CategoricalDtype)]

    def of_head(self, layer: int, head: int) -> pd.DataFrame:
        """Return the rows of `tokens` with the columns of `scores` for one head.

        Raises:
            InterpError: there is no such head.
        """
        rows = self.scores.loc[(self.scores["layer"] == layer) & (self.scores["head"] == head)]
        if rows.empty:
            layers, heads = (1 + self.scores[name].max() for name in ("layer", "head"))
            raise InterpError(
                f"There is no head L{layer}H{head}; the model has {layers} layers of {heads} heads, from 0."
            )
        return self.tokens.merge(rows.drop(columns=["layer", "head"]), on="place")

    def pattern(self, layer: int, head: int) -> AttentionPattern:
        """Return a head's attention from each query to each key, of the unchanged model, with its own b_Q and without.

        Raises:
            InterpError: there is no such head, or the text is too long for patterns.
        """
        tokens = self.of_head(layer, head)["token_string"].to_list()
        if self.patterns is None:
            longest = _longest_kept(len(self.scores) // len(tokens))
            raise InterpError(
                f"Patterns of this model are kept for texts of up to {longest} tokens, and this one has {len(tokens)}; "
                "shorten it."
            )
        shares = np.pad(self.patterns[:, layer, head], [(0, 0), (0, 0), (1, 0)])  # nothing stands before the text
        return AttentionPattern(f"L{layer}H{head}", tokens, shares)

    def shares(self, scheme: str) -> pd.DataFrame:
        """Return how the attention of each head is divided among the classes of a scheme: mean over all queries.

        One row per (layer, head, class): `n_tokens`; `share` with the scaled biases, `share_unchanged`,
        `share_unbiased` (without this head's own b_Q), fractions; `log2_amplification` = log2(share_unchanged /
        share_unbiased), the direct effect of b_Q, and `log2_change` = log2(share / share_unchanged), doublings. Missing
        for classes without tokens here.

        Raises:
            InterpError: the text was not divided by this scheme.
        """
        if scheme not in self.schemes:
            known = ", ".join(self.schemes)
            raise InterpError(f"The text was not divided by {scheme!r} but by {known}{nearest(scheme, self.schemes)}")
        rows = self.scores.merge(self.tokens[["place", scheme]], on="place").rename(columns={scheme: "token_class"})
        # a token is seen by itself and those after it; so this is the mean over all queries, which each give 1
        seen = (len(self.tokens) - rows["place"].to_numpy()) / len(self.tokens)
        given = rows.assign(n_tokens=1, **{share: rows[name] * seen for name, share in SHARES.items()})
        classes = given.groupby(["layer", "head", "token_class"], observed=False)
        found = pd.DataFrame(classes[["n_tokens", *SHARES.values()]].sum()).reset_index().assign(scheme=scheme)
        found.loc[found["n_tokens"] == 0, list(SHARES.values())] = np.nan
        return found.assign(
            log2_amplification=np.log2(found["share_unchanged"] / found["share_unbiased"]),
            log2_change=np.log2(found["share"] / found["share_unchanged"]),
        )

    def loss(self) -> tuple[float, float]:
        """Return the mean loss per token with the scaled biases and of the unchanged model, nats."""
        changed, unchanged = (np.nanmean(self.tokens[name].to_numpy(float)) for name in ("loss", "loss_unchanged"))
        return float(changed), float(unchanged)

    def _summary(self) -> dict[str, str]:
        run, (changed, unchanged) = self.run, self.loss()
        layers, heads = (1 + int(self.scores[name].to_numpy().max()) for name in ("layer", "head"))
        return {
            "model": f"{run['model']}, {layers} layers of {heads} heads, along {run['direction']}",
            "text": f"{shown(run['text'])}, {len(self.tokens):,} tokens; classes: {', '.join(self.schemes)}",
            "answer": f"The loss is {unchanged:.3f} nats per token, {changed:.3f} with biases times {run['scale']}.",
            "next": ".tokens, .of_head(layer, head), .shares(scheme), .predictions",
        }  # fmt: skip


Schemes = Sequence[str | Path | Scheme | Labeller]
FREQUENCIES = "wikipedia-sample"


def schemes_for_sentences(
    reader: Reader,
    schemes: Schemes,
    pipeline: Pipeline = DEFAULT_PIPELINE,
    corpus: str | Path | Iterable[str] = FREQUENCIES,
    text_field: str = "text",
) -> list[Scheme]:
    """Build schemes; `corpus` is where `freq` counts, for one sentence has no frequencies to speak of.

    Raises:
        InterpError: as `interp.data.schemes.build_schemes`.
    """
    refuse_untagged(schemes, pipeline)
    counted = open_corpus(corpus if "freq" in schemes else ["none of these schemes counts"], text_field=text_field)
    return build_schemes(schemes, reader.tokenizer, counted, pipeline)


def direction_for_sentences(
    reader: Reader,
    direction: Direction,
    corpus: str | Path | Iterable[str] = FREQUENCIES,
    text_field: str = "text",
) -> Direction:
    """Return a direction; the mean query is fitted on the beginnings of the documents of `corpus`.

    Raises:
        InterpError: no such corpus, or the model has no mean query.
    """
    if not isinstance(direction, str) or direction != "mean-query":
        return direction
    read = beginnings(encode(reader.tokenizer, open_corpus(corpus, text_field=text_field)), FIT_TOKENS)
    with reader.reading("mean"):
        return mean_query(reader, read, ONE_CLASS, Settings())


def tag_sentence(
    reader: Reader, text: str, schemes: Sequence[Scheme], pipeline: Pipeline = DEFAULT_PIPELINE
) -> pd.DataFrame:
    """Return one row per token, bos first: `place, token_index, token_string`, and a column per scheme with its class.

    Columns of schemes are categorical, with all classes of the scheme.

    Raises:
        InterpError: no text, or more tokens than the model has positions.
    """
    if not text.strip():
        raise InterpError("There is no text to read; type a sentence.")
    corpus = open_corpus([text])
    cache = (
        None if is_loaded(pipeline) else "default"
    )  # one that is loaded tags a sentence faster than it is identified
    document = next(tag_documents(reader.tokenizer, corpus, schemes, pipeline, workers=0, cache=cache))
    if len(document.tokens) > reader.n_ctx:
        raise InterpError(
            f"The text has {len(document.tokens):,} tokens, one before its first included, and the model reads at most "
            f"{reader.n_ctx:,} at once; shorten it."
        )
    strings = token_strings(reader.tokenizer, document.tokens.tolist())
    classes = {s.name: pd.Categorical.from_codes(document.classes[s.name], list(s.classes)) for s in schemes}
    return pd.DataFrame(
        {"place": range(len(strings)), "token_index": document.tokens, "token_string": strings, **classes}
    )


LogProbabilities = Float[Tensor, "pos d_vocab"]


def read_sentence(
    model: ModelLike | Reader,
    text: str,
    schemes: Schemes = ("pos",),
    *,
    scale: float = 1.0,
    where: str = "all",
    part: Part | None = None,
    bias: BiasSource | None = None,
    top: int = 5,
    pipeline: Pipeline = DEFAULT_PIPELINE,
    direction: Direction = "bias",
    tokenizer: Any = None,
    corpus: str | Path | Iterable[str] = FREQUENCIES,
) -> Sentence:
    """Read one text, as a document, with the model as it is and with its biases scaled.

    Args:
        model: run in evaluation mode; what `interp.amplification` takes.
        text: at most n_ctx - 1 tokens.
        schemes: what divides the tokens into classes, as in `interp.amplification`.
        scale: 0 removes the biases, 1 leaves them, 2 doubles them.
        where: "all", a layer ("L3") or a head ("L3H7").
        part: which biases are scaled: "q" (b_Q, or what `direction` says), "v" (b_V) or "qv" (both); by default all that
            the model has: another's than this package's has no b_V.
        bias: which biases the unchanged model has: "mean", "sample", "none" or "component:2"; None leaves those in force,
            which are the mean unless `model.bias` says otherwise.
        top: candidates for the next token, of each reading.
        pipeline: the spaCy pipeline that tags, by name or an `nlp` object.
        direction: which vector of the queries is read and scaled, as in `interp.interventions`: "bias", "effective",
            "folded", "mean-query", a tensor [layer, head_index, d_head] or another model's mean b_Q.
        tokenizer: of a model of transformers; all others come with theirs.
        corpus: where the scheme `freq` counts, and a mean query is fitted.

    Raises:
        InterpError: no text, too long a text, or a scheme, layer, head or direction that is not there.
    """
    reader = open_reader(model, tokenizer)
    tokens = tag_sentence(reader, text, schemes_for_sentences(reader, schemes, pipeline, corpus), pipeline)
    along = direction_for_sentences(reader, direction, corpus)
    return measure_sentence(
        reader, text, tokens, scale=scale, where=where, part=part, bias=bias, top=top, direction=along
    )


def measure_sentence(
    reader: Reader,
    text: str,
    tokens: pd.DataFrame,
    *,
    scale: float = 1.0,
    where: str = "all",
    part: Part | None = None,
    bias: BiasSource | None = None,
    top: int = 5,
    direction: Direction = "bias",
) -> Sentence:
    """Do what `read_sentence` does with a text that is tagged already (`tag_sentence`)."""
    place, *others = places(where, reader.n_layers, reader.n_heads)
    if others:
        raise InterpError(
            f"{where!r} names {len(others) + 1} places; scale at one: all, a layer (L3) or a head (L3H7)."
        )
    if not np.isfinite(scale):
        raise InterpError(f"The biases cannot be scaled by {scale}; give a number such as 0, 1 or 2.")
    part = part or ("q" if reader.value_bias is None else "qv")
    ids = torch.tensor(tokens["token_index"].to_numpy(), device=reader.device)[None]  # [1, pos]
    with torch.no_grad(), reader.reading(bias):
        columns, (before, after), patterns = _both_readings(reader, ids, place, scale, part, direction)
    if not torch.isfinite(after).all():
        raise InterpError(f"With biases × {scale:g} the model gives no finite numbers; scale by less.")
    run = {"text": text, "model": reader.name, "scale": scale, "where": place.name, "part": part, "bias": bias}
    return Sentence(
        tokens=tokens.assign(n_queries=len(tokens) - tokens["place"], **_losses(before, after, ids[0])),
        scores=_scores(columns),
        predictions=_predictions(reader, before, after, top),
        run={**run, "direction": direction_name(direction)},
        patterns=patterns,
    )


def _both_readings(
    reader: Reader, ids: Int[Tensor, "1 pos"], place: Place, scale: float, part: Part, direction: Direction
) -> tuple[dict[str, list[Tensor]], list[LogProbabilities], BothPatterns | None]:
    """Return columns of numbers of each layer, [head_index, pos], what both models predict, and patterns as they are."""
    along = reader.held(direction)
    names = ("bias_score", "attention_unbiased", "attention_unchanged", "attention")
    found: dict[str, list[Tensor]] = {name: [] for name in names}
    patterns: list[Tensor] = []  # each [2, head_index, query_pos, key_pos]
    kept = ids.shape[1] <= _longest_kept(reader.n_layers * reader.n_heads)

    def see(layer: int, seen: SeenLayer) -> None:
        found["bias_score"].append(seen.scores[0].T)
        found["attention_unbiased"].append(seen.mean_received()[1][0])
        if kept:
            patterns.append(torch.stack([pattern[0] for pattern in seen.pattern()]).cpu())

    def see_unchanged(layer: int, attended: Attended) -> None:
        found["attention_unchanged"].append(attended.mean_received()[0])

    def see_changed(layer: int, attended: Attended) -> None:
        found["attention"].append(attended.mean_received()[0])

    zeros = torch.zeros_like(ids, device="cpu")
    contexts = Contexts(ids.cpu(), {"all": zeros}, zeros, torch.ones_like(zeros, dtype=torch.bool))
    reader.visit(Batch(contexts, ONE_CLASS, reader.device), along, see)
    unchanged = reader.run(ids, see_unchanged)
    change = changes(biases_of(reader, direction, part), [Intervention(place, scale)], part, seed=0)[0]
    first = place.layer or 0
    found["attention"] += found["attention_unchanged"][:first]
    changed = reader.rerun(unchanged, change[None], see_changed, first)
    both = torch.stack(patterns, 1).numpy() if kept else None
    return found, [ran.log_probabilities(0)[0] for ran in (unchanged, changed)], both


def _longest_kept(n_heads: int) -> int:
    """Return how many tokens a text may have for the patterns of all heads to be kept."""
    return int((PATTERN_NUMBERS / (2 * n_heads)) ** 0.5)


def _losses(before: LogProbabilities, after: LogProbabilities, ids: Int[Tensor, " pos"]) -> dict[str, np.ndarray]:
    """Return the columns about predicting each token; the first has no prediction."""
    losses = [-read[:-1].gather(1, ids[1:, None])[:, 0] for read in (after, before)]
    kl = (before.exp() * (before - after)).sum(-1)[:-1]
    columns = torch.stack([*losses, losses[0] - losses[1], kl]).double().cpu().numpy()
    names = ("loss", "loss_unchanged", "difference", "kl")
    return {name: np.append(np.nan, column) for name, column in zip(names, columns, strict=True)}


def _scores(columns: dict[str, list[Tensor]]) -> pd.DataFrame:
    values = {name: torch.stack(layers).double().cpu().numpy() for name, layers in columns.items()}
    score = values["bias_score"]  # [layer, head_index, pos]
    values["bias_score_contrast"] = score - score[..., 1:].mean(-1, keepdims=True)
    index = pd.MultiIndex.from_product([range(size) for size in score.shape], names=["layer", "head", "place"])
    return pd.DataFrame({name: values[name].ravel() for name in SCORES}, index=index).reset_index()


def _predictions(reader: Reader, before: LogProbabilities, after: LogProbabilities, top: int) -> pd.DataFrame:
    each = max(1, min(top, before.shape[1]))
    candidates = torch.cat([read.topk(each).indices for read in (before, after)], 1)  # [pos, candidate]
    columns = {}
    for name, read in (("", after), ("_unchanged", before)):
        chosen = read.gather(1, candidates)
        columns[f"probability{name}"] = chosen.exp()
        columns[f"rank{name}"] = torch.stack([1 + (read > one[:, None]).sum(1) for one in chosen.T], 1)
    table = pd.DataFrame({name: values.flatten().cpu().numpy() for name, values in columns.items()})
    index = candidates.flatten().cpu().numpy()
    strings = token_strings(reader.tokenizer, index.tolist())
    table.insert(0, "place", np.repeat(np.arange(len(candidates)), candidates.shape[1]))
    table.insert(1, "token_index", index)
    table.insert(2, "token_string", strings)
    return table.drop_duplicates(["place", "token_index"]).sort_values(["place", "rank_unchanged"], ignore_index=True)
