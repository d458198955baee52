"""Commands from configs: a dataclass becomes a command's options, its field texts the help; errors become one line.

@dataclass
class Config:
    corpus: str = argument("What to read.")
    batch_size: int = option(8, "Contexts per forward pass.")

    def __post_init__(self) -> None:
        check_at_least_one(self, "batch_size")

command = command_from(Config, run, HELP)    # for `app.command()` of the module and of `interp COMMAND`
"""

import inspect
import os
import signal
import textwrap
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import MISSING, Field, field, fields
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import FrameType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import typer
from rich.console import Console

import interp
from interp.errors import InterpError, nearest

Config = TypeVar("Config")
console = Console(stderr=True)
BORDER = (
    "Token of --tokenizer that stands before every document (default: the bos token that the tokenizer's files name, else "
    "<|endoftext|>, else their eos token)."
)
"""Help of the option `border`."""
SOURCES, COMPONENT = ("mean", "sample", "none"), "component:"
BIAS = (
    "Which biases are in force: mean, sample, none, or, of a model with several directions, component:K, the mean of "
    "component K (from 0); mean is that of all."
)
"""Help of the option `bias`."""
CHOICES = 18
"""Letters of a list of choices in a line of the help, so that no word of it is cut where a terminal has 80 columns."""


def option(default: Any, text: str, *flags: str, panel: str | None = None) -> Any:
    """Return a dataclass field with its help, its flags where they differ from its name, and its panel in the help."""
    return field(default=default, metadata={"help": text, "flags": flags, "panel": panel})


def argument(text: str, default: Any = MISSING) -> Any:
    """Return a dataclass field that is typed by its place; without a default it must be given."""
    metadata = {"help": text, "argument": True}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def check_at_least_one(config: object, *names: str) -> None:
    """Refuse a config with a number below 1 in one of these fields; None is let through.

    Raises:
        InterpError: names the first of them.
    """
    for name in names:
        value = getattr(config, name)
        if value is not None and value < 1:
            raise InterpError(f"{name} is {value}; at least 1 is needed.")


def check_border(config: Any) -> None:
    """Refuse a config that names the border of documents, but no tokenizer that has it.

    Raises:
        InterpError: it does.
    """
    if config.border is not None and config.tokenizer is None:
        raise InterpError(f"border is {config.border!r}, but no tokenizer is named that has this token; give both.")


def check_bias(bias: Any) -> None:
    """Refuse a word that says of no model which biases are in force; what is no word is let through.

    Raises:
        InterpError: it does.
    """
    if isinstance(bias, str) and bias not in SOURCES:
        number = bias.removeprefix(COMPONENT)
        if not (bias.startswith(COMPONENT) and number.isascii() and number.isdigit()):
            known = (*SOURCES, f"{COMPONENT}0")
            raise InterpError(f"bias is {bias!r}; choose {', '.join(SOURCES)} or {COMPONENT}K{nearest(bias, known)}")


def command_from(
    config_class: type[Config],
    run: Callable[[Config], None],
    text: str,
    complete: Callable[[dict[str, Any], set[str]], dict[str, Any]] | None = None,
    panels: Mapping[str, Iterable[str]] | None = None,
) -> Callable[..., None]:
    """Return a function for `typer.Typer.command`, with one option per field of the dataclass, that calls ``run(config)``.

    Fields come from `option` and `argument`, inherited ones first; one that is neither is no option and keeps its default.
    With `complete`, which is given all values and the names of those that were typed and returns the values to use, the
    command also takes ``--config FILE`` (YAML, TOML or JSON); what is typed goes before what the file says. Every command
    takes ``--version``. `panels` names fields that stand together in the help, where they do not say so
    themselves. A paragraph of the text that begins with a line "\\b" keeps its lines, the others are wrapped anew.
    """
    hints = get_type_hints(config_class)
    known = [f for f in fields(config_class) if "help" in f.metadata]  # type: ignore[arg-type]
    place = {name: panel for panel, names in (panels or {}).items() for name in names}
    parameters = [_parameter(f, hints[f.name], f.metadata.get("panel") or place.get(f.name)) for f in known]
    call = inspect.Parameter("call", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)

    # the signature below has the types
    def command(call, config=None, version=False, **values) -> None:  # type: ignore[no-untyped-def]
        if call.invoked_subcommand:
            return
        with one_line_errors():
            if complete:
                given = {
                    name for name in values if call.get_parameter_source(name).name in ("COMMANDLINE", "DEFAULT_MAP")
                }
                values = complete(values, given)
            run(config_class(**values))

    file = [_CONFIG_FILE] if complete else []
    command.__signature__ = inspect.Signature([call, *parameters, *file, _VERSION])  # type: ignore[attr-defined]
    paragraphs = text.split("\n\n")
    command.__doc__ = "\n\n".join(one if one.startswith("\b") else " ".join(one.split()) for one in paragraphs)
    return command


def commands(text: str, add_completion: bool = False) -> typer.Typer:
    """Return an app for several commands, which tells its help when it is given none, and takes ``--version``."""
    app = typer.Typer(add_completion=add_completion, no_args_is_help=True, help=text)

    def callback(version=False) -> None:  # type: ignore[no-untyped-def]
        """Do nothing: the option does."""

    callback.__signature__ = inspect.Signature([_VERSION])  # type: ignore[attr-defined]
    app.callback()(callback)
    return app


class Terminated(KeyboardInterrupt):
    """SIGTERM came. All that is done at Ctrl-C is done then too; only the status of the process differs."""


def stop_signal(error: KeyboardInterrupt) -> signal.Signals:
    """Return the signal that an interruption came from: a command ends with 128 + its number, as a shell reports it."""
    return signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT


@contextmanager
def terminable() -> Iterator[None]:
    """Inside a with block, SIGTERM raises `Terminated`, as Ctrl-C raises KeyboardInterrupt.

    Elsewhere than in the main thread, where Python handles no signals, nothing changes.
    """

    def terminate(number: int, frame: FrameType | None) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn an InterpError into one line on stderr and its exit status; Ctrl-C and SIGTERM into a line, and 130 and 143.

    Of several processes that fail alike one says it.
    """
    try:
        with terminable():
            yield
    except InterpError as error:
        told = "[bold red]error:[/] " if error.exit_status == 1 else ""  # a signal is no error
        _say_once(told + escaped(str(error)))
        raise typer.Exit(error.exit_status) from error
    except KeyboardInterrupt as error:
        number = stop_signal(error)
        _say_once(f"stopped by {'Ctrl-C' if number == signal.SIGINT else number.name}")
        raise typer.Exit(128 + number) from error


def read_mapping(path: Path) -> dict[str, Any]:
    """Return the mapping that a YAML, TOML or JSON file holds.

    Raises:
        InterpError: the file is missing, broken, or holds something else.
    """
    import yaml  # late, like its error types, so that --help stays quick

    try:
        text = path.read_text(encoding="utf-8")
        values = _toml(text) if path.suffix == ".toml" else yaml.safe_load(text)  # JSON is YAML
    except OSError as error:
        raise InterpError(f"Cannot read {path}: {error.strerror}.") from error
    except (ValueError, yaml.YAMLError) as error:
        raise InterpError(f"{path} is broken ({' '.join(str(error).split())}); expected YAML, TOML or JSON.") from error
    if not isinstance(values, dict):
        raise InterpError(f"{path} holds {type(values).__name__}; expected settings with their values.")
    return values


def say(text: str) -> None:
    """Print a line on stderr as it is: not wrapped, brackets included."""
    console.print(text, soft_wrap=True, highlight=False, markup=False)


def say_sentence(text: str) -> None:
    """Print a sentence on stderr, between words broken to the width of a terminal; elsewhere it is one line."""
    console.print(text, soft_wrap=not console.is_terminal, highlight=False, markup=False)


def say_files(files: Iterable[Path]) -> None:
    """Print on stderr which files were written, with their sizes."""
    for file in files:
        say(f"{file.stat().st_size / 1e6:8.2f} MB  {file}")


def say_further_files(folder: Path, files: Iterable[Path]) -> None:
    """Print on stderr, on one line, how many files were written to a folder, and their size."""
    sizes = [file.stat().st_size for file in files]
    told = "1 more file" if len(sizes) == 1 else f"{len(sizes)} more files"
    say(f"{told} in {folder}, {sum(sizes) / 1e6:.1f} MB")


def escaped(text: str) -> str:
    """Return text that rich prints as it is, brackets included."""
    return text.replace("[", r"\[")


def _say_once(text: str) -> None:
    """Print a text; of the processes that `torchrun` started one does, as all of them fail alike, and the others wait.

    Where they have no store in common, each says it.
    """
    say = partial(console.print, soft_wrap=True, highlight=False)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        say(text)
        return
    from torch.distributed import (  # late, so that --help does not import torch
        TCPStore,  # pyright: ignore[reportPrivateImportUsage]
    )

    host, port, limit = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), timedelta(seconds=10)
    try:
        store = TCPStore(host, port, is_master=False, wait_for_workers=False, timeout=limit)
        first = store.add(f"asked {text}", 1) == 1
    except RuntimeError:  # torchrun itself is gone
        first, store = True, None
    if first:
        say(text)
    with suppress(RuntimeError):  # torchrun ends all processes when one has ended, so the others wait for what is said
        if store:
            store.set(f"said {text}", "") if first else store.wait([f"said {text}"], limit)


def _parameter(option: Field[Any], hint: Any, panel: str | None) -> inspect.Parameter:
    flags = option.metadata.get("flags") or ("--" + option.name.replace("_", "-"),)
    text = option.metadata["help"]
    if option.metadata.get("argument"):
        kind = typer.Argument(help=text)
    else:
        kind = typer.Option(*flags, help=text, rich_help_panel=panel, metavar=_choices(hint))
    default = option.default if option.default_factory is MISSING else option.default_factory()
    default = inspect.Parameter.empty if default is MISSING else default  # an argument that must be given
    return inspect.Parameter(
        option.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[hint, kind]
    )


def _choices(hint: Any) -> str | None:
    """Return the values of a Literal, broken after a bar where the line would be long; None for any other type."""
    inner = (
        [kind for kind in get_args(hint) if kind is not type(None)]
        if get_origin(hint) in (Union, UnionType)
        else [hint]
    )
    if get_origin(inner[0]) is not Literal:
        return None
    words = "| ".join(map(str, get_args(inner[0])))
    return "\n".join(line.replace("| ", "|") for line in textwrap.wrap(f"<{words}>", CHOICES, break_on_hyphens=False))


def _tell_version(asked: bool) -> None:
    if asked:
        typer.echo(f"interp {interp.__version__}")
        raise typer.Exit


_VERSION = inspect.Parameter(
    "version", inspect.Parameter.KEYWORD_ONLY, default=False,
    annotation=Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_tell_version)
    ],
)  # fmt: skip


def _settings_from(call, path):  # type: ignore[no-untyped-def] # typer tells context and value apart by their order
    """Make the settings of a file the defaults of a command; dashes and underscores are the same."""
    with one_line_errors():
        values = {str(name).replace("-", "_"): value for name, value in (read_mapping(path) if path else {}).items()}
        known = [parameter.name for parameter in call.command.params if parameter.name not in ("config", "version")]
        for name in values.keys() - set(known):
            raise InterpError(f"{path} has the setting {name!r}, which there is not{nearest(name, known)}")
        lists = {name: ",".join(map(str, value)) for name, value in values.items() if isinstance(value, list)}
        call.default_map = {**(call.default_map or {}), **values, **lists}
    return path


_CONFIG_FILE = inspect.Parameter(
    "config", inspect.Parameter.KEYWORD_ONLY, default=None,
    annotation=Annotated[
        Path | None,
        typer.Option(
            help="YAML, TOML or JSON file of settings; what is typed goes before it.", is_eager=True,
            callback=_settings_from,
        ),
    ],
)  # fmt: skip


def _toml(text: str) -> dict[str, Any]:
    try:
        import tomllib
    except ImportError:  # before Python 3.11
        import tomli as tomllib  # pyright: ignore[reportMissingImports]
    return tomllib.loads(text)
