"""From a checkpoint and a corpus to the total effect of its biases: what the command and the notebooks call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from interp.analysis.interventions.measure import intervene
from interp.analysis.interventions.plan import Part
from interp.analysis.interventions.result import Interventions
from interp.data.corpus import Corpus, Split
from interp.data.labelling import Labeller
from interp.data.pipelines import DEFAULT_PIPELINE
from interp.data.schemes import Scheme
from interp.data.tagging import tag_documents
from interp.model.bias import BiasSource
from interp.model.checkpoint import load_model
from interp.model.transformer import HookedSymmetryBrokenTransformer
from interp.reporting import few_documents, open_text, progress_bar

TOKENS_PER_BATCH = 1024


def interventions(
    model: HookedSymmetryBrokenTransformer | str | Path,
    corpus: str | Path | Iterable[str] | Corpus = "wikipedia-sample",
    schemes: Sequence[str | Path | Scheme | Labeller] = ("pos",),
    *,
    where: str | Sequence[str] = "all,layers,heads",
    scales: Sequence[float] = (0, 0.5, 1, 2),
    part: Part = "q",
    random_directions: int = 1,
    paths: bool = True,
    split: Split | None = None,
    pipeline: str = DEFAULT_PIPELINE,
    workers: int = 1,
    max_tokens: int | None = 20_000,
    batch_size: int | None = None,
    bias: BiasSource = "mean",
    replicates: int = 200,
    seed: int = 0,
    progress: bool = False,
) -> Interventions:
    """Scale the biases of a model, in all layers, in single ones or in single heads, run it again, and compare.

        found = interp.interventions("tiny-bqbv", where="all,layers", scales=(0, 2))
        found.loss.query("scheme == 'overall'")
        found.attention.query("intervention == 'all' and scale == 0 and token_class == 'DET'")

    The first gives the change of the loss in nats beside that of a change of the same size in a random direction; the
    second who loses and who gains attention when b_Q is removed. To remove the value bias: ``part="v", scales=(0,)``.

    Args:
        model: a model, or the path or name of a checkpoint.
        corpus: "wikipedia-sample", a path, or document strings.
        schemes: as in `interp.amplification`.
        where: "all", "layers" (each alone), "heads" (each alone), "L3", "L3H7"; several as a list or with commas.
        scales: alpha; 0 removes the biases, 1 leaves them, 2 doubles them.
        part: which biases are scaled: "q" (b_Q), "v" (b_V) or "qv" (both).
        random_directions: controls of each intervention, along so many random directions.
        paths: also measure how much of a layer's amplification is direct and how much comes through earlier layers.
        split: of the documents; by default the held-out ones of the Wikipedia sample, and all of anything else.
        pipeline: the installed spaCy pipeline that tags.
        workers: processes that tag while the model runs; 0 tags in this process. Does not change results.
        max_tokens: how much text is read, no more than a twentieth of it from any document; None reads all. Every
            intervention takes about a forward pass over it, less the layers before the first that is changed.
        batch_size: contexts per forward pass, by default about 1,024 tokens, of which up to 8 runs go side by side;
            changes results by float32 rounding only.
        bias: which biases are in force in the unchanged model: "mean", "sample" or "none".
        replicates: of the bootstrap over documents behind the intervals.
        seed: of bootstrap and random directions.
        progress: show a progress bar on stderr.

    Raises:
        InterpError: anything that is missing, damaged or does not fit, in one sentence.
    """
    model = model if isinstance(model, HookedSymmetryBrokenTransformer) else load_model(model)
    tokenizer = model.need_tokenizer()
    opened, built = open_text(corpus, split, schemes, tokenizer, pipeline)
    documents = tag_documents(tokenizer, opened, built, pipeline, workers)
    with progress_bar(progress, f"{model.cfg.model_name}: interventions", None) as on_tokens:
        found = intervene(
            model, documents, built, where=where, scales=scales, part=part, bias=bias, random_directions=random_directions,
            paths=paths, max_tokens=max_tokens, batch_size=batch_size or max(1, TOKENS_PER_BATCH // model.cfg.n_ctx),
            replicates=replicates, seed=seed, on_tokens=on_tokens,
        )  # fmt: skip
    found.run.update(corpus=opened.name, split=opened.split, warnings=_warnings(found))
    return found


def _warnings(found: Interventions) -> list[str]:
    warnings = []
    if found.run["runs"] == 1:
        warnings.append("No bias is in force where the model was to be changed, so nothing changes.")
    return [*warnings, *few_documents(found.run["n_documents"])]
