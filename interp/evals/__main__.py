"""Put puzzles or arithmetic to checkpoints and measure their held-out loss.

python -m interp.evals tiny-bqbv                                 puzzles, and the loss on held-out Wikipedia
python -m interp.evals tiny-symmetric tiny-bq --n-items 500 --open
python -m interp.evals runs/mine --items my_puzzles.json --corpus my_text/ -o reports/mine-puzzles
python -m interp.evals tiny-bq --families extended --corpus none
python -m interp.evals arithmetic sums --n 10000                 examples with written steps, to train on
python -m interp.evals runs/sums --arithmetic --corpus none      and whether their answers are right
"""

from __future__ import annotations

import json
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer
from typer.core import TyperCommand, TyperGroup

from interp.errors import InterpError
from interp.files import owning, writing
from interp.options import (
    BIAS,
    argument,
    check_at_least_one,
    check_bias,
    command_from,
    console,
    escaped,
    option,
    say_files,
)

if TYPE_CHECKING:
    import pandas as pd

    from interp.evals.arithmetic import Problem
    from interp.evals.puzzles import Item

NO_CORPUS = "none"


@dataclass
class EvaluateConfig:
    """What to ask of which checkpoints, and where the tables go.

    Raises:
        InterpError: a number below 1, a bias that there is not, or one checkpoint named twice.
    """

    checkpoints: list[str] = argument("Checkpoint folders, or names of bundled ones.", ["tiny-bqbv"])
    items: Path | None = option(None, "JSON file of one's own puzzles, instead of the generated ones.")
    families: str | None = option(
        None, "Families of puzzles or types of arithmetic, separated by commas; basic and extended are sets of puzzles "
        "(default: basic, or all types)."
    )  # fmt: skip
    arithmetic: bool = option(
        False, "Ask sums and word problems instead of puzzles: is the answer that the model comes to the right one?"
    )
    digits: int = option(3, "Most digits of the numbers in arithmetic.")
    n_items: int = option(200, "Generated puzzles in a family, or problems of a type of arithmetic.")
    seed: int = option(0, "Seed of the generated puzzles and problems.")
    corpus: str = option("wikipedia-sample", "What the held-out loss is measured on; 'none' leaves it out.")
    split: Literal["all", "train", "validation"] | None = option(
        None, "Which documents (default: the held-out ones of wikipedia-sample and shards, all of any other corpus)."
    )
    text_field: str = option("text", "Column that holds the text, of a corpus that has columns.")
    schemes: str = option("function,surface", "Classes whose loss is shown, separated by commas.")
    max_tokens: int | None = option(
        None, "Stop before the document that would exceed this number of tokens; the first one is measured whole, with a "
        "warning.",
    )  # fmt: skip
    bias: str = option("mean", f"{BIAS} What is not the mean is warned of.")
    batch_size: int = option(32, "Texts per forward pass.")
    device: str = option("auto", "auto (a GPU if there is one), cpu or cuda.")
    output: Path = option(Path("reports/evals"), "Folder for tables and page.", "-o", "--output")
    open: bool = option(False, "Open the page in a browser.")
    quiet: bool = option(False, "No progress bar.", "-q", "--quiet")

    def __post_init__(self) -> None:
        check_at_least_one(self, "n_items", "digits", "batch_size", "max_tokens")
        check_bias(self.bias)
        if self.arithmetic and self.items is not None:
            raise InterpError("Both --arithmetic and --items were given; evaluate them one by one.")
        names = [Path(checkpoint).name for checkpoint in self.checkpoints]
        if len(set(names)) < len(names):
            raise InterpError(f"Two checkpoints have one name ({', '.join(names)}); evaluate them one by one.")


@dataclass
class ArithmeticConfig:
    """How many problems of arithmetic to write, and where.

    Raises:
        InterpError: a number below 1.
    """

    folder: Path = argument("Folder for train.jsonl and test.jsonl.")
    n: int = option(10_000, "Problems to train on, of all types together.")
    n_test: int = option(800, "Problems for tests, none of which is among those to train on, whatever the seeds.")
    seed: int = option(0, "Seed of the problems.")
    digits: int = option(3, "Most digits of a number in a sum of two; others have one less.")
    types: str | None = option(
        None, "Of two_numbers, several_numbers, comparison_or_parity, word_problem, separated by commas (default: all)."
    )

    def __post_init__(self) -> None:
        check_at_least_one(self, "n", "n_test", "digits")


def run(config: EvaluateConfig) -> None:
    """Evaluate, print the table, write the files."""
    from rich.console import Console

    from interp.report.evaluation import evaluation_page, screen_tables  # late, so that --help does not import pandas

    with owning(config.output):
        tables, runs = evaluate_checkpoints(config)
        for table in screen_tables(tables):
            Console().print(table)
        files = _save(config.output, tables, runs)
        page = evaluation_page(tables, runs, config.output / "evals.html")
    say_files([*files, page])
    typer.echo(page.resolve().as_uri())
    if config.open:
        webbrowser.open(page.resolve().as_uri())


def evaluate_checkpoints(config: EvaluateConfig) -> tuple[dict[str, pd.DataFrame], list[dict[str, Any]]]:
    """Return tidy tables with a column `model` first, and what there is to know of each model's run.

    The tables are `families` and `items` (`interp.evals.puzzles` or `interp.evals.arithmetic`), and `overall`, `positions`
    and `classes` (`interp.evals.held_out`) unless the corpus is "none".

    Raises:
        InterpError: bad input.
    """
    import pandas as pd

    from interp.evals import arithmetic
    from interp.evals.puzzles import generate, read_items

    chosen = [name.strip() for name in config.families.split(",")] if config.families else None
    asked: Sequence[Item] | Sequence[Problem]
    if config.items:
        asked = read_items(config.items)
    elif config.arithmetic:
        n = config.n_items * len(chosen or arithmetic.TYPES)
        asked = arithmetic.generate("test", n, seed=config.seed, digits=config.digits, types=chosen)
    else:
        asked = generate(chosen, seed=config.seed, n_items=config.n_items)
    parts, runs = [], []
    for checkpoint in config.checkpoints:
        tables, told = _evaluated(config, checkpoint, asked)
        for table in tables.values():
            table.insert(0, "model", Path(checkpoint).name)
        parts.append(tables)
        runs.append(told | {"model": Path(checkpoint).name})
    return {name: pd.concat([tables[name] for tables in parts], ignore_index=True) for name in parts[0]}, runs


def _evaluated(
    config: EvaluateConfig, checkpoint: str, asked: Sequence[Item] | Sequence[Problem]
) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    import warnings

    from interp.evals import arithmetic
    from interp.evals.held_out import held_out_loss
    from interp.evals.puzzles import Item, evaluate
    from interp.model.checkpoint import find_checkpoint, load_model
    from interp.provenance import command_line, file_sha256, now, versions

    model = load_model(checkpoint, config.device)
    with model.bias(bias=config.bias), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are in `run`, and shown once with the tables
        if config.arithmetic:
            problems = [one for one in asked if isinstance(one, arithmetic.Problem)]
            with _progress(config, f"{checkpoint}: arithmetic", len(problems)) as done:
                answers = arithmetic.evaluate(model, problems, batch_size=config.batch_size, on_answered=done)
        else:
            items = [one for one in asked if isinstance(one, Item)]
            with _progress(config, f"{checkpoint}: puzzles", sum(len(one.continuations) for one in items)) as done:
                answers = evaluate(model, items, batch_size=config.batch_size, on_scored=done)
        tables, told = {"families": answers.families, "items": answers.items}, list(answers.run["warnings"])
        if config.corpus != NO_CORPUS:
            schemes = [name.strip() for name in config.schemes.split(",") if name.strip()]
            with _progress(config, f"{checkpoint}: held-out loss", config.max_tokens) as done:
                loss = held_out_loss(
                    model, config.corpus, schemes, split=config.split, text_field=config.text_field,
                    max_tokens=config.max_tokens, batch_size=config.batch_size, on_tokens=done,
                )  # fmt: skip
            tables |= {"overall": loss.overall, "positions": loss.positions, "classes": loss.classes}
            told += loss.run["warnings"]
    for warning in told:
        console.print(f"[yellow]warning:[/] {escaped(f'{checkpoint}: {warning}')}", soft_wrap=True, highlight=False)
    return tables, {
        **answers.run, "warnings": told, "seed": None if config.items else config.seed, "n_ctx": model.cfg.n_ctx,
        "bias": config.bias,
        "items": "arithmetic" if config.arithmetic else str(config.items or "generated"),
        "corpus": config.corpus, "split": config.split,
        "weights_sha256": file_sha256(find_checkpoint(checkpoint) / "model.safetensors"),
        "command": command_line("interp.evals"), "date": now(), "versions": versions(),
    }  # fmt: skip


def _save(folder: Path, tables: dict[str, pd.DataFrame], runs: list[dict[str, Any]]) -> list[Path]:
    """Write every table as Parquet, and what fits on a screen as one JSON file."""
    small = [name for name in ("overall", "families") if name in tables]
    short = {name: json.loads(tables[name].to_json(orient="records") or "") for name in small}
    with writing(folder) as beside:
        beside.mkdir()
        (beside / "evals.json").write_text(json.dumps({"runs": runs, **short}, indent=1) + "\n", encoding="utf-8")
        for name, table in tables.items():
            table.to_parquet(beside / f"{name}.parquet", index=False)
    return [folder / "evals.json", *(folder / f"{name}.parquet" for name in tables)]


@contextmanager
def _progress(config: EvaluateConfig, name: str, total: int | None) -> Iterator[Any]:
    from rich.progress import Progress

    with Progress(console=console, disable=config.quiet, transient=True) as bar:
        task = bar.add_task(escaped(name), total=total)
        yield lambda count: bar.update(task, advance=count)


def write(config: ArithmeticConfig) -> None:
    """Write arithmetic and print the folder."""
    from interp.evals.arithmetic import write_arithmetic  # late, like the above

    types = [name.strip() for name in config.types.split(",")] if config.types else None
    files = write_arithmetic(
        config.folder, config.n, config.n_test, seed=config.seed, digits=config.digits, types=types
    )
    say_files(files)
    typer.echo(config.folder)


HELP = """Put logic puzzles or arithmetic to checkpoints and measure their loss on held-out text.

Accuracies stand beside chance, everything has its 95% interval. Writes evals.html (one offline page), evals.json, and the
tables as Parquet, one row per item, family, position and class. `python -m interp.evals arithmetic DIR` writes arithmetic
with written steps to train on.
"""
ARITHMETIC = """Write arithmetic with written steps, as examples to train on and for tests.

`python -m interp.evals arithmetic sums --n 10000`

The folder gets train.jsonl and test.jsonl, a prompt and its completion a line. Train on them with
`python -m interp.train --corpus DIR/train.jsonl --examples`, and evaluate with `python -m interp.evals RUN --arithmetic`.
"""


class _Commands(TyperGroup):
    """The word `arithmetic` names a command; all else is for `checkpoints`, which needs no name."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        named = bool(args) and args[0] in self.commands
        return super().parse_args(ctx, args if named else ["checkpoints", *args])


class _Unnamed(TyperCommand):
    """A command whose help does not name it, as nobody types its name."""

    class context_class(TyperCommand.context_class):  # noqa: N801 - as the library calls it
        """A context with the path of the commands above it."""

        @property
        def command_path(self) -> str:
            """Path without the command's own name."""
            return self.parent.command_path if self.parent else super().command_path


app = typer.Typer(add_completion=False, cls=_Commands, help="Put puzzles or arithmetic to checkpoints.")
app.command("checkpoints", cls=_Unnamed)(command_from(EvaluateConfig, run, HELP))
app.command("arithmetic")(command_from(ArithmeticConfig, write, ARITHMETIC))

if __name__ == "__main__":
    app()
