"""What b_Q is used for: what the loss is when the bias scores know less, as a table, and its way to disk and back."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from interp.analysis.interventions.result import discard
from interp.analysis.saving import load_tables, save_tables
from interp.analysis.significance import p_of_rank
from interp.provenance import Summarized, model_and_text

FOLDER = "uses"
"""The folder inside an amplification's folder that holds it."""

KEYS = ("predicted_scheme", "predicted_class", "n_tokens", "n_documents")
USES_COLUMNS = (
    "keeps", "scheme", "draw", *KEYS, "loss", "loss_unchanged", "difference", "ci_low", "ci_high", "restored",
    "restored_ci_low", "restored_ci_high",
)  # fmt: skip
REPLICATES_COLUMNS = ("keeps", "scheme", "draw", "replicate", "loss", "loss_unchanged")
CONTROL = "control"
NOTHING = "nothing"
TABLES = ("loss", "replicates")


@dataclass(frozen=True, repr=False)
class Uses(Summarized):
    """What the loss is when all heads' bias scores are replaced by a part of themselves.

    Attributes:
        loss: `USES_COLUMNS`: one row per replacement and class of the *predicted* token.
            keeps: what the bias scores still know. "nothing": b_Q is removed; "position", "class", "type": each score is
                its mean given the key's position in the context, class or token type, fitted on other documents (closer
                to the mean of all the fewer tokens were like it: `interp.analysis.interventions.scores`); "all but
                position" and so on: what that mean leaves over; "control": b_Q stays, and the scores along another
                direction of each head that spread as much are removed.
            scheme: of the class that is kept, or left out; "" for the other replacements.
            draw: number of the control; 0 otherwise.
            predicted_scheme, predicted_class: of the predicted token; "overall" twice in the rows about all tokens.
            n_tokens, n_documents: predicted tokens of the class, and documents that have the class.
            loss, loss_unchanged, difference: mean next-token cross-entropy in nats, and changed less unchanged, with its 95%
                interval over documents `ci_low, ci_high`; missing where the effective number of documents is below 2.
            restored: 1 - difference / difference of "nothing": which share of what removing b_Q costs is given back, with
                its 95% interval over documents (Fieller's). Missing for controls, and where the interval of "nothing" holds
                0 or is missing: a share of what may be nothing is no number.
        run: how it was made: model, n_tokens, n_documents, schemes, bias, controls, seed, replicates, warnings ...
        replicates: `REPLICATES_COLUMNS`: the mean loss over all tokens, changed and unchanged, in every replicate of the
            bootstrap over documents. A replicate weighs a document alike in all runs with the same seed and text, whatever
            the model, so differences and means of models have their replicates, too. Empty in results of earlier versions.
    """

    loss: pd.DataFrame
    run: dict[str, Any]
    replicates: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(REPLICATES_COLUMNS)))

    @property
    def controls(self) -> pd.DataFrame:
        """The cost of removing b_Q beside that of removing as widely spread scores, per class of the predicted token.

        Columns: `KEYS`, `difference` of "nothing", mean and standard deviation `control_mean, control_sd` of the `draws`
        controls' differences, and `p` = (1 + draws that change the loss at least as much, up or down) / (1 + draws), which
        is over directions, not over documents. Empty without controls.
        """
        removed = self.loss.loc[self.loss["keeps"] == NOTHING, :].reset_index(drop=True)
        drawn = self.loss.loc[self.loss["keeps"] == CONTROL, :]
        draws = int(drawn["draw"].nunique())
        found = removed.loc[:, [*KEYS, "difference"]]
        if not draws:
            return found.iloc[:0].assign(control_mean=0.0, control_sd=0.0, draws=0, p=0.0)
        values = drawn["difference"].to_numpy().reshape(draws, len(removed))  # rows of each draw are in the same order
        sd = values.std(0, ddof=1) if draws > 1 else np.full(len(removed), np.nan)
        p = p_of_rank(removed["difference"].to_numpy(), values)
        return found.assign(control_mean=values.mean(0), control_sd=sd, draws=draws, p=p)

    def _summary(self) -> dict[str, str]:
        from interp.analysis.findings import answer  # late: only who prints needs it

        controls = ""
        for row in self.controls.loc[self.controls["predicted_scheme"] == "overall"].to_dict("records"):
            controls = (
                f"{row['draws']} other directions along which scores spread as much: without those the loss changes by "
                f"{row['control_mean']:+.3f} nats on average (p = {row['p']:.2g})"
            )
        empty = pd.DataFrame()
        measured = SimpleNamespace(heads=empty, nulls=empty, further={}, run=self.run, uses=self, interventions=None)
        return {
            **model_and_text(self.run), "answer": answer(measured),
            "controls": controls or "none", "next": ".loss, .controls, .save(folder)",
        }  # fmt: skip

    def save(self, folder: str | Path) -> list[Path]:
        """Write `loss` as Parquet, CSV and JSON, `replicates` as Parquet, and `run.json`; return the files.

        Raises:
            InterpError: the folder cannot be written.
        """
        return save_tables(folder, {name: getattr(self, name) for name in TABLES}, self.run, ["loss"])

    @classmethod
    def load(cls, folder: str | Path) -> Uses:
        """Read what `save` wrote.

        Raises:
            InterpError: a file is missing or unreadable.
        """
        tables, run = load_tables(folder, ["loss"], "Uses.save", others=True)
        return cls(run=run, **{name: table for name, table in tables.items() if name in TABLES})

    @staticmethod
    def discard(folder: Path) -> None:
        """Remove what an earlier `save` left in `folder`."""
        discard(folder, TABLES, ["loss"])
