"""What a model is: its sizes, its block, and the biases that break its symmetry; the named ones."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from itertools import product
from numbers import Integral, Real
from typing import Any, Literal, get_args

import torch

from interp.errors import InterpError, nearest

BiasMode = Literal["none", "batch", "fixed", "learned"]
Activation = Literal["gelu", "gelu_exact", "prelu", "swiglu"]
Positional = Literal["learned", "rope"]
NormName = Literal["layer", "rms"]
LearnedBiases = Literal["all", "qkv", "none"]
Profile = float | list[float] | tuple[float, float]  # a number, d_head numbers, or the (start, end) of a linspace

LARGEST_SIZE, LARGEST_BIAS, MOST_PARAMETERS = 2**30, 1e6, 10**12
RANGES = {  # lowest, highest, whether it is a whole number
    "n_layers": (1, 10_000, True),
    **dict.fromkeys(("d_model", "n_heads", "n_ctx", "d_vocab"), (1, LARGEST_SIZE, True)),
    **dict.fromkeys(("d_mlp", "d_head"), (0, LARGEST_SIZE, True)),
    "rotary_dim": (0, LARGEST_SIZE, True),
    "rotary_base": (1e-6, 1e12, False),
    "eps": (0, 1, False),
    "dropout": (0, 1, False),
    "experts_per_token": (1, 10_000, True),
    "load_balancing": (0, 1e6, False),
    "init_range": (0, 1e6, False),
    "seed": (0, 2**64 - 1, True),
}

CHOICES = {"activation": Activation, "positional": Positional, "norm": NormName, "learned_biases": LearnedBiases}

# n_layers, n_heads, d_model, n_ctx, d_vocab
SIZES: dict[str, tuple[int, int, int, int, int]] = {
    "mini": (3, 4, 128, 128, 4096),
    "llama-mini": (3, 4, 128, 128, 4096),
    "tiny": (4, 6, 192, 128, 4096),
    "small": (6, 8, 384, 256, 8192),
    "gpt2-124m": (12, 12, 768, 512, 50304),
    "gpt2-355m": (24, 16, 1024, 512, 50304),
    "gpt2-774m": (36, 20, 1280, 512, 50304),
    "gpt2-1.3b": (48, 25, 1600, 512, 50304),
    "llama-124m": (12, 12, 768, 512, 50304),
}


@dataclass(frozen=True)
class BiasConfig:
    """The distribution of an unlearned bias, N(mean, std^2) per dimension (arXiv 2601.22257).

    `mean` and `std` are a number for every dimension, a list of d_head numbers, or a (start, end) tuple, which stands for
    ``linspace(start, end, d_head)``.

    Raises:
        InterpError: an unknown mode, a negative std, a mean or std that is no number of a size to compute with, or that is
            not zero beside mode "none".
    """

    mean: Profile = 0.0
    std: Profile = 0.0
    mode: BiasMode = "none"  # batch: drawn anew every step; fixed: drawn once; learned: starts at a draw; none: no bias
    shared_across_heads: bool = True  # one vector a layer, as in the authors' release, or one for each head

    def __post_init__(self) -> None:
        check_choice("mode", self.mode, get_args(BiasMode))
        _check_kind("shared_across_heads", self.shared_across_heads, bool)
        for name, profile in (("mean", self.mean), ("std", self.std)):
            if isinstance(profile, (list, tuple)) and (
                not profile or (isinstance(profile, tuple) and len(profile) != 2)
            ):
                raise InterpError(
                    f"The {name} of a bias is {shown(profile)}; (start, end) or d_head numbers are expected."
                )
            for value in _numbers(profile):
                check_number(f"The {name} of a bias", value, -LARGEST_BIAS, LARGEST_BIAS)
        if any(value < 0 for value in _numbers(self.std)):
            raise InterpError(f"A bias cannot have the negative std {self.std}; give numbers of at least 0.")
        if self.mode == "none" and any(_numbers(self.mean) + _numbers(self.std)):
            raise InterpError(f"A bias with mean {self.mean} and std {self.std} has mode 'none'; say mode='batch'.")

    def profile(self, name: Literal["mean", "std"], d_head: int) -> torch.Tensor:
        """Return `mean` or `std` as a float32 tensor of shape [d_head]."""
        value = getattr(self, name)
        if isinstance(value, tuple):
            return torch.linspace(value[0], value[1], d_head)
        if isinstance(value, list):
            return torch.tensor(value, dtype=torch.float32)
        return torch.full((d_head,), float(value))


@dataclass
class ModelConfig:
    """Sizes and choices of a `HookedSymmetryBrokenTransformer`; names are TransformerLens'.

    With fewer `n_key_value_heads` than heads, each key and value is read by a group of n_heads / n_key_value_heads query
    heads, head h by that of number h // group (grouped query attention, arXiv 2305.13245).

    Raises:
        InterpError: a value of another type than its field's or out of its range, heads that do not divide d_model, or key
            and value heads that do not divide the heads, an unknown choice, a bias profile that does not have d_head
            numbers, fewer experts than each token goes through, more parameters than any machine holds.
    """

    n_layers: int
    d_model: int
    n_heads: int
    n_ctx: int
    d_vocab: int
    d_mlp: int = 0  # 0 stands for 4 * d_model; with swiglu for as many weights, 8 / 3 * d_model in multiples of 8
    activation: Activation = (
        "gelu"  # GPT-2's tanh form; gelu_exact; prelu, one learned slope per feature; gated: swiglu
    )
    positional: Positional = "learned"  # learned embeddings, or rope
    rotary_base: float = 10000.0  # rope only
    rotary_dim: int = 0  # rope only: how many dimensions of a head rotate; 0 stands for d_head // 2
    q: BiasConfig = field(default_factory=BiasConfig)  # b_Q, added to the queries (after the rotation)
    v: BiasConfig = field(default_factory=BiasConfig)  # b_V, added to the values
    eps: float = 1e-5  # of the norms
    dropout: float = 0.0  # of embeddings and of what each layer writes, in training mode
    init_range: float = 0.02  # standard deviation of the initial weights
    seed: int = 0  # of the initial weights and of the bias draws
    model_name: str = "symmetry-broken"
    d_head: int = 0  # 0 stands for d_model / n_heads
    n_key_value_heads: int | None = None  # None: as many as heads
    norm: NormName = "layer"  # LayerNorm, or RMSNorm
    qk_norm: bool = False  # an RMSNorm over each head's queries and keys, before the rotation, as in Qwen3
    tied: bool = True  # the unembedding is the token embedding
    learned_biases: LearnedBiases = "all"  # of the linear maps; qkv: only of queries, keys and values, as in Qwen2
    num_experts: int | None = (
        None  # MLPs of a block, of which each token goes through some; None: one, and all go through
    )
    experts_per_token: int = 2  # with num_experts only: how many a token goes through
    load_balancing: float = 0.01  # with num_experts only: weight of the balance of the experts in the training loss

    def __post_init__(self) -> None:
        for name, (low, high, whole) in RANGES.items():
            check_number(name, getattr(self, name), low, high, whole)
        kinds = {"q": BiasConfig, "v": BiasConfig, "model_name": str, "qk_norm": bool, "tied": bool}
        for name, kind in kinds.items():
            _check_kind(name, getattr(self, name), kind)
        for name, choices in CHOICES.items():
            check_choice(name, getattr(self, name), get_args(choices))
        self.d_mlp = self.d_mlp or (-(-self.d_model // 3) * 8 if self.gated_mlp else 4 * self.d_model)
        self._check_heads()
        if self.num_experts is not None:
            check_number("num_experts", self.num_experts, 1, 10_000, True)
            if self.experts_per_token > self.num_experts:
                raise InterpError(
                    f"Each token is to go through {self.experts_per_token} experts, and there are {self.num_experts}; "
                    "choose at most as many."
                )
        if self.n_parameters > MOST_PARAMETERS:
            raise InterpError(
                f"A model of n_layers {self.n_layers}, d_model {self.d_model}, d_mlp {self.d_mlp}, n_ctx {self.n_ctx} and "
                f"d_vocab {self.d_vocab} has {self.n_parameters:.1e} parameters; at most {MOST_PARAMETERS:.0e} are possible."
            )
        if self.positional == "rope":
            self.rotary_dim = self.rotary_dim or self.d_head // 2
            if self.rotary_dim % 2 or not 0 < self.rotary_dim <= self.d_head:
                limit = f"it must be even and between 2 and d_head {self.d_head}"
                raise InterpError(f"rotary_dim is {self.rotary_dim}; {limit}.")
        for name, part in product(("q", "v"), ("mean", "std")):
            profile = getattr(getattr(self, name), part)
            if isinstance(profile, list) and len(profile) != self.d_head:
                raise InterpError(f"The {part} of the {name} bias has {len(profile)} numbers; d_head is {self.d_head}.")

    def _check_heads(self) -> None:
        if not self.d_head and self.d_model % self.n_heads:
            raise InterpError(f"{self.n_heads} heads do not divide d_model {self.d_model}; choose n_heads that does.")
        self.d_head = self.d_head or self.d_model // self.n_heads
        if self.n_key_value_heads is not None:
            check_number("n_key_value_heads", self.n_key_value_heads, 1, LARGEST_SIZE, True)
            if self.n_heads % self.n_key_value_heads:
                raise InterpError(
                    f"{self.n_key_value_heads} key and value heads do not divide {self.n_heads} heads; choose a number that "
                    "does."
                )
            if self.n_key_value_heads == self.n_heads:
                self.n_key_value_heads = None

    @property
    def n_parameters(self) -> int:
        """Number of weights in the matrices; vectors are left out."""
        positions = self.n_ctx * (self.positional == "learned")
        return self.d_model * ((1 if self.tied else 2) * self.d_vocab + positions) + self.n_layers * self.block_weights

    @property
    def block_weights(self) -> int:
        """Number of weights in the matrices of a block."""
        return self._weights_of_block(self.num_experts or 1)

    @property
    def active_block_weights(self) -> int:
        """Number of weights in the matrices of a block that a token meets: of the experts, those it goes through."""
        return self._weights_of_block(self.experts_per_token if self.num_experts else 1)

    def _weights_of_block(self, mlps: int) -> int:
        heads, maps = 2 * self.n_heads + 2 * self.kv_heads, 3 if self.gated_mlp else 2
        return self.d_model * (heads * self.d_head + maps * self.d_mlp * mlps + (self.num_experts or 0))

    @property
    def kv_heads(self) -> int:
        """How many heads have keys and values of their own: n_key_value_heads, or n_heads."""
        return self.n_key_value_heads or self.n_heads

    @property
    def attn_scale(self) -> float:
        """What scores are divided by: sqrt(d_head)."""
        return math.sqrt(self.d_head)

    # What TransformerLens' tools ask of a config; constants of this architecture.
    attn_only = False
    parallel_attn_mlp = False
    default_prepend_bos = True

    # State of the model that owns this config, not of its architecture: switches of hook points (`set_use_*`), and where
    # and in what precision the weights are.
    use_attn_result = False
    use_split_qkv_input = False
    use_attn_in = False
    use_hook_mlp_in = False
    device = torch.device("cpu")
    dtype = torch.float32

    @property
    def normalization_type(self) -> str:
        """TransformerLens' name for `norm`."""
        return {"layer": "LN", "rms": "RMS"}[self.norm]

    @property
    def final_rms(self) -> bool:
        """Whether the last norm is an RMSNorm: it is what all are."""
        return self.norm == "rms"

    @property
    def gated_mlp(self) -> bool:
        """Whether the MLP multiplies by a gate."""
        return self.activation == "swiglu"

    @property
    def act_fn(self) -> str:
        """TransformerLens' name for `activation`."""
        return {"gelu": "gelu_new", "gelu_exact": "gelu", "prelu": "prelu", "swiglu": "silu"}[self.activation]

    @property
    def positional_embedding_type(self) -> str:
        """TransformerLens' name for `positional`."""
        return {"learned": "standard", "rope": "rotary"}[self.positional]

    @property
    def description(self) -> str:
        """The block in a few words, for model cards; what is GPT-2's and not said otherwise is left out."""
        biases = {"all": "", "qkv": "biases of queries, keys and values alone", "none": "no learned biases"}
        parts = (
            self.activation, f"{self.positional} positions", "RMSNorm" * (self.norm == "rms"),
            f"{self.n_key_value_heads} key and value heads" * bool(self.n_key_value_heads),
            f"d_head {self.d_head}" * (self.n_heads * self.d_head != self.d_model),
            "normalized queries and keys" * self.qk_norm, "an unembedding of its own" * (not self.tied),
            biases[self.learned_biases],
            f"{self.num_experts} experts, {self.experts_per_token} for each token" * bool(self.num_experts),
        )  # fmt: skip
        return ", ".join(filter(None, parts))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; `from_dict` is its inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelConfig:
        """Read what `to_dict` wrote.

        Raises:
            InterpError: an unknown or missing key, or values that do not go together.
        """
        biases = {name: _bias_from(name, values[name]) for name in ("q", "v") if name in values}
        return _build(cls, {**values, **biases})


def _numbers(value: Profile) -> tuple[float, ...]:
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


def check_number(name: str, value: Any, low: float, high: float, whole: bool = False) -> None:
    """Raise an InterpError unless the value is a number, or a whole number, from `low` to `high`."""
    number: Any = value if isinstance(value, Integral if whole else Real) and not isinstance(value, bool) else math.nan
    if not low <= number <= high:
        kind = "a whole number" if whole else "a number"
        raise InterpError(f"{name} is {shown(value)}; {kind} from {_limit(low)} to {_limit(high)} is expected.")


def _check_kind(name: str, value: Any, kind: type) -> None:
    if not isinstance(value, kind):
        raise InterpError(f"{name} is {shown(value)}; a {kind.__name__} is expected.")


def _limit(number: float) -> str:
    return f"{number:,}" if isinstance(number, int) and abs(number) < 2**63 else f"{number:g}"


def shown(value: Any) -> str:
    """Return a value as a message quotes it: its beginning, if it is long; shape and type of a tensor."""
    if isinstance(value, torch.Tensor):
        return f"{list(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def check_choice(name: str, value: Any, allowed: tuple[str | None, ...]) -> None:
    """Raise an InterpError unless the value is one of those allowed."""
    if not isinstance(value, str | None) or value not in allowed:
        words = tuple(map(str, allowed))
        raise InterpError(f"{name} is {shown(value)}; choose one of {', '.join(words)}{nearest(str(value), words)}")


def _bias_from(name: str, values: Any) -> BiasConfig:
    if not isinstance(values, dict):
        raise InterpError(f"The {name} bias is {shown(values)}; a mapping with mean, std and mode is expected.")
    # JSON has no tuples: a pair of numbers is a linspace unless it is as long as d_head, where both mean the same
    pairs = {key: tuple(value) for key, value in values.items() if isinstance(value, list) and len(value) == 2}
    return _build(BiasConfig, {**values, **pairs})


def _build(kind: type, values: dict[str, Any]) -> Any:
    known = {f.name for f in fields(kind)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise InterpError(f"{kind.__name__} has no field {unknown[0]!r}{nearest(unknown[0], known)}")
    try:
        return kind(**values)
    except TypeError as error:
        raise InterpError(f"{kind.__name__} cannot be made from these values: {error}.") from error


# The authors' release: mean_Q 0.5, std_Q linspace(0.05, 0.15), mean_V 0.5 (0.0 was run too), std_V 0.05.
QUERY_BIAS = BiasConfig(mean=0.5, std=(0.05, 0.15), mode="batch")
VALUE_BIAS = BiasConfig(mean=0.5, std=0.05, mode="batch")
VARIANTS: dict[str, tuple[BiasConfig, BiasConfig]] = {
    "symmetric": (BiasConfig(), BiasConfig()),
    "bq": (QUERY_BIAS, BiasConfig()),
    "bqbv": (QUERY_BIAS, VALUE_BIAS),
    "bv": (BiasConfig(), VALUE_BIAS),
}


# The block of the sizes whose names begin so, and what is a size's own; embeddings are tied, as in small Llamas.
BLOCKS: dict[str, dict[str, Any]] = {
    "": {"activation": "prelu"},
    "llama": {"norm": "rms", "activation": "swiglu", "positional": "rope", "learned_biases": "none"},
    "llama-mini": {"n_key_value_heads": 2},
    "llama-124m": {"n_key_value_heads": 4, "d_mlp": 2432},
}


def preset(name: str, variant: str = "symmetric", **changes: Any) -> ModelConfig:
    """Return the config of a named size and bias variant, with any field changed by keyword.

    Raises:
        InterpError: an unknown size or variant, with the nearest known name.
    """
    for kind, given, known in (("preset", name, tuple(SIZES)), ("variant", variant, tuple(VARIANTS))):
        if given not in known:
            raise InterpError(f"There is no {kind} {given!r}; choose one of {', '.join(known)}{nearest(given, known)}")
    n_layers, n_heads, d_model, n_ctx, d_vocab = SIZES[name]
    query, value = VARIANTS[variant]
    values: dict[str, Any] = {
        "n_layers": n_layers, "n_heads": n_heads, "d_model": d_model, "n_ctx": n_ctx, "d_vocab": d_vocab, "q": query,
        "v": value, "model_name": f"{name}-{variant}", **block_of(name), **changes,
    }  # fmt: skip
    if values.get("positional") == "rope" and name.startswith(
        "llama"
    ):  # all of a head rotates, half of it in the paper's
        values.setdefault("rotary_dim", values.get("d_head") or values["d_model"] // values["n_heads"])
    return ModelConfig(**values)


def block_of(name: str) -> dict[str, Any]:
    """Return the fields of a named size's config that say what its block is, where they are not the usual."""
    return {key: value for start, block in BLOCKS.items() if name.startswith(start) for key, value in block.items()}
