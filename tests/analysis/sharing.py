"""Run a function in two processes that share the work, and keep what each returns.

As one of them, python -m tests.analysis.sharing MODULE:FUNCTION FOLDER calls FUNCTION(folder, world).
"""

import json
import sys
from importlib import import_module
from pathlib import Path

from interp.model.checkpoint import save_checkpoint
from interp.model.distributed import processes
from tests.processes import run_ranks


def write_case(folder, model):
    """Put a checkpoint and texts of several blocks of its contexts into a folder."""
    save_checkpoint(model, folder / "model")
    texts = [
        f"In {year} the fox wrote {year % 7} papers, and nobody read them. " * (year % 5 + 1)
        for year in range(1900, 1940)
    ]
    (folder / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


def folders_of_two_processes(function, folder):
    """Return the folders to which the two processes saved what `function` returned in each."""
    words = ["-m", "tests.analysis.sharing", f"{function.__module__}:{function.__name__}", str(folder)]
    statuses, told = run_ranks([sys.executable, *words])
    assert statuses == [0, 0], "\n".join(text[-3000:] for text in told)
    return [folder / f"rank-{rank}" for rank in (0, 1)]


if __name__ == "__main__":
    module, name = sys.argv[1].split(":")
    with processes("cpu") as world:
        getattr(import_module(module), name)(Path(sys.argv[2]), world).save(Path(sys.argv[2]) / f"rank-{world.rank}")
