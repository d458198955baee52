"""The one plug-in of the analysis: what a measurement sees of a pass over a corpus, and what it gives back.

A measurement, nulls included, is a class with what it sums (`PARTS`), what it adds of a layer, and what it makes of the
sums. It enters `interp.analysis.run.MEASUREMENTS`; merging over processes, resuming, Parquet and the report come by
themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from interp.analysis.accumulators import Sums
from interp.analysis.batch import Batch, Classes, DocumentCounts
from interp.analysis.direction import QueryShifts
from interp.analysis.fitted import FittedMeans
from interp.analysis.readers.reader import Reader, SeenLayer
from interp.analysis.settings import Settings
from interp.data.classes.scheme import Scheme

if TYPE_CHECKING:
    from interp.analysis.nulls.table import Null

Kind = TypeVar("Kind", bound="Measurement")


@dataclass(frozen=True)
class Context:
    """Everything a pass needs, resolved once: reader, settings, direction, classes and sizes.

    Attributes:
        reader: of the model, which is in evaluation mode, with the biases of the settings in force.
        settings: what is asked.
        classes: of all schemes, numbered through.
        shifts: the two queries compared, whose difference is the direction.
        deciles: frequency decile of every token, where contrasts are adjusted for it.
        means: what position (and type) explain of the bias scores, fitted on other documents; () where A is not split.
        frequent: the token types that keys are summed by.
    """

    reader: Reader
    settings: Settings
    classes: Classes
    shifts: QueryShifts
    deciles: Int64[np.ndarray, " token"] | None = None
    means: tuple[FittedMeans, ...] = ()
    frequent: Int64[np.ndarray, " type"] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    @classmethod
    def of(
        cls,
        reader: Reader,
        schemes: Sequence[Scheme],
        settings: Settings,
        deciles: Int64[np.ndarray, " token"] | None = None,
    ) -> Context:
        """Resolve the direction of the settings under the biases that are in force.

        Raises:
            InterpError: the model has no such direction.
        """
        return cls(reader, settings, Classes.of(schemes), reader.shifts(settings.direction), deciles)

    @property
    def type_group(self) -> Int64[np.ndarray, " d_vocab"]:
        """The group of every token type: one for each of the frequent ones, and a last one for all others."""
        groups = np.full(self.reader.d_vocab, len(self.frequent))
        groups[self.frequent] = np.arange(len(self.frequent))
        return groups

    @property
    def readings(self) -> tuple[str, ...]:
        """What is added to the scores of keys when attention is measured: the bias scores, nothing, fitted means."""
        return ("bias", "none", *(fitted.name for fitted in self.means))

    @property
    def layers(self) -> int:
        """Number of layers."""
        return self.reader.n_layers

    @property
    def heads(self) -> int:
        """Heads of a layer."""
        return self.reader.n_heads

    @property
    def per_class(self) -> tuple[int, int, int]:
        """Layers, heads of a layer, classes of all schemes: the shape of a number of each head and class."""
        return self.layers, self.heads, self.classes.number

    @property
    def contexts_per_batch(self) -> int:
        """Contexts of a forward pass."""
        return self.reader.contexts_per_batch(self.settings)

    @property
    def device(self) -> torch.device:
        """Where the model is, and the sums."""
        return self.reader.device


class LayerView:
    """One layer of a batch as a reader sees it, and what follows from it; each is computed once, when first asked for."""

    def __init__(self, context: Context, batch: Batch, layer: int, seen: SeenLayer) -> None:
        self.layer, self.batch, self.seen, self.means = layer, batch, seen, context.means
        self.linear = context.reader.linear
        self.vector: Float[Tensor, "head_index d_head"] = context.shifts.vector[layer]

    @cached_property
    def keys(self) -> Float[Tensor, "token head_index d_head"]:
        """The keys that are not padding."""
        return self.seen.keys[self.batch.mask]

    @cached_property
    def scores(self) -> Float[Tensor, "head_index token"]:
        """Bias scores of the keys that are not padding, nats."""
        return self.seen.scores[self.batch.mask].T

    @cached_property
    def cosines(self) -> Float[Tensor, "head_index token"]:
        """Cosines of the keys and the direction; 0 without one, missing where there are no keys."""
        if not self.linear:
            return torch.full_like(self.scores, torch.nan)
        norms = self.keys.norm(dim=-1).T * self.vector.norm(dim=-1)[:, None]
        products = self.scores * self.keys.shape[-1] ** 0.5
        return products / norms.clamp(min=torch.finfo(norms.dtype).tiny)

    @cached_property
    def received(self) -> Float[Tensor, "reading document head_index token"]:
        """The attention that each key receives from the queries of each document, in the readings of `Context.readings`."""
        batch = self.batch
        readings = self.scores.new_zeros(len(self.means), *batch.mask.shape, len(self.scores))
        for reading, means in zip(readings, self.means, strict=True):
            reading[batch.mask] = means.of(self.layer, batch).T.to(readings)
        return self.seen.received(readings, batch.document_rows)[..., batch.mask]

    @cached_property
    def shares(self) -> Float64[Tensor, "document reading head_index token_class"]:
        """Sums of each document's queries' attention per class, in every reading."""
        return torch.einsum("vdht,tc->dvhc", self.received.double(), self.batch.one_hot[self.batch.mask].double())


class Measurement(Sums):
    """Something measured in the pass. A subclass says what it sums, what it adds of each layer, and what it finds.

    Per batch `start` is called once and `layer` once a layer, in order; `close` at the end of each block of documents, which
    no document crosses. Sums are float64 and do not grow with the corpus.
    """

    def __init__(self, context: Context) -> None:
        """Begin with empty sums."""

    @classmethod
    def wanted(cls, context: Context) -> Measurement | None:
        """Return a fresh one, or None where the settings do not ask for it; every pass makes one unless this says not."""
        return cls(context)

    def start(self, batch: Batch) -> None:
        """Take note of a batch, before its layers."""

    def layer(self, view: LayerView, batch: Batch) -> None:
        """Add one layer of the batch that was started."""

    def close(self) -> None:
        """Take note that a block of documents is over."""

    def columns(self, found: Found) -> Mapping[str, np.ndarray]:
        """Return columns of the table `heads`, each [layer, head_index, token_class]."""
        return {}

    def nulls(self, found: Found) -> Iterator[Null]:
        """Yield what columns of `heads` are held against; they become rows of the table `nulls`, and a column of q each."""
        yield from ()

    def tables(self, found: Found) -> Mapping[str, pd.DataFrame]:
        """Return tables of its own, by the names they are saved under."""
        return {}


class Found:
    """What a pass found, for the tables: the counts, the other measurements, and the tables that are made already.

    Attributes:
        context: of the pass.
        counts: tokens and documents of every class.
        index: the first columns of `heads`, one row per (layer, head, scheme, class), n_tokens and n_documents with them.
        heads: the table `heads`, once all columns are there.
        nulls: the table `nulls`, likewise.
    """

    def __init__(self, context: Context, counts: DocumentCounts, measurements: Sequence[Measurement]) -> None:
        self.context, self.counts, self.measurements = context, counts, measurements
        schemes, labels = context.classes.labels()
        layers, heads, classes = context.per_class
        index = np.indices((layers, heads, classes)).reshape(3, -1)
        self.index = pd.DataFrame({
            "model": context.reader.name, "layer": index[0], "head": index[1], "scheme": schemes[index[2]],
            "token_class": labels[index[2]], "n_tokens": counts.n_tokens[index[2]],
            "n_documents": counts.n_documents[index[2]],
        })  # fmt: skip
        self.heads = self.nulls = pd.DataFrame()

    def of(self, kind: type[Kind]) -> Kind:
        """Return the measurement of this class, which must be one that every pass makes."""
        return next(each for each in self.measurements if isinstance(each, kind))

    def per_class(self, columns: Mapping[str, Any]) -> pd.DataFrame:
        """Return the index with columns beside it, each [layer, head_index, token_class]."""
        return self.index.assign(**{name: as_numpy(value).ravel() for name, value in columns.items()})


def as_numpy(values: Any) -> np.ndarray:
    """Return a tensor, wherever it is, or anything array-like as an array."""
    if not isinstance(values, Tensor):
        return np.asarray(values)
    return (values.float() if values.dtype == torch.bfloat16 else values).detach().cpu().numpy()


def per_head(layers: int, heads: int, name: str, rows: int) -> pd.DataFrame:
    """Return the index of a table with one row per (layer, head, row), its last column called `name`."""
    axes = np.indices((layers, heads, rows)).reshape(3, -1)
    return pd.DataFrame(dict(zip(("layer", "head", name), axes, strict=True)))
