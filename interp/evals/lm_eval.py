"""Any task of EleutherAI's lm-evaluation-harness on our models; needs the extra ``interp[lm-eval]``.

    import lm_eval
    from interp.evals.lm_eval import HarnessLM

    lm_eval.simple_evaluate(HarnessLM("tiny-bqbv"), tasks=["lambada_openai"])

Importing this module also registers the model as "interp", so that the harness' own command finds it where it is imported.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from interp.errors import InterpError
from interp.evals.continuations import Continuation, score_continuations
from interp.model.checkpoint import load_model
from interp.model.transformer import HookedSymmetryBrokenTransformer
from interp.vocabulary import border_id

try:
    from lm_eval.api.model import TemplateLM
    from lm_eval.api.registry import register_model
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
except ImportError as error:
    raise InterpError(f'The harness is not installed ({error}); run: pip install "interp[lm-eval]".') from error


@register_model("interp")
class HarnessLM(TemplateLM):
    """A model as the harness sees it. It runs in evaluation mode, with its mean biases in force.

    Every context begins with the token that begins a document, as in training. A context that is too long loses its
    beginning, as with the harness' own models.

    Args:
        pretrained: a model, or the path or name of a checkpoint.
        batch_size: texts per forward pass; changes results by float32 rounding only.
        device: of a checkpoint: "auto", "cpu" or "cuda".
    """

    def __init__(
        self,
        pretrained: HookedSymmetryBrokenTransformer | str | Path,
        batch_size: int | str | None = 32,
        device: str | None = "auto",
        **ignored: Any,
    ) -> None:
        super().__init__()
        if not isinstance(pretrained, HookedSymmetryBrokenTransformer):
            pretrained = load_model(pretrained, device or "auto")
        self.model = pretrained
        self.tokenizer = self.model.need_tokenizer()
        size = str(batch_size)
        self.batch_size = int(size) if size.isdigit() else 32  # the harness may say "auto"
        self._device = self.model.embed.weight.device

    @property
    def eot_token_id(self) -> int:
        """The token that borders documents; it also stands before a text without context."""
        return border_id(self.tokenizer)

    @property
    def max_length(self) -> int:
        """The most positions the model has."""
        return self.model.cfg.n_ctx

    @property
    def tokenizer_name(self) -> str:
        """What the harness keys its caches by."""
        return self.model.cfg.model_name

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **ignored: Any) -> list[int]:
        """Return the tokens of a text, the one that begins a document first unless it is declined."""
        bos = [] if add_special_tokens is False else [self.prefix_token_id]
        return bos + list(self.tokenizer.encode(string, add_special_tokens=False))

    def _loglikelihood_tokens(
        self, requests: list[tuple[Any, list[int], list[int]]], disable_tqdm: bool = False, **ignored: Any
    ) -> list[tuple[float, bool]]:
        rows = [self._fitted(context, continuation) for _, context, continuation in requests]
        scores = score_continuations(self.model, rows, self.batch_size)
        answers = [(-float(one.losses.sum()), one.greedy) for one in scores]
        for (key, *_), answer in zip(requests, answers, strict=True):
            if key is not None:
                self.cache_hook.add_partial("loglikelihood", key, answer)
        return answers

    def _fitted(self, context: list[int], continuation: list[int]) -> Continuation:
        if len(continuation) > self.max_length:
            raise InterpError(f"A continuation has {len(continuation)} tokens; this model has n_ctx {self.max_length}.")
        return Continuation(context[-(self.max_length + 1 - len(continuation)) :], continuation)

    def loglikelihood_rolling(self, requests: Iterable[Any], disable_tqdm: bool = False) -> list[float]:
        """Return the log-likelihood of whole texts, each cut into windows in which every token is predicted once."""
        texts = [self.tok_encode(request.args[0], add_special_tokens=False) for request in requests]
        how = {"prefix_token": self.prefix_token_id, "max_seq_len": self.max_length, "context_len": 1}
        windows = [list(map(make_disjoint_window, get_rolling_token_windows(tokens, **how))) for tokens in texts]
        scored = iter(self._loglikelihood_tokens([(None, *one) for own in windows for one in own]))
        return [float(sum(next(scored)[0] for _ in own)) for own in windows]

    def generate_until(self, requests: Iterable[Any], disable_tqdm: bool = False) -> list[str]:
        """Continue texts until one of their stop words, the end of the document, or `max_gen_toks` tokens.

        Where prompt and answer do not fit into n_ctx, the answer has half of it at most, and the prompt loses its beginning.
        """
        return [self._generated(*request.args) for request in requests]

    def _generated(self, context: str, arguments: dict[str, Any]) -> str:
        until, prompt = arguments.get("until") or [], self.tok_encode(context)
        room = max(self.max_length - len(prompt), self.max_length // 2)
        new = min(int(arguments.get("max_gen_toks", 256)), room)
        prompt = prompt[-(self.max_length - new) :]
        tokens = self.model.generate(
            torch.tensor([prompt], device=self._device), new, do_sample=bool(arguments.get("do_sample", False)),
            temperature=float(arguments.get("temperature") or 1.0), top_p=arguments.get("top_p"),
            top_k=arguments.get("top_k"), verbose=False, return_type="tokens",
        )  # fmt: skip
        assert isinstance(tokens, torch.Tensor)
        answer = str(self.tokenizer.decode(tokens[0, len(prompt) :], skip_special_tokens=True))
        for stop in [until] if isinstance(until, str) else until:
            answer = answer.split(stop)[0] if stop else answer
        self.cache_hook.add_partial("generate_until", (context, arguments), answer)
        return answer
