"""The explorer where nothing can be clicked: for viewers without widgets, and for kernels without ipywidgets."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import pandas as pd

from interp.report.text import escaped

if TYPE_CHECKING:
    from interp.report.explorer.explorer import Explorer

COLUMNS = {
    "bias_score_contrast": "bias score − mean (nats)",
    "attention_unchanged": "attention as trained",
    "attention": "attention, scaled",
    "loss_unchanged": "loss as trained (nats)",
    "loss": "loss, scaled (nats)",
}


def still_html(explorer: Explorer, reason: str = "") -> str:
    """Return the coloured text, what the bias does to it and a table, as HTML without script; `reason` says why no more."""
    why = f"{reason}: install it (pip install ipywidgets) and start the kernel again" if reason else (
        "this is a still picture; run the notebook to click"
    )  # fmt: skip
    view = explorer.view
    rows = explorer.rows()
    table = pd.DataFrame({title: rows[name].round(3) for name, title in COLUMNS.items()})
    table.insert(0, escaped(view.scheme), [escaped(str(name)) for name in rows[view.scheme]])
    table.insert(0, "token", [escaped(token) for token in rows["token_string"]])
    return (
        f"<div><p><b>{html.escape(view.head)}</b> of {html.escape(explorer.model.cfg.model_name)} ({why}; "
        f"<code>explorer.set(head=..., scale=...)</code> chooses in Python).</p>{explorer.text_html()}"
        f"<p>{html.escape(explorer.summary())}</p>{table.to_html(index=False, escape=False, border=0)}</div>"
    )
