"""Two checkpoints, results or saved folders compared over the same documents: `interp.compare`, and what a command shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from interp.analysis import result
from interp.analysis.comparison import Comparison
from interp.analysis.paired_differences import compare_results
from interp.analysis.selectivity import FEW
from interp.errors import InterpError
from interp.model.checkpoint import find_checkpoint
from interp.model.transformer import HookedSymmetryBrokenTransformer
from interp.options import escaped
from interp.reporting import amplification
from interp.vocabulary import load_tokenizer, tokenizer_sha256

Side = result.Amplification | HookedSymmetryBrokenTransformer | str | Path
ROWS = 8  # of the summary


def compare(a: Side, b: Side, **settings: Any) -> Comparison:
    """Compare what the heads of two models amplify, or of one model read in two ways; every difference is B - A.

    Intervals of differences are over documents, and paired: both sides see the same documents with the same bootstrap
    weights. Heads of two trainings have no correspondence; what they have in common is in the table `classes`.

        interp.compare("tiny-bq", "tiny-bqbv", schemes=("pos", "function")).classes
        interp.compare("reports/tiny-bq", "reports/tiny-bq-ecd").classes
        twin = interp.load_model("tiny-bq")
        interp.compare("tiny-symmetric", twin, direction=twin).heads  # both along the b_Q of the second

    Args:
        a, b: a result of `interp.amplification`, a folder it was saved to, or a model, or the path or name of a checkpoint.
        settings: how models and checkpoints are measured, as `interp.amplification` takes them.

    Raises:
        InterpError: the sides cannot be paired, settings where nothing is left to measure, or as `interp.amplification`.
    """
    if settings and all(_is_measured(side) for side in (a, b)):
        raise InterpError(
            f"Both sides are measured already, so {', '.join(settings)} would do nothing; leave it out, or give checkpoints."
        )
    return compare_results(_measured(a, settings), _measured(b, settings))


def _is_measured(side: Side) -> bool:
    return isinstance(side, result.Amplification) or (
        isinstance(side, str | Path) and (Path(side) / "heads.parquet").is_file()
    )


def _measured(side: Side, settings: dict[str, Any]) -> result.Amplification:
    if isinstance(side, result.Amplification):
        return side
    if not isinstance(side, HookedSymmetryBrokenTransformer) and _is_measured(side):
        return result.Amplification.load(side)
    if settings.get("direction") is side:  # its own b_Q, no direction from elsewhere
        settings = {**settings, "direction": "bias"}
    return amplification(side, **settings)


def refuse_other_tokenizers(checkpoints: Sequence[str]) -> None:
    """Refuse, before anything is measured, checkpoints that cut the same text into other tokens.

    Raises:
        InterpError: a checkpoint or its tokenizer is missing, or differs from the first.
    """
    checksums = {name: tokenizer_sha256(load_tokenizer(find_checkpoint(name))) for name in checkpoints}
    for name, checksum in checksums.items():
        if checksum != checksums[checkpoints[0]]:
            raise InterpError(
                f"{checkpoints[0]} and {name} have different tokenizers, so their token classes cannot be compared; report "
                "them one at a time."
            )


def summary(comparison: Comparison) -> Table:
    """Return the classes whose mean |A| over heads differs most, as a table for the terminal; rare classes come last."""
    found = comparison.classes
    classes = found.loc[(found["statistic"] == "mean_absolute") & found["difference"].notna()]
    n_heads = " and ".join(map(str, dict.fromkeys([*classes["n_heads_a"][:1], *classes["n_heads_b"][:1]])))
    a, b = (escaped(str(comparison.run[side]["model"])) for side in ("a", "b"))
    table = Table(
        title=f"Mean |log2 amplification| over {n_heads} heads; A {a}, B {b}, intervals over "
        f"{comparison.run['shared']['n_documents']} documents",
        caption="The classes that differ most. Heads of two trainings do not correspond.",
    )
    for name in ("scheme", "class", "tokens", "A", "B", "B - A", "95% interval"):
        table.add_column(name, justify="left" if name in ("scheme", "class") else "right", no_wrap=True)
    order = np.lexsort((-classes["difference"].abs(), classes["n_tokens"] < FEW))
    for row in classes.iloc[order[:ROWS]].to_dict("records"):
        known = row["ci_low"] == row["ci_low"]  # not for a class that only one document has
        interval = escaped(f"[{row['ci_low']:+.3f}, {row['ci_high']:+.3f}]") if known else "unknown"
        table.add_row(
            row["scheme"], escaped(row["token_class"]), f"{row['n_tokens']:,}", f"{row['value_a']:.3f}",
            f"{row['value_b']:.3f}", f"{row['difference']:+.3f}", interval,
        )  # fmt: skip
    return table
