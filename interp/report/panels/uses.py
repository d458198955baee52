"""What is b_Q used for? The loss when bias scores know only the position, class or type of a key, or all but that."""

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from interp.analysis.findings import vector_of
from interp.analysis.interventions.result import OVERALL
from interp.analysis.interventions.uses import CONTROL, NOTHING, Uses
from interp.analysis.significance import reach_of_draws
from interp.errors import InterpError, nearest
from interp.page.look import Theme
from interp.report.metrics import escaped
from interp.report.panels.packing import columns
from interp.report.panels.panel import View
from interp.report.panels.position import dot_chart, dots

TEXTS = ("label", "predicted_scheme", "predicted_class")
NUMBERS = ("difference", "ci_low", "ci_high", "restored", "restored_ci_low", "restored_ci_high")
OF_CONTROLS = "equal spread removed"


def labelled(uses: Uses) -> pd.DataFrame:
    """Return the rows of `Uses.loss` with what stays of the bias scores as `label`, the controls as one row a class.

    Its `ci_low, ci_high` are where 95% of directions of equal spread lie; all others are 95% intervals over documents.
    """
    rows = uses.loss.loc[uses.loss["keeps"] != CONTROL]
    schemes = rows.loc[rows["scheme"] != "", "scheme"].nunique()
    named = rows["keeps"] + (" (" + rows["scheme"] + ")").where((rows["scheme"] != "") & (schemes > 1), "")
    own = rows.assign(label=("only " + named).where(~named.str.startswith("all but"), named))
    own.loc[own["keeps"] == NOTHING, "label"] = f"{vector_of(uses.run).removeprefix('the ')} removed"
    drawn = uses.controls
    half = reach_of_draws(drawn["control_sd"].to_numpy(), drawn["draws"].to_numpy())
    mean = drawn["control_mean"]
    control = drawn.assign(label=OF_CONTROLS, difference=mean, ci_low=mean - half, ci_high=mean + half)
    return pd.concat([own, control], ignore_index=True) if len(control) else own


def uses_chart(
    uses: Uses, predicted_scheme: str = OVERALL, predicted_class: str = OVERALL, theme: Theme = "light"
) -> go.Figure:
    """Draw by how much the loss on a class of predicted tokens changes (nats) when bias scores know less.

    Args:
        uses: the result's.
        predicted_scheme, predicted_class: of the predicted token; "overall" twice for all tokens.
        theme: "light" or "dark".

    Raises:
        InterpError: there is no such class.
    """
    rows = labelled(uses)
    known = sorted(set(rows["predicted_class"]))
    rows = rows.loc[(rows["predicted_scheme"] == predicted_scheme) & (rows["predicted_class"] == predicted_class)]
    if rows.empty:
        raise InterpError(
            f"There is no class {predicted_class!r} of {predicted_scheme!r} here{nearest(predicted_class, known)}"
        )
    rows = rows.assign(token_class=rows["label"])
    title = f"What {vector_of(uses.run)} is used for · {escaped(predicted_class)} of the predicted token"
    traces = [dots(rows, ["difference", "ci_low", "ci_high"], "change of loss", "after", theme)]
    return dot_chart(traces, rows, title, "change of loss (nats)", theme)


def available(view: View) -> bool:
    """Only where it was measured."""
    return view.result.uses is not None and len(view.result.uses.loss) > 0


def figures(view: View) -> dict[str, go.Figure]:
    """Return the chart of all tokens."""
    return {"uses": uses_chart(view.result.uses)} if view.result.uses is not None else {}


def payload(view: View) -> dict[str, Any]:
    """Return the rows in columns, and on how many tokens they stand."""
    uses = view.result.uses
    assert uses is not None
    found = labelled(uses)
    draws = int(uses.run.get("controls", 0))
    packed = columns(found, {"n_tokens": "i4", **dict.fromkeys(NUMBERS, "f4")}, texts=TEXTS)
    return {"draws": draws, "vector": vector_of(uses.run), **packed}
