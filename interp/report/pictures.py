"""The first pictures of a result as PNG files, for papers and slides: needs the extra `pictures`, and Chrome."""

from importlib.util import find_spec
from pathlib import Path

import plotly.graph_objects as go

from interp.analysis.result import Amplification
from interp.errors import InterpError
from interp.files import writing
from interp.report.figures import class_bars, head_grid, token_bars
from interp.report.findings import strongest_pair
from interp.report.metrics import with_evidence

OTHERWISE = "or save any chart of report.html with its own PNG button"


def require_kaleido() -> None:
    """Raise an InterpError if pictures cannot be written, before anything is measured for them."""
    if find_spec("kaleido") is None:
        raise InterpError(
            f"PNG files need the package kaleido and Chrome: pip install 'interp[pictures]', {OTHERWISE}."
        )


def write_pictures(result: Amplification, folder: Path) -> list[Path]:
    """Write `grid.png` (the class of the strongest finding), `bars.png` and `tokens.png` (the head of that cell).

    Raises:
        InterpError: kaleido or Chrome is missing, or a file cannot be written.
    """
    require_kaleido()
    heads = with_evidence(result)
    layer, head, scheme, token_class = strongest_pair(result, heads).values()
    figures = {
        "grid": head_grid(heads, scheme, token_class),
        "bars": class_bars(heads, layer, head, scheme),
        "tokens": token_bars(result.tokens, layer, head),
    }
    return [_written(figure, folder / f"{name}.png") for name, figure in figures.items()]


def _written(figure: go.Figure, path: Path) -> Path:
    try:
        picture = figure.to_image(format="png", width=1000, height=figure.layout["height"], scale=2)
    except (RuntimeError, ValueError, OSError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InterpError(f"kaleido cannot draw {path.name} ({first}); install Google Chrome, {OTHERWISE}.") from error
    with writing(path) as beside:
        beside.write_bytes(picture)
    return path
