"""What the explorer shows at first: schemes, and the head and class that stand out."""

from __future__ import annotations

import numpy as np

from interp.analysis.result import Amplification
from interp.analysis.sentences.result import Sentence
from interp.data.schemes import BUILT_IN
from interp.errors import InterpError
from interp.model.transformer import HookedSymmetryBrokenTransformer
from interp.report.explorer.view import View
from interp.report.metrics import SINK
from interp.report.tables import rankable

SCHEMES = ("pos", "function", "surface")


def check_fits(result: Amplification, model: HookedSymmetryBrokenTransformer) -> None:
    """Raise an InterpError if a result speaks of other layers and heads than the model has."""
    found = tuple(1 + int(result.heads[name].to_numpy().max()) for name in ("layer", "head"))
    expected = model.cfg.n_layers, model.cfg.n_heads
    if found != expected:
        raise InterpError(
            f"The result is of {found[0]} layers of {found[1]} heads, the model has {expected[0]} of {expected[1]}; pass "
            "the result of this model."
        )


def usual_schemes(result: Amplification | None) -> tuple[str, ...]:
    """Return the schemes of a result that can be made again from their names, or the usual ones."""
    measured = () if result is None else result.heads["scheme"].astype(str).unique()
    return tuple(name for name in measured if name in BUILT_IN) or SCHEMES


def first_view(sentence: Sentence, result: Amplification | None) -> View:
    """Return a view of the head and class of the text that stand out: by amplification in the result, else by attention.

    One text has few tokens of a class, where ratios are wild; so there it is the share of attention that b_Q moves.
    """
    scheme = sentence.schemes[0]
    if result is not None and scheme in set(result.heads["scheme"]):
        present = result.heads["token_class"].isin(sentence.tokens[scheme].astype(str).tolist())
        rows = result.heads.loc[(result.heads["scheme"] == scheme) & rankable(result.heads) & present]
        size = np.abs(rows["log2_amplification"].to_numpy(float))
    else:
        shares = sentence.shares(scheme)
        rows = shares.loc[(shares["n_tokens"] > 0) & (shares["token_class"] != SINK)]
        size = np.abs(rows["share_unchanged"].to_numpy(float) - rows["share_unbiased"].to_numpy(float))
    if not len(size):
        return View(sentence.run["text"], "L0H0", scheme, SINK)
    row = rows.iloc[int(np.nan_to_num(size).argmax())]
    return View(sentence.run["text"], f"L{row['layer']}H{row['head']}", scheme, str(row["token_class"]))
