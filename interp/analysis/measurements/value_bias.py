"""What the value bias meets on text: values along b_V per class, and the scale of the final norm that its logits need.

Component: v . b_V / |b_V| with v before b_V is added, per class; |b_V| is what the bias adds to every one of them. What the
model loses without b_V is a total effect: `interp.analysis.interventions` with ``part="v"`` and scale 0.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from interp.analysis.accumulators import GroupedMoments, Sums
from interp.analysis.batch import Batch, Classes, DocumentCounts
from interp.analysis.measurement import as_numpy, per_head
from interp.analysis.measurements.static_alignment import extremes_table
from interp.analysis.measurements.top_tokens import MIN_COUNT, VALUE_COLUMNS, K, _named, fitting_k, token_counts
from interp.data.classes.scheme import Scheme
from interp.data.contexts import Contexts, TaggedDocument, pack
from interp.errors import InterpError
from interp.model.attention import for_each_head
from interp.model.bias import BiasSource
from interp.model.transformer import HookedSymmetryBrokenTransformer
from interp.vocabulary import border_id

VALUE_TOKENS = 6000  # of the beginnings of documents: enough for means of components


@dataclass(frozen=True)
class ValueBias:
    """What was found of b_V on text.

    Attributes:
        components: one row per (layer, head, scheme, class): `n_tokens`, `bias_norm` |b_V|, `component_mean`,
            `component_sd` of v along b_V, and `component_contrast` to the head's mean. Missing without a mean value bias.
        inverse_scale: mean of 1 / (scale of the final norm), for `value_bias_logits`.
    """

    components: pd.DataFrame
    inverse_scale: float


class ValueSums(Sums):
    """Sums over the corpus behind `ValueBias`; `update` with contexts. Memory does not grow."""

    PARTS = ("components", "inverse_scale")

    def __init__(self, model: HookedSymmetryBrokenTransformer, classes: Classes) -> None:
        device = model.W_E.device
        self.model, self.numbering = model, classes
        self.components = GroupedMoments(model.cfg.n_layers, model.cfg.n_heads, classes.number, device)
        self.inverse_scale = torch.zeros(2, dtype=torch.float64, device=device)  # sum, tokens

    @torch.no_grad()
    def update(self, contexts: Contexts) -> None:
        """Run the model over a batch, and add it."""
        batch = Batch(contexts, self.numbering, self.model.W_E.device)
        for row in batch.classes:
            self.components.count_groups(row)
        unit = torch.nn.functional.normalize(self.model.biases_in_force()[1], dim=-1)

        def see_values(v: Float[Tensor, "batch pos kv_head d_head"], hook: HookPoint) -> None:
            values = for_each_head(v, self.model.cfg.n_heads)[batch.mask]
            along = (values * unit[hook.layer()]).sum(-1).T  # [head_index, token]
            for row in batch.classes:
                self.components.update(hook.layer(), along, row)

        def see_stream(stream: Float[Tensor, "batch pos d_model"], hook: HookPoint) -> None:
            inverse = 1 / self.model.ln_final.scale(stream[batch.mask].double())
            self.inverse_scale += torch.stack([inverse.sum(), inverse.new_tensor(float(inverse.numel()))])

        hooks = [(f"blocks.{layer}.attn.hook_v", see_values) for layer in range(self.model.cfg.n_layers)]
        last = f"blocks.{self.model.cfg.n_layers - 1}.hook_resid_post"
        with self.model.hooks(fwd_hooks=[*hooks, (last, see_stream)]):
            self.model(batch.contexts, stop_at_layer=self.model.cfg.n_layers)


def measure_value_bias(
    model: HookedSymmetryBrokenTransformer,
    documents: Iterable[TaggedDocument],
    schemes: Sequence[Scheme],
    *,
    max_tokens: int | None = None,
    batch_size: int = 8,
) -> ValueBias:
    """Measure the value side of every head with the mean biases in force.

    Args:
        model: run in evaluation mode.
        documents: tagged with exactly these schemes; whole documents are used until `max_tokens`.
        schemes: partitions of the tokens.
        max_tokens: stop before the document that would exceed it.
        batch_size: contexts per forward pass.

    Raises:
        InterpError: no document, or a model without tokenizer.
    """
    classes = Classes.of(schemes)
    counts, pad_token = DocumentCounts(classes), border_id(model.need_tokenizer())
    sums = ValueSums(model, classes)
    with model.evaluating():
        for contexts in pack(counts.passing(documents, max_tokens), model.cfg.n_ctx, batch_size, pad_token):
            sums.update(contexts)
        bias_norm = model.biases_in_force()[1].norm(dim=-1)
    if not counts.documents:
        raise InterpError("The corpus has no document to measure; give one that is not empty.")
    moments, (names, labels) = sums.components, classes.labels()
    overall = moments.overall(classes.spans)
    norms = bias_norm.double()[..., None].expand_as(overall)
    values = {
        "component_mean": moments.mean(), "component_sd": moments.variance().sqrt(),
        "component_contrast": moments.mean() - overall,
    }  # fmt: skip
    layers, heads, _ = overall.shape
    frame = per_head(layers, heads, "place", len(labels))
    place = frame.pop("place").to_numpy()
    shown = {name: as_numpy(torch.where(norms > 0, value, torch.nan)).ravel() for name, value in values.items()}
    frame = frame.assign(
        scheme=names[place], token_class=labels[place], n_tokens=as_numpy(moments.count)[place],
        bias_norm=as_numpy(norms).ravel(), **shown,
    )  # fmt: skip
    inverse, tokens = sums.inverse_scale.tolist()
    return ValueBias(frame, inverse / tokens)


@torch.no_grad()
def value_bias_logits(
    model: HookedSymmetryBrokenTransformer, inverse_scale: float = 1.0
) -> Float[Tensor, "layer head_index d_vocab"]:
    """Return what each head's value bias adds to the logits directly, less its mean over the vocabulary.

    With u = b_V W_O of a head, the logits get N(u) W_U, where N is the final norm at a scale that is held
    (`Norm.linearize`). A constant over the vocabulary changes no probability. Layers are the sums of their heads.

    Args:
        model: the biases in force are taken (`model.bias` chooses them).
        inverse_scale: mean of 1 / (scale of the final norm) over a corpus, as
            `interp.analysis.measurements.value_bias` measures it; at 1 the logits are right up to this one factor.
    """
    logits = model.unembed(model.ln_final.linearize(inverse_scale)(model.bias_OV))
    return logits - logits.mean(-1, keepdim=True)


def value_tables(
    model: HookedSymmetryBrokenTransformer,
    tokens: pd.DataFrame,
    documents: Iterable[TaggedDocument],
    schemes: Sequence[Scheme],
    *,
    bias: BiasSource = "mean",
    k: int = K,
    min_count: int = MIN_COUNT,
    max_tokens: int | None = None,
    batch_size: int = 8,
) -> dict[str, pd.DataFrame]:
    """Return the tables `value_tokens` and `value_components`; without a mean value bias both are empty, and nothing runs.

    Args:
        model: run over the documents in evaluation mode, for the components and for the scale of the final norm.
        tokens: `Amplification.tokens` of the model, from which tokens are listed.
        documents, schemes, max_tokens, batch_size: as in `measure_value_bias`; nothing is read where there is no value bias.
        bias: "none" leaves b_V out, "component:2" takes a component of it; else its mean is taken, for "sample" too.
        k, min_count: as in `static_tables`.

    Raises:
        InterpError: no document.
    """
    with model.bias(bias="mean" if bias == "sample" else bias):
        if not model.biases_in_force()[1].any():
            return _named(model, VALUE_COLUMNS, {})
        measured = measure_value_bias(model, documents, schemes, max_tokens=max_tokens, batch_size=batch_size)
        silent = (model.biases_in_force()[1] == 0).all(-1, keepdim=True)
        logits = value_bias_logits(model, measured.inverse_scale).masked_fill(silent, torch.nan).cpu()
    count = token_counts(tokens, model.cfg.d_vocab)
    k = fitting_k(logits, count, k, min_count)
    listed = extremes_table(model, logits, count, k, min_count, "logit") if k else pd.DataFrame()
    return _named(model, VALUE_COLUMNS, {"value_tokens": listed, "value_components": measured.components})
