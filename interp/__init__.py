"""See what symmetry-broken attention heads amplify: load, measure, show and train transformers with unlearned biases."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interp.analysis.comparison.result import Comparison
    from interp.analysis.result import Amplification
    from interp.analysis.sentences import read_sentence
    from interp.api import amplification, compare, interventions, uses
    from interp.data.classes.spans import token_classes
    from interp.model.checkpoint import load_model
    from interp.model.config import BiasConfig, ModelConfig
    from interp.model.transformer import HookedSymmetryBrokenTransformer
    from interp.report.explorer.explorer import explore

__version__ = "0.1.0"
__all__ = [
    "Amplification", "BiasConfig", "Comparison", "HookedSymmetryBrokenTransformer", "ModelConfig", "amplification",
    "compare", "explore", "interventions", "load_model", "read_sentence", "token_classes",
    "uses",
]  # fmt: skip

_HOME = {
    "Amplification": "interp.analysis.result",
    "BiasConfig": "interp.model.config",
    "Comparison": "interp.analysis.comparison.result",
    "HookedSymmetryBrokenTransformer": "interp.model.transformer",
    "ModelConfig": "interp.model.config",
    "amplification": "interp.api",
    "compare": "interp.api",
    "explore": "interp.report.explorer.explorer",
    "interventions": "interp.api",
    "load_model": "interp.model.checkpoint",
    "read_sentence": "interp.analysis.sentences",
    "token_classes": "interp.data.classes.spans",
    "uses": "interp.api",
}


def __getattr__(name: str) -> Any:
    # late, so that `import interp` and --help are quick: TransformerLens alone takes seconds
    if name not in _HOME:
        raise AttributeError(f"module 'interp' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
