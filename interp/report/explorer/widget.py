"""The explorer's buttons: plain ipywidgets, figures in outputs. Every one calls `Explorer.set`, and nothing else.

A Plotly figure in an output does not say where it is clicked, and its FigureWidget asks for anywidget beside the notebook's
server and sends Plotly along with every figure. So heads, classes and tokens are drawn as three ToggleButtons, whose many
buttons a style sheet paints as the figures are: the keyboard reaches them, and they are there wherever ipywidgets are.
"""

from __future__ import annotations

import html
import json
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
import numpy as np
import plotly.graph_objects as go

from interp.errors import InterpError
from interp.report.explorer.painting import Painted, bars, cells, frame, rules, words

if TYPE_CHECKING:
    from interp.report.explorer.explorer import Explorer

# not "responsive": JupyterLab sizes figures itself, and with it the first one drawn has no height
CONFIG = {"displaylogo": False, "showSendToCloud": False}
WIDTHS = {"attention": "100%", "loss": "62%", "predictions": "100%", "pattern": "100%"}
CLICKED = ("heads", "classes", "tokens")
LOW, HIGH = -1.0, 4.0  # of the slider; beside it any number can be typed


class Panel:
    """The widget of an explorer: `box` is what is shown, `controls` the buttons by the name of what they set.

    `clicked` are the heads, classes and tokens to click on.
    """

    def __init__(self, explorer: Explorer) -> None:
        self.explorer = explorer
        self.controls = _controls(explorer)
        self.clicked = {name: _buttons(name) for name in CLICKED}
        self.above, self.below = ({name: widgets.HTML() for name in CLICKED} for _ in range(2))
        self.message, self.code, self.style = (widgets.HTML() for _ in range(3))
        self.figures = {name: widgets.Output(layout={"width": width}) for name, width in WIDTHS.items()}
        self.errors = widgets.Output()
        self.box = self._arranged()
        self._drawing = False
        # an error in `observe` is lost without trace, unless it is caught in an output
        listen = self.errors.capture(clear_output=True)(self._changed)
        for name, control in {**self.controls, **self.clicked}.items():
            control.observe(lambda change, name=name: listen(name, change["new"]), "value")
        self.draw()

    def draw(self) -> None:
        """Show the explorer's view."""
        explorer, view = self.explorer, self.explorer.view
        drawn = explorer.figures()
        self._drawing = True  # setting a control is no click
        try:
            self.controls["token_class"].options = explorer.schemes[view.scheme].classes
            tokens = enumerate(explorer.sentence.tokens["token_string"])
            self.controls["place"].options = [(f"{place} · {token!r}"[:40], place) for place, token in tokens]
            own = {"place": explorer.place, "typed": view.scale, "scale": float(np.clip(view.scale, LOW, HIGH))}
            for name, control in self.controls.items():
                control.value = own[name] if name in own else getattr(view, name)
            self._paint(drawn)
        finally:
            self._drawing = False
        self.message.value = _sentence(explorer.summary())
        python = f"<pre>{html.escape(explorer.python)}</pre>"
        self.code.value = f"<details><summary>The same in Python</summary>{python}</details>"
        for name, output in self.figures.items():
            output.layout.display = None if name in drawn else "none"
            output.outputs = (_shown(name, drawn[name]),) if name in drawn else ()
        self.box.remove_class("interp-old")

    def _changed(self, name: str, value: Any) -> None:
        if self._drawing or value is None:
            return
        try:
            self.explorer.set(**self._choice(name, value))
        except Exception as error:
            self.box.add_class("interp-old")  # dims what is of the view before
            if not isinstance(error, InterpError):
                raise
            # of what was typed: one sentence for who typed it
            self.message.value = _sentence(f"{error} What is dimmed is of the text and the choice before.", wrong=True)

    def _choice(self, name: str, value: Any) -> dict[str, Any]:
        if name == "tokens":
            classes = self.explorer.sentence.tokens[self.explorer.view.scheme].astype(str)
            return {"place": value, "token_class": classes.iloc[value]}
        if name == "scale":  # a slider from -1 has no exact 0
            return {"scale": round(value, 6) + 0.0}
        return {{"typed": "scale", "heads": "head", "classes": "token_class"}.get(name, name): value}

    def _paint(self, drawn: dict[str, go.Figure]) -> None:
        """Draw heads, classes and tokens with what can be chosen of each, and mark what is chosen."""
        explorer, view, theme = self.explorer, self.explorer.view, self.explorer.theme
        painted = {"tokens": words(explorer.rows(), view, explorer.place, explorer.limit, theme)}
        if "heads" in drawn:
            painted["heads"] = cells(drawn["heads"], view.head)
            painted["classes"] = bars(drawn["classes"], view.token_class, theme)
        scope = f".interp-{self.style.model_id}"
        style = frame(scope, explorer.reader.n_layers, explorer.reader.n_heads, theme)
        for name, column in self.columns.items():
            column.layout.display = None if name in painted else "none"
            if name in painted:
                self.above[name].value, self.below[name].value = painted[name].above, painted[name].below
                _offer(self.clicked[name], painted[name])
                style += rules(f"{scope} .interp-{name}", painted[name])
        self.style.value = f"<style>{style}</style>"

    def _arranged(self) -> widgets.VBox:
        rows = [("head", "scheme", "token_class"), ("text",), ("scale", "typed", "where", "part")]
        wrap = {"flex_flow": "row wrap"}
        choice, text, dial = (widgets.HBox([self.controls[name] for name in row], layout=wrap) for row in rows)
        self.columns = {
            name: widgets.VBox([self.above[name], self.clicked[name], self.below[name]], layout={"min_width": "0"})
            for name in CLICKED
        }
        for name, column in self.columns.items():
            column.add_class("interp-column")
            column.layout.flex = None if name == "tokens" else "1 1 360px"
        result = widgets.HBox([self.columns["heads"], self.columns["classes"]], layout=wrap)
        predictions = widgets.VBox([self.controls["place"], self.figures["predictions"]], layout={"width": "38%"})
        below = widgets.HBox([self.figures["loss"], predictions])
        attention, pattern = self.figures["attention"], self.figures["pattern"]
        for shown in (self.columns["tokens"], result, attention, below, pattern, self.code):
            shown.add_class("interp-shown")
        box = widgets.VBox(
            [self.style, choice, result, text, dial, self.message, self.errors, self.columns["tokens"],
              attention, below, pattern, self.code]
        )  # fmt: skip
        box.add_class(f"interp-{self.style.model_id}")
        return box


def _controls(explorer: Explorer) -> dict[str, Any]:
    reader = explorer.reader
    heads = [f"L{layer}H{head}" for layer in range(reader.n_layers) for head in range(reader.n_heads)]
    narrow, wide = {"width": "220px"}, {"width": "98%"}
    controls = {
        "head": widgets.Dropdown(options=heads, description="Head", layout=narrow),
        "scheme": widgets.Dropdown(options=list(explorer.schemes), description="Scheme", layout=narrow),
        "token_class": widgets.Dropdown(description="Class", layout=narrow),
        "text": widgets.Text(description="Text", continuous_update=False, layout=wide),
        "scale": widgets.FloatSlider(
            min=LOW, max=HIGH, step=0.1, value=1, description="Bias ×", continuous_update=False, readout=False
        ),
        "typed": widgets.FloatText(value=1, tooltip="any number, such as 10", layout={"width": "72px"}),
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


def _buttons(name: str) -> widgets.ToggleButtons:
    buttons = widgets.ToggleButtons(layout={"width": "100%"})
    buttons.add_class("interp-buttons")
    return buttons.add_class(f"interp-{name}")


def _offer(buttons: widgets.ToggleButtons, painted: Painted) -> None:
    """Set in one message what can be chosen; a group that stays as it was is not drawn again, and keeps the focus."""
    with buttons.hold_sync():
        buttons.options = tuple(zip(painted.labels, painted.values, strict=True))
        buttons.tooltips = tuple(painted.said)
        buttons.value = painted.chosen if painted.chosen in painted.values else None
