"""Text in, text out: TransformerLens' tokenization methods."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from interp.errors import InterpError
from interp.model.config import ModelConfig


class TokenMethods:
    """`to_tokens`, `to_string`, `to_str_tokens`, `to_single_token` of a model with `tokenizer` and `cfg`."""

    cfg: ModelConfig
    embed: nn.Embedding
    tokenizer: PreTrainedTokenizerFast | None

    def to_tokens(self, input: str | list[str], prepend_bos: bool | None = None) -> Int[Tensor, "batch pos"]:
        """Return token indices; texts of one call must give equally many tokens (padding would need a mask).

        Raises:
            InterpError: no tokenizer, or texts of different lengths.
        """
        tokenizer = self.need_tokenizer()
        texts = [input] if isinstance(input, str) else input
        bos = [tokenizer.bos_token_id] if prepend_bos in (None, True) else []
        rows = [bos + tokenizer.encode(text, add_special_tokens=False) for text in texts]
        if len({len(row) for row in rows}) > 1:
            raise InterpError(
                f"The texts have {[len(row) for row in rows]} tokens; pass texts of equal length, or one at a time."
            )
        return torch.tensor(rows, dtype=torch.long, device=self.embed.weight.device)

    def to_string(self, tokens: Int[Tensor, ...] | list[int]) -> str | list[str]:
        """Return the text of one row of tokens, or a list of texts for [batch, pos]."""
        rows = torch.as_tensor(tokens)
        if rows.ndim == 2:
            return [str(self.need_tokenizer().decode(row)) for row in rows]
        return str(self.need_tokenizer().decode(rows.flatten()))

    def to_str_tokens(self, input: str | Int[Tensor, ...], prepend_bos: bool | None = None) -> list[str]:
        """Return each token of a text, or of one row of tokens, as a string."""
        tokens = self.to_tokens(input, prepend_bos) if isinstance(input, str) else input
        return [str(self.need_tokenizer().decode([index])) for index in tokens.flatten().tolist()]

    def to_single_token(self, string: str) -> int:
        """Return the index of a string that is one token.

        Raises:
            InterpError: it is more than one token.
        """
        tokens = self.to_tokens(string, prepend_bos=False)[0]
        if len(tokens) != 1:
            raise InterpError(
                f"{string!r} is {len(tokens)} tokens, {self.to_str_tokens(string, False)}; one is expected."
            )
        return int(tokens)

    def _tokens_of(self, input: str | list[str] | Tensor, prepend_bos: bool | None) -> Int[Tensor, "batch pos"]:
        tokens = input if isinstance(input, Tensor) else self.to_tokens(input, prepend_bos)
        tokens = tokens[None] if tokens.ndim == 1 else tokens
        if tokens.shape[1] > self.cfg.n_ctx:
            raise InterpError(
                f"The input has {tokens.shape[1]} positions; this model has n_ctx {self.cfg.n_ctx}: pass fewer."
            )
        return tokens

    def need_tokenizer(self) -> PreTrainedTokenizerFast:
        """Return the tokenizer.

        Raises:
            InterpError: the model has none.
        """
        if self.tokenizer is None:
            raise InterpError("This model has no tokenizer; pass token indices, or give it one: model.tokenizer = ...")
        return self.tokenizer
