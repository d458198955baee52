"""What every layer needs of a batch of contexts, laid out once on the model's device; padding is left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int, Int64
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from interp.analysis.accumulators import Sums, TypeSums
from interp.analysis.attention import HeadVectors
from interp.data.classes.scheme import Scheme
from interp.data.contexts import Contexts, TaggedDocument, take_tokens
from interp.model.attention import for_each_head, scored_hook
from interp.model.transformer import HookedSymmetryBrokenTransformer


@dataclass(frozen=True)
class Classes:
    """The classes of all schemes, numbered through in their order.

    Attributes:
        names: class names by scheme.
    """

    names: Mapping[str, Sequence[str]]

    @classmethod
    def of(cls, schemes: Iterable[Scheme]) -> Classes:
        """Number the classes of these schemes."""
        return cls({scheme.name: list(scheme.classes) for scheme in schemes})

    @cached_property
    def ranges(self) -> dict[str, tuple[int, int]]:
        """Each scheme's first number and the one after its last."""
        ends = list(accumulate(map(len, self.names.values())))
        return dict(zip(self.names, zip([0, *ends[:-1]], ends, strict=True), strict=True))

    @property
    def spans(self) -> list[tuple[int, int]]:
        """The `ranges` without their names."""
        return list(self.ranges.values())

    @property
    def number(self) -> int:
        """How many classes there are in all."""
        return sum(map(len, self.names.values()))

    def labels(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the scheme and the name of every class."""
        names = [np.asarray(known, dtype=object) for known in self.names.values()]
        return np.repeat(list(self.names), [len(known) for known in names]), np.concatenate(names)


class Batch:
    """Tokens, classes, positions and documents of a batch; "token" axes run over what is not padding, in stream order.

    Args:
        contexts: what the model reads.
        classes: how classes are numbered through all schemes.
        device: where everything goes.
        first_row: running number, in the corpus, of the first context.
    """

    def __init__(self, contexts: Contexts, classes: Classes, device: torch.device, first_row: int = 0) -> None:
        self.numbering, self.source, self.first_row = classes, contexts, first_row
        self.mask = contexts.mask.to(device)  # [batch, pos]
        self.contexts = contexts.tokens.to(device)
        rows = [contexts.classes[name] + first for name, (first, _) in classes.ranges.items()]
        together = torch.stack(rows).to(device)  # [scheme, batch, pos]
        self.one_hot: Float[Tensor, "batch pos token_class"] = F.one_hot(together, classes.number).sum(0).float()
        self.classes: Int64[Tensor, "scheme token"] = together[:, self.mask]
        self.tokens: Int64[Tensor, " token"] = self.contexts[self.mask]
        self.places = torch.arange(self.mask.shape[1], device=device).expand_as(self.mask)[self.mask]
        self.document_of: Int64[Tensor, " token"] = contexts.documents.to(device)[self.mask]  # running index
        self.document_indices, self.document_places = self.document_of.unique(return_inverse=True)
        self.documents = F.one_hot(self.document_places, len(self.document_indices)).double()  # [token, document]

    @cached_property
    def document_rows(self) -> Float[Tensor, "batch pos document"]:
        """One-hot over the documents of the batch; padding is of none."""
        rows = self.one_hot.new_zeros(*self.mask.shape, len(self.document_indices))
        rows[self.mask] = self.documents.to(rows)
        return rows


LayerVisitor = Callable[[int, HeadVectors, HeadVectors], None]


@torch.no_grad()
def visit_queries_and_keys(
    model: HookedSymmetryBrokenTransformer, tokens: Int[Tensor, "batch pos"], visit: LayerVisitor
) -> None:
    """Run the model up to the keys of the last layer and call ``visit(layer, q, k)`` in every layer.

    q and k have shape [batch, pos, head_index, d_head], also where heads are grouped: then k is repeated for the heads that
    read it. q is without the unlearned bias; both are after their norm and RoPE's rotation. Those of a bfloat16 model come
    in float32, in which they are measured.
    """
    queries: list[HeadVectors] = []

    def keep(q: HeadVectors, hook: HookPoint) -> None:
        queries.append(q)

    def meet(k: HeadVectors, hook: HookPoint) -> None:
        exact = torch.promote_types(k.dtype, torch.float32)
        visit(hook.layer(), queries.pop().to(exact), for_each_head(k.to(exact), model.cfg.n_heads))
        if hook.layer() == model.cfg.n_layers - 1:
            raise _SeenAll

    each = [(scored_hook(model.cfg, "q"), keep), (scored_hook(model.cfg, "k"), meet)]
    hooks = [(f"blocks.{layer}.attn.{name}", hook) for layer in range(model.cfg.n_layers) for name, hook in each]
    with model.hooks(fwd_hooks=hooks), suppress(_SeenAll):
        model(tokens, return_type=None)


class _SeenAll(Exception):  # noqa: N818 - nothing went wrong: what comes after the last keys is not needed
    """Leaves the forward pass."""


class DocumentCounts(Sums):
    """Tokens per class and per (token, class), documents per class, and their effective number.

    It is (sum_d n_dc)^2 / sum_d n_dc^2, where n_dc is the number of c tokens in document d: one long document among short
    ones counts for little more than one (Kish; `interp.analysis.significance.effective_documents`).
    """

    PARTS = ("documents", "tokens", "n_tokens", "n_documents", "squares", "token_classes")

    def __init__(self, classes: Classes) -> None:
        self.numbering, n_classes = classes, classes.number
        self.documents, self.tokens = 0, 0
        self.n_tokens = np.zeros(n_classes, dtype=np.int64)
        self.n_documents = np.zeros(n_classes, dtype=np.int64)
        self.squares = np.zeros(n_classes)
        self.token_classes = TypeSums([(n_classes,)], torch.int32)

    def classes(self, document: TaggedDocument) -> Int64[np.ndarray, "scheme pos"]:
        """Return the classes of a document's tokens, numbered through."""
        return np.stack([document.classes[s] + first for s, (first, _) in self.numbering.ranges.items()])

    def passing(self, documents: Iterable[TaggedDocument], max_tokens: int | None = None) -> Iterator[TaggedDocument]:
        """Count the documents that pass, within `max_tokens`."""
        for document in take_tokens(documents, max_tokens):
            self._count(document)
            yield document

    def _count(self, document: TaggedDocument) -> None:
        classes = self.classes(document)
        here = np.bincount(classes.ravel(), minlength=len(self.n_tokens))
        self.documents += 1
        self.tokens += len(document.tokens)
        self.n_tokens += here
        self.n_documents += here > 0
        self.squares += here.astype(np.float64) ** 2
        rows = self.token_classes.count_tokens(torch.from_numpy(document.tokens))
        for of_scheme in classes:
            self.token_classes.count_at(0, rows, torch.from_numpy(of_scheme))

    def effective(self) -> Float64[np.ndarray, " token_class"]:
        """Return the effective number of documents per class; 0 for an empty class."""
        return np.where(self.squares > 0, self.n_tokens.astype(np.float64) ** 2 / np.maximum(self.squares, 1), 0.0)
