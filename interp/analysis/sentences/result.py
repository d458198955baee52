"""What was found about one text: tidy tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from interp.errors import InterpError, nearest

SHARES = {"attention": "share", "attention_unchanged": "share_unchanged", "attention_unbiased": "share_unbiased"}


@dataclass(frozen=True)
class Sentence:
    """A text read by a model as it is ("unchanged"), and read again with its biases scaled.

    Attributes:
        tokens: one row per token, bos (place 0) first: `place, token_index, token_string`, a column per scheme with the
            token's class, then what it costs to predict this token: `loss` with the scaled biases and `loss_unchanged`,
            nats, their `difference`, and `kl`, KL(unchanged || scaled) of the two predictions, nats. Missing for bos.
        scores: one row per (layer, head, place): `bias_score` of the unchanged model, b_Q . k / sqrt(d_head) in nats;
            `bias_score_contrast`, the same less its mean over the tokens but bos; and the attention that the token
            receives, mean over itself and the later tokens: `attention` with the scaled biases (earlier layers' included),
            `attention_unchanged`, and `attention_unbiased`, of the unchanged model without this head's own b_Q.
        predictions: one row per place and candidate for the *next* token, a candidate being among the most probable ones
            of either reading: `place, token_index, token_string, probability, probability_unchanged, rank,
            rank_unchanged` (1: the most probable).
        run: how it was made: `text, model, scale, where, part, bias`.
    """

    tokens: pd.DataFrame
    scores: pd.DataFrame
    predictions: pd.DataFrame
    run: dict[str, Any]

    @property
    def schemes(self) -> list[str]:
        """The names of the schemes that the tokens are divided by."""
        return [str(name) for name in self.tokens if isinstance(self.tokens[name].dtype, pd.CategoricalDtype)]

    def of_head(self, layer: int, head: int) -> pd.DataFrame:
        """Return the rows of `tokens` with the columns of `scores` for one head.

        Raises:
            InterpError: there is no such head.
        """
        rows = self.scores.loc[(self.scores["layer"] == layer) & (self.scores["head"] == head)]
        if rows.empty:
            layers, heads = (1 + self.scores[name].max() for name in ("layer", "head"))
            raise InterpError(
                f"There is no head L{layer}H{head}; the model has {layers} layers of {heads} heads, from 0."
            )
        return self.tokens.merge(rows.drop(columns=["layer", "head"]), on="place")

    def shares(self, scheme: str) -> pd.DataFrame:
        """Return how the attention of each head is divided among the classes of a scheme: mean over all queries.

        One row per (layer, head, class): `n_tokens`; `share` with the scaled biases, `share_unchanged`,
        `share_unbiased` (without this head's own b_Q), fractions; `log2_amplification` = log2(share_unchanged /
        share_unbiased), the direct effect of b_Q, and `log2_change` = log2(share / share_unchanged), doublings. Missing
        for classes without tokens here.

        Raises:
            InterpError: the text was not divided by this scheme.
        """
        if scheme not in self.schemes:
            known = ", ".join(self.schemes)
            raise InterpError(f"The text was not divided by {scheme!r} but by {known}{nearest(scheme, self.schemes)}")
        rows = self.scores.merge(self.tokens[["place", scheme]], on="place").rename(columns={scheme: "token_class"})
        # a token is seen by itself and those after it; so this is the mean over all queries, which each give 1
        seen = (len(self.tokens) - rows["place"].to_numpy()) / len(self.tokens)
        given = rows.assign(n_tokens=1, **{share: rows[name] * seen for name, share in SHARES.items()})
        classes = given.groupby(["layer", "head", "token_class"], observed=False)
        found = pd.DataFrame(classes[["n_tokens", *SHARES.values()]].sum()).reset_index().assign(scheme=scheme)
        found.loc[found["n_tokens"] == 0, list(SHARES.values())] = np.nan
        return found.assign(
            log2_amplification=np.log2(found["share_unchanged"] / found["share_unbiased"]),
            log2_change=np.log2(found["share"] / found["share_unchanged"]),
        )

    def loss(self) -> tuple[float, float]:
        """Return the mean loss per token with the scaled biases and of the unchanged model, nats."""
        changed, unchanged = (np.nanmean(self.tokens[name].to_numpy(float)) for name in ("loss", "loss_unchanged"))
        return float(changed), float(unchanged)
