"""The explorer's buttons: plain ipywidgets, figures in outputs. Every one calls `Explorer.set`, and nothing else."""

from __future__ import annotations

import html
import json
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
import plotly.graph_objects as go

from interp.errors import InterpError

if TYPE_CHECKING:
    from interp.report.explorer.explorer import Explorer

# not "responsive": JupyterLab sizes figures itself, and with it the first one drawn has no height
CONFIG = {"displaylogo": False, "showSendToCloud": False}
WIDTHS = {"heads": "50%", "classes": "50%", "attention": "100%", "loss": "62%", "predictions": "100%",
          "pattern": "100%"}  # fmt: skip


class Panel:
    """The widget of an explorer: `box` is what is shown, `controls` the buttons by the name of what they set."""

    def __init__(self, explorer: Explorer) -> None:
        self.explorer = explorer
        self.controls = _controls(explorer)
        self.message, self.text, self.code = (widgets.HTML() for _ in range(3))
        self.figures = {name: widgets.Output(layout={"width": width}) for name, width in WIDTHS.items()}
        self.errors = widgets.Output()
        self.box = self._arranged()
        self._drawing = False
        # an error in `observe` is lost without trace, unless it is caught in an output
        listen = self.errors.capture(clear_output=True)(self._changed)
        for name, control in self.controls.items():
            control.observe(lambda change, name=name: listen(name, change["new"]), "value")
        self.draw()

    def draw(self) -> None:
        """Show the explorer's view."""
        explorer, view = self.explorer, self.explorer.view
        self._drawing = True  # setting a control is no click
        try:
            self.controls["token_class"].options = explorer.schemes[view.scheme].classes
            tokens = enumerate(explorer.sentence.tokens["token_string"])
            self.controls["place"].options = [(f"{place} · {token!r}"[:40], place) for place, token in tokens]
            for name, control in self.controls.items():
                control.value = explorer.place if name == "place" else getattr(view, name)
        finally:
            self._drawing = False
        self.message.value = _sentence(explorer.summary())
        self.text.value = explorer.text_html()
        python = f"<pre>{html.escape(explorer.python)}</pre>"
        self.code.value = f"<details><summary>The same in Python</summary>{python}</details>"
        drawn = explorer.figures()
        for name, output in self.figures.items():
            output.layout.display = None if name in drawn else "none"
            output.outputs = (_shown(name, drawn[name]),) if name in drawn else ()

    def _changed(self, name: str, value: Any) -> None:
        if self._drawing or value is None:
            return
        try:
            self.explorer.set(**{name: value})
        except InterpError as error:  # of what was typed: one sentence for who typed it
            self.message.value = _sentence(str(error), wrong=True)

    def _arranged(self) -> widgets.VBox:
        rows = [("head", "scheme", "token_class"), ("text",), ("scale", "where", "part")]
        wrap = {"flex_flow": "row wrap"}
        controls = [widgets.HBox([self.controls[name] for name in row], layout=wrap) for row in rows]
        result = widgets.HBox([self.figures["heads"], self.figures["classes"]])
        predictions = widgets.VBox([self.controls["place"], self.figures["predictions"]], layout={"width": "38%"})
        below = widgets.HBox([self.figures["loss"], predictions])
        attention, pattern = self.figures["attention"], self.figures["pattern"]
        parts = [*controls, self.message, self.errors, self.text, attention, below, pattern, result, self.code]
        return widgets.VBox(parts)


def _controls(explorer: Explorer) -> dict[str, Any]:
    reader = explorer.reader
    heads = [f"L{layer}H{head}" for layer in range(reader.n_layers) for head in range(reader.n_heads)]
    narrow, wide = {"width": "220px"}, {"width": "98%"}
    controls = {
        "head": widgets.Dropdown(options=heads, description="Head", layout=narrow),
        "scheme": widgets.Dropdown(options=list(explorer.schemes), description="Scheme", layout=narrow),
        "token_class": widgets.Dropdown(description="Class", layout=narrow),
        "text": widgets.Text(description="Text", continuous_update=False, layout=wide),
        "scale": widgets.FloatSlider(min=0, max=2, step=0.1, value=1, description="Bias ×", continuous_update=False),
        "where": widgets.ToggleButtons(
            options=[("this head", "head"), ("its layer", "layer"), ("all heads", "all")],
            style={"button_width": "84px"},
        ),
        "part": widgets.Dropdown(options=list(explorer.parts.items()), description="of", layout=narrow),
        "place": widgets.Dropdown(description="Next after", layout=wide),
    }  # fmt: skip
    for name, control in controls.items():
        control.add_class(f"interp-{name.replace('_', '-')}")
    return controls


def _sentence(text: str, wrong: bool = False) -> str:
    colour = "#b00020" if wrong else "inherit"
    return f'<div style="color:{colour};line-height:1.4;padding:4px 0" role="status">{html.escape(text)}</div>'


def _shown(name: str, figure: go.Figure) -> dict[str, Any]:
    """Return a figure as an output: Plotly's own format, and a sentence for notebooks that cannot show it in a widget."""
    drawn = json.loads(str(figure.to_json()))
    otherwise = (
        f"<p>Show <code>explorer.figures()[{name!r}]</code> in a cell of its own: this viewer draws none in here.</p>"
    )
    data = {"application/vnd.plotly.v1+json": {**drawn, "config": CONFIG}, "text/html": otherwise}
    return {"output_type": "display_data", "data": data, "metadata": {}}
