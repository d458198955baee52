"""Text in, text out: TransformerLens' tokenization methods; and where tokens stand that are padded or follow others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache
from transformer_lens.cache.key_value_cache_entry import TransformerLensKeyValueCacheEntry
from transformer_lens.utilities.tokenize_utils import get_attention_mask
from transformers import PreTrainedTokenizerFast

from interp.errors import InterpError, check_choice, shown
from interp.model.config import ModelConfig
from interp.spelling import token_strings
from interp.vocabulary import NOT_SPLIT, border_id, library_errors

Mask = Int[Tensor, "batch pos"] | Bool[Tensor, "batch pos"]  # 1 or True: a real token
PaddingSide = Literal["left", "right"]


class TokenMethods:
    """`to_tokens`, `to_string`, `to_str_tokens`, `to_single_token`, ... of a model with `tokenizer` and `cfg`."""

    cfg: ModelConfig
    embed: nn.Embedding
    tokenizer: PreTrainedTokenizerFast | None

    def to_tokens(
        self,
        input: str | list[str],
        prepend_bos: bool | None = None,
        padding_side: PaddingSide | None = None,
        move_to_device: bool = True,
        truncate: bool = True,
    ) -> Int[Tensor, "batch pos"]:
        """Return token indices, the shorter texts padded to the longest.

        Args:
            input: a text, or several.
            prepend_bos: whether the text starts a document (default: `cfg.default_prepend_bos`, which is True).
            padding_side: where padding stands (default: the tokenizer's, which is "right").
            move_to_device: to the model's device, instead of the CPU.
            truncate: cut at n_ctx tokens.

        Raises:
            InterpError: no tokenizer, no text, or an argument that is none of those named.
        """
        rows = self._rows([input] if isinstance(input, str) else input, prepend_bos)
        rows = [row[: self.cfg.n_ctx] for row in rows] if truncate else rows
        tokens = self._padded(rows, padding_side)[0]
        return tokens.to(self.embed.weight.device) if move_to_device else tokens

    def to_string(self, tokens: Int[Tensor, "..."] | list[int]) -> str | list[str]:
        """Return the text of one row of tokens, or a list of texts for [batch, pos]."""
        rows = torch.as_tensor(tokens)
        if rows.ndim == 2:
            return [str(self.need_tokenizer().decode(row)) for row in rows]
        return str(self.need_tokenizer().decode(rows.flatten()))

    def to_str_tokens(
        self, input: str | list[str] | Int[Tensor, "..."], prepend_bos: bool | None = None
    ) -> list[str] | list[list[str]]:
        """Return each token of a text, or of one row of tokens, as a string; of a list of texts, a list for each.

        A piece of a character is U+FFFD; `interp.vocabulary.token_strings`, which the tables have, tells its bytes.
        """
        # As in TransformerLens, tokens decoded one by one: what is written for it compares and joins these strings.
        if isinstance(input, list):
            return [self._str_tokens(self.to_tokens(text, prepend_bos)) for text in input]
        return self._str_tokens(self.to_tokens(input, prepend_bos) if isinstance(input, str) else input)

    def to_single_token(self, string: str) -> int:
        """Return the index of a string that is one token.

        Raises:
            InterpError: it is more than one token.
        """
        tokens = self.to_tokens(string, prepend_bos=False)[0]
        if len(tokens) != 1:
            parts = token_strings(self.need_tokenizer(), tokens.tolist())
            raise InterpError(f"{string!r} is {len(parts)} tokens, {parts}; one is expected.")
        return int(tokens)

    def to_single_str_token(self, int_token: int) -> str:
        """Return the string of one token index."""
        return self._str_tokens(torch.tensor([int_token]))[0]

    def get_token_position(
        self,
        single_token: str | int,
        input: str | Int[Tensor, " pos"] | Int[Tensor, "1 pos"],
        mode: Literal["first", "last"] = "first",
        prepend_bos: bool | None = None,
    ) -> int:
        """Return the first or last position of a token in a text or in one row of tokens.

        Raises:
            InterpError: the token does not occur, the string is more than one token, or the mode is another.
        """
        check_choice("mode", mode, ("first", "last"))
        row = (self.to_tokens(input, prepend_bos) if isinstance(input, str) else input).flatten()
        token = self.to_single_token(single_token) if isinstance(single_token, str) else single_token
        found = (row == token).nonzero().flatten().tolist()
        if not found:
            raise InterpError(f"{single_token!r} does not occur in these {len(row)} tokens; see model.to_str_tokens.")
        return found[0] if mode == "first" else found[-1]

    def _str_tokens(self, tokens: Int[Tensor, "..."]) -> list[str]:
        return [str(self.need_tokenizer().decode([index])) for index in tokens.flatten().tolist()]

    def _rows(self, texts: list[str], prepend_bos: bool | None) -> list[list[int]]:
        tokenizer = self.need_tokenizer()
        if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
            raise InterpError(
                f"The input is {shown(texts)}; a text, a list of texts or a tensor of tokens is expected."
            )
        if not texts:
            raise InterpError("There is no text in the list; give at least one.")
        bos = [border_id(tokenizer)] if self._begins(prepend_bos) else []
        with library_errors(*NOT_SPLIT):
            return [bos + list(tokenizer.encode(text, add_special_tokens=False)) for text in texts]

    def _padded(
        self, rows: list[list[int]], side: PaddingSide | None
    ) -> tuple[Int[Tensor, "batch pos"], Int[Tensor, "batch pos"]]:
        """Return rows of tokens as a rectangle, and its attention mask."""
        check_choice("padding_side", side, (None, "left", "right"))
        tokenizer, texts = self.need_tokenizer(), [torch.tensor(row, dtype=torch.long) for row in rows]
        pad, at = tokenizer.pad_token_id, side or tokenizer.padding_side
        pad = pad if isinstance(pad, int) else border_id(tokenizer)
        mask = pad_sequence([torch.ones_like(text) for text in texts], batch_first=True, padding_side=at)
        return pad_sequence(texts, batch_first=True, padding_value=pad, padding_side=at), mask

    def _tokens_of(
        self, input: str | list[str] | Tensor, prepend_bos: bool | None, side: PaddingSide | None
    ) -> tuple[Int[Tensor, "batch pos"], Mask | None]:
        """Return an input as tokens and, where padding is known of, the attention mask.

        As in TransformerLens, padding in a tensor is looked for only if a side is named: then pad tokens at that edge
        are padding, but for the one that is the row's bos.
        """
        if isinstance(input, Tensor):
            tokens = input[None] if input.ndim == 1 else input
            if tokens.ndim != 2 or tokens.is_floating_point():
                raise InterpError(
                    f"The input is {shown(input)}; tokens are whole numbers [batch, pos], and a residual stream needs "
                    "start_at_layer=..."
                )
            check_choice("padding_side", side, (None, "left", "right"))
            if side is None:
                return tokens, None
            return tokens, get_attention_mask(self.need_tokenizer(), tokens, self._begins(prepend_bos), side)
        tokens, mask = self._padded(self._rows([input] if isinstance(input, str) else input, prepend_bos), side)
        device = self.embed.weight.device
        return tokens.to(device), None if bool(mask.all()) else mask.to(device)

    def _begins(self, prepend_bos: bool | None) -> bool:
        """Return whether a text starts a document."""
        if not isinstance(prepend_bos, bool | None):
            raise InterpError(
                f"prepend_bos is {shown(prepend_bos)}; True, False, or None for cfg.default_prepend_bos is expected."
            )
        return bool(self.cfg.default_prepend_bos) if prepend_bos is None else prepend_bos

    def need_tokenizer(self) -> PreTrainedTokenizerFast:
        """Return the tokenizer.

        Raises:
            InterpError: the model has none.
        """
        if self.tokenizer is None:
            raise InterpError("This model has no tokenizer; pass token indices, or give it one: model.tokenizer = ...")
        return self.tokenizer


@dataclass(frozen=True)
class Positions:
    """The positions of the tokens of a forward pass, and which keys each of them may attend to."""

    ids: Int[Tensor, "batch pos"]
    visible: Bool[Tensor, "batch 1 pos key_pos"]

    @classmethod
    def of(cls, mask: Mask) -> Positions:
        """Return the positions of a whole batch: causal, and no key that `mask` names as padding."""
        real = mask.bool()
        causal = torch.ones(real.shape[1], real.shape[1], dtype=torch.bool, device=mask.device).tril()
        return cls((real.long().cumsum(1) - 1).clamp(min=0), (causal & real[:, None, :])[:, None])

    def last(self, count: int) -> Positions:
        """Return the last `count` positions, which see all keys they may."""
        return Positions(self.ids[:, -count:], self.visible[:, :, -count:])

    def softmax(
        self, scores: Float[Tensor, "batch head_index pos key_pos"]
    ) -> Float[Tensor, "batch head_index pos key_pos"]:
        """Return the pattern of masked scores; padding that sees nothing attends to nothing, and its gradient is 0."""
        blind = ~self.visible.any(-1, keepdim=True)  # [batch, 1, pos, 1]
        return scores.masked_fill(blind, 0.0).softmax(-1).masked_fill(blind, 0.0)


def init_cache(cfg: ModelConfig, batch: int, device: torch.device, dtype: torch.dtype) -> TransformerLensKeyValueCache:
    """Return an empty `past_kv_cache` for a batch of this size; of grouped heads it keeps what each head reads."""
    empty = torch.empty(batch, 0, cfg.n_heads, cfg.d_head, device=device, dtype=dtype)
    entries = [TransformerLensKeyValueCacheEntry(empty, empty) for _ in range(cfg.n_layers)]
    return TransformerLensKeyValueCache(entries, torch.empty(batch, 0, dtype=torch.int, device=device))


def positions_of(
    input: Tensor, mask: Mask | None, past: TransformerLensKeyValueCache | None, n_ctx: int
) -> Positions | None:
    """Return where the tokens of an input [batch, pos, ...] stand; None is the plain case, no padding and no past.

    Raises:
        InterpError: a mask of another shape, or more positions than n_ctx with the past.
    """
    batch, pos = input.shape[:2]
    if mask is not None and mask.shape != (batch, pos):
        raise InterpError(f"attention_mask has shape {list(mask.shape)}; the tokens have {[batch, pos]}.")
    before = 0 if past is None else past.previous_attention_mask.shape[1]
    if before + pos > n_ctx:
        history = f", {before} of them in past_kv_cache" if before else ""
        raise InterpError(f"The input has {before + pos} positions{history}; this model has n_ctx {n_ctx}: pass fewer.")
    if mask is None and past is None:
        return None
    mask = torch.ones(batch, pos, dtype=torch.int, device=input.device) if mask is None else mask
    if past is None:
        return Positions.of(mask)
    return Positions.of(past.append_attention_mask(mask)).last(pos)
