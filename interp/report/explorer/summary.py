"""What a view shows, in one sentence."""

from __future__ import annotations

from interp.analysis.sentences.result import Sentence
from interp.report.explorer.view import View
from interp.report.text import number


def summary(sentence: Sentence, view: View) -> str:
    """Return what the bias does to the attention to the chosen class and to the loss, in this text.

    With the dial at 1 it is the direct effect of b_Q in this head: attention as trained, beside that without it.
    """
    after, before = sentence.loss()
    if view.scale == 1:
        return f"as trained: {_attention(sentence, view)}; loss {before:.3f} nats per token."
    loss = f"loss {before:.3f} → {after:.3f} nats per token ({number(after - before, 3)})"
    return f"{view.reading}: {_attention(sentence, view)}; {loss}."


def _attention(sentence: Sentence, view: View) -> str:
    shares = sentence.shares(view.scheme)
    layer, head = view.layer_and_head
    chosen = (shares["layer"] == layer) & (shares["head"] == head) & (shares["token_class"] == view.token_class)
    columns = ["n_tokens", "share", "share_unchanged", "share_unbiased", "log2_amplification"]
    n_tokens, share, unchanged, unbiased, amplification = shares.loc[chosen, columns].to_numpy(float)[0]
    if not n_tokens:
        return f"the text has no {view.token_class}"
    whose = f"attention of {view.head} to {view.token_class} (n = {n_tokens:.0f})"
    if view.scale == 1:
        return f"{whose} {unchanged:.1%}, without its own b_Q {unbiased:.1%} (A = {number(amplification)})"
    return f"{whose} {unchanged:.1%} → {share:.1%}"
