"""Real text to look at: a fixed random sample of contexts, with every head's bias score and attention per token."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp.analysis.attention import received_attention
from interp.analysis.batch import visit_queries_and_keys
from interp.analysis.direction import QueryShifts
from interp.data.contexts import Contexts
from interp.model.transformer import HookedSymmetryBrokenTransformer

LONGEST_CONTEXT = 160  # tokens run per passage: enough later queries to look back, and little work for long contexts

HeadVectors = Float[Tensor, "batch pos head_index d_head"]


class PassageSample:
    """Keep `size` contexts with the smallest random keys; the keys depend on (seed, running number) alone."""

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.seed, self.seen = size, seed, 0
        self.kept: list[tuple[float, int, Contexts]] = []  # a heap of (-key, number, one context)

    def update(self, contexts: Contexts) -> None:
        """Offer a batch of contexts; padded ones are passed over."""
        for row in range(len(contexts.tokens)):
            key = np.random.default_rng([self.seed, self.seen]).random()
            self.seen += 1
            if self.size and bool(contexts.mask[row].all()):
                one = Contexts(
                    contexts.tokens[row : row + 1],
                    {name: classes[row : row + 1] for name, classes in contexts.classes.items()},
                    contexts.documents[row : row + 1],
                    contexts.mask[row : row + 1],
                )
                self._keep([(-key, self.seen, one)])

    def merge(self, other: PassageSample) -> None:
        """Keep the smallest keys of both samples, which are of different contexts of one corpus."""
        self._keep(other.kept)

    def _keep(self, offered: Iterable[tuple[float, int, Contexts]]) -> None:
        for one in offered:
            heapq.heappush(self.kept, one)
            if len(self.kept) > self.size:
                heapq.heappop(self.kept)

    def state(self) -> dict[str, Tensor]:
        """Return the sample as tensors, by name."""
        keys, numbers = [-key for key, _, _ in self.kept], [number for _, number, _ in self.kept]
        found = {"keys": torch.tensor(keys, dtype=torch.float64), "numbers": torch.tensor(numbers, dtype=torch.int64)}
        if self.kept:
            contexts = [one for _, _, one in self.kept]
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
            self._keep([(-key, number, Contexts(one["tokens"], classes, one["documents"], mask))])

    def contexts(self) -> list[Contexts]:
        """Return the contexts kept, in the order of the corpus."""
        return [one for _, _, one in sorted(self.kept, key=lambda item: item[1])]


def measure_passages(
    model: HookedSymmetryBrokenTransformer,
    shifts: QueryShifts,
    sample: list[Contexts],
    names: dict[str, list[str]],
    length: int,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the tables `passages` and `passage_scores` of `Amplification` for the middle `length` tokens of each context.

    `names` gives the class names of each scheme. Attention of a token is the mean over the queries that can see it.
    """
    tokens, scores = [], []
    for number, context in enumerate(sample):
        ids = context.tokens[:, : min(LONGEST_CONTEXT, model.cfg.n_ctx)]
        start = min(ids.shape[1] // 4, max(0, ids.shape[1] - length))
        window = range(start, min(start + length, ids.shape[1]))
        tokens.append(_describe(model, context, number, window, names))
        scores.append(_score(model, shifts, ids, number, window))
    if not sample:
        return pd.DataFrame(
            columns=["passage", "document", "place", "token_index", "token_string", *names]
        ), pd.DataFrame(columns=["layer", "head", "passage", "place", "bias_score", "attention", "attention_unbiased"])
    return pd.concat(tokens, ignore_index=True), pd.concat(scores, ignore_index=True)


def _describe(
    model: HookedSymmetryBrokenTransformer, context: Contexts, number: int, window: range, names: dict[str, list[str]]
) -> pd.DataFrame:
    inside = slice(window.start, window.stop)
    ids = context.tokens[0, inside]
    classes = {s: [names[s][c] for c in context.classes[s][0, inside].tolist()] for s in names}
    return pd.DataFrame({
        "passage": number, "document": context.documents[0, inside].tolist(), "place": range(len(window)),
        "token_index": ids.tolist(), "token_string": model.to_str_tokens(ids), **classes,
    })  # fmt: skip


def _score(
    model: HookedSymmetryBrokenTransformer, shifts: QueryShifts, ids: Tensor, number: int, window: range
) -> pd.DataFrame:
    layers: list[Tensor] = []  # each [3, head_index, place]

    def visit(layer: int, q: HeadVectors, k: HeadVectors) -> None:
        with_bias = received_attention(q + shifts.with_bias[layer], k)
        without = received_attention(q + shifts.without_bias[layer], k)
        scores = (k * shifts.vector[layer]).sum(-1)[0].T / model.cfg.attn_scale
        layers.append(torch.stack([scores, with_bias[0], without[0]])[:, :, window.start : window.stop])

    visit_queries_and_keys(model, ids.to(model.W_E.device), visit)
    values = torch.stack(layers, 1).cpu().numpy().reshape(3, -1)
    places = pd.MultiIndex.from_product(
        [range(model.cfg.n_layers), range(model.cfg.n_heads), [number], range(len(window))],
        names=["layer", "head", "passage", "place"],
    )
    columns = dict(zip(("bias_score", "attention", "attention_unbiased"), values, strict=True))
    return pd.DataFrame(columns, index=places).reset_index()
