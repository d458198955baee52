"""Logic puzzles: families generated from a seed, one's own in a file, scored with intervals beside chance."""

from interp.evals.puzzles.generate import FAMILIES, SETS, generate
from interp.evals.puzzles.items import Item, read_items
from interp.evals.puzzles.scoring import PuzzleResult, evaluate

__all__ = ["FAMILIES", "SETS", "Item", "PuzzleResult", "evaluate", "generate", "read_items"]


def __dir__() -> list[str]:
    return __all__
