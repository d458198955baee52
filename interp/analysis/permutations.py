"""Documents that carry permuted copies of their labels, for the label null of exact amplification."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from interp.data.contexts import TaggedDocument


def permuted_name(scheme: str, permutation: int) -> str:
    """Return under which name a document carries a permutation of a scheme's labels."""
    return f"{scheme} permuted {permutation}"


def with_permuted_labels(documents: Iterable[TaggedDocument], permutations: int, seed: int) -> Iterator[TaggedDocument]:
    """Yield the documents with `permutations` permuted copies of the labels of every scheme.

    All schemes of a document are permuted alike, so a token keeps its combination of labels. The first token of a document
    (bos) keeps its place: it is a class of its own that no other token can have. The permutations are keyed by (seed,
    document index, number), so they depend on neither batches nor workers.
    """
    for document in documents:
        classes = dict(document.classes)
        for number in range(permutations):
            order = np.arange(len(document.tokens))
            np.random.default_rng([seed, document.index, number]).shuffle(order[1:])
            classes |= {permuted_name(name, number): labels[order] for name, labels in document.classes.items()}
        yield replace(document, classes=classes)
