"""What a model is: its sizes, its block, and the biases that break its symmetry; the named ones."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

import numpy as np
import torch

from interp.errors import InterpError, check_choice, check_number, nearest, shown

BiasMode = Literal["none", "batch", "fixed", "learned"]
Activation = Literal["gelu", "gelu_exact", "prelu", "swiglu"]
Positional = Literal["learned", "rope"]
NormName = Literal["layer", "rms"]
ComponentPer = Literal["layer", "head"]
LearnedBiases = Literal["all", "qkv", "none"]
Profile = float | list[float] | tuple[float, float]  # a number, d_head numbers, or the (start, end) of a linspace

LARGEST_SIZE, LARGEST_BIAS, MOST_PARAMETERS, MOST_DIRECTIONS = 2**30, 1e6, 10**12, 1024
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
    """The distribution of an unlearned bias, N(mean, std^2) per dimension (arXiv 2601.22257), or a mixture of such.

    `mean` and `std` are a number for every dimension, a list of d_head numbers, or a (start, end) tuple, which stands for
    ``linspace(start, end, d_head)``.

    With several `directions` a draw first chooses one of as many components, each with the same probability, and then adds
    noise of `std` to its mean: one of `means`, or one of those that `components` lays out from `mean`. The authors publish
    results of such a mixture (four query directions, "multi-4bQ"), but not how it is laid out or drawn; this is our way.

    Raises:
        InterpError: an unknown mode, a negative std, a mean or std that is no number of a size to compute with, or that is
            not zero beside mode "none", or directions that do not fit the means or the rest.
    """

    mean: Profile = 0.0
    std: Profile = 0.0
    mode: BiasMode = "none"  # batch: drawn anew every step; fixed: drawn once; learned: starts at a draw; none: no bias
    shared_across_heads: bool = True  # one vector a layer, as in the authors' release, or one for each head
    directions: int = 1  # components of the mixture
    means: list[Profile] | None = None  # of the components; None lays them out from `mean`
    component_per: ComponentPer = "layer"  # chosen for all heads of a layer together, or for each head

    def __post_init__(self) -> None:
        check_choice("mode", self.mode, get_args(BiasMode))
        _check_kind("shared_across_heads", self.shared_across_heads, bool)
        self._check_directions()
        given = (("mean", self.mean), ("std", self.std), *(("mean", mean) for mean in self.means or ()))
        for name, profile in given:
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
        if self.directions > 1 and self.means is None and not any(_numbers(self.mean)):
            raise InterpError(
                f"{self.directions} directions are laid out from the mean, which is 0; give a mean, or the means of all."
            )

    def _check_directions(self) -> None:
        check_choice("component_per", self.component_per, get_args(ComponentPer))
        check_number("directions", self.directions, 1, MOST_DIRECTIONS, True)
        if self.means is not None:
            if not isinstance(self.means, list) or not 2 <= len(self.means) <= MOST_DIRECTIONS:
                raise InterpError(f"means is {shown(self.means)}; a list of 2 means or more is expected.")
            if self.directions not in (1, len(self.means)):
                raise InterpError(
                    f"There are {self.directions} directions, but {len(self.means)} means; give one for each."
                )
            if any(_numbers(self.mean)):
                raise InterpError(
                    f"Both the mean {shown(self.mean)} and means of directions were given; give one of them."
                )
            object.__setattr__(self, "directions", len(self.means))
        if self.directions > 1 and self.mode == "none":
            raise InterpError(f"A bias of {self.directions} directions has mode 'none'; say mode='batch'.")
        if self.component_per == "head" and (self.directions == 1 or self.shared_across_heads):
            other = "one direction" if self.directions == 1 else "shared_across_heads, one vector a layer"
            raise InterpError(f"component_per is 'head', but the bias has {other}; change one of the two.")

    def profile(self, name: Literal["mean", "std"], d_head: int) -> torch.Tensor:
        """Return `mean` or `std` as a float32 tensor of shape [d_head]."""
        return _spread(getattr(self, name), d_head)

    def components(self, d_head: int) -> torch.Tensor:
        """Return the means of the directions as a float32 tensor of shape [directions, d_head].

        Without `means` they are laid out orthogonally: component k has the numbers of `mean` in the dimensions k, k +
        directions, k + 2 directions, ..., times what gives it the length of `mean`, and 0 elsewhere. So parts have the same
        share of the rising `std` and of the dimensions that rotate with RoPE, where directions divide rotary_dim / 2 also
        the same pairs. Their mean, the mean of the mixture, is 1 / sqrt(directions) as long where all numbers are alike.

        Raises:
            InterpError: fewer dimensions than directions, or a `mean` that is 0 in all dimensions of one.
        """
        if self.means is not None:
            return torch.stack([_spread(mean, d_head) for mean in self.means])
        if self.directions == 1:
            return self.profile("mean", d_head)[None]
        whole = np.linspace(*self.mean, d_head) if isinstance(self.mean, tuple) else np.resize(self.mean, d_head)
        parts = np.where(np.arange(d_head) % self.directions == np.arange(self.directions)[:, None], whole, 0.0)
        lengths = np.linalg.norm(parts, axis=1, keepdims=True)
        if not lengths.all():
            raise InterpError(
                f"{self.directions} directions cannot be laid out in {d_head} dimensions with the mean {shown(self.mean)}: "
                "each needs one in which the mean is not 0."
            )
        return torch.tensor(parts / lengths * np.linalg.norm(whole), dtype=torch.float32)


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
        self._check_biases()

    def _check_biases(self) -> None:
        for name, bias in (("q", self.q), ("v", self.v)):
            for part, profile in (
                ("mean", bias.mean),
                ("std", bias.std),
                *(("mean", mean) for mean in bias.means or ()),
            ):
                if isinstance(profile, list) and len(profile) != self.d_head:
                    raise InterpError(
                        f"The {part} of the {name} bias has {len(profile)} numbers; d_head is {self.d_head}."
                    )
            if isinstance(bias.mean, list) or self.d_head < 2 * bias.directions:  # else none is 0 throughout
                bias.components(self.d_head)
        if 1 not in (several := (self.q.directions, self.v.directions)) and several[0] != several[1]:
            raise InterpError(
                f"b_Q has {several[0]} directions and b_V {several[1]}; both are put in force together, so give them as "
                "many, or one of them 1."
            )

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
        """Return plain values for JSON; `from_dict` is its inverse.

        What a bias has of one direction is as it was before there were several, so that a run goes on with its old states.
        """
        return {**asdict(self), "q": _bias_to(self.q), "v": _bias_to(self.v)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelConfig:
        """Read what `to_dict` wrote.

        Raises:
            InterpError: an unknown or missing key, or values that do not go together.
        """
        biases = {name: _bias_from(name, values[name]) for name in ("q", "v") if name in values}
        return _build(cls, {**values, **biases})


def _spread(value: Profile, d_head: int) -> torch.Tensor:
    """Return a profile's number for every dimension, float32."""
    if isinstance(value, tuple):
        return torch.linspace(value[0], value[1], d_head)
    if isinstance(value, list):
        return torch.tensor(value, dtype=torch.float32)
    return torch.full((d_head,), float(value))


def _numbers(value: Profile) -> tuple[float, ...]:
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


def _check_kind(name: str, value: Any, kind: type) -> None:
    if not isinstance(value, kind):
        raise InterpError(f"{name} is {shown(value)}; a {kind.__name__} is expected.")


def _bias_from(name: str, values: Any) -> BiasConfig:
    if not isinstance(values, dict):
        raise InterpError(f"The {name} bias is {shown(values)}; a mapping with mean, std and mode is expected.")
    read = {key: value if key == "means" else _profile_from(value) for key, value in values.items()}
    if isinstance(means := values.get("means"), list):
        read["means"] = [_profile_from(mean) for mean in means]
    return _build(BiasConfig, read)


def _profile_from(value: Any) -> Any:
    """JSON has no tuples: a pair of numbers is a linspace unless it is as long as d_head, where both mean the same."""
    return tuple(value) if isinstance(value, list) and len(value) == 2 else value


def _bias_to(bias: BiasConfig) -> dict[str, Any]:
    several = {f.name: f.default for f in fields(bias) if f.name in ("directions", "means", "component_per")}
    return {name: value for name, value in asdict(bias).items() if name not in several or value != several[name]}


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
