"""How likely a model finds given continuations of given tokens, in batches; puzzles and lm-eval both stand on it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from interp.errors import InterpError
from interp.model.transformer import HookedSymmetryBrokenTransformer


class Continuation(NamedTuple):
    """Tokens to be scored, after a prefix of at least one token."""

    prefix: list[int]
    tokens: list[int]


@dataclass(frozen=True)
class TokenScores:
    """What a model says of each token of one continuation, given the prefix and the tokens before it."""

    losses: Float64[np.ndarray, " token"]  # cross-entropy in nats
    higher: Int64[np.ndarray, " token"]  # how many entries of the vocabulary have a higher logit
    tied: Int64[np.ndarray, " token"]  # how many have the same logit, itself among them
    guess: int  # the likeliest first token

    @property
    def rank(self) -> float:
        """The rank of the first token, 1 the likeliest; tied entries share the mean of their ranks."""
        return float(self.higher[0] + (self.tied[0] + 1) / 2)

    @property
    def greedy(self) -> bool:
        """Whether every token is likelier than every other one."""
        return bool(((self.higher == 0) & (self.tied == 1)).all())

    def within(self, k: int) -> Float64[np.ndarray, " token"]:
        """Return how likely each token is among the k likeliest, if ties are broken at random: 1, 0, or between in a tie."""
        return np.clip((k - self.higher) / self.tied, 0.0, 1.0)


@torch.no_grad()
def score_continuations(
    model: HookedSymmetryBrokenTransformer,
    continuations: Sequence[Continuation],
    batch_size: int = 32,
    on_scored: Callable[[int], None] = lambda count: None,
) -> list[TokenScores]:
    """Score continuations in evaluation mode; the model's former mode is restored.

    Rows are padded on the right, where causal attention does not see them, so `batch_size` changes results by float32
    rounding only. `on_scored` hears how many each batch has scored.

    Raises:
        InterpError: an empty prefix or continuation, more tokens than n_ctx, logits that are not finite.
    """
    for number, one in enumerate(continuations, start=1):
        if not one.prefix or not one.tokens:
            raise InterpError(
                f"Continuation {number} has no token to score or none before it; give at least one of each."
            )
        length, n_ctx = len(one.prefix) + len(one.tokens) - 1, model.cfg.n_ctx
        if length > n_ctx:
            raise InterpError(
                f"Continuation {number} needs {length} positions; this model has n_ctx {n_ctx}: shorten it."
            )
    order = sorted(range(len(continuations)), key=lambda i: sum(map(len, continuations[i])))  # little padding
    scores: dict[int, TokenScores] = {}
    with model.evaluating():
        for start in range(0, len(order), max(batch_size, 1)):
            batch = order[start : start + batch_size]
            scores.update(zip(batch, _scored(model, [continuations[i] for i in batch]), strict=True))
            on_scored(len(batch))
    return [scores[i] for i in range(len(continuations))]


def _scored(model: HookedSymmetryBrokenTransformer, batch: Sequence[Continuation]) -> list[TokenScores]:
    rows = [torch.tensor(one.prefix + one.tokens[:-1]) for one in batch]
    logits = model(pad_sequence(rows, batch_first=True).to(model.embed.weight.device))  # [batch, pos, d_vocab]
    ends = [(len(one.prefix) - 1, len(row)) for one, row in zip(batch, rows, strict=True)]
    return [
        _token_scores(logits[row, first:end].float(), torch.tensor(one.tokens, device=logits.device))
        for row, ((first, end), one) in enumerate(zip(ends, batch, strict=True))
    ]


def _token_scores(logits: Tensor, tokens: Tensor) -> TokenScores:
    """Return the scores of tokens [token] by the logits [token, d_vocab] that predict them."""
    if not bool(logits.isfinite().all()):
        raise InterpError("The model's logits are not finite; its weights have diverged.")
    own = logits.gather(1, tokens[:, None])  # [token, 1]
    losses = -logits.double().log_softmax(-1).gather(1, tokens[:, None])[:, 0]
    higher, tied = (logits > own).sum(-1), (logits == own).sum(-1)
    return TokenScores(losses.cpu().numpy(), higher.cpu().numpy(), tied.cpu().numpy(), int(logits[0].argmax()))
