"""Bias scores and what they depend on: their means over a text, and runs with other scores.

The bias score of key j is beta_j = b_Q . k_j / sqrt(d_head), the same for every query, with RoPE too: b_Q is added after the
rotation, and k_j is the rotated key. Its mean m(x) given what is known of the token, x (its position in the context, its
class, its type), is fitted on the unchanged model, for every head, on other documents: the even ones' for the odd, and
the odd ones' for the even. Scores may then be replaced by m(x_j) - m, or by what it leaves over, beta_j - (m(x_j) - m).
m is the mean of all that m(x) was fitted on: a constant cancels in the softmax, but a context may hold keys of both
halves, whose means of all differ, and that difference is nothing that is known of a key.

The mean of few scores is mostly noise, and a bias that is noise costs: most types occur once or twice. So m(x) is the
best linear estimate from the n scores of the group, m + (mean - m) n t / (n t + s), with t the variance of group means
and s that within groups, both from the analysis of variance (n large: the plain mean; an unseen group: m).
"""

from collections.abc import Sequence
from itertools import accumulate

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from interp.analysis.accumulators import GroupedMoments
from interp.analysis.attention import HeadVectors
from interp.analysis.batch import Classes, visit_queries_and_keys
from interp.analysis.nulls.spread import Spread
from interp.data.contexts import Contexts
from interp.model.transformer import HookedSymmetryBrokenTransformer

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

    For every head: the bias scores' sums by group, layers * heads * 4 * groups float64 numbers, and the keys' sums and
    products, layers * heads * d_head^2.
    """

    def __init__(
        self, model: HookedSymmetryBrokenTransformer, groups: TokenGroups, contexts: Sequence[Contexts]
    ) -> None:
        layers, heads, size = (bias := model.biases_in_force()[0].detach()).shape
        device = model.W_E.device
        self.model, self.groups, self.bias = model, groups, bias
        self.scores = GroupedMoments(layers, heads, 2 * groups.number, device)
        self.count = 0
        self.keys = torch.zeros(layers, heads, size, dtype=torch.float64, device=device)
        self.products = torch.zeros(layers, heads, size, size, dtype=torch.float64, device=device)
        for batch in contexts:
            self._add(batch)
        spans = [*groups.sizes, *groups.sizes]  # of both halves
        parts = (part.split(spans, -1) for part in (self.scores.count, self.scores.sum, self.scores.squares))
        self.offsets = torch.cat([group_offsets(*each) for each in zip(*parts, strict=True)], -1).to(bias)

    def _add(self, contexts: Contexts) -> None:
        mask = contexts.mask.to(self.keys.device)
        groups = [group[mask] for group in self.groups.of(contexts, self.keys.device).values()]
        self.count += int(mask.sum())
        for group in groups:
            self.scores.count_groups(group)

        def see(layer: int, q: HeadVectors, k: HeadVectors) -> None:
            keys = k[mask].transpose(0, 1)  # [head_index, token, d_head]
            scores = (keys * self.bias[layer, :, None]).sum(-1) / self.model.cfg.attn_scale
            for group in groups:
                self.scores.update(layer, scores, group)
            keys = keys.double()
            self.keys[layer] += keys.sum(1)
            self.products[layer] += keys.transpose(1, 2) @ keys

        visit_queries_and_keys(self.model, contexts.tokens.to(self.keys.device), see)

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


@torch.no_grad()
def run_rescored(
    model: HookedSymmetryBrokenTransformer,
    stream: Float[Tensor, "batch pos d_model"],
    kept: Float[Tensor, " run"],
    added: Float[Tensor, "layer run batch head_index pos"],
) -> Float[Tensor, "run batch pos d_model"]:
    """Run the model once for each replacement of its bias scores; return the residual streams after the last layer.

    Args:
        model: run from its first layer on.
        stream: the residual stream before it.
        kept, added: beta_j becomes kept * beta_j + added_j, beta_j the score in that run.
    """
    rows = stream.repeat(len(kept), 1, 1)  # [run * batch, pos, d_model]
    factors = kept.repeat_interleave(len(stream))[:, None, None]

    def replace(scores: Float[Tensor, "row head_index pos"], hook: HookPoint) -> Float[Tensor, "row head_index pos"]:
        return factors * scores + added[hook.layer()].flatten(0, 1)

    hooks = [(f"blocks.{layer}.attn.hook_bias_scores", replace) for layer in range(model.cfg.n_layers)]
    with model.hooks(fwd_hooks=hooks):
        last = model(rows, start_at_layer=0, stop_at_layer=model.cfg.n_layers)
    return last.unflatten(0, (len(kept), -1))
