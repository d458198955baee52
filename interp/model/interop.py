"""Doors of the model class: in from checkpoints, out to TransformerLens and Hugging Face."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformer_lens.model_bridge.bridge import TransformerBridge
    from transformers import GPT2LMHeadModel

    from interp.model.transformer import HookedSymmetryBrokenTransformer


class Interop:
    """`from_pretrained`, `to_bridge`, `to_huggingface`; each imports what it needs when it is called."""

    @classmethod
    def from_pretrained(cls, path_or_name: str | Path, device: str = "auto") -> HookedSymmetryBrokenTransformer:
        """Load a checkpoint from a folder, by a bundled name or by a hub id: `interp.load_model` as a method.

        Raises:
            InterpError: there is none, or it is damaged.
        """
        from interp.model.checkpoint import load_model

        return load_model(path_or_name, device)

    def to_bridge(self: Any) -> TransformerBridge:
        """Return TransformerLens' `TransformerBridge` with the same logits, on copies of the weights.

        The biases in force in evaluation mode are folded into its b_Q and b_V. With RoPE b_Q is added after the rotation
        and cannot be: it stays beside them (see `interp.model.export.bridge`). Logits are equal but for rounding: in float32
        within 1e-5 (1 + |logit|), in float64 within 1e-12.
        """
        from interp.model.export.bridge import to_bridge

        return to_bridge(self)

    def to_huggingface(self: Any) -> GPT2LMHeadModel:
        """Return Hugging Face's GPT2LMHeadModel with the same logits, the biases folded into its own.

        Raises:
            InterpError: the model has a PReLU or RoPE, which GPT-2 does not know.
        """
        from interp.model.export.huggingface import to_huggingface

        return to_huggingface(self)
