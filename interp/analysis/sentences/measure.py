"""Read a text with a model as it is, and again with its biases scaled: attention, loss and predictions of both."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.analysis.interventions.places import Place, places
from interp.analysis.interventions.plan import Intervention, Part, changes
from interp.analysis.interventions.runs import run_changed, run_unchanged
from interp.analysis.passages import received_attention
from interp.analysis.sentences.result import Sentence
from interp.analysis.sentences.tagged import Schemes, schemes_for_sentences, tag_sentence
from interp.data.pipelines import DEFAULT_PIPELINE
from interp.errors import InterpError
from interp.model.bias import BiasSource
from interp.model.transformer import HookedSymmetryBrokenTransformer

LogProbabilities = Float[Tensor, "pos d_vocab"]


def read_sentence(
    model: HookedSymmetryBrokenTransformer,
    text: str,
    schemes: Schemes = ("pos",),
    *,
    scale: float = 1.0,
    where: str = "all",
    part: Part = "qv",
    bias: BiasSource | None = None,
    top: int = 5,
    pipeline: str = DEFAULT_PIPELINE,
) -> Sentence:
    """Read one text, as a document, with the model as it is and with its biases scaled.

    Args:
        model: run in evaluation mode.
        text: at most n_ctx - 1 tokens.
        schemes: what divides the tokens into classes, as in `interp.amplification`.
        scale: 0 removes the biases, 1 leaves them, 2 doubles them.
        where: "all", a layer ("L3") or a head ("L3H7").
        part: which biases are scaled: "q" (b_Q), "v" (b_V) or "qv" (both).
        bias: which biases the unchanged model has: "mean", "sample" or "none"; None leaves those in force, which are the
            mean unless `model.bias` says otherwise.
        top: candidates for the next token, of each reading.
        pipeline: the installed spaCy pipeline that tags.

    Raises:
        InterpError: no text, too long a text, or a scheme, layer or head that is not there.
    """
    tokens = tag_sentence(model, text, schemes_for_sentences(model, schemes, pipeline), pipeline)
    return measure_sentence(model, text, tokens, scale=scale, where=where, part=part, bias=bias, top=top)


def measure_sentence(
    model: HookedSymmetryBrokenTransformer,
    text: str,
    tokens: pd.DataFrame,
    *,
    scale: float = 1.0,
    where: str = "all",
    part: Part = "qv",
    bias: BiasSource | None = None,
    top: int = 5,
) -> Sentence:
    """Do what `read_sentence` does with a text that is tagged already (`tag_sentence`)."""
    place = _one_place(model, where)
    if not np.isfinite(scale):
        raise InterpError(f"The biases cannot be scaled by {scale}; give a number such as 0, 1 or 2.")
    ids = torch.tensor(tokens["token_index"].to_numpy(), device=model.W_E.device)[None]  # [1, pos]
    was_training = model.training
    try:
        with torch.no_grad(), model.eval().bias(bias=bias):
            unchanged, changed, streams = _both_readings(model, ids, place, scale, part)
            before, after = (_log_probabilities(model, stream) for stream in streams)
    finally:
        model.train(was_training)
    return Sentence(
        tokens=tokens.assign(**_losses(before, after, ids[0])),
        scores=_scores(unchanged, changed),
        predictions=_predictions(model, before, after, top),
        run={"text": text, "model": model.cfg.model_name, "scale": scale, "where": place.name, "part": part, "bias": bias},
    )  # fmt: skip


def _one_place(model: HookedSymmetryBrokenTransformer, where: str) -> Place:
    found = places(where, model.cfg.n_layers, model.cfg.n_heads)
    if len(found) > 1:
        raise InterpError(f"{where!r} names {len(found)} places; scale at one: all, a layer (L3) or a head (L3H7).")
    return found[0]


def _both_readings(
    model: HookedSymmetryBrokenTransformer, ids: Int[Tensor, "1 pos"], place: Place, scale: float, part: Part
) -> tuple[list[Tensor], list[Tensor], tuple[Tensor, Tensor]]:
    """Return per layer the unchanged bias scores and attention with and without b_Q [3, head_index, pos], the changed
    attention [head_index, pos], and both residual streams after the last layer.
    """
    biases = torch.stack(model.biases_in_force()).detach()  # [2, layer, head_index, d_head]
    unchanged: list[Tensor] = []

    def see(layer: int, q: Tensor, k: Tensor) -> None:
        bias_q = biases[0, layer]
        scores = (k * bias_q).sum(-1)[0].T / model.cfg.attn_scale
        unchanged.append(torch.stack([scores, received_attention(q, k)[0], received_attention(q - bias_q, k)[0]]))

    streams = run_unchanged(model, ids, see)
    changed = [of_layer[1] for of_layer in unchanged]

    def see_changed(layer: int, q: Tensor, k: Tensor) -> None:
        changed[layer] = received_attention(q, k)[0]

    change = changes(biases, [Intervention(place, scale)], part, seed=0)[0]
    first = place.layer or 0
    last = run_changed(model, streams[first], first, change[None], see_changed)
    return unchanged, changed, (streams[-1][0], last[0, 0])


def _log_probabilities(
    model: HookedSymmetryBrokenTransformer, stream: Float[Tensor, "pos d_model"]
) -> LogProbabilities:
    logits = model(stream[None], start_at_layer=model.cfg.n_layers)[0]
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)


def _losses(before: LogProbabilities, after: LogProbabilities, ids: Int[Tensor, " pos"]) -> dict[str, np.ndarray]:
    """Return the columns about predicting each token; the first has no prediction."""
    losses = [-read[:-1].gather(1, ids[1:, None])[:, 0] for read in (after, before)]
    kl = (before.exp() * (before - after)).sum(-1)[:-1]
    columns = torch.stack([*losses, losses[0] - losses[1], kl]).double().cpu().numpy()
    names = ("loss", "loss_unchanged", "difference", "kl")
    return {name: np.append(np.nan, column) for name, column in zip(names, columns, strict=True)}


def _scores(unchanged: list[Tensor], changed: list[Tensor]) -> pd.DataFrame:
    score, with_bias, without = torch.stack(unchanged, 1).double().cpu().numpy()  # [layer, head_index, pos] each
    contrast = score - score[..., 1:].mean(-1, keepdims=True)
    columns = {
        "bias_score": score, "bias_score_contrast": contrast, "attention": torch.stack(changed).double().cpu().numpy(),
        "attention_unchanged": with_bias, "attention_unbiased": without,
    }  # fmt: skip
    index = pd.MultiIndex.from_product([range(size) for size in score.shape], names=["layer", "head", "place"])
    return pd.DataFrame({name: values.ravel() for name, values in columns.items()}, index=index).reset_index()


def _predictions(
    model: HookedSymmetryBrokenTransformer, before: LogProbabilities, after: LogProbabilities, top: int
) -> pd.DataFrame:
    each = max(1, min(top, before.shape[1]))
    candidates = torch.cat([read.topk(each).indices for read in (before, after)], 1)  # [pos, candidate]
    columns = {}
    for name, read in (("", after), ("_unchanged", before)):
        chosen = read.gather(1, candidates)
        columns[f"probability{name}"] = chosen.exp()
        columns[f"rank{name}"] = torch.stack([1 + (read > one[:, None]).sum(1) for one in chosen.T], 1)
    table = pd.DataFrame({name: values.flatten().cpu().numpy() for name, values in columns.items()})
    index = candidates.flatten().cpu().numpy()
    strings = [model.to_single_str_token(int(token)) for token in index]
    table.insert(0, "place", np.repeat(np.arange(len(candidates)), candidates.shape[1]))
    table.insert(1, "token_index", index)
    table.insert(2, "token_string", strings)
    return table.drop_duplicates(["place", "token_index"]).sort_values(["place", "rank_unchanged"], ignore_index=True)
