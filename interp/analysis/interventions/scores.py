"""Bias scores and what they depend on: their means over a text.

The bias score of key j is beta_j = b_Q . k_j / sqrt(d_head), the same for every query, with RoPE too: b_Q is added after the
rotation, and k_j is the rotated key. (Of another's model, which turns its learned query bias with the query, or normalizes
it, beta_j is the mean over the queries that see the key.) Its mean m(x) given what is known of the token, x (its position in
the context, its class, its type), is fitted on the unchanged model, for every head, on other documents: the even ones' for
the odd, and the odd ones' for the even. Scores may then be replaced by m(x_j) - m, or by what it leaves over,
beta_j - (m(x_j) - m). m is the mean of all that m(x) was fitted on: a constant cancels in the softmax, but a context
may hold keys of both halves, whose means of all differ, and that difference is nothing that is known of a key.

The mean of few scores is mostly noise, and a bias that is noise costs: most types occur once or twice. So m(x) is the
best linear estimate from the n scores of the group, m + (mean - m) n t / (n t + s), with t the variance of group means
and s that within groups, both from the analysis of variance (n large: the plain mean; an unseen group: m).
"""

from collections.abc import Sequence
from itertools import accumulate

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from interp.analysis.accumulators import GroupedMoments
from interp.analysis.batch import Batch, Classes
from interp.analysis.direction import QueryShifts
from interp.analysis.nulls.spread import Spread
from interp.analysis.readers.reader import Reader, SeenLayer
from interp.data.contexts import Contexts

Known = tuple[str, str]
"""What is known of a token: ("position", ""), ("type", ""), or ("class", scheme)."""
POSITION: Known = ("position", "")
TYPE: Known = ("type", "")


class TokenGroups:
    """Groups of the tokens by what may be known of them: position, type, and class in each scheme, numbered through.

    The first scheme has one class that all tokens are of (`interp.analysis.interventions.result.OVERALL`). Twice as many
    numbers tell the two halves of the documents apart, by the parity of their running index.

    Args:
        classes: of the schemes.
        n_ctx: positions.
        contexts: the text; only types that occur in it are groups.
    """

    def __init__(self, classes: Classes, n_ctx: int, contexts: Sequence[Contexts]) -> None:
        self.types = torch.cat([batch.tokens.flatten() for batch in contexts]).unique()
        sizes = [*map(len, classes.names.values()), n_ctx, len(self.types)]
        known: list[Known] = [*(("class", name) for name in classes.names), POSITION, TYPE]
        self.first = dict(zip(known, [0, *accumulate(sizes)], strict=False))
        self.number = sum(sizes)
        self.sizes = sizes

    def of(self, contexts: Contexts, device: torch.device) -> dict[Known, Int64[Tensor, "batch pos"]]:
        """Return the group of every token among those of its own half, by what is known."""
        position = torch.arange(contexts.tokens.shape[1]).expand_as(contexts.tokens)
        token_type = torch.searchsorted(self.types, contexts.tokens)
        half = contexts.documents % 2 * self.number
        own = {POSITION: position, TYPE: token_type}
        return {
            known: (half + first + (own[known] if known in own else contexts.classes[known[1]])).to(device)
            for known, first in self.first.items()
        }


class KeysOfText:
    """What the first pass over a text leaves of keys and bias scores: sums whose size does not depend on its length.

    For every head: the bias scores' sums by group, layers * heads * 4 * groups float64 numbers, and, where scores are linear
    in the direction, the keys' sums and products, layers * heads * d_head^2.

    Args:
        reader: of the model.
        along: the queries with the direction and without.
        groups: of the tokens.
        classes: of the schemes.
        contexts: the text.
    """

    def __init__(
        self, reader: Reader, along: QueryShifts, groups: TokenGroups, classes: Classes, contexts: Sequence[Contexts]
    ) -> None:
        self.bias = along.vector
        layers, heads, size = self.bias.shape
        device = reader.device
        self.reader, self.along, self.groups, self.classes = reader, along, groups, classes
        self.scores = GroupedMoments(layers, heads, 2 * groups.number, device)
        self.count = 0
        self.keys = torch.zeros(layers, heads, size, dtype=torch.float64, device=device)
        self.products = torch.zeros(layers, heads, size, size, dtype=torch.float64, device=device)
        for batch in contexts:
            self._add(batch)
        spans = [*groups.sizes, *groups.sizes]  # of both halves
        parts = (part.split(spans, -1) for part in (self.scores.count, self.scores.sum, self.scores.squares))
        self.offsets = torch.cat([group_offsets(*each) for each in zip(*parts, strict=True)], -1).to(self.bias)

    def _add(self, contexts: Contexts) -> None:
        batch = Batch(contexts, self.classes, self.keys.device)
        groups = [group[batch.mask] for group in self.groups.of(contexts, self.keys.device).values()]
        self.count += len(batch.tokens)
        for group in groups:
            self.scores.count_groups(group)

        def see(layer: int, seen: SeenLayer) -> None:
            scores = seen.scores[batch.mask].T  # [head_index, token]
            for group in groups:
                self.scores.update(layer, scores, group)
            if self.reader.linear:
                keys = seen.keys[batch.mask].transpose(0, 1).double()  # [head_index, token, d_head]
                self.keys[layer] += keys.sum(1)
                self.products[layer] += keys.transpose(1, 2) @ keys

        self.reader.visit(batch, self.along, see)

    def offset_given(self, groups: Int64[Tensor, "batch pos"]) -> Float[Tensor, "layer batch head_index pos"]:
        """Return m(x) - m of each key's group, fitted on the half of the documents that its own is not in.

        0 for a group that the other half lacks; missing (nan) where there is no other half.
        """
        other = (groups + self.groups.number) % (2 * self.groups.number)
        return self.offsets[..., other].movedim(1, 2)

    def spread(self) -> Spread:
        """Return how each head's keys spread over all tokens."""
        mean = self.keys / self.count
        return Spread.of((self.products / self.count - mean[..., :, None] * mean[..., None, :]).cpu().numpy())


def group_offsets(
    count: Int64[Tensor, " group"],
    total: Float64[Tensor, "layer head_index group"],
    squares: Float64[Tensor, "layer head_index group"],
) -> Float64[Tensor, "layer head_index group"]:
    """Return m(x) - m of groups, from their counts, sums and sums of squares; missing (nan) without any value.

    m(x) is the best linear estimate under random effects: (mean_g - m) n_g t / (n_g t + s), where s is the mean square
    within groups, and t = (mean square between - s) / ((N - sum n_g^2 / N) / (G - 1)), at least 0, for G groups that occur.
    It is 0 where groups do not differ by more than chance, or each occurs once, so that nobody can say.
    """
    size, groups = count.sum(), (count > 0).sum()
    mean = total.sum(-1, keepdim=True) / size
    explained = torch.where(count > 0, total.square() / count, 0.0).sum(-1, keepdim=True)
    within = (squares.sum(-1, keepdim=True) - explained).clamp(min=0) / (size - groups)
    between = (explained - size * mean.square()) / (groups - 1)
    typical = (size - count.square().sum() / size) / (groups - 1)
    varied = count * ((between - within) / typical).clamp(min=0)  # n t
    offsets = ((total / count - mean) * varied / (varied + within)).nan_to_num(0.0)
    return offsets if size else offsets.fill_(torch.nan)
