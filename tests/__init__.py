"""beartype as the tests use it: shapes and types are enforced, and an int may stand for a float (PEP 484).

jaxtyping makes two empty functions of every function of ours, whose calls are the checks: the first takes the arguments; the
second takes them again with what was returned, for checkers that would forget the axes. jaxtyping keeps those for the whole
call, so that here the second checks what was returned and no argument twice. Functions inside functions are made anew at
each call of the outer one; their checks are compiled once.
"""

from typing import Any

from beartype import BeartypeConf, beartype

_checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
_of_inner_functions = {}


def check(function):
    """Return an empty function of jaxtyping's as one that checks its annotations."""
    hints = {name: hint for name, hint in function.__annotations__.items() if hint is not Any}
    if "return" in hints:  # only the second says what is returned
        hints = {"return": hints["return"]}
    if not hints:
        return function
    function.__annotations__ = hints
    if "<locals>" not in function.__qualname__:
        return _checked(function)
    code = function.__code__
    names = code.co_varnames, code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags
    key = function.__module__, function.__qualname__, names, repr(hints)
    if key not in _of_inner_functions:
        _of_inner_functions[key] = _checked(function)
    return _of_inner_functions[key]
