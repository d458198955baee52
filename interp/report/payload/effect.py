"""What interventions did: for each head the ones that concern it, and losses of all, as dense blocks of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from interp.analysis.interventions.result import Interventions
from interp.report.figures.effect import KINDS, mean_of_draws
from interp.report.payload.heads import head_index
from interp.report.payload.packing import codes, pack

PLACES = ("all", "layer", "head")
PATHS = ("total", "direct", "indirect")
LOSS = ("difference", "ci_low", "ci_high")
PREDICTIONS = ("kl", "kl_ci_low", "kl_ci_high", "top1_changed", "top1_ci_low", "top1_ci_high")


def effect_payload(found: Interventions | None, head: dict[str, Any]) -> dict[str, Any] | None:
    """Return blocks [place, scale, direction, head, class] of attention, [intervention, scale, direction, class] of loss.

    The attention of a head is kept for biases scaled everywhere, in its own layer and in itself: what others do to it is in
    the tables. Random directions of one size are averaged. None where no intervention was made.

    Args:
        found: `result.interventions`.
        head: what `heads_payload` returned.
    """
    if found is None:
        return None
    scales = sorted(set(found.loss["scale"]) - {1.0})  # a scale of 1 changes nothing
    names = list(dict.fromkeys(found.loss["intervention"]))
    schemes = {scheme["name"]: scheme["classes"] for scheme in head["schemes"]}
    return {
        "part": str(found.run.get("part", "q")),
        "draws": len(set(found.loss["draw"][found.loss["direction"] == "random"])),
        "scales": [float(scale) for scale in scales],
        "names": names,
        "attention": {name: _attention(found.attention, name, known, scales, head) for name, known in schemes.items()},
        "loss": {
            name: _loss(found, name, known, scales, names)
            for name, known in {**schemes, "overall": ["overall"]}.items()
        },
        "paths": {name: _paths(found.paths, name, known, head) for name, known in schemes.items()},
    }


def _attention(
    table: pd.DataFrame, scheme: str, known: list[str], scales: Sequence[float], head: dict
) -> dict[str, Any]:
    rows = table.loc[table["scheme"] == scheme]
    own_layer = (rows["changed_layer"] == rows["layer"]) & rows["changed_head"].isna()
    own_head = (rows["changed_layer"] == rows["layer"]) & (rows["changed_head"] == rows["head"])
    place = np.select([rows["intervention"] == "all", own_layer, own_head], range(3), -1)
    columns = ["log2_change", "ci_low", "ci_high"]
    rows = mean_of_draws(
        rows.assign(place=place), columns, ["place", "scale", "direction", "layer", "head", "token_class"]
    )
    index = [rows["place"].to_numpy(), codes(rows, "scale", list(scales)), codes(rows, "direction", list(KINDS)),
             head_index(rows, head["layers"], head["heads"]), codes(rows, "token_class", known)]  # fmt: skip
    n_heads = len(head["layers"]) * len(head["heads"])
    blocks = _blocks(rows, columns, index, (len(PLACES), len(scales), len(KINDS), n_heads, len(known)))
    return {"n_tokens": _counts(table, scheme, known), "values": blocks}


def _loss(
    found: Interventions, scheme: str, known: list[str], scales: Sequence[float], names: Sequence[str]
) -> dict[str, Any]:
    keys = ["intervention", "scale", "direction", "token_class"]
    blocks, shape = {}, (len(names), len(scales), len(KINDS), len(known))
    for table, columns in ((found.loss, LOSS), (found.predictions, PREDICTIONS)):
        rows = mean_of_draws(table.loc[table["scheme"] == scheme], list(columns), keys)
        index = [codes(rows, "intervention", list(names)), codes(rows, "scale", list(scales)),
                 codes(rows, "direction", list(KINDS)), codes(rows, "token_class", known)]  # fmt: skip
        blocks |= _blocks(rows, list(columns), index, shape)
    return {"n_tokens": _counts(found.loss, scheme, known), "values": blocks}


def _paths(table: pd.DataFrame, scheme: str, known: list[str], head: dict) -> dict[str, Any]:
    rows = table.loc[(table["scheme"] == scheme) & table["path"].isin(PATHS)]
    index = [codes(rows, "path", list(PATHS)), head_index(rows, head["layers"], head["heads"]),
             codes(rows, "token_class", known)]  # fmt: skip
    shape = (len(PATHS), len(head["layers"]) * len(head["heads"]), len(known))
    blocks = _blocks(rows, ["log2_amplification", "ci_low", "ci_high"], index, shape)
    return {"n_tokens": _counts(table, scheme, known), "values": blocks}


def _counts(table: pd.DataFrame, scheme: str, known: list[str]) -> list[int]:
    """Return the tokens of each class that the interventions read: fewer than the rest of the page is about."""
    rows = table.loc[table["scheme"] == scheme].drop_duplicates("token_class")
    counts = dict(zip(rows["token_class"].astype(str), rows["n_tokens"], strict=True))
    return [int(counts.get(name, 0)) for name in known]


def _blocks(rows: pd.DataFrame, columns: list[str], index: list[np.ndarray], shape: tuple[int, ...]) -> dict[str, Any]:
    kept = np.all([place >= 0 for place in index], axis=0)
    places = tuple(place[kept] for place in index)
    packed = {}
    for column in columns:
        block = np.full(shape, np.nan)
        block[places] = rows[column].to_numpy(float)[kept]
        packed[column] = pack(block, "f2")
    return packed
