"""Commands from configs: a dataclass becomes a command's options, its field texts the help; errors become one line."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, field, fields
from typing import Annotated, Any, TypeVar, get_type_hints

import typer
from rich.console import Console

from interp.errors import InterpError

Config = TypeVar("Config")
console = Console(stderr=True)


def option(default: Any, text: str, *flags: str) -> Any:
    """Return a dataclass field with its help and, where they differ from the field's name, its flags."""
    return field(default=default, metadata={"help": text, "flags": flags})


def command_from(config_class: type[Config], run: Callable[[Config], None], text: str) -> Callable[..., None]:
    """Return a function for `typer.Typer.command`, with one option per field of the dataclass, that calls ``run(config)``.

    A field's metadata gives its "help" and, optionally, its "flags" or "argument": True.
    """

    def command(**values: Any) -> None:
        with one_line_errors():
            run(config_class(**values))

    hints = get_type_hints(config_class)
    parameters = [_parameter(f, hints[f.name]) for f in fields(config_class)]  # type: ignore[arg-type]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__doc__ = text
    return command


class one_line_errors:  # noqa: N801 - reads as a with block
    """Turn an InterpError into one line on stderr and exit status 1, Ctrl-C into exit status 130."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, InterpError):
            console.print(f"[bold red]error:[/] {escaped(str(error))}", soft_wrap=True, highlight=False)
            raise typer.Exit(1) from error
        if isinstance(error, KeyboardInterrupt):
            console.print("stopped by Ctrl-C")
            raise typer.Exit(130) from error


def _parameter(option: Field[Any], hint: Any) -> inspect.Parameter:
    flags = option.metadata.get("flags") or ("--" + option.name.replace("_", "-"),)
    if option.metadata.get("argument"):
        kind = typer.Argument(help=option.metadata["help"])
    else:
        kind = typer.Option(*flags, help=option.metadata["help"])
    default = option.default if option.default_factory is MISSING else option.default_factory()
    return inspect.Parameter(
        option.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[hint, kind]
    )


def escaped(text: str) -> str:
    """Return text that rich prints as it is, brackets included."""
    return text.replace("[", r"\[")
