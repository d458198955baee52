"""One table of optimizers with the paper's hyperparameters, and how one is built from it. Imports torch only to build.

Source of the hyperparameters: Silverstein, Kunin, Shyam, arXiv 2601.22257, 2026, and the training script released with
it; of ECDSep and BBI: this package's, since the paper does not use them.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pkgutil import resolve_name
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

from interp.errors import InterpError, nearest

if TYPE_CHECKING:
    import torch

OUTSIDE_BRACKETS = re.compile(r",(?![^(\[]*[)\]])")  # a comma that no closing bracket follows before an opening one
ELSEWHERE = ("self", "params", "lr", "weight_decay", "maximize")  # given in other ways, or without meaning in training
WORDS = {"true": True, "false": False, "none": None}


@dataclass(frozen=True)
class OptimizerSpec:
    """An optimizer that a run can choose."""

    target: str  # where its class is, as "module:name"
    defaults: Mapping[str, Any]  # keywords of a run at the paper's scale, with lr and weight_decay
    small_lr: float  # learning rate of the small presets, trained for a few thousand steps only
    clip: float = 0.0  # largest norm of the gradient, 0 for none: ECD's force has to be the gradient of its own loss


OPTIMIZERS: dict[str, OptimizerSpec] = {
    "adamw": OptimizerSpec(
        "torch.optim:AdamW",
        {"lr": 1e-4, "weight_decay": 0.01, "betas": (0.9, 0.95), "eps": 1e-8, "fused": True},
        small_lr=2e-3,
        clip=1.0,
    ),
    "sgdm": OptimizerSpec(
        "torch.optim:SGD",
        {"lr": 0.03, "weight_decay": 0.0, "momentum": 0.95, "nesterov": True, "fused": True},
        small_lr=0.1,
        clip=1.0,
    ),
    "soap": OptimizerSpec(
        "pytorch_optimizer:SOAP",
        {"lr": 3e-4, "weight_decay": 0.01, "betas": (0.95, 0.95), "precondition_frequency": 10},
        small_lr=3e-3,
        clip=1.0,
    ),
    "ecd": OptimizerSpec(
        "interp.train.optim.ecd:ECD",
        {"lr": 1.0, "weight_decay": 0.0, "eta": 100.0, "F0": 2.0, "nu": 0.0, "conserve_energy": True},
        small_lr=1.0,
    ),
    "ecdsep": OptimizerSpec(
        "interp.train.optim.ecdsep:ECDSep",
        {"lr": 0.4, "weight_decay": 0.0, "eta": 1.0, "F0": 0.0, "nu": 1e-5},
        small_lr=0.4,
    ),
    "bbi": OptimizerSpec("interp.train.optim.bbi:BBI", {"lr": 0.1, "weight_decay": 0.0}, small_lr=0.1),
}

PUBLISHED_RUN: dict[str, Any] = {
    "schedule": "constant", "warmup": 0.0, "clip": 0.0, "batch_size": 8, "context": 512, "evaluate_every": 1000,
    "batch_validation_every": 1000,
}  # fmt: skip
"""Of all published runs, by the names of a run's settings."""
_SGDM = {"lr": 0.03, "weight_decay": 0.0, "momentum": 0.95, "nesterov": True}
_SOAP = {"lr": 3e-4, "weight_decay": 0.01, "betas": (0.95, 0.95), "precondition_frequency": 10}
_ECD = {"weight_decay": 0.0, "eta": 100.0, "F0": 2.0}
PUBLISHED: dict[str, dict[str, dict[str, Any]]] = {
    "paper-prelu": {
        "adamw": {"lr": 1e-4, "weight_decay": 0.01, "betas": (0.9, 0.95)},
        "sgdm": _SGDM,
        "soap": _SOAP,
        "ecd": {"lr": 1.0, **_ECD},
    },
    "paper-gelu": {
        "adamw": {"lr": 1e-4, "weight_decay": 0.0, "betas": (0.9, 0.999)},
        "sgdm": _SGDM,
        "soap": _SOAP,
        "ecd": {"lr": 0.5, **_ECD},
    },
}
"""Of each optimizer in the PReLU and in the GELU runs of the release of arXiv 2601.22257. A weight decay of SGDM and ECD is
not told: none is taken."""


def build_optimizer(
    name: str,
    parameters: Iterable[torch.Tensor] | Iterable[tuple[str, torch.Tensor]],
    lr: float,
    weight_decay: float | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> torch.optim.Optimizer:
    """Build the optimizer `name` of OPTIMIZERS for `parameters`: matrices with weight decay, vectors without.

    Args:
        name: a key of OPTIMIZERS.
        parameters: all parameters of the model, with their names where biases and slopes may be of several experts, and so
            look like matrices.
        lr: learning rate.
        weight_decay: of matrices; the optimizer's default if None.
        arguments: other keywords of the optimizer's class, in place of the defaults.

    Raises:
        InterpError: an unknown optimizer or argument, a value of the wrong type or out of range, SOAP for sharded
            parameters.
    """
    if name not in OPTIMIZERS:
        raise InterpError(f"There is no optimizer {name!r}, only {', '.join(OPTIMIZERS)}{nearest(name, OPTIMIZERS)}")
    spec, arguments = OPTIMIZERS[name], dict(arguments or {})
    named = [each if isinstance(each, tuple) else ("", each) for each in parameters]
    together = [parameter for _, parameter in named]
    vectors = [p.ndim < 2 or own.endswith((".bias", ".slope")) for own, p in named]
    decay = spec.defaults["weight_decay"] if weight_decay is None else weight_decay
    groups = [  # matrices; and vectors: biases, norms, slopes
        {"params": [p for p, vector in zip(together, vectors, strict=True) if not vector], "weight_decay": decay},
        {"params": [p for p, vector in zip(together, vectors, strict=True) if vector], "weight_decay": 0.0},
    ]
    from interp.train.optim.mechanics import as_sharded  # late: imports torch

    sharded = any(as_sharded(parameter) is not None for parameter in together)
    if name == "soap" and sharded:
        raise InterpError(
            "SOAP needs whole matrices for its eigenbases, these are sharded over processes; "
            "use --distribute ddp, or another --optimizer."
        )
    kind = resolve_name(spec.target)
    check_arguments(name, kind, arguments)
    settings = {key: value for key, value in spec.defaults.items() if key not in ELSEWHERE}
    if name == "sgdm" and (sharded or any(p.device.type == "cpu" and p.element_size() == 2 for p in together)):
        # torch 2.12 and 2.13 have no fused step for sharded tensors, and leave most of others as they are (pytorch#191763)
        settings["fused"] = False
    try:
        return kind(groups, lr=lr, **{**settings, **arguments})
    except (ValueError, RuntimeError) as error:  # how torch and SOAP refuse, say, a number out of range
        problem = str(error).rstrip(".")
        raise InterpError(f"{name} cannot be built with lr {lr:g} and {arguments}: {problem}.") from error


def parse_arguments(text: str) -> dict[str, Any]:
    """Return the arguments of a text such as ``"eta=50,betas=(0.9,0.99),projection=global,nesterov=false"``.

    Values are Python literals; true, false and none are so in any case, and other bare words are strings.

    Raises:
        InterpError: a part that is not name=value, a name given twice, a value that is neither literal nor word.
    """
    arguments: dict[str, Any] = {}
    for part in OUTSIDE_BRACKETS.split(text) if text.strip() else []:
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not name.isidentifier():
            raise InterpError(f"{part.strip()!r} in {text!r} is not name=value; write for example eta=50,F0=1.5.")
        if name in arguments:
            raise InterpError(f"{text!r} gives {name} twice; leave one out.")
        arguments[name] = _value(name, value)
    return arguments


def check_arguments(name: str, kind: type, arguments: Mapping[str, Any]) -> None:
    """Check `arguments` against the signature of the optimizer `name` of class `kind`.

    Raises:
        InterpError: an argument that the class does not have, or a value that is not of its type.
    """
    hints = get_type_hints(kind.__init__)
    named = [p for p in inspect.signature(kind).parameters.values() if p.kind is not p.VAR_KEYWORD]
    known = {p.name: hints[p.name] for p in named if p.name not in ELSEWHERE}
    for key, value in arguments.items():
        if key not in known:
            raise InterpError(
                f"{name} has no argument {key!r}, only {', '.join(known)} (lr and weight_decay have options of their own)"
                f"{nearest(key, known)}"
            )
        if not _fits(value, hint := known[key]):
            said = hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
            raise InterpError(f"{key}={value!r} does not fit {name}; {key} is {said}.")


def _value(name: str, text: str) -> Any:
    if text.isidentifier():
        return WORDS.get(text.lower(), text)
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        raise InterpError(
            f"The value {text!r} of {name} is neither a number, a word nor a tuple like (0.9,0.95)."
        ) from None


def _fits(value: Any, hint: Any) -> bool:
    """Return whether a number, word or tuple is of the type that a signature names."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, option) for option in inner)
    if origin is Literal:
        return value in inner
    if origin is tuple:
        return isinstance(value, tuple) and len(value) == len(inner) and all(map(_fits, value, inner))
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, (int, float) if hint is float else hint)
