"""What interventions on the biases found: tidy tables, how they were made, and their way to disk and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from interp.analysis.saving import load_tables, save_tables
from interp.provenance import Summarized, interval, model_and_text

TABLES = ("attention", "loss", "predictions", "paths")
CSV = ("loss", "predictions", "paths")
FOLDER = "interventions"
"""The folder inside an amplification's folder that holds them."""

INTERVENTION_COLUMNS = ("intervention", "changed_layer", "changed_head", "part", "scale", "direction", "draw")
ATTENTION_COLUMNS = (
    *INTERVENTION_COLUMNS, "layer", "head", "scheme", "token_class", "n_tokens", "n_documents", "share",
    "share_unchanged", "log2_change", "ci_low", "ci_high",
)  # fmt: skip
LOSS_COLUMNS = (
    *INTERVENTION_COLUMNS, "scheme", "token_class", "n_tokens", "n_documents", "loss", "loss_unchanged", "difference",
    "ci_low", "ci_high",
)  # fmt: skip
PREDICTION_COLUMNS = (
    *INTERVENTION_COLUMNS, "scheme", "token_class", "n_tokens", "n_documents", "kl", "kl_ci_low", "kl_ci_high",
    "top1_changed", "top1_ci_low", "top1_ci_high",
)  # fmt: skip
PATH_COLUMNS = (
    "layer", "head", "scheme", "token_class", "path", "source_layer", "n_tokens", "n_documents", "log2_amplification",
    "ci_low", "ci_high",
)  # fmt: skip
OVERALL = "overall"
"""The scheme, and its one class, of the rows that are about all tokens together."""

BIASES = {"q": "b_Q", "v": "b_V", "qv": "b_Q and b_V"}
"""What sentences call the parts that are changed."""


@dataclass(frozen=True, repr=False)
class Interventions(Summarized):
    """What changes when the biases are scaled and the model is run again.

    Each row of `attention`, `loss` and `predictions` begins with its intervention: `intervention` is where ("all", "L3",
    "L3H7"), `changed_layer` and `changed_head` the same in numbers (nan: all of them), `part` whether b_Q ("q"), b_V
    ("v") or both ("qv") were changed, `scale` alpha (0: removed), `direction` "bias" for the intervention itself and
    "random" for its control, a change of the same size in a random direction, and `draw` the number of the random
    direction (0 for "bias"). Intervals are 95% over documents. Differences are intervened less unchanged.

    Attributes:
        attention: `ATTENTION_COLUMNS`: one row per intervention, (layer, head), scheme and class: the `share` of attention
            that the class receives and `share_unchanged` without the intervention, fractions; `log2_change`, in doublings,
            with `ci_low, ci_high`. `n_tokens` and `n_documents` are those of the class. Layers before the first changed
            one have no row: nothing changes there. With attention="changed" only layers that are changed themselves have.
        loss: `LOSS_COLUMNS`: one row per intervention, scheme and class of the *predicted* token: `loss` and
            `loss_unchanged` in nats, their `difference` with `ci_low, ci_high`, and `n_tokens` predicted tokens. The rows
            with scheme "overall" and class "overall" are about all tokens.
        predictions: `PREDICTION_COLUMNS`: the same rows: `kl`, the mean KL(unchanged || intervened) in nats with
            `kl_ci_low, kl_ci_high`, and `top1_changed`, the share of the predictions whose most probable token changes,
            with `top1_ci_low, top1_ci_high`.
        paths: `PATH_COLUMNS`: one row per (layer, head), scheme, class and path: `log2_amplification` that comes that
            way, with `ci_low, ci_high`. `path` is "total" (all biases against none), "direct" (the layer's own bias,
            upstream as it is), "direct position" and "direct beyond position" (its parts, as those of A in
            `interp.analysis.fitted`; missing where b_Q is not removed), "indirect" (biases of earlier layers, this layer's
            own off), or "source": the part of "indirect" that is due to the bias of `source_layer` (see
            `interp.analysis.interventions.plan`). total = direct + indirect, direct = the sum of its two parts, and indirect
            = the sum over its sources, exactly.
        run: how it was made: model, part, scales, interventions, n_tokens, n_documents, seed, replicates ...
    """

    attention: pd.DataFrame
    loss: pd.DataFrame
    predictions: pd.DataFrame
    paths: pd.DataFrame
    run: dict[str, Any]

    def save(self, folder: str | Path) -> list[Path]:
        """Write every table as Parquet, all but the long `attention` as CSV and JSON too, and `run.json`; return the files.

        Raises:
            InterpError: the folder cannot be written.
        """
        return save_tables(folder, {name: getattr(self, name) for name in TABLES}, self.run, CSV)

    @classmethod
    def load(cls, folder: str | Path) -> Interventions:
        """Read what `save` wrote.

        Raises:
            InterpError: a file is missing or unreadable.
        """
        tables, run = load_tables(folder, TABLES, "Interventions.save")
        return cls(**tables, run=run)

    def _summary(self) -> dict[str, str]:
        rows = self.loss.loc[self.loss["scheme"] == OVERALL]
        answer = "No bias is in force where the model was to be changed, so nothing changes."
        for row in rows.loc[rows["direction"] == "bias"].head(1).to_dict("records"):
            same = (rows[["intervention", "part", "scale"]] == [row["intervention"], row["part"], row["scale"]]).all(
                axis=1
            )
            drawn = rows.loc[same & (rows["direction"] == "random"), "difference"]
            where = "all layers" if row["intervention"] == "all" else row["intervention"]
            answer = (
                f"With {BIASES[row['part']]} times {row['scale']:g} in {where} the loss changes by {row['difference']:+.3f} "
                f"nats{interval(row['ci_low'], row['ci_high'], '+.3f')}"
            )
            answer += f", with as large a change in a random direction by {drawn.mean():+.3f}." if len(drawn) else "."
        return {
            **model_and_text(self.run), "answer": answer, "changed": ", ".join(self.run.get("interventions", ())),
            "next": ".loss, .attention, .predictions, .paths, .save(folder)",
        }  # fmt: skip


def discard(folder: Path, tables: Sequence[str] = TABLES, csv: Sequence[str] = CSV) -> None:
    """Remove what an earlier `Interventions.save` left in `folder`, so that it does not pass for part of a later run."""
    text = [f"{table}.{kind}" for table in csv for kind in ("csv", "json")]
    for name in (*(f"{table}.parquet" for table in tables), *text, "run.json"):
        (folder / name).unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
