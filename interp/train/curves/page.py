"""The curves of training runs as one HTML file that needs no network and no other file."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from interp.errors import InterpError
from interp.files import check_writable, is_owned
from interp.options import Terminated
from interp.page.document import panels_of, render, write_page
from interp.page.look import colour_of
from interp.train.curves.figures import CURVE, FIGURES, Axis, Histories, axis_title, read_history, running_mean

TEMPLATES = Path(__file__).parent / "templates"
PAUSE = 5.0  # seconds between two looks at runs that are followed
AXES: tuple[Axis, ...] = ("tokens", "seconds", "step", "share")


def find_run(name: str | Path) -> Path:
    """Return a run's folder or file as it is, and the folder of a bundled checkpoint where nothing here has its name."""
    if Path(name).exists() or len(Path(name).parts) > 1:
        return Path(name)
    from interp.model.checkpoint import BUNDLED  # late: it imports torch, and most runs are folders

    return BUNDLED / name if (BUNDLED / name).is_dir() else Path(name)


def place_of_page(names: Sequence[str | Path]) -> Path:
    """Return where the page goes if nobody says: into the first folder among these; here, if all are bundled names."""
    here = [Path(name) for name in names if Path(name).exists()]
    return next((run if run.is_dir() else run.parent for run in here), Path()) / "curves.html"


def curves_page(runs: Sequence[Path], output: Path, refresh: int = 0) -> Path:
    """Write the page of `runs` to `output` and return it; a reader never sees half a page.

    With `refresh`, a browser loads the page again after so many seconds.

    Raises:
        InterpError: a run without a readable training.jsonl, or a place that cannot be written.
    """
    check_writable(output)
    histories = dict(zip(names_of(runs), map(read_history, runs), strict=True))
    page = render(
        TEMPLATES,
        "curves.html",
        runs=[_summary(number, *item) for number, item in enumerate(histories.items())],
        panels=_panels(histories),
        axes=[(axis, axis_title(histories, axis).split(" (")[0]) for axis in AXES],
        longest=max(len(history) for history in histories.values()),
        titles={axis: axis_title(histories, axis) for axis in AXES},
        refresh=refresh,
    )
    return write_page(page, output)


def follow(
    runs: Sequence[Path], output: Path, written: Callable[[Path], None] = lambda page: None, pause: float = PAUSE
) -> Path:
    """Write the page of `runs` whenever a curve has grown, until no run goes on or Ctrl-C comes, and return it.

    A run that has begun and has no row yet is waited for. While runs go on, a browser loads the page again by itself.

    Args:
        runs, output: as for `curves_page`.
        written: called with the page each time that it was written.
        pause: seconds between two looks at the curves.

    Raises:
        InterpError: as `curves_page`.
    """
    check_writable(output)
    drawn: tuple[bool, list[int]] | None = None
    try:
        while True:
            goes = any(is_owned(run if run.is_dir() else run.parent) for run in runs)  # before the curves are looked at
            sizes = [_size(run) for run in runs]
            if (goes, sizes) != drawn and (all(sizes) or not goes):
                try:
                    curves_page(runs, output, refresh=max(1, round(pause)) if goes else 0)
                except InterpError:
                    if not goes:
                        raise
                else:
                    drawn = goes, sizes
                    written(output)
            if not goes:
                return output
            time.sleep(pause)
    except KeyboardInterrupt as error:
        if isinstance(error, Terminated):
            raise
        if all(map(_size, runs)):
            curves_page(runs, output)  # which asks to be loaded again no more
        return output


def _size(run: Path) -> int:
    """The length of a run's curve in bytes; 0 where there is none yet."""
    path = run / CURVE if run.is_dir() else run
    return path.stat().st_size if path.is_file() else 0


def names_of(runs: Sequence[Path]) -> list[str]:
    """Return a name for each run: as many of the last parts of its path as tell it from the others."""
    paths = [path.resolve() for path in runs]
    paths = [path.parent if path.name == CURVE else path for path in paths]
    for length in range(1, max(len(path.parts) for path in paths)):
        names = ["/".join(path.parts[-length:]) for path in paths]
        if len(set(names)) == len(paths):
            return names
    return [f"{path.name} ({number})" for number, path in enumerate(paths, 1)]


def _panels(histories: Histories) -> dict[str, Any]:
    """Return each picture that has something to show as Plotly's JSON, with the places of its points on every axis."""
    panels = {}
    for name, draw in FIGURES.items():
        figures = panels_of({axis: draw(histories, axis) for axis in AXES})
        if figures["tokens"]["data"]:
            places = {axis: [trace.pop("x") for trace in figure["data"]] for axis, figure in figures.items()}
            ranges = {axis: figure["layout"]["xaxis"].get("range") for axis, figure in figures.items()}
            panels[name] = {**figures["tokens"], "places": places, "ranges": ranges}
    return panels


def _summary(number: int, name: str, history: pd.DataFrame) -> dict[str, Any]:
    last, measured = history.iloc[-1], history.loc[history["validation_loss"].notna()]
    best = measured.sort_values("validation_loss").head(1).to_dict("records")
    return {
        "name": name,
        "group": number,
        "colour": colour_of(number),
        "steps": f"{last['step']:,.0f}",
        "tokens": f"{last['tokens']:,.0f}",
        "time": _duration(last["seconds"]),
        "loss": f"{running_mean(history['loss'].to_numpy())[-1]:.4f}",
        "best": "".join(f"{row['validation_loss']:.4f}" for row in best) or "–",
        "best_step": "".join(f"{row['step']:,}" for row in best),
    }


def _duration(seconds: float) -> str:
    whole = round(seconds) if np.isfinite(seconds) else 0
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {whole % 60:02} s"
