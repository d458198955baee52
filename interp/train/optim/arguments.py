"""Arguments of an optimizer: the text of ``--optimizer-args``, and whether a class takes them. Imports no torch."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Mapping
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from interp.errors import InterpError, nearest

OUTSIDE_BRACKETS = re.compile(r",(?![^(\[]*[)\]])")  # a comma that no closing bracket follows before an opening one
ELSEWHERE = ("self", "params", "lr", "weight_decay", "maximize")  # given in other ways, or without meaning in training
WORDS = {"true": True, "false": False, "none": None}


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


def _value(name: str, text: str) -> Any:
    if text.isidentifier():
        return WORDS.get(text.lower(), text)
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        raise InterpError(
            f"The value {text!r} of {name} is neither a number, a word nor a tuple like (0.9,0.95)."
        ) from None


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
        if not _fits(value, known[key]):
            raise InterpError(f"{key}={value!r} does not fit {name}; {key} is {_said(known[key])}.")


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


def _said(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
