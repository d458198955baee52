"""Real text to look at: a fixed random sample of contexts, with every head's bias score and attention per token."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.analysis.batch import Batch
from interp.analysis.measurement import Context, Found, LayerView, Measurement, as_numpy
from interp.analysis.readers.reader import SeenLayer
from interp.data.contexts import Contexts
from interp.spelling import token_strings

LENGTH = 40  # tokens shown of a passage
LONGEST_CONTEXT = 160  # tokens run per passage: enough later queries to look back, and little work for long contexts


class Passages(Measurement):
    """Keep the contexts with the smallest random keys; the keys depend on (seed, running number of the context) alone."""

    def __init__(self, context: Context) -> None:
        self.size, self.seed = context.settings.passages, context.settings.seed
        self.kept: list[tuple[float, int, Contexts]] = []  # (key, number, one context), the smallest keys first

    def start(self, batch: Batch) -> None:
        """Offer the contexts of a batch; padded ones are passed over."""
        contexts = batch.source
        for row in contexts.mask.all(1).nonzero().flatten().tolist() if self.size else ():
            number, own = batch.first_row + row, slice(row, row + 1)
            classes = {name: contexts.classes[name][own] for name in batch.numbering.names}
            one = Contexts(contexts.tokens[own], classes, contexts.documents[own], contexts.mask[own])
            self._keep([(np.random.default_rng([self.seed, number]).random(), number + 1, one)])

    def merge(self, other: Passages) -> None:
        """Keep the smallest keys of both samples, which are of different contexts of one corpus."""
        self._keep(other.kept)

    def _keep(self, offered: Iterable[tuple[float, int, Contexts]]) -> None:
        self.kept = sorted([*self.kept, *offered], key=lambda item: item[:2])[: self.size]

    def state(self) -> dict[str, Tensor]:
        """Return the sample as tensors, by name."""
        kept, contexts = self._in_order(), self.contexts()
        keys, numbers = [key for key, _, _ in kept], [number for _, number, _ in kept]
        found = {"keys": torch.tensor(keys, dtype=torch.float64), "numbers": torch.tensor(numbers, dtype=torch.int64)}
        if kept:
            found |= {name: torch.cat([getattr(one, name) for one in contexts]) for name in ("tokens", "documents")}
            for name in contexts[0].classes:
                found[f"classes.{name}"] = torch.cat([one.classes[name] for one in contexts])
        return found

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take the place of the sample whose state it was."""
        self.kept = []
        for row, (key, number) in enumerate(zip(state["keys"].tolist(), state["numbers"].tolist(), strict=True)):
            one = {name: tensor[row : row + 1] for name, tensor in state.items()}
            classes = {name.removeprefix("classes."): one[name] for name in one if name.startswith("classes.")}
            mask = torch.ones_like(one["tokens"], dtype=torch.bool)
            self._keep([(key, number, Contexts(one["tokens"], classes, one["documents"], mask))])

    def contexts(self) -> list[Contexts]:
        """Return the contexts kept, in the order of the corpus."""
        return [one for _, _, one in self._in_order()]

    def _in_order(self) -> list[tuple[float, int, Contexts]]:
        return sorted(self.kept, key=lambda item: item[1])

    def tables(self, found: Found) -> Mapping[str, pd.DataFrame]:
        """Return the tables `passages` and `passage_scores`, of the middle `LENGTH` tokens of each context kept.

        Attention of a token is the mean over the queries that can see it. The contexts are run once more.
        """
        context, names = found.context, found.context.classes.names
        tokens, scores = [], []
        for number, sampled in enumerate(self.contexts()):
            window = passage_of(sampled)
            tokens.append(_described(context, sampled, number, window))
            scores.append(_scored(context, sampled, number, window))
        named = ["passage", "document", "place", "token_index", "token_string", *names]
        scored = ["layer", "head", "passage", "place", "bias_score", "attention", "attention_unbiased"]
        return {
            "passages": pd.concat(tokens or [pd.DataFrame(columns=named)], ignore_index=True),
            "passage_scores": pd.concat(scores or [pd.DataFrame(columns=scored)], ignore_index=True),
        }


def passage_of(sampled: Contexts) -> range:
    """Return the positions of a context that are its passage: a quarter of what is run of it stands before."""
    length = min(sampled.tokens.shape[1], LONGEST_CONTEXT)
    start = min(length // 4, max(0, length - LENGTH))
    return range(start, min(start + LENGTH, length))


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
    return pd.DataFrame({
        "passage": number, "document": sampled.documents[0, inside].tolist(), "place": range(len(window)),
        "token_index": ids.tolist(), "token_string": strings, **classes,
    })  # fmt: skip


def _scored(context: Context, sampled: Contexts, number: int, window: range) -> pd.DataFrame:
    layers: list[Tensor] = []  # each [3, head_index, place]
    batch = beginning(context, sampled, LONGEST_CONTEXT)

    def visit(layer: int, seen: SeenLayer) -> None:
        view = LayerView(context, batch, layer, seen)
        with_bias, without = seen.mean_received()
        layers.append(torch.stack([view.scores, with_bias[0], without[0]])[:, :, window.start : window.stop])

    context.reader.visit(batch, context.shifts, visit)
    values = as_numpy(torch.stack(layers, 1)).reshape(3, -1)
    places = pd.MultiIndex.from_product(
        [range(context.layers), range(context.heads), [number], range(len(window))],
        names=["layer", "head", "passage", "place"],
    )
    columns = dict(zip(("bias_score", "attention", "attention_unbiased"), values, strict=True))
    return pd.DataFrame(columns, index=places).reset_index()
