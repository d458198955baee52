"""`interp.explore`: what the notebook shows, without its buttons; those are in `interp.report.explorer.widget`."""

from __future__ import annotations

import html
from collections.abc import Iterable
from dataclasses import fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from interp.analysis.direction import OWN, Direction, direction_name
from interp.analysis.findings import SINK, rankable, vector_of
from interp.analysis.readers.open import ModelLike, open_reader
from interp.analysis.readers.reader import Reader
from interp.analysis.result import Amplification
from interp.analysis.sentences import (
    FREQUENCIES,
    Schemes,
    Sentence,
    direction_for_sentences,
    measure_sentence,
    schemes_for_sentences,
    tag_sentence,
)
from interp.data.classes.built_in import BUILT_IN
from interp.data.spacy_pipelines import DEFAULT_PIPELINE, Pipeline
from interp.errors import InterpError, nearest
from interp.page.look import Theme
from interp.provenance import number
from interp.report.explorer.figures import attention_received, coloured_text, loss_per_token, next_token
from interp.report.explorer.view import View
from interp.report.metrics import escaped, with_evidence
from interp.report.panels.classes import class_bars
from interp.report.panels.heads import head_grid
from interp.report.panels.pattern import attention_pattern

SCHEMES = ("pos", "function", "surface")
PATTERN_TOKENS = 48  # whose names have room on both axes


def check_fits(result: Amplification, reader: Reader) -> None:
    """Raise an InterpError if a result speaks of other layers and heads than the model has."""
    found = tuple(1 + int(result.heads[name].to_numpy().max()) for name in ("layer", "head"))
    expected = reader.n_layers, reader.n_heads
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
    head, token_class = "L0H0", SINK
    if len(size):
        row = rows.iloc[int(np.nan_to_num(size).argmax())]
        head, token_class = f"L{row['layer']}H{row['head']}", str(row["token_class"])
    return View(sentence.run["text"], head, scheme, token_class, part=sentence.run["part"])


def summary(sentence: Sentence, view: View) -> str:
    """Return what the bias does to the attention to the chosen class and to the loss, in this text.

    With the dial at 1 it is the direct effect of b_Q, or of another direction, in this head: attention as trained, beside
    that without it.
    """
    after, before = sentence.loss()
    if view.scale == 1:
        return f"as trained: {_attention(sentence, view)}; loss {before:.3f} nats per token."
    loss = f"loss {before:.3f} → {after:.3f} nats per token ({number(after - before, 3)})"
    return f"{view.reading(vector_of(sentence.run))}: {_attention(sentence, view)}; {loss}."


def _attention(sentence: Sentence, view: View) -> str:
    shares = sentence.shares(view.scheme)
    layer, head = view.layer_and_head
    chosen = (shares["layer"] == layer) & (shares["head"] == head) & (shares["token_class"] == view.token_class)
    columns = ["n_tokens", "share", "share_unchanged", "share_unbiased", "log2_amplification"]
    n_tokens, share, unchanged, unbiased, amplification = shares.loc[chosen, columns].to_numpy(float)[0]
    if not n_tokens:
        return f"the text has no {view.token_class}"
    whose = f"attention of {view.head} to {view.token_class} (n = {n_tokens:.0f})"
    if view.scale == 1:
        own = f"its own {vector_of(sentence.run).removeprefix('the ')}"
        return f"{whose} {unchanged:.1%}, without {own} {unbiased:.1%} (A = {number(amplification)})"
    return f"{whose} {unchanged:.1%} → {share:.1%}"


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
        f"<div><p><b>{html.escape(view.head)}</b> of {html.escape(explorer.reader.name)} ({why}; "
        f"<code>explorer.set(head=..., scale=...)</code> chooses in Python).</p>{explorer.text_html()}"
        f"<p>{html.escape(explorer.summary())}</p>{table.to_html(index=False, escape=False, border=0)}</div>"
    )


TEXT = "In 1903 Marie Curie won the Nobel Prize in Physics, and in 1911 she won the Nobel Prize in Chemistry."


def explore(
    model: ModelLike | Reader,
    result: Amplification | None = None,
    *,
    text: str = TEXT,
    schemes: Schemes | None = None,
    pipeline: Pipeline = DEFAULT_PIPELINE,
    corpus: str | Path | Iterable[str] = FREQUENCIES,
    text_field: str = "text",
    theme: Theme = "light",
    direction: Direction | None = None,
    tokenizer: Any = None,
) -> Explorer:
    """Explore the heads of a model in a notebook: pick a head and a class, type a sentence, turn the bias.

    The last expression of a cell shows it. `docs/explore.md` has the Python behind everything it shows.

    Args:
        model: what `interp.amplification` takes.
        result: of `interp.amplification`, to see the grid of heads and the bars of classes too.
        text: what is read at first.
        schemes: what divides the tokens into classes; by default those of the result that are built in, or pos, function
            and surface.
        pipeline: the spaCy pipeline that tags, by name or an `nlp` object.
        corpus: where the scheme `freq` counts, and a mean query is fitted.
        text_field: column that holds the text, of a corpus that has columns.
        theme: "light" or "dark".
        direction: which vector of the queries is read and scaled, as in `interp.interventions`; by default that of the
            result, if it is one of the model's own, else "bias".
        tokenizer: of a model of transformers; all others come with theirs.

    Raises:
        InterpError: a result of a model of another shape, or a scheme, text or direction that does not fit.
    """
    reader = open_reader(model, tokenizer)
    if result is not None:
        check_fits(result, reader)
    if direction is None:
        measured: Any = "bias" if result is None else result.run.get("direction", "bias")
        direction = measured if measured in OWN else "bias"
    chosen = usual_schemes(result) if schemes is None else schemes
    known = schemes_for_sentences(reader, chosen, pipeline, corpus, text_field)
    along = direction_for_sentences(reader, direction, corpus, text_field)
    explorer = Explorer(reader, result, known, text, pipeline, theme, along)
    explorer.model, explorer.needs_tokenizer = model, tokenizer is not None
    return explorer


class Explorer:
    """What `interp.explore` shows. `set` does what its buttons do; the rest is what is seen.

    Attributes:
        reader, result: what is explored; `model` as it was given.
        view: what is chosen now.
        sentence: what was found about the text (`interp.analysis.sentences.result.Sentence`).
    """

    def __init__(
        self, reader: Reader, result: Amplification | None, schemes: list, text: str, pipeline: Pipeline, theme: Theme,
        direction: Direction = "bias",
    ) -> None:  # fmt: skip
        self.reader, self.result, self.pipeline = reader, result, pipeline
        self.direction: Direction = direction
        self.model: Any = reader
        self.needs_tokenizer = False
        self.theme: Theme = theme
        self.schemes = {scheme.name: scheme for scheme in schemes}
        self.evidence = None if result is None else with_evidence(result)
        self._tagged: tuple[str, pd.DataFrame] | None = None
        self._widget: Any = None
        part = "q" if reader.value_bias is None else "qv"
        self.sentence = self._read(View(text, "L0H0", next(iter(self.schemes)), "bos", part=part))
        self.view = first_view(self.sentence, self.result)

    def set(self, **changes: Any) -> Explorer:
        """Choose something else: `text`, `head` ("L3H7"), `scheme`, `token_class`, `scale`, `where`, `part`, `place`.

        A buttoned explorer on the page follows. Nothing changes if the choice is refused.

        Raises:
            InterpError: something that cannot be chosen, or is not there.
        """
        known = [field.name for field in fields(View)]
        for name in changes:
            if name not in known:
                raise InterpError(f"{name!r} cannot be set; choose of {', '.join(known)}{nearest(name, known)}")
        view = self._completed(changes)
        sentence = self._read(view)
        sentence.of_head(*view.layer_and_head)  # refuses a head that is not there
        last = len(sentence.tokens) - 1
        if view.place is not None and not 0 <= view.place <= last:
            raise InterpError(f"There is no place {view.place}; the text has places 0 to {last}.")
        self.view, self.sentence = view, sentence
        if self._widget is not None:
            self._widget.draw()
        return self

    @property
    def place(self) -> int:
        """The place after which the next token is shown."""
        return len(self.sentence.tokens) - 1 if self.view.place is None else self.view.place

    @property
    def parts(self) -> dict[str, str]:
        """What can be scaled: its name, and the `part` that stands for it."""
        vector = vector_of(self.sentence.run)
        return {vector: "q"} if self.reader.value_bias is None else {f"{vector} and b_V": "qv", vector: "q", "b_V": "v"}

    @property
    def python(self) -> str:
        """The Python that gives the tables of this view."""
        name = direction_name(self.direction)
        said = "" if name == "bias" else f", direction={name!r}" if name in OWN else ", direction=direction"
        return self.view.python(self.place, said + (", tokenizer=tokenizer" if self.needs_tokenizer else ""))

    @property
    def limit(self) -> float:
        """The bias score contrast (nats) at which colours saturate: one colour means one number in all heads."""
        scores = self.sentence.scores.query("place > 0")["bias_score_contrast"].abs()
        return float(np.quantile(scores.to_numpy(), 0.99)) or 1.0

    def rows(self) -> pd.DataFrame:
        """Return the table behind the text and the attention: `Sentence.of_head` of the chosen head."""
        return self.sentence.of_head(*self.view.layer_and_head)

    def summary(self) -> str:
        """Return what the turned bias does to this text, in one sentence."""
        return summary(self.sentence, self.view)

    def text_html(self) -> str:
        """Return the text, coloured by bias score."""
        return coloured_text(self.rows(), self.view.scheme, self.view.token_class, self.limit, theme=self.theme)

    def figures(self) -> dict[str, go.Figure]:
        """Return the figures by name: attention, loss, predictions, pattern; with a result also heads and classes.

        The pattern is of the last `PATTERN_TOKENS` tokens, and left out for texts that are too long to keep patterns of.
        """
        view, theme = self.view, self.theme
        rows, vector = self.rows(), vector_of(self.sentence.run)
        reading, own = view.reading(vector), vector.removeprefix("the ")
        marked = rows.loc[rows[view.scheme] == view.token_class, "place"].tolist()
        drawn = {
            "attention": attention_received(rows, view.head, reading, marked, theme=theme, vector=own),
            "loss": loss_per_token(self.sentence.tokens, reading, marked, theme),
            "predictions": next_token(self.sentence.predictions, self.place, reading, theme),
        }
        if self.sentence.patterns is not None:
            pattern = self.sentence.pattern(*view.layer_and_head).last(PATTERN_TOKENS)
            drawn["pattern"] = attention_pattern(pattern.table, f"{view.head} as trained", theme=theme)
        if self.evidence is not None and view.scheme in set(self.evidence["scheme"]):
            drawn["heads"] = head_grid(self.evidence, view.scheme, view.token_class, theme=theme)
            drawn["classes"] = class_bars(self.evidence, *view.layer_and_head, view.scheme, theme=theme)
        return drawn

    def _completed(self, changes: dict[str, Any]) -> View:
        """Return the new view; a new scheme brings its first class, a new text its last place, unless they are given."""
        if "text" in changes:
            changes = {"place": None, **changes}
        scheme = changes.get("scheme", self.view.scheme)
        if scheme not in self.schemes:
            raise InterpError(f"There is no scheme {scheme!r} here; choose of {', '.join(self.schemes)}.")
        classes = self.schemes[scheme].classes
        if scheme != self.view.scheme:
            changes = {"token_class": classes[1], **changes}
        view = replace(self.view, **changes)
        if view.token_class not in classes:
            raise InterpError(
                f"Scheme {scheme!r} has no class {view.token_class!r}{nearest(view.token_class, classes)}"
            )
        return view

    def _read(self, view: View) -> Sentence:
        if self._tagged is None or self._tagged[0] != view.text:
            self._tagged = (view.text, tag_sentence(self.reader, view.text, list(self.schemes.values()), self.pipeline))
        scaled = {"scale": float(view.scale), "where": view.scaled_at, "part": view.part}
        return measure_sentence(self.reader, *self._tagged, **scaled, direction=self.direction)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """Return the widget, and beside it a still picture for who cannot show one."""
        if find_spec("ipywidgets") is None:
            return {"text/html": still_html(self, "ipywidgets is not installed"), "text/plain": self.summary()}
        from interp.report.explorer.widget import Panel  # late: not everybody has ipywidgets

        self._widget = self._widget or Panel(self)
        bundle = self._widget.box._repr_mimebundle_()
        return {**bundle, "text/html": still_html(self), "text/plain": self.summary()}
