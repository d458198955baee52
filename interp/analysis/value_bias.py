"""What the value bias b_V writes: the tokens whose logits it raises, read from the weights alone.

Every row of an attention pattern sums to 1, so the heads of a layer add the constant b_V W_O to the residual stream at
every position, whatever the text. Its direct path to the logits goes through the final norm and the unembedding (what later
layers make of it is in the total effect, `interp.analysis.interventions` with ``part="v"``).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from interp.model.transformer import HookedSymmetryBrokenTransformer


@torch.no_grad()
def value_bias_logits(
    model: HookedSymmetryBrokenTransformer, inverse_scale: float = 1.0
) -> Float[Tensor, "layer head_index d_vocab"]:
    """Return what each head's value bias adds to the logits directly, less its mean over the vocabulary.

    The final norm is linear but for its division by the stream's standard deviation, which is held at what it is: with
    u = b_V W_O of a head, the logits get inverse_scale * (u - mean(u)) * w W_U, with w the norm's weights; its shift b is no
    part of it. A constant over the vocabulary changes no probability. Layers are the sums of their heads.

    Args:
        model: the biases in force are taken (`model.bias` chooses them).
        inverse_scale: mean of 1 / (standard deviation of the final residual stream) over a corpus, as
            `interp.analysis.value_effect` measures it; at 1 the logits are right up to this one factor.
    """
    written = model.bias_OV  # [layer, head_index, d_model]
    centred = (written - written.mean(-1, keepdim=True)) * model.ln_final.w * inverse_scale
    logits = model.unembed(centred)
    return logits - logits.mean(-1, keepdim=True)
