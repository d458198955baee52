"""The settings of a training run; each field's text is also the command's help."""

import math
import shlex
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from interp.errors import InterpError
from interp.options import BORDER, check_at_least_one, check_border, option
from interp.train.optim.registry import OPTIMIZERS, PUBLISHED, PUBLISHED_RUN

Schedule = Literal["cosine", "linear", "constant", "wsd"]
if TYPE_CHECKING:
    OptimizerName = str
    Whole = int  # filled in, like the next two, before anyone reads them
    Share = float
    ScheduleName = Schedule
else:
    OptimizerName = Literal[tuple(OPTIMIZERS)]
    Whole = int | None
    Share = float | None
    ScheduleName = Schedule | None

PANELS = ("Data", "Model", "Model, on or off", "Biases", "Optimizer", "Length and evaluation", "Machine",
          "Output and records")  # fmt: skip
data_, model_, switch_, biases_, optimizer_, length_, machine_, record_ = (partial(option, panel=p) for p in PANELS)
# What may differ between the two parts of a resumed run: where and how long, not what is computed.
FREE = {"output", "resume", "overwrite", "steps", "tokens", "epochs", "patience", "save_every", "keep", "store", "device",
        "compile", "distribute", "micro_batch_size", "tensorboard", "wandb", "charges_every",
        "init"}  # fmt: skip # its name; that its weights are the same is looked at by their checksum
LENGTHS = ("steps", "tokens", "epochs")  # of which one says how long
# What is filled in where nothing is given. With --init, preset and biases are the checkpoint's.
USUAL = {"schedule": "cosine", "warmup": 0.05, "batch_size": 32, "evaluate_every": 100, "batch_validation_every": 0}
USUAL_MODEL = {"preset": "tiny", "variant": "bq", "experts_per_token": 2, "load_balancing": 0.01}
NUMBERS = ("lr", "weight_decay", "final_lr", "clip", "patience", "charges_every", "batch_validation_every", "load_balancing",
           "seed")  # fmt: skip # of at least 0
BIASES = ("bias_mode", "bias_per_head", "mean_q", "std_q", "mean_v", "std_v", "directions", "direction_means",
          "component_per")  # fmt: skip


@dataclass
class TrainConfig:
    """What to train, on what, how long.

    Raises:
        InterpError: two of steps, tokens and epochs, a size below 1, a share outside 0 to 1, an optimizer without
            published settings where these are asked for, or biases that are to be another's without a variant.
    """

    corpus: str = data_(
        "wikipedia-sample", "A text, JSONL, CSV, Parquet file or folder, token shards, hf:NAME, or a corpus' name."
    )
    tokenizer: str | None = data_(
        None, "A tokenizer.json, its folder or a hub name (default: the shards' own, else train one)."
    )
    border: str | None = data_(None, BORDER)
    text_field: str = data_("text", "Column that holds the text, of a corpus that has columns.")
    examples: bool = data_(
        False, "The corpus is examples, each a prompt and a completion or the messages of a chat; the loss is of "
        "completions alone."
    )  # fmt: skip
    vocabulary: int | None = data_(
        None, "Entries of the tokenizer to train; 257 are single bytes (default: the preset's)."
    )
    context: int | None = data_(None, "Tokens per context (default: the preset's n_ctx).")

    init: str | None = model_(
        None, "Go on from the weights of a checkpoint: a folder of ours or a bundled name, a Hugging Face folder or hub id "
        "(GPT-2, Llama, Qwen2, Qwen3), or what else interp.convert reads. Sizes, block, positions, tokenizer and, without "
        "--variant, biases are its own; the optimizer is new."
    )  # fmt: skip
    freeze_embeddings: bool = model_(
        False, "Leave the embeddings of tokens and positions as they are, and what is tied to them."
    )
    layers: str | None = model_(
        None, "Train these parts only, by TransformerLens' names with commas between them: embed, pos_embed, blocks.0, "
        "blocks.1.attn, blocks.1.mlp, ln_final, unembed (default: all)."
    )  # fmt: skip
    preset: str | None = model_(
        None, "Size: mini, tiny, small, gpt2-124m, gpt2-355m, gpt2-774m, gpt2-1.3b; with Llama's block: llama-mini, "
        "llama-124m (default: tiny, or what --init is)."
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
    qk_norm: bool | None = switch_(
        None, "An RMSNorm over each head's queries and keys (default: the preset's).", "--qk-norm/--no-qk-norm"
    )
    tied: bool | None = switch_(
        None, "The unembedding is the token embedding (default: the preset's).", "--tied/--no-tied"
    )
    learned_biases: bool | None = switch_(
        None, "Learned biases of the linear maps (default: the preset's).", "--learned-biases/--no-learned-biases"
    )
    experts: int | None = model_(
        None, "MLPs of each block, of which a router gives every token some (default: one MLP)."
    )
    experts_per_token: int | None = model_(None, "How many of the experts each token goes through (default: 2).")
    load_balancing: float | None = model_(
        None, "Weight in the training loss of how unevenly the experts are used (default: 0.01)."
    )
    dropout: float = model_(0.0, "Dropout of embeddings and of what each layer writes.")

    variant: Literal["symmetric", "bq", "bqbv", "bv"] | None = biases_(
        None, "Biases that break the symmetry (default: bq, or those of --init)."
    )
    bias_mode: Literal["batch", "fixed", "learned"] | None = biases_(
        None, "batch: drawn for every batch; fixed: drawn once; learned: drawn once and trained (default: batch)."
    )
    bias_draws: Literal["step", "micro-batch"] = biases_(
        "step", "Draw once per optimizer step, or for every micro-batch as the authors' release."
    )
    bias_per_head: bool = biases_(False, "A bias for every head, instead of one a layer.")
    directions: int = biases_(
        1, "Draw b_Q from a mixture of so many components of one length, laid out orthogonally from its mean."
    )
    direction_means: str | None = biases_(
        None, "Their means instead, each in the form of --mean-q, with slashes between them, such as 0.5/-0.5."
    )
    component_per: Literal["layer", "head"] = biases_(
        "layer", "Which draws a component of its own in every step; head goes with --bias-per-head."
    )
    mean_q: str | None = biases_(None, "Mean of b_Q: a number, START:END, or d_head numbers (default 0.5).")
    std_q: str | None = biases_(None, "Standard deviation of b_Q, in the same form (default 0.05:0.15).")
    mean_v: str | None = biases_(None, "Mean of b_V, in the same form (default 0.5).")
    std_v: str | None = biases_(None, "Standard deviation of b_V, in the same form (default 0.05).")

    optimizer: OptimizerName = optimizer_(
        "adamw", "adamw, sgdm (Nesterov momentum), soap, or the energy-conserving ecd, ecdsep, bbi."
    )
    optimizer_args: str = optimizer_("", 'Its other settings, as in "eta=50,F0=1.5".')
    preset_settings: Literal["paper-prelu", "paper-gelu"] | None = optimizer_(
        None, "The published settings of the paper's PReLU or GELU runs for all that is not given: activation, constant "
        "learning rate, no warm-up, no clipping, 8 contexts of 512 tokens, the optimizer's own, an evaluation and a batch "
        "of validation every 1,000 steps."
    )  # fmt: skip
    lr: float | None = optimizer_(
        None, "Peak learning rate (default: the paper's; for mini, tiny and small one that suits them)."
    )
    weight_decay: float | None = optimizer_(None, "Weight decay of matrices (default: the optimizer's).")
    schedule: ScheduleName = optimizer_(
        None, "Learning rate after the warm-up; wsd is stable, then linear decay (default: cosine)."
    )
    warmup: Share = optimizer_(None, "Share of the steps in which the learning rate rises to its peak (default: 0.05).")
    decay: float = optimizer_(0.2, "Share of the steps that wsd decays in, at the end.")
    final_lr: float = optimizer_(0.1, "Learning rate at the end, as a share of the peak.")
    clip: float | None = optimizer_(
        None, "Largest norm of the gradient; 0 does not clip (default: 1; ecd, ecdsep, bbi: 0)."
    )

    steps: int | None = length_(None, "Optimizer steps (default: 2,000, unless --tokens or --epochs is given).")
    tokens: int | None = length_(None, "Tokens to train on, instead of --steps.")
    epochs: int | None = length_(None, "How often to go through the corpus, instead of --steps.")
    batch_size: Whole = length_(None, "Contexts per optimizer step, over all processes (default: 32).")
    micro_batch_size: int | None = length_(
        None, "Contexts per forward pass and process; smaller ones need less memory (default: all)."
    )
    seed: int = length_(0, "Seed of weights, bias draws and batches.")
    evaluate_every: Whole = length_(None, "Steps between evaluations on held-out documents (default: 100).")
    validation_tokens: int = length_(1_000_000, "How many held-out tokens to evaluate on, at most.")
    batch_validation_every: Whole = length_(
        None, "Steps between evaluations the published way, beside ours: the loss of one batch of 8 held-out contexts, of "
        "which the lowest counts; 0 makes none (default: 0)."
    )  # fmt: skip
    patience: int = length_(0, "Stop after so many evaluations without a lower loss; 0 never stops.")

    precision: Literal["float32", "bfloat16"] = machine_("float32", "Arithmetic of matrix products (autocast).")
    compile: bool | None = machine_(
        None, "Compile the model, and ECD's step, with torch.compile (default: where it pays, which takes a run of one "
        "process long enough to earn its minute of compiling, on a CPU a small model; a run that goes on does as before).",
        "--compile/--no-compile",
    )  # fmt: skip
    device: str = machine_("auto", "auto (a GPU if there is one), cpu or cuda.")
    distribute: Literal["auto", "ddp", "fsdp"] = machine_(
        "auto", "Under torchrun: whole copies, or sharded weights (auto: fsdp from a billion parameters on)."
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
        self._fill()
        lengths = [f"{getattr(self, name)} {name}" for name in LENGTHS if getattr(self, name) is not None]
        if len(lengths) > 1:
            raise InterpError(f"Both {' and '.join(lengths)} were given; give one of them.")
        if self.examples and self.tokens is not None:
            raise InterpError("Examples have lengths of their own, so --tokens does not say how long; give --epochs.")
        if self.vocabulary is not None and self.tokenizer is not None:
            raise InterpError("--vocabulary is of a tokenizer to train, and --tokenizer names one; give one of them.")
        if self.vocabulary is not None and self.init is not None:
            raise InterpError("--vocabulary is of a tokenizer to train, and --init comes with its own; leave one out.")
        if self.examples and self.batch_validation_every:
            raise InterpError("--batch-validation-every is of contexts that are full, examples are not; leave one out.")
        sizes = (*LENGTHS, "batch_size", "micro_batch_size", "context", "evaluate_every", "save_every", "keep")
        numbers = (
            "validation_tokens",
            "vocabulary",
            "kv_heads",
            "d_head",
            "experts",
            "experts_per_token",
            "directions",
        )
        check_at_least_one(self, *sizes, *numbers)
        for name in ("warmup", "dropout", "decay"):
            if not 0 <= getattr(self, name) < 1:
                raise InterpError(f"{name} is {getattr(self, name)}; a share from 0 to below 1 is needed.")
        for name in NUMBERS:
            most = 2**63 - 1 if name == "seed" else 3e38  # of float32
            if not 0 <= (getattr(self, name) or 0) <= most:  # nor of NaN
                raise InterpError(f"{name} is {getattr(self, name)}; a number from 0 to {most:g} is needed.")
        check_border(self)
        if self.resume and self.overwrite:
            raise InterpError("Both --resume and --overwrite were given; a run is either continued or replaced.")

    def _fill(self) -> None:
        """Put what is usual, or published, where nothing was given; what depends on the optimizer comes later."""
        usual: dict[str, Any] = dict(USUAL)
        if self.preset_settings:
            if self.optimizer not in PUBLISHED[self.preset_settings]:
                known = ", ".join(PUBLISHED[self.preset_settings])
                raise InterpError(
                    f"--preset-settings {self.preset_settings} says nothing of {self.optimizer}, only of {known}; choose "
                    "one of these, or leave it out."
                )
            usual |= {name: value for name, value in PUBLISHED_RUN.items() if name != "clip"}  # the optimizer's
            usual |= {"activation": self.preset_settings.removeprefix("paper-")}
        if self.init is None:
            usual |= USUAL_MODEL
        else:
            usual = {name: value for name, value in usual.items() if name not in ("activation", "context")}
            given = [name for name in BIASES if getattr(self, name) not in (None, False, 1, "layer")]
            if given and self.variant is None:
                raise InterpError(
                    f"--{given[0].replace('_', '-')} was given, but with --init {self.init} the biases are the "
                    "checkpoint's; say with --variant which it is to have."
                )
        for name, value in usual.items():
            if getattr(self, name) is None:
                setattr(self, name, value)
        if self.variant is not None and self.bias_mode is None:
            self.bias_mode = "batch"

    def total_steps(self, n_ctx: int, per_epoch: float = 0) -> int:
        """Return the number of optimizer steps for contexts of `n_ctx` tokens, where `per_epoch` are an epoch."""
        if self.epochs is not None:
            return math.ceil(self.epochs * per_epoch)
        if self.tokens is not None:
            return max(1, self.tokens // (self.batch_size * n_ctx))
        return self.steps or 2000

    def block(self) -> dict[str, Any]:
        """Return what the preset's block is, by the names of these settings; nothing without a preset.

        Raises:
            InterpError: there is no such preset.
        """
        from interp.model.config import preset  # late: it imports torch, and --help is to be quick

        if self.preset is None:
            return {}
        cfg = preset(self.preset)
        same = {name: getattr(cfg, name) for name in ("norm", "activation", "positional", "qk_norm", "tied")}
        return {**same, "kv_heads": cfg.n_key_value_heads, "learned_biases": cfg.learned_biases != "none"}

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {key: str(value) if isinstance(value, Path) else value for key, value in asdict(self).items()}

    def command(self) -> str:
        """Return the command that repeats this run."""
        chosen = ("optimizer", "preset_settings", "init")  # on which depends what is usual
        given = {name: getattr(self, name) for name in chosen}
        usual = {**TrainConfig(**given).to_dict(), **{f.name: f.default for f in fields(self) if f.name in chosen}}
        block, words = self.block(), ["python -m interp.train"]
        usual |= {name: value for name, value in block.items() if usual[name] is None}
        for name, value in self.to_dict().items():
            if name in ("output", "overwrite", "resume") or value is None or value == usual[name]:
                continue
            flag = ("--no-" if value is False else "--") + name.replace("_", "-")
            words.append(flag if isinstance(value, bool) else f"{flag} {shlex.quote(str(value))}")
        return " ".join([*words, f"-o {shlex.quote(str(self.output))}"])
