"""Text out of a model: greedy or sampled continuation, with cached keys and values."""

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from jaxtyping import Int
from rich.console import Console
from rich.progress import track
from torch import Tensor
from transformer_lens.utilities.logits_utils import sample_logits

from interp.errors import InterpError, check_choice, check_number
from interp.model.tokens import Mask, TokenMethods, init_cache


class Generation(TokenMethods):
    """`generate` of a model that can be called."""

    __call__: Callable[..., Any]

    @torch.no_grad()
    def generate(
        self,
        input: str | list[str] | Int[Tensor, "batch pos"] | Int[Tensor, " pos"] = "",
        max_new_tokens: int = 10,
        stop_at_eos: bool = True,
        eos_token_id: int | list[int] | None = None,
        do_sample: bool = True,
        top_k: int | None = None,
        top_p: float | None = None,
        temperature: float = 1.0,
        freq_penalty: float = 0.0,
        use_past_kv_cache: bool = True,
        prepend_bos: bool | None = None,
        padding_side: Literal["left", "right"] | None = None,
        return_type: Literal["input", "str", "tokens"] = "input",
        verbose: bool = True,
        seed: int | None = None,
        attention_mask: Mask | None = None,
    ) -> str | list[str] | Int[Tensor, "batch all_pos"]:
        """Continue a text; arguments are TransformerLens', and `seed`.

        Args:
            input: a text, several (which are padded on the left), or tokens, of which those of padding are named by
                `attention_mask` or by `padding_side="left"`.
            max_new_tokens: at most this many; with the prompt at most n_ctx, for positions beyond it were never trained.
            stop_at_eos: a row that reached `eos_token_id` (default: the tokenizer's) is filled up with it.
            do_sample: sample, or take the likeliest token.
            top_k, top_p, temperature, freq_penalty: of the sampling, as in TransformerLens.
            use_past_kv_cache: keep keys and values instead of computing them again; the same up to rounding.
            prepend_bos: for text, whether it starts a document (default: `cfg.default_prepend_bos`, which is True).
            return_type: "str", "tokens" (with the prompt), or "input": what the input was.
            verbose: show progress on stderr.
            seed: of the sampling; without one, torch's global state is used and moved on.

        Raises:
            InterpError: prompt and continuation exceed n_ctx, no tokens to start from, no token to stop at, or an argument
                that is none of those named.
        """
        check_choice("return_type", return_type, ("input", "str", "tokens"))
        check_number("max_new_tokens", max_new_tokens, 0, self.cfg.n_ctx, whole=True)
        as_tokens = return_type == "tokens" or (return_type == "input" and isinstance(input, Tensor))
        decode = None if as_tokens else self.need_tokenizer().decode
        tokens, known = self._tokens_of(input, prepend_bos, "left" if isinstance(input, list) else padding_side)
        mask = known if attention_mask is None else attention_mask
        mask = torch.ones_like(tokens) if mask is None else mask.to(tokens)
        self._check_prompt(tokens, mask, max_new_tokens)
        sampling = {"top_k": top_k, "top_p": top_p, "freq_penalty": freq_penalty}
        sampling["temperature"] = temperature if do_sample else 0.0
        stop = None
        if stop_at_eos:
            if eos_token_id is None and self.tokenizer is None:
                raise InterpError(
                    "This model has no tokenizer to say what ends a text; give eos_token_id, or stop_at_eos=False."
                )
            ends = self.need_tokenizer().eos_token_id if eos_token_id is None else eos_token_id
            stop = torch.tensor(ends if isinstance(ends, list) else [ends]).to(tokens)
        steps = track(
            range(max_new_tokens), "Generating", console=Console(stderr=True), disable=not verbose, transient=True
        )
        with torch.random.fork_rng(enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            tokens = self._continue(tokens, mask, steps, sampling, stop, use_past_kv_cache)
        if decode is None:
            return tokens
        texts = [str(decode(row, skip_special_tokens=True)) for row in tokens]
        return texts if isinstance(input, list) or len(texts) > 1 else texts[0]

    def _continue(
        self, tokens: Tensor, mask: Tensor, steps: Iterable[int], sampling: dict[str, Any], stop: Tensor | None,
        use_past_kv_cache: bool,
    ) -> Int[Tensor, "batch pos"]:  # fmt: skip
        weight = self.embed.weight
        cache = init_cache(self.cfg, len(tokens), weight.device, weight.dtype) if use_past_kv_cache else None
        finished = torch.zeros(len(tokens), dtype=torch.bool, device=tokens.device)
        new = tokens
        for _ in steps:
            fed, seen = (new, mask[:, -new.shape[1] :]) if cache else (tokens, mask)
            logits = self(fed, attention_mask=seen, past_kv_cache=cache)[:, -1]  # [batch, d_vocab]
            new = sample_logits(logits, tokens=tokens, **sampling)[:, None]  # [batch, 1]
            if stop is not None:
                new[finished] = stop[0]
                finished |= torch.isin(new[:, 0], stop)
            tokens, mask = torch.cat([tokens, new], 1), torch.cat([mask, torch.ones_like(new)], 1)
            if bool(finished.all()):
                break
        return tokens

    def _check_prompt(self, tokens: Tensor, mask: Tensor, max_new_tokens: int) -> None:
        length, n_ctx = tokens.shape[1], self.cfg.n_ctx
        if not length or not bool(mask[:, -1].all()):
            raise InterpError(
                "There is no token to continue from at the end of every row; give a prompt, padded on the left."
            )
        if length + max_new_tokens > n_ctx:
            raise InterpError(
                f"The prompt has {length} tokens, and {max_new_tokens} more exceed n_ctx {n_ctx}; shorten the prompt or "
                f"give max_new_tokens of at most {max(n_ctx - length, 0)}."
            )
