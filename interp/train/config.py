"""The settings of a training run; each field's text is also the command's help."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from interp.errors import InterpError
from interp.options import check_at_least_one, option
from interp.train.optim.registry import OPTIMIZERS

Schedule = Literal["cosine", "linear", "constant", "wsd"]
if TYPE_CHECKING:
    OptimizerName = str
else:
    OptimizerName = Literal[tuple(OPTIMIZERS)]

DATA, MODEL, BIASES, OPTIMIZER = "Data", "Model", "Biases", "Optimizer"
LENGTH, MACHINE, RECORD = "Length and evaluation", "Machine", "Output and records"
# What may differ between the two parts of a resumed run: where and how long, not what is computed.
FREE = {"output", "resume", "overwrite", "steps", "tokens", "patience", "save_every", "keep", "store", "device",
        "distribute", "micro_batch_size", "tensorboard", "wandb", "charges_every"}  # fmt: skip


@dataclass
class TrainConfig:
    """What to train, on what, how long.

    Raises:
        InterpError: both or neither of steps and tokens, a size below 1, a share outside 0 to 1.
    """

    corpus: str = option(
        "wikipedia-sample", "A text, JSONL, CSV, Parquet file or folder, token shards, hf:NAME, or a corpus' name.",
        panel=DATA,
    )  # fmt: skip
    tokenizer: str | None = option(
        None, "A tokenizer.json or a hub name (default: the shards' own, else train one).", panel=DATA
    )
    context: int | None = option(None, "Tokens per context (default: the preset's n_ctx).", panel=DATA)

    preset: str = option("tiny", "Size: mini, tiny, small, gpt2-124m, gpt2-355m, gpt2-774m, gpt2-1.3b.", panel=MODEL)
    activation: Literal["prelu", "gelu", "gelu_exact"] = option(
        "prelu", "Activation of the MLPs: PReLU, GELU by its tanh formula as in GPT-2, or exact GELU.", panel=MODEL
    )
    positional: Literal["learned", "rope"] = option("learned", "Position embeddings.", panel=MODEL)
    dropout: float = option(0.0, "Dropout of embeddings and of what each layer writes.", panel=MODEL)

    variant: Literal["symmetric", "bq", "bqbv", "bv"] = option("bq", "Biases that break the symmetry.", panel=BIASES)
    bias_mode: Literal["batch", "fixed", "learned"] = option(
        "batch", "batch: drawn for every batch; fixed: drawn once; learned: drawn once and trained.", panel=BIASES
    )
    bias_draws: Literal["step", "micro-batch"] = option(
        "step", "Draw once per optimizer step, or for every micro-batch as the authors' release.", panel=BIASES
    )
    bias_per_head: bool = option(False, "A bias for every head, instead of one a layer.", panel=BIASES)
    mean_q: str | None = option(
        None, "Mean of b_Q: a number, START:END, or d_head numbers (default 0.5).", panel=BIASES
    )
    std_q: str | None = option(None, "Standard deviation of b_Q, in the same form (default 0.05:0.15).", panel=BIASES)
    mean_v: str | None = option(None, "Mean of b_V, in the same form (default 0.5).", panel=BIASES)
    std_v: str | None = option(None, "Standard deviation of b_V, in the same form (default 0.05).", panel=BIASES)

    optimizer: OptimizerName = option(
        "adamw", "adamw, sgdm (Nesterov momentum), soap, or the energy-conserving ecd, ecdsep, bbi.", panel=OPTIMIZER
    )
    optimizer_args: str = option("", 'Its other settings, as in "eta=50,F0=1.5".', panel=OPTIMIZER)
    lr: float | None = option(
        None,
        "Peak learning rate (default: the paper's; for mini, tiny and small one that suits them).",
        panel=OPTIMIZER,
    )
    weight_decay: float | None = option(None, "Weight decay of matrices (default: the optimizer's).", panel=OPTIMIZER)
    schedule: Schedule = option(
        "cosine", "Learning rate after the warm-up; wsd is stable, then linear decay.", panel=OPTIMIZER
    )
    warmup: float = option(0.05, "Share of the steps in which the learning rate rises to its peak.", panel=OPTIMIZER)
    decay: float = option(0.2, "Share of the steps that wsd decays in, at the end.", panel=OPTIMIZER)
    final_lr: float = option(0.1, "Learning rate at the end, as a share of the peak.", panel=OPTIMIZER)
    clip: float | None = option(
        None, "Largest norm of the gradient; 0 does not clip (default: 1; ecd, ecdsep, bbi: 0).", panel=OPTIMIZER
    )

    steps: int | None = option(None, "Optimizer steps (default: 2,000, unless --tokens is given).", panel=LENGTH)
    tokens: int | None = option(None, "Tokens to train on, instead of --steps.", panel=LENGTH)
    batch_size: int = option(32, "Contexts per optimizer step, over all processes.", panel=LENGTH)
    micro_batch_size: int | None = option(
        None, "Contexts per forward pass and process; smaller ones need less memory (default: all).", panel=LENGTH
    )
    seed: int = option(0, "Seed of weights, bias draws and batches.", panel=LENGTH)
    evaluate_every: int = option(100, "Steps between evaluations on held-out documents.", panel=LENGTH)
    validation_tokens: int = option(1_000_000, "How many held-out tokens to evaluate on, at most.", panel=LENGTH)
    patience: int = option(0, "Stop after so many evaluations without a lower loss; 0 never stops.", panel=LENGTH)

    precision: Literal["float32", "bfloat16"] = option(
        "float32", "Arithmetic of matrix products (autocast).", panel=MACHINE
    )
    compile: bool = option(False, "Compile the model, and ECD's step, with torch.compile.", panel=MACHINE)
    device: str = option("auto", "auto (a GPU if there is one), cpu or cuda.", panel=MACHINE)
    distribute: Literal["auto", "ddp", "fsdp"] = option(
        "auto", "Under torchrun: whole copies, or sharded weights (auto: fsdp for gpt2-1.3b).", panel=MACHINE
    )

    output: Path = option(Path("runs/latest"), "Folder of the run.", "-o", "--output", panel=RECORD)
    resume: bool = option(False, "Go on from the newest state in the output folder, if there is one.", panel=RECORD)
    overwrite: bool = option(False, "Replace a run that is already in the output folder.", panel=RECORD)
    store: Literal["float32", "float16"] = option("float32", "Precision of the stored weights.", panel=RECORD)
    save_every: int | None = option(None, "Steps between saved states (default: every evaluation).", panel=RECORD)
    keep: int = option(2, "How many saved states to keep, beside the best weights.", panel=RECORD)
    charges_every: int = option(0, "Steps between records of the Noether charges; 0 records none.", panel=RECORD)
    tensorboard: bool = option(False, "Also write the curve for TensorBoard.", panel=RECORD)
    wandb: str | None = option(None, "Also send the curve to this Weights & Biases project.", panel=RECORD)

    def __post_init__(self) -> None:
        if self.steps is not None and self.tokens is not None:
            raise InterpError(f"Both {self.steps} steps and {self.tokens} tokens were given; give one of them.")
        sizes = ("steps", "tokens", "batch_size", "micro_batch_size", "context", "evaluate_every", "save_every", "keep")
        check_at_least_one(self, *sizes, "validation_tokens")
        for name in ("warmup", "dropout", "decay"):
            if not 0 <= getattr(self, name) < 1:
                raise InterpError(f"{name} is {getattr(self, name)}; a share from 0 to below 1 is needed.")
        if self.resume and self.overwrite:
            raise InterpError("Both --resume and --overwrite were given; a run is either continued or replaced.")

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
        usual, words = TrainConfig().to_dict(), ["python -m interp.train"]
        for name, value in self.to_dict().items():
            if name in ("output", "overwrite", "resume") or value == usual[name]:
                continue
            flag = "--" + name.replace("_", "-")
            words.append(flag if value is True else f"{flag} {shlex.quote(str(value))}")
        return " ".join([*words, f"-o {shlex.quote(str(self.output))}"])
