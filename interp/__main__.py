"""`interp COMMAND`, the same commands as `python -m interp.COMMAND`."""

from __future__ import annotations

import typer

from interp import amplify, convert, evaluating
from interp.data.__main__ import app as data
from interp.options import command_from
from interp.replicate import __main__ as replicate
from interp.train import __main__ as train

app = typer.Typer(add_completion=False, no_args_is_help=True, help="See what symmetry-broken attention heads amplify.")
app.command("amplify")(command_from(amplify.AmplifyConfig, amplify.run, amplify.HELP))
app.command("convert")(command_from(convert.ConvertConfig, convert.run, convert.HELP))
app.command("evals")(command_from(evaluating.EvaluateConfig, evaluating.run, evaluating.HELP))
app.command("replicate")(command_from(replicate.ReplicateConfig, replicate.run, replicate.HELP))
app.add_typer(train.app, name="train")
app.add_typer(data, name="data")

if __name__ == "__main__":
    app()
