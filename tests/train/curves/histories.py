"""Made-up histories of training."""

import json

import numpy as np


def rows_of(steps, charges=True, seed=0):
    random = np.random.default_rng(seed)
    rows = []
    for step in range(1, steps + 1):
        row = {"step": step, "tokens": step * 64, "loss": 8 / step**0.1 + random.normal() / 50, "lr": 1e-3 * step}
        row |= {"grad_norm": random.uniform(0.5, 2), "seconds": 20 + step * 0.5}
        if step % 10 == 0:
            row["validation_loss"] = row["loss"] + 0.1
            if charges:
                row["charges"] = {sector: random.uniform(0.1, 9, (2, 3)).tolist() for sector in ("qk", "vo")}
        rows.append(row)
    return rows


def write(path, rows, end="\n"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(row) for row in rows) + end)
    return path.parent
