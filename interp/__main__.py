"""`interp COMMAND`, the same commands as `python -m interp.COMMAND`."""

import typer

from interp import amplify, convert
from interp.data import __main__ as data
from interp.evals import __main__ as evals
from interp.replicate import __main__ as replicate
from interp.train import __main__ as train

app = typer.Typer(add_completion=False, no_args_is_help=True, help="See what symmetry-broken attention heads amplify.")
for name, module in {"amplify": amplify, "convert": convert, "replicate": replicate}.items():
    app.command(name)(module.command)
for name, module in {"train": train, "data": data, "evals": evals}.items():
    app.add_typer(module.app, name=name)

if __name__ == "__main__":
    app()
