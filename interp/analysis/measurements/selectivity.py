"""How selective each head is: how well the classes explain its bias scores, and which heads have like profiles."""

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.cluster import hierarchy
from scipy.stats import entropy

HEAD = ["model", "layer", "head", "scheme"]
FEW = 20  # tokens, below which a class is too rare to name it a head's own
NUMBERS = ("n_tokens", "bias_score_mean", "bias_score_sd", "auroc", "log2_amplification", "share")


def selectivity_table(heads: pd.DataFrame, clusters: int = 8) -> pd.DataFrame:
    """Return the table `selectivity` of `Amplification`, one row per (layer, head, scheme), from its table `heads`.

    Columns:
        eta_squared: the part of the variance of the bias score over tokens that lies between classes,
            sum_c n_c (mean_c - mean)^2 over the total sum of squares: 0 to 1. By chance it is about (classes - 1) / tokens.
        best_class, best_auroc: the class whose bias scores are best told from the others', the AUROC furthest from 1/2.
        profile_entropy: -sum_c w_c log w_c / log(number of classes) with w_c = |A_c| / sum |A_c|: 0 when one class alone is
            amplified or suppressed, 1 when all are equally strongly.
        divergence: sum_c M_c log2(M_c / M0_c), in bits: how far the bias moves the attention between classes.
        cluster, order: of the head's profile (`profile_clusters`).

    Classes of fewer than 20 tokens take part in `eta_squared` and `divergence` alone. Missing where there is nothing to
    compare, as for a head without bias.
    """
    known = heads[heads["n_tokens"] > 0]
    numbers = np.asarray(known.loc[:, list(NUMBERS)], dtype=np.float64).T  # a row per column, for speed
    classes = np.asarray(known["token_class"], dtype=object)
    places = list(known.groupby(HEAD, sort=False).indices.values())
    names = known.loc[:, HEAD].iloc[[place[0] for place in places]].reset_index(drop=True)
    frame = names.assign(**pd.DataFrame([_of_head(numbers[:, place], classes[place]) for place in places]))
    schemes = known.groupby("scheme", sort=False).indices.values()
    found = [profile_clusters(known.iloc[place], clusters) for place in schemes]
    return frame.merge(pd.concat(found, ignore_index=True), on=HEAD, how="left")


def _of_head(numbers: Float[np.ndarray, "number token_class"], classes: np.ndarray) -> dict[str, object]:
    n, mean, sd, auroc, effect, share = numbers
    between = (n * np.square(mean - np.average(mean, weights=n))).sum()
    within = (np.square(np.nan_to_num(sd)) * (n - 1)).sum()
    distance = np.where(n >= FEW, np.abs(auroc - 0.5), np.nan)
    best = int(np.nanargmax(distance)) if (distance > 0).any() else None
    strength = np.abs(effect[(n >= FEW) & ~np.isnan(effect)])
    varied = len(strength) > 1 and strength.sum() > 0
    return {
        "eta_squared": between / (between + within) if between + within > 0 else np.nan,
        "best_class": None if best is None else classes[best],
        "best_auroc": np.nan if best is None else auroc[best],
        "profile_entropy": float(entropy(strength) / np.log(len(strength))) if varied else np.nan,
        "divergence": float(np.nansum(share * effect)),
    }


def profile_clusters(heads: pd.DataFrame, clusters: int = 8, min_tokens: int = FEW) -> pd.DataFrame:
    """Return to which cluster of like profiles each head of one scheme belongs, and its place in the dendrogram.

    A head's profile is its log2 amplification of every class of at least `min_tokens` tokens. Heads are joined by average
    linkage with the distance 1 - correlation, so the shape of profiles counts and their strength does not, and the tree is
    cut into at most `clusters` (1, 2, ... in its order). Heads whose profile does not vary are in none: missing.
    """
    frequent = heads[(heads["n_tokens"] >= min_tokens) & heads["log2_amplification"].notna()]
    names = heads.loc[:, HEAD].drop_duplicates(ignore_index=True)
    wide = frequent.pivot(index=HEAD, columns="token_class", values="log2_amplification").dropna(axis=1)
    wide = wide[np.ptp(wide.to_numpy(), axis=1) > 1e-9] if wide.shape[1] > 1 else wide.iloc[:0]
    if len(wide) < 2:
        return names.assign(cluster=np.nan, order=np.nan)
    tree = hierarchy.linkage(wide.to_numpy(), "average", "correlation", optimal_ordering=True)
    tree[:, 2] = tree[:, 2].clip(min=0)  # rounding takes equal profiles a hair below distance 0
    found = wide.index.to_frame(index=False)
    order = np.argsort(hierarchy.leaves_list(tree))
    label = hierarchy.fcluster(tree, clusters, "maxclust")
    return names.merge(found.assign(cluster=label.astype(float), order=order.astype(float)), on=HEAD, how="left")
