"""The settings of a training run; each field's text is also the command's help."""

import shlex
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from interp.errors import InterpError
from interp.options import BORDER, check_at_least_one, check_border, option
from interp.train.optim.registry import OPTIMIZERS

Schedule = Literal["cosine", "linear", "constant", "wsd"]
if TYPE_CHECKING:
    OptimizerName = str
else:
    OptimizerName = Literal[tuple(OPTIMIZERS)]

PANELS = ("Data", "Model", "Biases", "Optimizer", "Length and evaluation", "Machine", "Output and records")
data_, model_, biases_, optimizer_, length_, machine_, record_ = (partial(option, panel=panel) for panel in PANELS)
# What may differ between the two parts of a resumed run: where and how long, not what is computed.
FREE = {"output", "resume", "overwrite", "steps", "tokens", "patience", "save_every", "keep", "store", "device",
        "distribute", "micro_batch_size", "tensorboard", "wandb", "charges_every"}  # fmt: skip


@dataclass
class TrainConfig:
    """What to train, on what, how long.

    Raises:
        InterpError: both or neither of steps and tokens, a size below 1, a share outside 0 to 1.
    """

    corpus: str = data_(
        "wikipedia-sample", "A text, JSONL, CSV, Parquet file or folder, token shards, hf:NAME, or a corpus' name."
    )
    tokenizer: str | None = data_(
        None, "A tokenizer.json, its folder or a hub name (default: the shards' own, else train one)."
    )
    border: str | None = data_(None, BORDER)
    text_field: str = data_("text", "Column that holds the text, of a corpus that has columns.")
    context: int | None = data_(None, "Tokens per context (default: the preset's n_ctx).")

    preset: str = model_(
        "tiny", "Size: mini, tiny, small, gpt2-124m, gpt2-355m, gpt2-774m, gpt2-1.3b; with Llama's block: llama-mini, "
        "llama-124m."
    )  # fmt: skip
    norm: Literal["layer", "rms"] | None = model_(None, "LayerNorm or RMSNorm (default: the preset's).")
    activation: Literal["prelu", "gelu", "gelu_exact", "swiglu"] | None = model_(
        None, "Activation of the MLPs: PReLU, GELU by its tanh formula as in GPT-2, exact GELU, or gated by a SiLU "
        "(default: the preset's)."
    )  # fmt: skip
    positional: Literal["learned", "rope"] | None = model_(None, "Position embeddings (default: the preset's).")
    kv_heads: int | None = model_(
        None, "Heads of keys and values, each read by a group of query heads (default: the preset's)."
    )
    d_head: int | None = model_(None, "Size of a head (default: d_model / heads).")
    qk_norm: bool | None = model_(
        None, "An RMSNorm over each head's queries and keys (default: the preset's).", "--qk-norm/--no-qk-norm"
    )
    tied: bool | None = model_(
        None, "The unembedding is the token embedding (default: the preset's).", "--tied/--no-tied"
    )
    learned_biases: bool | None = model_(
        None, "Learned biases of the linear maps (default: the preset's).", "--learned-biases/--no-learned-biases"
    )
    experts: int | None = model_(
        None, "MLPs of each block, of which a router gives every token some (default: one MLP)."
    )
    experts_per_token: int = model_(2, "How many of the experts each token goes through.")
    load_balancing: float = model_(0.01, "Weight in the training loss of how unevenly the experts are used.")
    dropout: float = model_(0.0, "Dropout of embeddings and of what each layer writes.")

    variant: Literal["symmetric", "bq", "bqbv", "bv"] = biases_("bq", "Biases that break the symmetry.")
    bias_mode: Literal["batch", "fixed", "learned"] = biases_(
        "batch", "batch: drawn for every batch; fixed: drawn once; learned: drawn once and trained."
    )
    bias_draws: Literal["step", "micro-batch"] = biases_(
        "step", "Draw once per optimizer step, or for every micro-batch as the authors' release."
    )
    bias_per_head: bool = biases_(False, "A bias for every head, instead of one a layer.")
    mean_q: str | None = biases_(None, "Mean of b_Q: a number, START:END, or d_head numbers (default 0.5).")
    std_q: str | None = biases_(None, "Standard deviation of b_Q, in the same form (default 0.05:0.15).")
    mean_v: str | None = biases_(None, "Mean of b_V, in the same form (default 0.5).")
    std_v: str | None = biases_(None, "Standard deviation of b_V, in the same form (default 0.05).")

    optimizer: OptimizerName = optimizer_(
        "adamw", "adamw, sgdm (Nesterov momentum), soap, or the energy-conserving ecd, ecdsep, bbi."
    )
    optimizer_args: str = optimizer_("", 'Its other settings, as in "eta=50,F0=1.5".')
    lr: float | None = optimizer_(
        None, "Peak learning rate (default: the paper's; for mini, tiny and small one that suits them)."
    )
    weight_decay: float | None = optimizer_(None, "Weight decay of matrices (default: the optimizer's).")
    schedule: Schedule = optimizer_("cosine", "Learning rate after the warm-up; wsd is stable, then linear decay.")
    warmup: float = optimizer_(0.05, "Share of the steps in which the learning rate rises to its peak.")
    decay: float = optimizer_(0.2, "Share of the steps that wsd decays in, at the end.")
    final_lr: float = optimizer_(0.1, "Learning rate at the end, as a share of the peak.")
    clip: float | None = optimizer_(
        None, "Largest norm of the gradient; 0 does not clip (default: 1; ecd, ecdsep, bbi: 0)."
    )

    steps: int | None = length_(None, "Optimizer steps (default: 2,000, unless --tokens is given).")
    tokens: int | None = length_(None, "Tokens to train on, instead of --steps.")
    batch_size: int = length_(32, "Contexts per optimizer step, over all processes.")
    micro_batch_size: int | None = length_(
        None, "Contexts per forward pass and process; smaller ones need less memory (default: all)."
    )
    seed: int = length_(0, "Seed of weights, bias draws and batches.")
    evaluate_every: int = length_(100, "Steps between evaluations on held-out documents.")
    validation_tokens: int = length_(1_000_000, "How many held-out tokens to evaluate on, at most.")
    patience: int = length_(0, "Stop after so many evaluations without a lower loss; 0 never stops.")

    precision: Literal["float32", "bfloat16"] = machine_("float32", "Arithmetic of matrix products (autocast).")
    compile: bool = machine_(False, "Compile the model, and ECD's step, with torch.compile.")
    device: str = machine_("auto", "auto (a GPU if there is one), cpu or cuda.")
    distribute: Literal["auto", "ddp", "fsdp"] = machine_(
        "auto", "Under torchrun: whole copies, or sharded weights (auto: fsdp for gpt2-1.3b)."
    )

    output: Path = record_(Path("runs/latest"), "Folder of the run.", "-o", "--output")
    resume: bool = record_(False, "Go on from the newest state in the output folder, if there is one.")
    overwrite: bool = record_(False, "Replace a run that is already in the output folder.")
    store: Literal["float32", "float16"] = record_("float32", "Precision of the stored weights.")
    save_every: int | None = record_(None, "Steps between saved states (default: every evaluation).")
    keep: int = record_(2, "How many saved states to keep, beside the best weights.")
    charges_every: int = record_(0, "Steps between records of the Noether charges; 0 records none.")
    tensorboard: bool = record_(False, "Also write the curve for TensorBoard.")
    wandb: str | None = record_(None, "Also send the curve to this Weights & Biases project.")

    def __post_init__(self) -> None:
        if self.steps is not None and self.tokens is not None:
            raise InterpError(f"Both {self.steps} steps and {self.tokens} tokens were given; give one of them.")
        sizes = ("steps", "tokens", "batch_size", "micro_batch_size", "context", "evaluate_every", "save_every", "keep")
        check_at_least_one(self, *sizes, "validation_tokens", "kv_heads", "d_head", "experts", "experts_per_token")
        for name in ("warmup", "dropout", "decay"):
            if not 0 <= getattr(self, name) < 1:
                raise InterpError(f"{name} is {getattr(self, name)}; a share from 0 to below 1 is needed.")
        for name in ("lr", "weight_decay", "final_lr", "clip", "patience", "charges_every", "load_balancing", "seed"):
            most = 2**63 - 1 if name == "seed" else 3e38  # of float32
            if not 0 <= (getattr(self, name) or 0) <= most:  # nor of NaN
                raise InterpError(f"{name} is {getattr(self, name)}; a number from 0 to {most:g} is needed.")
        check_border(self)
        if self.resume and self.overwrite:
            raise InterpError("Both --resume and --overwrite were given; a run is either continued or replaced.")

    def total_steps(self, n_ctx: int) -> int:
        """Return the number of optimizer steps for contexts of `n_ctx` tokens."""
        if self.tokens is not None:
            return max(1, self.tokens // (self.batch_size * n_ctx))
        return self.steps or 2000

    def block(self) -> dict[str, Any]:
        """Return what the preset's block is, by the names of these settings.

        Raises:
            InterpError: there is no such preset.
        """
        from interp.model.config import preset  # late: it imports torch, and --help is to be quick

        cfg = preset(self.preset)
        same = {name: getattr(cfg, name) for name in ("norm", "activation", "positional", "qk_norm", "tied")}
        return {**same, "kv_heads": cfg.n_key_value_heads, "learned_biases": cfg.learned_biases != "none"}

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {key: str(value) if isinstance(value, Path) else value for key, value in asdict(self).items()}

    def command(self) -> str:
        """Return the command that repeats this run."""
        usual, words = {**TrainConfig().to_dict(), **self.block()}, ["python -m interp.train"]
        for name, value in self.to_dict().items():
            if name in ("output", "overwrite", "resume") or value is None or value == usual[name]:
                continue
            flag = ("--no-" if value is False else "--") + name.replace("_", "-")
            words.append(flag if isinstance(value, bool) else f"{flag} {shlex.quote(str(value))}")
        return " ".join([*words, f"-o {shlex.quote(str(self.output))}"])
