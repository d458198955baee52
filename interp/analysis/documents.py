"""How many tokens and documents stand behind each class, counted as the documents pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Float64, Int64

from interp.data.blocks import within
from interp.data.contexts import TaggedDocument


class DocumentCounts:
    """Tokens per class and per (token, class), documents per class, and the effective number of documents.

    Classes of all schemes are numbered through, in the order of `schemes`. The effective number of documents of a class
    (Kish, "Survey Sampling", 1965) is (sum_d n_dc)^2 / sum_d n_dc^2, where n_dc is the number of c tokens in document d: one
    long document among short ones counts for little more than one.
    """

    PARTS = ("documents", "tokens", "n_tokens", "n_documents", "squares", "token_classes")

    def __init__(self, schemes: Sequence[str], starts: Sequence[int], n_classes: int, d_vocab: int) -> None:
        self.schemes, self.starts = list(schemes), list(starts)
        self.documents, self.tokens = 0, 0
        self.n_tokens = np.zeros(n_classes, dtype=np.int64)
        self.n_documents = np.zeros(n_classes, dtype=np.int64)
        self.squares = np.zeros(n_classes)
        self.token_classes = np.zeros((d_vocab, n_classes), dtype=np.int32)

    def classes(self, document: TaggedDocument) -> Int64[np.ndarray, "scheme pos"]:
        """Return the classes of a document's tokens, numbered through."""
        return np.stack([document.classes[s] + start for s, start in zip(self.schemes, self.starts, strict=True)])

    def passing(self, documents: Iterable[TaggedDocument], max_tokens: int | None = None) -> Iterator[TaggedDocument]:
        """Count the documents that pass, within `max_tokens`."""
        for document in within(documents, max_tokens):
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
        np.add.at(self.token_classes, (np.tile(document.tokens, len(classes)), classes.ravel()), 1)

    def merge(self, other: DocumentCounts) -> None:
        """Add what another counter saw of other documents."""
        self.documents += other.documents
        self.tokens += other.tokens
        for name in ("n_tokens", "n_documents", "squares", "token_classes"):
            getattr(self, name).__iadd__(getattr(other, name))

    def effective(self) -> Float64[np.ndarray, " token_class"]:
        """Return the effective number of documents per class; 0 for an empty class."""
        return np.where(self.squares > 0, self.n_tokens.astype(np.float64) ** 2 / np.maximum(self.squares, 1), 0.0)
