"""The bootstrap replicates of every amplification, kept so that two runs over the same documents can be paired."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float32

from interp.analysis.documents import DocumentCounts
from interp.analysis.shares import ShareSums

KEY = ("layer", "head", "scheme", "token_class")


def replicates_table(heads: pd.DataFrame, shares: ShareSums, counts: DocumentCounts) -> pd.DataFrame:
    """Return the table `replicates` of `Amplification`, in the rows of the table `heads`.

    Columns: layer, head, scheme, token_class, the class's `effective_documents`, and A_c of every replicate in "0", "1",
    ... as float32: 4 bytes * heads * classes * replicates, 19 MB for 1,200 heads, 20 classes and 200 replicates.
    """
    values = shares.resampled_amplification()  # [layer, replicate, head_index, token_class]
    rows = values.permute(0, 2, 3, 1).flatten(0, 2).float().cpu().numpy()  # [row, replicate]
    effective = np.tile(counts.effective(), len(rows) // values.shape[-1])
    named = heads.loc[:, list(KEY)].assign(effective_documents=effective)
    numbers = pd.DataFrame(rows, columns=[str(replicate) for replicate in range(rows.shape[1])])
    return pd.concat([named, numbers], axis=1)


def replicate_values(table: pd.DataFrame) -> Float32[np.ndarray, "row replicate"]:
    """Return the numbers of a table `replicates`."""
    return table.drop(columns=[*KEY, "effective_documents"]).to_numpy(np.float32)
