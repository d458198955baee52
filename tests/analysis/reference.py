"""Amplification and its companions from explicit patterns, keys and lists of numbers, in float64 and with loops."""

import itertools

import numpy as np
import torch

from interp.data.contexts import pack
from tests.model.reference import forward, head_scores


def rows_of(documents, n_ctx, scheme):
    """Unpadded rows of tokens and of class labels, as the model sees them."""
    rows, labels = [], []
    for contexts in pack(documents, n_ctx, 1, 0):
        mask = contexts.mask[0]
        rows.append(contexts.tokens[0][mask])
        labels.append(contexts.classes[scheme][0][mask].numpy())
    return rows, labels


def observe(model, rows, layer, head, bias=None):
    """Everything one head shows over unpadded `rows` [row][pos]: a list of (pattern, pattern without, scores, cosines)."""
    seen = []
    bias_q = (model.biases_in_force()[0] if bias is None else bias)[layer, head].detach().double()
    for row in rows:

        def visit(at, normalized):
            if at != layer:
                return
            with_bias, _, k = head_scores(model, layer, head, normalized, bias_q)
            without, _, _ = head_scores(model, layer, head, normalized, torch.zeros_like(bias_q))
            scores = k @ bias_q / model.cfg.d_head**0.5
            cosines = torch.nn.functional.cosine_similarity(k, bias_q[None], dim=-1)
            seen.append([x.numpy() for x in (with_bias.softmax(-1), without.softmax(-1), scores, cosines)])

        with torch.no_grad():
            forward(model, row, visit)
    return seen


def shares(seen, classes, n_classes):
    """M_c and M0_c: [2, class], attention of the average query."""
    total, queries = np.zeros((2, n_classes)), 0
    for (with_bias, without, _, _), labels in zip(seen, classes, strict=True):
        queries += len(labels)
        for place, pattern in enumerate((with_bias, without)):
            for j, label in enumerate(labels):
                total[place, label] += pattern[:, j].sum()
    return total / queries


def auroc(own, others):
    """P(own > other) by comparing every pair, ties counting half."""
    return float(np.mean([(a > b) + 0.5 * (a == b) for a in own for b in others]))


def hedges_g(own, others):
    freedom = len(own) + len(others) - 2
    pooled = np.sqrt((own.var(ddof=1) * (len(own) - 1) + others.var(ddof=1) * (len(others) - 1)) / freedom)
    return (own.mean() - others.mean()) / pooled * (1 - 3 / (4 * freedom - 1))


def all_relabellings(labels):
    """Every way to permute one document's labels, its first one kept."""
    return [np.array([labels[0], *rest]) for rest in itertools.permutations(labels[1:])]


def contrast(scores, labels, label):
    return scores[labels == label].mean() - scores.mean()


def null_rows(result, null, statistic, layer=None, head=None):
    """Rows of the table `nulls` for one null and statistic, of all heads or of one."""
    table = result.nulls[(result.nulls["null"] == null) & (result.nulls["statistic"] == statistic)]
    return table if layer is None else table[(table["layer"] == layer) & (table["head"] == head)]


def regression(scores, classes, strata, n_classes):
    """Class effects of least squares on dummies of class and stratum, relative to the average token."""
    design = np.concatenate([np.eye(n_classes)[classes], np.eye(strata.max() + 1)[strata]], axis=1)
    effects = np.linalg.lstsq(design, scores, rcond=None)[0][:n_classes]
    return effects - effects[classes].mean()


def jackknifed(estimate, folds, groups, *columns):
    """Estimates of columns of tokens, one a group of tokens, their errors over documents to come and degrees of freedom.

    By leaving out the tokens of one fold after another; a fold counts by its tokens of the group.
    """
    value, squares, sizes = estimate(*columns), 0, []
    for fold in np.unique(folds):
        own = np.bincount(groups[folds == fold], minlength=len(value))
        without = estimate(*(c[folds != fold] for c in columns))
        squares = squares + ((1 - own / np.bincount(groups)) * (without - value)) ** 2
        sizes.append(own)
    m = np.sum(sizes, 0) ** 2 / np.square(sizes).sum(0)
    return value, np.sqrt(squares * m / (m - 1)), m - 1
