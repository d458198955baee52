"""Interventions by brute force: the whole model in float64, once more for every change of the biases."""

import numpy as np
import torch

from tests.analysis.reference import rows_of
from tests.model.reference import forward, head_scores

LENGTHS = [28, 7, 20, 17, 20]  # of the documents of the `corpus` of these tests


class Observed:
    """Everything one run of the model shows over the rows of a corpus, in float64.

    Attributes:
        shares: attention sums [layer, head, document, class] of the keys, over all queries of each document.
        log_probabilities: [predicted token, d_vocab]; `target`, `label`, `document` go with them.
    """

    def __init__(self, model, documents, scheme, n_classes):
        rows, labels = rows_of(documents, model.cfg.n_ctx, scheme)
        lengths = [len(document.tokens) for document in documents]
        owners = np.split(np.repeat(np.arange(len(lengths)), lengths), np.cumsum([len(row) for row in rows])[:-1])
        size = model.cfg.n_layers, model.cfg.n_heads, len(documents), n_classes
        self.shares, found = np.zeros(size), []
        bias_q = model.biases_in_force()[0].detach().double()
        for row, label, owner in zip(rows, labels, owners, strict=True):

            def visit(layer, normalized, label=label, owner=owner):
                for head in range(model.cfg.n_heads):
                    pattern = head_scores(model, layer, head, normalized, bias_q[layer, head])[0].softmax(-1).numpy()
                    for query, document in enumerate(owner):
                        self.shares[layer, head, document] += np.bincount(label, pattern[query], n_classes)

            with torch.no_grad():
                found.append(forward(model, row, visit)[:-1].log_softmax(-1).numpy())
        self.log_probabilities = np.concatenate(found)
        self.target = torch.cat([row[1:] for row in rows]).numpy()
        self.label = np.concatenate([label[1:] for label in labels])
        self.document = np.concatenate([owner[1:] for owner in owners])

    @property
    def loss(self):
        return -self.log_probabilities[np.arange(len(self.target)), self.target]


def kl(before, after):
    return (np.exp(before.log_probabilities) * (before.log_probabilities - after.log_probabilities)).sum(-1)


def top1_changed(before, after):
    return (before.log_probabilities.argmax(-1) != after.log_probabilities.argmax(-1)).astype(float)


def mean_by_class(values, label, n_classes):
    return np.array([values[label == c].mean() for c in range(n_classes)])


def rows_about(table, name, scale, direction="bias", draw=0, scheme="s"):
    """The rows of one intervention."""
    chosen = (table["intervention"] == name) & (table["scale"] == scale) & (table["direction"] == direction)
    return table[chosen & (table["draw"] == draw) & (table["scheme"] == scheme)]
