"""What may be said of classes: which pairs of a head and a class are findings, and how large all of them are.

A pair is a finding only if

1. what of its amplification is beyond position has a 95% interval over documents that excludes 0,
2. and is beyond what labels shifted along the documents give (q < 0.05, Benjamini-Hochberg within the scheme),
3. the class has at least `FEW_TOKENS` tokens, and is not the first token of a document, an attention sink,
4. and the bias looked along is in force in the model: along a direction from elsewhere, amplification is what such a bias
   would do, and nothing is found of the model.

It is said of each whether it is also beyond directions of equal spread: whether b_Q singles the class out, or only is a
direction in which keys, and so all classes, lie far apart.
"""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd

from interp.analysis.direction import OWN
from interp.analysis.measurements.explained import overview
from interp.analysis.significance import corrected_within


@runtime_checkable
class Measured(Protocol):
    """What is looked at of an `interp.analysis.result.Amplification`."""

    @property
    def heads(self) -> pd.DataFrame: ...  # noqa: D102
    @property
    def nulls(self) -> pd.DataFrame: ...  # noqa: D102
    @property
    def further(self) -> Mapping[str, pd.DataFrame]: ...  # noqa: D102
    @property
    def run(self) -> dict[str, Any]: ...  # noqa: D102


FEW_TOKENS = 100
"""A class with fewer tokens is not ranked, not found, and drawn grey: its numbers are mostly noise."""

SINK = "bos"
ALPHA = 0.05
COLUMNS = (
    "layer", "head", "scheme", "token_class", "n_tokens", "log2_amplification", "ci_low", "ci_high",
    "log2_amplification_position", "log2_amplification_beyond", "beyond_ci_low", "beyond_ci_high", "beyond_shifted_q",
    "class_q", "class_beyond_q",
)  # fmt: skip


def rankable(heads: pd.DataFrame) -> np.ndarray:
    """Return True for each row of a class with enough tokens that is not the attention sink."""
    few = heads["n_tokens"].to_numpy() < FEW_TOKENS
    return ~few & (heads["token_class"].astype(str).to_numpy() != SINK)


def nearest_end(low: np.ndarray, high: np.ndarray, centre: float = 0.0) -> np.ndarray:
    """Return how far the end of an interval nearest to `centre` is from it, negative where the interval holds it.

    By this, the largest first, heads and classes are ranked everywhere: a rare class has a wide interval, and does not win
    by chance.
    """
    return np.maximum(low - centre, centre - high)


def in_force(result: Measured) -> bool:
    """Whether the model itself has the bias that was looked along."""
    return result.run.get("direction", "bias") in OWN and result.run.get("bias") != "none"


def findings(result: Measured) -> pd.DataFrame:
    """Return the findings, strongest first: by the end of the interval nearest to 0, so that rare classes do not win.

    Columns: those of `heads` that a finding rests on (`COLUMNS`), and `beyond_equal_spread`: q < 0.05 against directions of
    equal spread, raw or with position removed; missing where that was not measured.

    A run with `held_out` chose pairs on other documents: only those are tested, and corrected for their number. What the
    choice rested on stands in `chosen_amplification` and `chosen_beyond`, larger in the mean, as it was chosen for it.
    """
    if not in_force(result):
        return findings_of(result.heads.iloc[:0])
    if not result.run.get("held_out"):
        return findings_of(result.heads)
    if (chosen := result.further.get("chosen")) is None or chosen.empty:  # an empty table is not saved
        return findings_of(result.heads.iloc[:0])
    keys = ["layer", "head", "scheme", "token_class"]
    before = {"log2_amplification": "chosen_amplification", "log2_amplification_beyond": "chosen_beyond"}
    chosen = chosen.loc[:, [*keys, *before]].rename(columns=before)
    heads = result.heads.merge(chosen.astype({name: result.heads[name].dtype for name in keys}), on=keys)
    for name in [name for name in heads if str(name).endswith("_q") and name.replace("_q", "_p") in heads]:
        heads[name] = corrected_within(heads.assign(p=heads[name.replace("_q", "_p")]), ["scheme"])
    return findings_of(heads)


def findings_of(heads: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `heads` that are findings if the bias is in force, as `findings` does."""
    known = [name for name in (*COLUMNS, "chosen_amplification", "chosen_beyond") if name in heads]
    if not {"beyond_ci_low", "beyond_shifted_q"} <= set(heads):
        return pd.DataFrame(columns=[*known, "beyond_equal_spread"])
    nearest = nearest_end(heads["beyond_ci_low"].to_numpy(float), heads["beyond_ci_high"].to_numpy(float))
    found = rankable(heads) & (nearest > 0) & (heads["beyond_shifted_q"].to_numpy(float) < ALPHA)
    order = np.argsort(-nearest[found], kind="stable")
    rows = heads.loc[found].iloc[order].reset_index(drop=True)
    tested = [name for name in ("class_q", "class_beyond_q") if name in rows]
    beyond = (rows[tested] < ALPHA).any(axis=1) if tested else pd.NA
    return rows.loc[:, known].assign(beyond_equal_spread=beyond)


def why_none(result: Measured) -> str | None:
    """Return why there is no finding, in one sentence; None where there are some."""
    if len(findings(result)):
        return None
    if not in_force(result):
        return (
            "The bias looked along is not in force in this model, so nothing is found of it: these numbers are what such a "
            "bias would do."
        )
    if "beyond_ci_low" not in result.heads:
        return (
            "Amplification was not split into position and what is beyond it (fit_tokens was 0, or an earlier version made "
            "this), so there are no findings."
        )
    if "beyond_shifted_q" not in result.heads:
        return (
            "No labels were shifted (shifts was 0), so nothing shows what labels that mean nothing give, and there are no "
            "findings."
        )
    if not rankable(result.heads).any():
        return f"No class has {FEW_TOKENS} tokens, so nothing can be said of any; measure more text."
    if not result.heads.loc[rankable(result.heads), "beyond_ci_low"].notna().any():
        return "There are too few documents for intervals over documents, so nothing can be said beyond them; measure more."
    if result.run.get("held_out") and not len(result.further.get("chosen", ())):
        return "One half of the documents chose nothing, for want of documents or of findings; measure more text."
    if result.run.get("held_out"):
        return "Of what one half of the documents chose, nothing is beyond position and beyond shifted labels in the other."
    return "No pair of a head and a class is beyond position and beyond shifted labels."


ALONG = dict(zip(OWN, ("b_Q", "the query bias", "the query bias", "the mean query"), strict=True))
"""What sentences call a direction that is in force."""


def vector_of(run: Mapping[str, Any]) -> str:
    """Return what sentences call the vector that a run scales or takes away: "b_Q", "the query bias", "the mean query"."""
    return ALONG.get(run.get("direction", "bias"), "the direction")


def reliance(result: Any) -> str:
    """Return, in a sentence, whether the model relies on its bias: the loss without it, beside the control that was run.

    The control is scores along other directions that spread as much (`uses`), else a random direction of the same size
    (`interventions`); where neither was measured, the sentence says how to.
    """
    uses, made = getattr(result, "uses", None), getattr(result, "interventions", None)
    if uses is not None and len(uses.loss):
        return _beside_equal_spread(uses)
    if made is not None:
        rows = made.loss.loc[(made.loss["intervention"] == "all") & (made.loss["scheme"] == "overall")]
        rows = rows.loc[(rows["scale"] == 0) & (rows["part"] == "q")]
        removed, drawn = (rows.loc[rows["direction"] == name] for name in ("bias", "random"))
        if len(removed):
            change = _changes(removed.iloc[0], vector_of(made.run))
            beside = "; no control was run, so that says nothing of this direction in particular."
            if len(drawn):
                mean, n = drawn["difference"].mean(), len(drawn)
                beside = (
                    f"; a change of the same size in a random direction changes it by {_nats(mean)} "
                    f"({n} draw{'s' if n > 1 else ''}). Directions along which keys spread as much were not tried."
                )
            return change + beside
    name = result.run.get("checkpoint") or result.run.get("model", "MODEL")
    return (
        f"This was not measured in this run: python -m interp.amplify {name} --uses measures it, in Python "
        f'interp.uses("{name}").'
    )


def _beside_equal_spread(uses: Any) -> str:
    """Return what removing the bias costs beside what removing scores of equal spread along other directions costs."""
    removed, along = _overall(uses).loc["nothing"], vector_of(uses.run)
    change = _changes(removed, along)
    controls = uses.controls.loc[uses.controls["predicted_scheme"] == "overall"]
    if not len(controls):
        return f"{change}; no control was run, so that says nothing of {along} in particular."
    row = controls.iloc[0]
    mean, draws = row["control_mean"], int(row["draws"])
    as_much = round(row["p"] * (1 + draws)) - 1  # p is (1 + draws that change the loss as much) / (1 + draws)
    beside = (
        f"without scores that spread as much along other directions by {_nats(mean)} on average, by as much or more in "
        f"{as_much} of {draws} draws (p = {row['p']:.2g})."
    )
    if removed["ci_low"] > 0 and row["p"] < ALPHA:
        verdict = "Yes, more than on other directions."
    elif removed["ci_low"] > 0:
        verdict = "It is worse without it, but not shown to be worse than without other directions."
    else:
        verdict = "No: it is better without it." if removed["ci_high"] < 0 else "That is not shown."
    return f"{verdict} {change}; {beside}"


def _overall(uses: Any) -> pd.DataFrame:
    """Rows of `Uses.loss` about all tokens, by what the scores still know; one of several that keep a class."""
    rows = uses.loss.loc[(uses.loss["predicted_scheme"] == "overall") & (uses.loss["draw"] == 0)]
    return rows.drop_duplicates("keeps").set_index("keeps")


def _changes(row: pd.Series, along: str) -> str:
    change, low, high = (float(row.loc[name]) for name in ("difference", "ci_low", "ci_high"))
    interval = f" [{_nats(low)}, {_nats(high)}]" if low == low else " (too few documents for an interval)"
    return f"Without {along} the loss changes by {_nats(change)} nats{interval}"


def _nats(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def answers(result: Any) -> list[str]:
    """Return, in sentences, what the bias does in this model: what its score varies with, and what it is used for.

    Each figure is the median over heads of its own column of `explained` (for the first scheme), or stands in `uses.loss`.
    """
    sentences = []
    along = ALONG.get(result.run.get("direction", "bias"), "") if in_force(result) else ""
    along = along or "the direction looked along"
    if (explained := result.further.get("explained")) is not None and not explained.empty:
        scheme, median = next(iter(overview(explained).items()))
        if median["key_spread"] == median["key_spread"]:
            beside = {name: "" if (x := median.get(f"eta2_{name}_control")) is None or x != x else f" ({x:.0%})"
                      for name in ("position", "class")}  # fmt: skip
            note = " (in brackets: along directions of equal spread)" if any(beside.values()) else ""
            sentences.append(
                f"In the median head the position of a key explains {median['eta2_position']:.0%}{beside['position']} of "
                f"its bias score, its token type {median['eta2_type']:.0%}, its class ({scheme}) "
                f"{median['eta2_class']:.0%}{beside['class']}{note}; keys spread {median['key_spread']:.1f} times as far "
                f"along {along} as along random directions."
            )
    uses = getattr(result, "uses", None)
    if uses is not None and len(uses.loss):
        rows = _overall(uses)
        ends = [f"restored{end}" for end in ("", "_ci_low", "_ci_high")]
        back = [
            "its {} {:.0%} [{:.0%}, {:.0%}]".format(name, *rows.loc[name, ends])
            for name in ("position", "class", "type")
            if name in rows.index and rows.loc[name, "restored"] == rows.loc[name, "restored"]
        ]
        if back:
            cost, vector = _nats(rows.loc["nothing", "difference"]), vector_of(uses.run)
            start = f"Of the {cost} nats that removing {vector} costs, this much comes back where scores know only one thing"
            sentences.append(f"{start} of a key: {', '.join(back)}.".replace("-", "−"))
    return sentences


def answer(result: Any) -> str:
    """Return the one sentence to print of a result: what the loss is without the bias, else what its score varies with."""
    measured = getattr(result, "uses", None) is not None or getattr(result, "interventions", None) is not None
    return reliance(result) if measured else next(iter(answers(result)), "")


def summary(result: Measured) -> pd.DataFrame:
    """Return one row per scheme with how large amplification is over all pairs that are rankable, beside its controls.

    Columns: scheme; `pairs`; `rms_amplification`, `rms_position`, `rms_beyond` (doublings); `rms_shifted`, what labels that
    mean nothing give, the root of mean square and variance over shifts; `beyond_shifted`, `beyond_equal_spread`: pairs with
    q < 0.05; `findings`.
    """
    heads, found = result.heads, findings(result)
    shifted = result.nulls.loc[
        (result.nulls["null"] == "shifted") & (result.nulls["statistic"] == "amplification")
    ] if len(result.nulls) else result.nulls  # fmt: skip
    rows = []
    for scheme, rows_of in heads.groupby("scheme", sort=False):
        pairs = rows_of.loc[rankable(rows_of)]
        controls = shifted.loc[(shifted["scheme"] == scheme) & rankable(shifted)] if len(shifted) else shifted
        rows.append({
            "scheme": scheme, "pairs": len(pairs),
            "rms_amplification": _rms(pairs, "log2_amplification"),
            "rms_position": _rms(pairs, "log2_amplification_position"),
            "rms_beyond": _rms(pairs, "log2_amplification_beyond"),
            "rms_shifted": float(np.hypot(_rms(controls, "null_mean"), _rms(controls, "null_sd"))),
            "beyond_shifted": _below(pairs, "beyond_shifted_q"), "beyond_equal_spread": _below(pairs, "class_beyond_q"),
            "findings": int(np.sum(found["scheme"] == scheme)),
        })  # fmt: skip
    return pd.DataFrame(rows)


def _rms(rows: pd.DataFrame, column: str) -> float:
    values = rows[column].to_numpy(np.float64) if column in rows else np.array([])
    values = values[~np.isnan(values)]
    return float(np.sqrt(np.mean(values**2))) if len(values) else np.nan


def _below(rows: pd.DataFrame, column: str) -> float:
    return float(np.sum(rows[column] < ALPHA)) if column in rows else np.nan
