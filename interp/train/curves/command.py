"""`python -m interp.train plot RUN...`: the curves of training runs side by side, as one page."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from interp.options import console, escaped, one_line_errors


def plot(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Folders of training runs or checkpoints.", metavar="RUN", show_default=False),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The page to write.")] = Path("curves.html"),
    open: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Draw loss, learning rate, gradient norm, energy, Noether charges and speed of runs side by side.

    A run that still goes is drawn as far as it has got; draw again to see more.
    """
    with one_line_errors():
        from interp.train.curves.page import curves_page  # late, so that --help imports neither plotly nor pandas

        page = curves_page(runs, output)
        console.print(f"{page.stat().st_size / 1e6:.2f} MB  {escaped(str(page))}", soft_wrap=True, highlight=False)
        typer.echo(page.resolve().as_uri())
        if open:
            webbrowser.open(page.resolve().as_uri())
