"""`interp COMMAND`, the same commands as `python -m interp.COMMAND`; the script can also complete them in a shell."""

from interp import amplify, convert
from interp.data import __main__ as data
from interp.evals import __main__ as evals
from interp.options import commands
from interp.replicate import __main__ as replicate
from interp.train import __main__ as train

# a shell completes the name of a script, which `python -m interp` has not
app = commands("See what symmetry-broken attention heads amplify.", add_completion=__name__ != "__main__")
for name, module in {"amplify": amplify, "convert": convert, "replicate": replicate}.items():
    app.command(name)(module.command)
for name, module in {"train": train, "data": data, "evals": evals}.items():
    app.add_typer(module.app, name=name)

if __name__ == "__main__":
    app()
