"""What can be shown of a head and a class: name, unit, centre, one sentence of meaning each; the table that has them all."""

import html
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from interp.analysis.findings import ALPHA, nearest_end
from interp.analysis.result import Amplification
from interp.analysis.significance import reach_of_draws
from interp.errors import InterpError, nearest
from interp.provenance import number


@dataclass(frozen=True)
class Metric:
    """A column of the heads table and how to read it.

    Attributes:
        name: the column.
        title: what a reader calls it.
        unit: printed on axes and legends.
        meaning: one sentence for the page.
        centre: the value that means "no effect"; colours diverge from here.
        signed: False for a plain quantity, which gets a sequential colour scale.
        low, high: the columns with the ends of its 95% interval, "" if it has none.
        null: the null in the table `nulls`, and the statistic there, that it is held against; "" twice if none.
        q: the column of `heads` with its q against that null, "" if it has none.
    """

    name: str
    title: str
    unit: str
    meaning: str
    centre: float = 0.0
    signed: bool = True
    low: str = ""
    high: str = ""
    null: str = ""
    statistic: str = ""
    q: str = ""

    @property
    def control(self) -> str:
        """What its null is made of, in words; "" without one."""
        return CONTROLS[self.null]


CONTROLS = {"": "", "shifted": "labels shifted along the documents", "equal spread": "directions of equal spread"}


METRICS = {
    metric.name: metric
    for metric in (
        Metric(
            "log2_amplification", "amplification A", "log₂ ratio",
            "log₂ of the class's share of attention with the bias over its share without; +1 is twice the attention.",
            low="ci_low", high="ci_high", null="shifted", statistic="amplification", q="shifted_q",
        ),
        Metric(
            "log2_amplification_beyond", "A beyond position", "log₂ ratio",
            "The part of A beyond what a bias that knows only the position of a key would do; with A by position it is A.",
            low="beyond_ci_low", high="beyond_ci_high", null="shifted", statistic="amplification_beyond",
            q="beyond_shifted_q",
        ),
        Metric(
            "log2_amplification_position", "A by position", "log₂ ratio",
            "The part of A that a bias gives which knows only the position of a key, fitted on other documents.",
        ),
        Metric(
            "bias_score_contrast", "bias score contrast", "nats",
            "Mean of what the bias adds to the score of the class's tokens, minus the mean over all tokens.",
            low="contrast_low", high="contrast_high", null="equal spread", statistic="contrast", q="class_q",
        ),
        Metric(
            "contrast_position", "contrast, position removed", "nats",
            "Bias score contrast between tokens at the same positions: what is left when position is not the reason.",
            low="contrast_position_low", high="contrast_position_high", null="equal spread",
            statistic="contrast beyond position", q="class_beyond_q",
        ),
        Metric(
            "contrast_frequency", "contrast, position and frequency removed", "nats",
            "Bias score contrast between equally frequent tokens at the same positions.",
            low="contrast_frequency_low", high="contrast_frequency_high",
        ),
        Metric(
            "hedges_g", "Hedges' g", "standard deviations",
            "Difference of mean bias score between the class and all other tokens, in pooled standard deviations.",
        ),
        Metric(
            "auroc", "AUROC", "probability",
            "Chance that a token of the class has a higher bias score than another token; 0.5 is no difference.",
            centre=0.5,
        ),
        Metric(
            "alignment", "alignment", "cosine", "Mean cosine between the keys of the class and the bias direction.",
        ),
        Metric(
            "share", "share of attention", "of all attention",
            "Part of the head's attention that the class receives with the bias; a quantity, not an effect.",
            signed=False,
        ),
    )
}  # fmt: skip

AMPLIFICATION = METRICS["log2_amplification"]


def metrics_of(columns: Iterable[str]) -> list[Metric]:
    """Return the metrics whose column is among `columns`, in the order in which a reader chooses."""
    known = set(columns)
    return [metric for metric in METRICS.values() if metric.name in known]


def metric_named(name: str) -> Metric:
    """Return the metric called `name`.

    Raises:
        InterpError: there is none; the message suggests the nearest.
    """
    if name not in METRICS:
        raise InterpError(f"There is no metric {name!r}; use one of {', '.join(METRICS)}{nearest(name, METRICS)}")
    return METRICS[name]


KEYS = ["layer", "head", "scheme", "token_class"]


def require(table: pd.DataFrame, columns: Iterable[str], name: str) -> None:
    """Raise an InterpError that names every column of `columns` which the table called `name` lacks."""
    missing = [column for column in columns if column not in table]
    if missing:
        raise InterpError(
            f"The {name} table lacks the column(s) {', '.join(missing)}; make it with interp.amplification."
        )


def require_one_model(heads: pd.DataFrame) -> None:
    """Raise an InterpError if `heads` mixes models or repeats a (layer, head, scheme, class)."""
    require(heads, ["model", *KEYS], "heads")
    if heads.empty:
        raise InterpError("The heads table has no rows; there is nothing to draw.")
    if (models := len(set(heads["model"]))) > 1:
        raise InterpError(f"The heads table holds {models} models; draw one model at a time.")
    if repeated := int(heads.duplicated(KEYS).sum()):
        raise InterpError(
            f"{repeated} row(s) of the heads table repeat a (layer, head, scheme, class); each must be unique."
        )


def require_drawable(heads: pd.DataFrame, metric: Metric) -> None:
    """Raise an InterpError if `heads` lacks a column that a picture of `metric` needs, mixes models or repeats a row."""
    require(heads, ["model", *KEYS, "n_tokens", metric.name, "ci_low", "ci_high"], "heads")
    require_one_model(heads)


def rows_of_scheme(heads: pd.DataFrame, scheme: str) -> pd.DataFrame:
    """Return the rows of one scheme, or raise an InterpError that names the schemes there are."""
    known = [str(name) for name in heads["scheme"].unique()]
    if scheme not in known:
        raise InterpError(f"There is no scheme {scheme!r}; this result has {', '.join(known)}{nearest(scheme, known)}")
    return heads.loc[heads["scheme"] == scheme]


def rows_of_class(heads: pd.DataFrame, scheme: str, token_class: str) -> pd.DataFrame:
    """Return one row per head for a class of a scheme, or raise an InterpError that names the nearest class."""
    rows = rows_of_scheme(heads, scheme)
    known = [str(name) for name in rows["token_class"].unique()]
    if token_class not in known:
        raise InterpError(f"Scheme {scheme!r} has no class {token_class!r}{nearest(token_class, known)}")
    return rows.loc[rows["token_class"] == token_class]


def rows_of_head(table: pd.DataFrame, layer: int, head: int) -> pd.DataFrame:
    """Return the rows of one head, or raise an InterpError that says which layers and heads there are."""
    rows = table.loc[(table["layer"] == layer) & (table["head"] == head)]
    if rows.empty:
        sizes = f"layers {_span(table['layer'].to_numpy())} and heads {_span(table['head'].to_numpy())}"
        raise InterpError(f"There is no head L{layer}H{head}; this result has {sizes}.")
    return rows


def indistinct(heads: pd.DataFrame, metric: Metric) -> np.ndarray:
    """True where a value is not beyond its control: hatched on the page and in figures, and never a finding.

    Its p against that (`shifted_p` for A) is at least 0.05 or missing, so it lies in the band of its null. Nothing is where
    the table has neither p nor band.
    """
    if (p := metric.q.removesuffix("_q") + "_p") in heads:
        return ~(heads[p].to_numpy(float) < ALPHA)
    if (band := null_band(heads, metric)) is None:
        return np.zeros(len(heads), dtype=bool)
    value = heads[metric.name].to_numpy(float)
    return ~((value < band[0]) | (value > band[1]))


def null_band(heads: pd.DataFrame, metric: Metric) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the ends between which 95% of the metric's null lie, where p >= 0.05, or None if the table lacks them."""
    low, high = (f"{metric.name}_{end}" for end in ENDS)
    if not metric.null or low not in heads or high not in heads:
        return None
    return heads[low].to_numpy(float), heads[high].to_numpy(float)


def strength(heads: pd.DataFrame, metric: Metric) -> np.ndarray:
    """Return by what heads and classes are ranked: `nearest_end` of the metric's 95% interval, -inf where it is missing.

    A metric that has no interval at all is ranked by its distance from no effect.
    """
    if metric.low not in heads:
        return np.abs(heads[metric.name].to_numpy(float) - metric.centre)
    nearest = nearest_end(heads[metric.low].to_numpy(float), heads[metric.high].to_numpy(float), metric.centre)
    return np.where(np.isnan(nearest), -np.inf, nearest)


def strongest_first(heads: pd.DataFrame, metric: Metric) -> pd.DataFrame:
    """Return the rows by `strength`, what is not beyond its control last; equals by the size of the value."""
    size = np.abs(heads[metric.name].to_numpy(float) - metric.centre)
    return heads.iloc[np.lexsort((-size, -strength(heads, metric), indistinct(heads, metric)))]


def ranking_metric(heads: pd.DataFrame) -> Metric:
    """Return what findings are ranked by: A beyond position, A where it was not split."""
    split = {"log2_amplification_beyond", "beyond_ci_low"} <= set(heads)
    return METRICS["log2_amplification_beyond"] if split else AMPLIFICATION


def _span(values: np.ndarray) -> str:
    return f"{values.min()} to {values.max()}" if len(values) else "none"


LONGEST = 64
_SHOWN = {"\n": "↵", "\r": "␍", "\t": "⇥"}
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


def visible(text: str) -> str:
    """Return `text` with unseen characters shown, and cut if it is long."""
    shown = _UNSEEN.sub(lambda found: _SHOWN.get(found[0], f"\\u{ord(found[0]):04x}"), text)
    return shown if len(shown) <= LONGEST else f"{shown[:LONGEST]}… ({len(text):,} characters)"


def escaped(text: str) -> str:
    """Return `visible` text safe for Plotly, which reads ``<b>`` and ``&lt;`` in labels."""
    return html.escape(visible(text), quote=False)


def signed(value: float, metric: Metric, digits: int = 2) -> str:
    """Return a metric's value as printed: with its sign round 0, as a percentage if it is a plain share."""
    if not math.isfinite(value):
        return "–"
    if not metric.signed:
        return f"{value:.1%}"
    return number(value, digits) if metric.centre == 0 else f"{value:.{digits}f}"


def direction(value: float, metric: Metric) -> str:
    """Return ``+`` for amplified, ``−`` for suppressed, nothing for neither: for cells too narrow for a number."""
    if not metric.signed or not math.isfinite(value) or value == metric.centre:
        return ""
    return "+" if value > metric.centre else "−"


REMOVED = {"nothing": "contrast", "position": "contrast_position", "position and frequency": "contrast_frequency"}
"""What the columns of each `adjusted_for` of the result's table `adjusted` start with."""


ENDS = ("null_low", "null_high")


def with_evidence(result: Amplification) -> pd.DataFrame:
    """Return `result.heads` with the columns that the tables `adjusted` and `nulls` of the result add to it.

    Of `adjusted`: `contrast_low, contrast_high` (the 95% interval of `bias_score_contrast` over documents),
    `contrast_position` (the contrast between tokens at the same positions) with its `_low` and `_high`, and
    `contrast_frequency` with position and token frequency removed. Of `nulls`, for every metric
    that has a null: the ends of its middle 95%, `log2_amplification_null_low`, `log2_amplification_null_high` and so on.
    Columns of empty tables are left out.
    """
    heads = result.heads
    for name, rows in _groups(result.adjusted, "adjusted_for", REMOVED):
        stem = REMOVED[name]
        columns = {"ci_low": f"{stem}_low", "ci_high": f"{stem}_high"}
        columns |= {} if name == "nothing" else {"bias_score_contrast": stem}
        heads = _joined(heads, rows, columns)
    nulls = _with_ends(result.nulls)
    for metric in METRICS.values():
        if metric.null and len(nulls):
            rows = nulls.query("null == @metric.null and statistic == @metric.statistic")
            heads = _joined(heads, rows, {end: f"{metric.name}_{end}" for end in ENDS}) if len(rows) else heads
    return heads


def _with_ends(nulls: pd.DataFrame) -> pd.DataFrame:
    """Add to nulls that an earlier version saved where 95% of them end, by the draws that there were."""
    if not len(nulls) or set(ENDS) <= set(nulls):
        return nulls
    draws = nulls["draws"].to_numpy() if "draws" in nulls else 0
    reach = reach_of_draws(nulls["null_sd"].to_numpy(float), draws)
    return nulls.assign(null_low=nulls["null_mean"] - reach, null_high=nulls["null_mean"] + reach)


def _groups(table: pd.DataFrame, column: str, names: Iterable[str]) -> list[tuple[str, pd.DataFrame]]:
    groups = [(name, table.loc[table[column] == name]) for name in names] if len(table) else []
    return [(name, rows) for name, rows in groups if len(rows)]


def _joined(heads: pd.DataFrame, rows: pd.DataFrame, columns: dict[str, str]) -> pd.DataFrame:
    """Add `columns` of `rows` under new names; a head and class that `rows` lack get missing values."""
    place = _index(rows).get_indexer(_index(heads))
    values = {new: np.where(place < 0, np.nan, rows[old].to_numpy(float)[place]) for old, new in columns.items()}
    return heads.assign(**values)


def _index(table: pd.DataFrame) -> pd.MultiIndex:
    layer, head, scheme, token_class = (table[key] for key in KEYS)
    return pd.MultiIndex.from_arrays([layer, head, scheme.astype(str), token_class.astype(str)])
