"""Keys of our own in the place of a model's, so that a simulation knows the size of every effect."""

import numpy as np
import torch

from interp.analysis import run
from interp.analysis.measurements.head_scores import HeadScores
from interp.analysis.readers import own
from interp.data.contexts import TaggedDocument
from interp.data.corpora.corpus import Document


def plant(monkeypatch, keys):
    """Let `measure`, and the fit of means before it, see ``keys(tokens)`` as the keys of every layer, and queries of 0.

    Keys are [batch, pos, head_index, d_head]. Head scores are left out: they run random tokens, which have no planted keys.
    """

    def visit_planted(model, tokens, visit):
        for layer in range(model.cfg.n_layers):
            k = keys(tokens)
            visit(layer, torch.zeros_like(k), k)

    kept = tuple(kind for kind in run.MEASUREMENTS if kind is not HeadScores)
    monkeypatch.setattr(run, "MEASUREMENTS", kept)
    monkeypatch.setattr(own, "visit_queries_and_keys", visit_planted)


def documents_of(tokens, class_of_token, scheme, length):
    """Documents of `length` tokens each, whose labels follow from the token."""
    return [
        TaggedDocument(i, Document(str(i), "text"), piece, np.zeros((len(piece), 2), dtype=np.int64),
                       {scheme.name: class_of_token[piece]})
        for i, piece in enumerate(np.split(tokens, range(length, len(tokens), length)))
    ]  # fmt: skip
