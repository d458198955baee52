"""Which token looks at which: attention from each query to each key, with the bias and without, in a few passages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp.analysis.measurement import Context, Found, Measurement, as_numpy
from interp.analysis.measurements.passages import Passages, beginning, passage_of
from interp.analysis.readers.reader import SeenLayer
from interp.data.contexts import Contexts
from interp.errors import InterpError

KEPT = 4  # passages
LENGTH = 20  # tokens of each, from its first: as many as a picture can name on both axes
COLUMNS = ["layer", "head", "passage", "query", "key", "attention", "attention_unbiased"]
BEFORE = -1
"""The `key` of all keys together that stand before the first token shown."""


@dataclass(frozen=True)
class AttentionPattern:
    """The attention of one head among the tokens of a text, or of a piece of it.

    Attributes:
        head: such as "L3H7".
        tokens: of the queries (rows) and of the keys (columns).
        shares: of each query's attention, with the bias (0) and without this head's own (1), all upstream alike. Column 0
            is what goes to all keys before the first of the tokens together (0 where the text begins there), then one
            column per key. Rows sum to 1, less what an attention sink takes in a model that has one.
    """

    head: str
    tokens: list[str]
    shares: Float[np.ndarray, "2 query_pos before_and_key_pos"]

    @property
    def attention(self) -> Float[np.ndarray, "query_pos key_pos"]:
        """Attention with the bias, what `hook_pattern` has at these positions."""
        return self.shares[0, :, 1:]

    @property
    def attention_unbiased(self) -> Float[np.ndarray, "query_pos key_pos"]:
        """Attention without this head's own bias."""
        return self.shares[1, :, 1:]

    @property
    def difference(self) -> Float[np.ndarray, "query_pos key_pos"]:
        """What the bias adds: attention with it less attention without."""
        return self.attention - self.attention_unbiased

    @property
    def before(self) -> Float[np.ndarray, "2 query_pos"]:
        """Attention to all keys before the first of the tokens, with the bias (0) and without (1)."""
        return self.shares[:, :, 0]

    def last(self, length: int) -> AttentionPattern:
        """Return the last tokens alone; what stands before them goes to `before`."""
        start = max(0, len(self.tokens) - length)
        before, own = self.shares[:, start:, : start + 1], self.shares[:, start:, start + 1 :]
        return AttentionPattern(
            self.head, self.tokens[start:], np.concatenate([before.sum(-1, keepdims=True), own], -1)
        )

    @property
    def table(self) -> pd.DataFrame:
        """One row per query and key it sees, the share on all keys before the tokens as key -1.

        Columns `query, key, query_token, key_token, attention, attention_unbiased, difference`.
        """
        query, key = _pairs(len(self.tokens))
        tokens = np.array([*self.tokens, ""], dtype=object)  # the last one is that of key -1
        values = self.shares[:, query, key + 1]
        return pd.DataFrame({
            "query": query, "key": key, "query_token": tokens[query], "key_token": tokens[key], "attention": values[0],
            "attention_unbiased": values[1], "difference": values[0] - values[1],
        })  # fmt: skip

    def __repr__(self) -> str:
        return f"AttentionPattern of {self.head} over {len(self.tokens)} tokens: attention, attention_unbiased, table"


class Patterns(Measurement):
    """The patterns of `KEPT` of the passages, drawn from them at random. It sums nothing: their contexts are run once more.

    A query sees no later token, so each is run up to the last token shown.
    """

    @classmethod
    def wanted(cls, context: Context) -> Patterns | None:
        """Where passages are kept."""
        return cls(context) if context.settings.passages else None

    def tables(self, found: Found) -> Mapping[str, pd.DataFrame]:
        """Return the table `patterns`, one row per (layer, head, passage, query, key); `AttentionPattern` says what of."""
        passages = found.of(Passages)
        chosen = {sampled.number for sampled in passages.kept[:KEPT]}  # the smallest random keys
        tables = [
            _patterns(found.context, sampled.contexts, passage)
            for passage, sampled in enumerate(passages.in_order())
            if sampled.number in chosen
        ]
        return {"patterns": pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS)}


def _patterns(context: Context, sampled: Contexts, passage: int) -> pd.DataFrame:
    places = passage_of(context, sampled)[:LENGTH]
    batch = beginning(context, sampled, places.stop)
    layers: list[Tensor] = []  # each [2, head_index, query, key]

    def visit(layer: int, seen: SeenLayer) -> None:
        layers.append(torch.stack([pattern[0] for pattern in seen.pattern()])[:, :, places.start :].float())

    context.reader.visit(batch, context.shifts, visit)
    whole = torch.stack(layers, 1)
    before, own = whole[..., : places.start].sum(-1, keepdim=True), whole[..., places.start :]
    query, key = _pairs(len(places))
    values = as_numpy(torch.cat([before, own], -1))[..., query, key + 1]  # [2, layer, head_index, pair]
    layer, head, pair = np.indices(values.shape[1:], dtype=np.int32).reshape(3, -1)
    number = np.full(len(pair), passage, dtype=np.int32)
    columns = layer, head, number, query[pair], key[pair], *values.reshape(2, -1)
    return pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))


def _pairs(length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the queries and keys of all pairs that see each other, row by row; the first key of each row is `BEFORE`."""
    query, column = np.tril_indices(length, 1, length + 1)
    return query.astype(np.int32), (column + BEFORE).astype(np.int32)


def kept_patterns(patterns: pd.DataFrame | None, passages: pd.DataFrame) -> dict[int, list[str]]:
    """Return the passages of which patterns were kept, by number, each with the tokens shown."""
    if patterns is None or patterns.empty:
        return {}
    shown = pd.DataFrame({"passage": patterns["passage"], "place": patterns["query"]}).drop_duplicates()
    tokens = passages.merge(shown, on=["passage", "place"]).sort_values(["passage", "place"])
    return {int(str(number)): rows["token_string"].to_list() for number, rows in tokens.groupby("passage")}


def pattern_of(
    patterns: pd.DataFrame | None, passages: pd.DataFrame, layer: int, head: int, passage: int | None = None
) -> AttentionPattern:
    """Return one head's pattern of a passage, by default of the first kept; the tables are those of a result.

    Raises:
        InterpError: there are no patterns, no such head, or none of this passage.
    """
    kept = kept_patterns(patterns, passages)
    if patterns is None or not kept:
        raise InterpError(
            "This result has no patterns: it was made without passages or by an earlier version; run the analysis again."
        )
    if passage is None:
        passage = min(kept)
    if passage not in kept:
        raise InterpError(
            f"No patterns were kept of passage {passage}; choose of {', '.join(map(str, kept))}, or read a text of your own "
            "with interp.read_sentence."
        )
    rows = patterns.loc[(patterns["layer"] == layer) & (patterns["head"] == head) & (patterns["passage"] == passage)]
    if rows.empty:
        layers, heads = (1 + patterns[name].max() for name in ("layer", "head"))
        raise InterpError(f"There is no head L{layer}H{head}; the result has {layers} layers of {heads} heads, from 0.")
    tokens = kept[passage]
    shares = np.zeros((2, len(tokens), len(tokens) + 1), dtype=np.float32)
    shares[:, rows["query"].to_numpy(), rows["key"].to_numpy() - BEFORE] = rows[COLUMNS[-2:]].to_numpy().T
    return AttentionPattern(f"L{layer}H{head}", tokens, shares)
