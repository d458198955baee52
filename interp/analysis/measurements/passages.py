"""Real text to look at: a random sample of contexts, and the passages that every head scores highest and lowest."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from interp.analysis.batch import Batch
from interp.analysis.measurement import Context, Found, LayerView, Measurement, as_numpy
from interp.data.contexts import Contexts
from interp.spelling import at_words, joined, spaced_texts, token_strings

LENGTH = 40  # tokens shown of a passage, less what is cut away so that it begins and ends with a word
LONGEST_CONTEXT = 160  # queries that look at a passage: enough later ones, and little work for long contexts
TOP = 3  # passages kept of each head, class and end
BEFORE, AFTER = 12, 9  # tokens that are kept around the one that is scored
BORDER, UNKNOWN = -1, -2  # where the document does not go on, and where it does but the context does not
NOWHERE = 1 << 62


class Sampled(NamedTuple):
    """A context of the corpus that is kept, and what its heads make of the places that its passage is cut out of.

    Attributes:
        key: random; contexts with the smallest keys are kept.
        number: running number of the context, from 1.
        contexts: it alone.
        scores: bias scores (0), mean attention from the first `LONGEST_CONTEXT` queries with the direction (1), without (2).
    """

    key: float
    number: int
    contexts: Contexts
    scores: Float[Tensor, "3 layer head_index place"]


class Passages(Measurement):
    """Keep the contexts with the smallest random keys; the keys depend on (seed, running number of the context) alone.

    They are scored in the pass that they come by in: at most `passages` * (1 + ln(contexts / passages)) are, on average.
    """

    def __init__(self, context: Context) -> None:
        self.size, self.seed = context.settings.passages, context.settings.seed
        self.sizes, self.device = (3, *context.per_class[:2]), context.device
        self.kept: list[Sampled] = []  # the smallest keys first
        self.new: list[tuple[int, Sampled]] = []  # those of the batch, with their rows

    def start(self, batch: Batch) -> None:
        """Offer the contexts of a batch; padded ones are passed over."""
        contexts, offered = batch.source, []
        for row in contexts.mask.all(1).nonzero().flatten().tolist() if self.size else ():
            number, own = batch.first_row + row, slice(row, row + 1)
            classes = {name: contexts.classes[name][own] for name in batch.numbering.names}
            documents = contexts.documents[own]
            titles = {index: contexts.titles.get(index, "") for index in documents.unique().tolist()}
            one = Contexts(contexts.tokens[own], classes, documents, contexts.mask[own], titles)
            places = _places(one)
            scores = torch.empty(*self.sizes, len(places), device=self.device)
            key = np.random.default_rng([self.seed, number]).random()
            offered.append((row, Sampled(key, number + 1, one, scores)))
        self._keep([sampled for _, sampled in offered])
        kept = {sampled.number for sampled in self.kept}
        self.new = [(row, sampled) for row, sampled in offered if sampled.number in kept]

    def layer(self, view: LayerView, batch: Batch) -> None:
        """Score what was kept of the batch: a query sees no later token, so the first ones are as if they were run alone."""
        for row, sampled in self.new:
            places, length = _places(sampled.contexts), min(sampled.contexts.tokens.shape[1], LONGEST_CONTEXT)
            inside = slice(places.start, places.stop)
            seen_by = torch.arange(length, 0, -1, device=self.device)
            patterns = view.seen.pattern(slice(row, row + 1), slice(length))
            attention = [(pattern[0].sum(1) / seen_by)[:, inside] for pattern in patterns]
            sampled.scores[:, view.layer] = torch.stack([view.seen.scores[row, inside].T, *attention])

    def merge(self, other: Passages) -> None:
        """Keep the smallest keys of both samples, which are of different contexts of one corpus."""
        self._keep(other.kept)

    def _keep(self, offered: Iterable[Sampled]) -> None:
        self.kept = sorted([*self.kept, *offered], key=lambda item: item[:2])[: self.size]

    def state(self) -> dict[str, Tensor]:
        """Return the sample as tensors, by name."""
        kept, contexts = self.in_order(), self.contexts()
        keys, numbers = [each.key for each in kept], [each.number for each in kept]
        found = {"keys": torch.tensor(keys, dtype=torch.float64), "numbers": torch.tensor(numbers, dtype=torch.int64)}
        found["titles"] = _packed([sorted(one.titles.items()) for one in contexts])
        if kept:
            found["scores"] = torch.stack([each.scores for each in kept]).cpu()
            found |= {name: torch.cat([getattr(one, name) for one in contexts]) for name in ("tokens", "documents")}
            for name in contexts[0].classes:
                found[f"classes.{name}"] = torch.cat([one.classes[name] for one in contexts])
        return found

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take the place of the sample whose state it was."""
        self.kept = []
        titles = _unpacked(state["titles"])
        for row, (key, number) in enumerate(zip(state["keys"].tolist(), state["numbers"].tolist(), strict=True)):
            one = {name: tensor[row : row + 1] for name, tensor in state.items()}
            classes = {name.removeprefix("classes."): one[name] for name in one if name.startswith("classes.")}
            mask = torch.ones_like(one["tokens"], dtype=torch.bool)
            contexts = Contexts(one["tokens"], classes, one["documents"], mask, dict(titles[row]))
            self._keep([Sampled(key, number, contexts, one["scores"][0].to(self.device))])

    def contexts(self) -> list[Contexts]:
        """Return the contexts kept, in the order of the corpus."""
        return [each.contexts for each in self.in_order()]

    def in_order(self) -> list[Sampled]:
        """Return what is kept in the order of the corpus."""
        return sorted(self.kept, key=lambda item: item.number)

    def tables(self, found: Found) -> Mapping[str, pd.DataFrame]:
        """Return the tables `passages` and `passage_scores`, of up to `LENGTH` tokens of the middle of each context kept.

        They begin and end with a word. Attention of a token is the mean over the queries that can see it, of the first
        `LONGEST_CONTEXT` of the context.
        """
        context, names = found.context, found.context.classes.names
        tokens, scores = [], []
        for number, sampled in enumerate(self.in_order()):
            window = passage_of(context, sampled.contexts)
            tokens.append(_described(context, sampled.contexts, number, window))
            scores.append(_scored(context, sampled, number, window))
        named = ["passage", "document", "title", "place", "token_index", "token_string", *names]
        scored = ["layer", "head", "passage", "place", "bias_score", "attention", "attention_unbiased"]
        return {
            "passages": pd.concat(tokens or [pd.DataFrame(columns=named)], ignore_index=True),
            "passage_scores": pd.concat(scores or [pd.DataFrame(columns=scored)], ignore_index=True),
        }


def _places(sampled: Contexts) -> range:
    """Return the positions of a context that its passage is cut out of; a quarter of what is looked at is before."""
    length = min(sampled.tokens.shape[1], LONGEST_CONTEXT)
    start = min(length // 4, max(0, length - LENGTH))
    return range(start, min(start + LENGTH, length))


def passage_of(context: Context, sampled: Contexts) -> range:
    """Return the positions of a context that are its passage, from a word to a word."""
    start, end = _places(sampled).start, _places(sampled).stop
    around = spaced_texts(context.reader.tokenizer, sampled.tokens[0, : end + 1].tolist())
    return range(*at_words(around, start, end, (start + end) // 2))


def beginning(context: Context, sampled: Contexts, length: int) -> Batch:
    """Return the first tokens of a context, to be run alone."""
    ids = sampled.tokens[:, :length]
    classes = {s: sampled.classes[s][:, :length] for s in sampled.classes}
    return Batch(Contexts(ids, classes, ids, torch.ones_like(ids).bool()), context.classes, context.device)


def _described(context: Context, sampled: Contexts, number: int, window: range) -> pd.DataFrame:
    inside = slice(window.start, window.stop)
    ids = sampled.tokens[0, inside]
    names = context.classes.names
    classes = {s: [names[s][c] for c in sampled.classes[s][0, inside].tolist()] for s in names}
    strings = token_strings(context.reader.tokenizer, ids.tolist())
    documents = sampled.documents[0, inside].tolist()
    return pd.DataFrame({
        "passage": number, "document": documents, "title": [sampled.titles[index] for index in documents],
        "place": range(len(window)), "token_index": ids.tolist(), "token_string": strings, **classes,
    })  # fmt: skip


def _scored(context: Context, sampled: Sampled, number: int, window: range) -> pd.DataFrame:
    first = _places(sampled.contexts).start
    values = as_numpy(sampled.scores[..., window.start - first : window.stop - first]).reshape(3, -1)
    places = pd.MultiIndex.from_product(
        [range(context.layers), range(context.heads), [number], range(len(window))],
        names=["layer", "head", "passage", "place"],
    )
    columns = dict(zip(("bias_score", "attention", "attention_unbiased"), values, strict=True))
    return pd.DataFrame(columns, index=places).reset_index()


class Around(NamedTuple):
    """A token of the corpus and what stands around it, at fixed places: `BEFORE` tokens, itself, `AFTER` tokens."""

    tokens: list[int]
    document: int
    title: str


class TopPassages(Measurement):
    """Keep, per head, class and end, the tokens of the class with the largest (smallest) bias scores, one of each context.

    Scores are rounded to half precision, so that equal tokens in equal places tie in whatever batch they stand; of equal
    ones the first in the corpus is kept. So what is kept depends on the corpus, not on batches, processes or interruptions.
    Memory: n_layers * n_heads * n_classes * `TOP` * 24 bytes, and the text around each token kept, once.
    """

    def __init__(self, context: Context) -> None:
        self.context = context
        shape = (2, *context.per_class, TOP)  # ends: the largest, and the negative of the smallest
        self.values = torch.full(shape, -torch.inf, device=context.device)
        self.places = torch.full(shape, NOWHERE, device=context.device)  # number of the context * n_ctx + position
        self.around: dict[int, Around] = {}  # by place

    @classmethod
    def wanted(cls, context: Context) -> TopPassages | None:
        """Only where text is kept at all."""
        return cls(context) if context.settings.passages else None

    def start(self, batch: Batch) -> None:
        """Number the tokens by context and class, once for all layers."""
        self.n_rows = len(batch.mask)
        rows = torch.arange(self.n_rows, device=batch.mask.device)[:, None].expand_as(batch.mask)[batch.mask]
        self.here = (batch.first_row + rows) * self.context.reader.n_ctx + batch.places
        self.groups = batch.classes * self.n_rows + rows  # [scheme, token]

    def layer(self, view: LayerView, batch: Batch) -> None:
        """Take the first and the last of each class and context, and keep the best of all contexts so far."""
        scores = view.scores.half().float()
        both = torch.stack([scores, -scores])  # [end, head, token]
        both = both.nan_to_num(nan=-torch.inf, posinf=65504, neginf=-65504).repeat(1, 1, len(self.groups))
        groups = self.groups.flatten().expand_as(both)
        number = len(self.values[0, 0, 0]) * self.n_rows
        best = both.new_full((*both.shape[:2], number), -torch.inf).scatter_reduce(2, groups, both, "amax")
        here = torch.where(both == best.gather(2, groups), self.here.repeat(len(self.groups)), NOWHERE)
        first = here.new_full(best.shape, NOWHERE).scatter_reduce(2, groups, here, "amin")
        self._offer(view.layer, *(each.unflatten(2, (-1, self.n_rows)) for each in (best, first)))
        if view.layer == self.context.layers - 1:
            self._read(batch)

    def merge(self, other: TopPassages) -> None:
        """Keep the best of both, which are of different contexts of one corpus."""
        for layer in range(self.context.layers):
            self._offer(layer, other.values[:, layer], other.places[:, layer])
        self.around = self._used({**self.around, **other.around})

    def state(self) -> dict[str, Tensor]:
        """Return what is kept as tensors, by name."""
        known = sorted(self.around.items())
        tokens = [around.tokens for _, around in known]
        return {
            "values": self.values.cpu(), "places": self.places.cpu(),
            "known": torch.tensor([(place, around.document) for place, around in known]).long().view(-1, 2),
            "tokens": torch.tensor(tokens).long().view(-1, BEFORE + 1 + AFTER),
            "titles": _packed([around.title for _, around in known]),
        }  # fmt: skip

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Become what gave the state."""
        self.values.copy_(state["values"])
        self.places.copy_(state["places"])
        known = zip(state["known"].tolist(), state["tokens"].tolist(), _unpacked(state["titles"]), strict=True)
        self.around = {place: Around(tokens, document, title) for (place, document), tokens, title in known}

    def _offer(self, layer: int, values: Tensor, places: Tensor) -> None:
        """Keep the largest of what is kept and of more values [end, head_index, token_class, any]; ties by place."""
        places, order = torch.cat([self.places[:, layer], places], -1).sort(-1)
        values = torch.cat([self.values[:, layer], values], -1).gather(-1, order)
        values, order = values.sort(dim=-1, descending=True, stable=True)
        self.values[:, layer], self.places[:, layer] = values[..., :TOP], places.gather(-1, order)[..., :TOP]

    def _used(self, around: dict[int, Around]) -> dict[int, Around]:
        places = set(self.places.unique().tolist()) - {NOWHERE}
        return {place: around[place] for place in places}

    def _read(self, batch: Batch) -> None:
        """Keep the text around the tokens of this batch that have come in, and forget that of those that have gone."""
        new = set(self.places.unique().tolist()) - self.around.keys() - {NOWHERE}
        contexts, n_ctx = batch.source, self.context.reader.n_ctx
        rows = [tensor.numpy() for tensor in (contexts.tokens, contexts.documents, contexts.mask)]
        for place in new:
            row, pos = place // n_ctx - batch.first_row, place % n_ctx
            tokens, documents, mask = (each[row] for each in rows)
            own, at = (documents == documents[pos]) & mask, np.arange(pos - BEFORE, pos + AFTER + 1)
            inside = (at >= 0) & (at < len(tokens))
            there = np.where(inside, own[at.clip(0, len(tokens) - 1)], False)
            around = np.where(there, tokens[at.clip(0, len(tokens) - 1)], np.where(inside, BORDER, UNKNOWN))
            index = int(documents[pos])
            self.around[place] = Around(around.tolist(), index, contexts.titles.get(index, ""))
        self.around = self._used(self.around)

    def tables(self, found: Found) -> Mapping[str, pd.DataFrame]:
        """Return the table `top_passages`; nothing of heads without a direction."""
        context, (schemes, labels) = found.context, found.context.classes.labels()
        values, places = as_numpy(self.values), as_numpy(self.places)
        with_direction = as_numpy(context.shifts.vector.any(-1))[..., None, None]
        end, layer, head, number, rank = np.nonzero(np.isfinite(values) & with_direction)
        score = values[end, layer, head, number, rank] * np.where(end == 0, 1, -1)
        place = places[end, layer, head, number, rank]
        known, which = np.unique(place, return_inverse=True)
        text = _written(context.reader.tokenizer, [self.around[one] for one in known.tolist()])
        means = (found.heads["bias_score_mean"] - found.heads["bias_score_contrast"]).to_numpy(float)
        mean = pd.DataFrame(means.reshape(-1, context.classes.number)).mean(axis=1).to_numpy(float)
        mean = mean.reshape(context.per_class[:2])
        table = pd.DataFrame({
            "layer": layer, "head": head, "scheme": schemes[number], "token_class": labels[number],
            "end": np.array(["top", "bottom"])[end], "rank": rank, "bias_score": score,
            "bias_score_contrast": score - mean[layer, head], "pos": place % context.reader.n_ctx,
        })  # fmt: skip
        table = pd.concat([table, text.iloc[which].reset_index(drop=True)], axis=1)
        order = np.lexsort((rank, end, number, head, layer))
        return {"top_passages": table.iloc[order].reset_index(drop=True)}


def _written(tokenizer: PreTrainedTokenizerFast, around: Sequence[Around]) -> pd.DataFrame:
    """What stands before and after each token, from a word to a word."""
    ids = np.array([one.tokens for one in around], dtype=np.int64).reshape(-1, BEFORE + 1 + AFTER)
    known = np.unique(ids[ids >= 0])
    texts = dict(zip(known.tolist(), spaced_texts(tokenizer, known.tolist()), strict=True)) | {BORDER: "", UNKNOWN: "x"}
    rows = []
    for row in ids.tolist():
        spelled = [texts[token] for token in row]
        there = [place for place, token in enumerate(row) if token >= 0]
        first, last = at_words(spelled, there[0], there[-1] + 1, BEFORE)
        rows.append((joined(spelled[first:BEFORE]), joined(spelled[BEFORE + 1 : last])))
    before, after = zip(*rows, strict=True) if rows else ((), ())
    return pd.DataFrame({
        "document": [one.document for one in around], "title": [one.title for one in around],
        "token_index": ids[:, BEFORE], "before": before,
        "token_string": token_strings(tokenizer, ids[:, BEFORE].tolist()), "after": after,
    })  # fmt: skip


def _packed(value: object) -> Tensor:
    """Anything that JSON holds as a tensor of bytes; surrogates are written as escapes."""
    return torch.from_numpy(np.frombuffer(json.dumps(value).encode("ascii"), dtype=np.uint8).copy())


def _unpacked(packed: Tensor) -> list:
    return json.loads(packed.numpy().tobytes())
