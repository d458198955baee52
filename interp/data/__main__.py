"""Turn corpora into token shards for training, and verify them."""

from dataclasses import dataclass
from pathlib import Path

import typer

from interp.data.shards.config import PrepareConfig
from interp.errors import InterpError
from interp.options import argument, command_from, commands, say


@dataclass
class VerifyConfig:
    """Which folder to verify."""

    folder: Path = argument("Folder that `prepare` made.")


def run_prepare(config: PrepareConfig) -> None:
    """Make the shards and print their folder."""
    from interp.data.shards.prepare import prepare  # late, so that --help is quick

    typer.echo(prepare(config))


def run_verify(config: VerifyConfig) -> None:
    """Print what is wrong, or that nothing is.

    Raises:
        InterpError: something is wrong.
    """
    from interp.data.shards.manifest import verify

    problems = verify(config.folder)
    for problem in problems:
        say(problem)
    if problems:
        raise InterpError(f"{config.folder} has {len(problems)} fault{'s' * (len(problems) > 1)}.")
    typer.echo(f"{config.folder} is complete and whole")


PREPARE = """Turn a corpus into token shards, in several processes; run it again to go on after an interruption.

\b
prepare wikipedia-sample shards/wikipedia
prepare my_text/ shards/mine --tokenizer checkpoints/tiny-bq/tokenizer.json
prepare hf:HuggingFaceFW/fineweb-edu:sample-10BT shards/fineweb --tokenizer gpt2

The folder gets train-000000.bin, ... and validation-000000.bin, ... (every eighth document), tokenizer.json, and
manifest.json with checksums. Train on it with `python -m interp.train --corpus FOLDER`.
"""
VERIFY = """Check headers, checksums and token ids of a folder that `prepare` made; exit status 1 if anything is wrong.

\b
verify shards/wikipedia
"""
app = commands("Turn corpora into token shards, and verify them.")
app.command("prepare")(command_from(PrepareConfig, run_prepare, PREPARE))
app.command("verify")(command_from(VerifyConfig, run_verify, VERIFY))

if __name__ == "__main__":
    app()
