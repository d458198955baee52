"""The settings of a training run; each field's text is also the command's help."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from interp.errors import InterpError
from interp.options import option

OptimizerName = Literal["adamw", "sgdm", "ecd", "ecdsep", "bbi"]


@dataclass
class TrainConfig:
    """What to train, on what, how long.

    Raises:
        InterpError: both or neither of steps and tokens, a size below 1, a warm-up longer than the run.
    """

    output: Path = option(Path("runs/latest"), "Folder of the checkpoint to write.", "-o", "--output")
    preset: str = option("tiny", "Size: tiny, small, gpt2-124m, gpt2-355m, gpt2-774m, gpt2-1.3b.")
    variant: Literal["symmetric", "bq", "bqbv", "bv"] = option("bq", "Which unlearned biases break the symmetry.")
    activation: Literal["prelu", "gelu"] = option("prelu", "Activation of the MLPs.")
    positional: Literal["learned", "rope"] = option("learned", "Position embeddings.")
    optimizer: OptimizerName = option(
        "adamw",
        "Optimizer: adamw, sgdm (Nesterov momentum), or the energy-conserving ecd, ecdsep, bbi (no weight decay).",
    )
    corpus: str = option("wikipedia-sample", "Name of a corpus, or path of a text, JSONL, CSV, Parquet file or folder.")
    tokenizer: Path | None = option(None, "A tokenizer.json to use (default: train one on the corpus).")
    steps: int | None = option(None, "Optimizer steps (default: 2,000, unless --tokens is given).")
    tokens: int | None = option(None, "Tokens to train on, instead of --steps.")
    batch_size: int = option(32, "Contexts per optimizer step.")
    context: int | None = option(None, "Tokens per context (default: the preset's n_ctx).")
    lr: float | None = option(None, "Peak learning rate (default: the optimizer's).")
    weight_decay: float = option(0.1, "Weight decay of matrices.")
    dropout: float = option(0.0, "Dropout of embeddings and of what each layer writes.")
    warmup: float = option(0.05, "Share of the steps in which the learning rate rises to its peak.")
    final_lr: float = option(0.1, "Learning rate at the end of the cosine, as a share of the peak.")
    clip: float = option(1.0, "Largest norm of the gradient; 0 does not clip.")
    seed: int = option(0, "Seed of weights, bias draws and batches.")
    evaluate_every: int = option(100, "Steps between evaluations on the held-out documents.")
    precision: Literal["float32", "bfloat16"] = option("float32", "Arithmetic of matrix products (autocast).")
    store: Literal["float32", "float16"] = option("float32", "Precision of the stored weights.")
    compile: bool = option(False, "Compile the model with torch.compile.")
    overwrite: bool = option(False, "Replace a checkpoint that is already in the output folder.")
    device: str = option("auto", "auto (a GPU if there is one), cpu or cuda.")

    def __post_init__(self) -> None:
        if self.steps is not None and self.tokens is not None:
            raise InterpError(f"Both {self.steps} steps and {self.tokens} tokens were given; give one of them.")
        for name in ("steps", "tokens", "batch_size", "context", "evaluate_every"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InterpError(f"{name} is {getattr(self, name)}; at least 1 is needed.")
        if not 0 <= self.warmup < 1 or not 0 <= self.dropout < 1:
            raise InterpError(f"warmup {self.warmup} and dropout {self.dropout} must be shares from 0 to below 1.")

    def total_steps(self, n_ctx: int) -> int:
        """Return the number of optimizer steps for contexts of `n_ctx` tokens."""
        if self.tokens is not None:
            return max(1, self.tokens // (self.batch_size * n_ctx))
        return self.steps or 2000

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {key: str(value) if isinstance(value, Path) else value for key, value in asdict(self).items()}

    def command(self) -> str:
        """Return the command that repeats this run."""
        usual = TrainConfig(optimizer=self.optimizer)
        words = ["python -m interp.train"]
        for name, value in self.to_dict().items():
            if name in ("output", "overwrite") or value == usual.to_dict()[name]:
                continue
            flag = "--" + name.replace("_", "-")
            words.append(flag if value is True else f"{flag} {shlex.quote(str(value))}")
        return " ".join([*words, f"-o {shlex.quote(str(self.output))}"])
