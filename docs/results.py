"""The results of the README: what is measured of the bundled checkpoints, as a table and sentences that follow from it.

python docs/results.py --measure    measures them into docs/results.json (some minutes), then writes the README
python docs/results.py              writes the README from docs/results.json
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
RECORD = ROOT / "docs" / "results.json"
BEGIN, END = "<!-- results -->\n", "<!-- end of results -->\n"

DIRECTIONS = {"tiny-bq": None, "tiny-bqbv": None, "tiny-symmetric": "tiny-bq", "tiny-bq-ecd": None,
              "tiny-symmetric-ecd": "tiny-bq-ecd"}  # fmt: skip
"""The checkpoints, and along whose b_Q those without one are read."""
SCHEME = "pos"
USES_TOKENS = 20_000
MEDIANS = ("key_spread", "eta2_position", "eta2_type", "eta2_class")
GIVES_BACK = ("position", "type", "class")
AGAIN, AGAIN_TOKENS = "tiny-bqbv", 12_000
"""Whose figures of the beginning of the text the record has too, for the tests to measure them again."""


def measured(name: str, other: str | None) -> dict[str, Any]:
    """Return the figures of one checkpoint."""
    import interp
    from interp.analysis.findings import summary
    from interp.analysis.measurements.explained import overview

    model = interp.load_model(name, device="cpu")
    direction = "bias" if other is None else interp.load_model(other, device="cpu")
    result = interp.amplification(model, "wikipedia-sample", (SCHEME,), direction=direction, nulls=0, passages=1)
    [sizes] = summary(result).to_dict("records")
    figures = {**overview(result.tables["explained"])[SCHEME], **sizes}
    figures |= {"along": other or name, "n_tokens": result.run["n_tokens"], "n_documents": result.run["n_documents"]}
    if other is None:
        figures["uses"] = _uses(interp.uses(model, "wikipedia-sample", (SCHEME,), max_tokens=USES_TOKENS))
    return figures


def beginning(name: str, other: str | None = None) -> dict[str, Any]:
    """Return figures of a checkpoint that need no draws, of the beginning of the text, along the b_Q of another if named."""
    import interp
    from interp.analysis.findings import summary
    from interp.analysis.measurements.explained import overview

    result = interp.amplification(
        name,
        "wikipedia-sample",
        (SCHEME,),
        direction="bias" if other is None else interp.load_model(other, device="cpu"),
        max_tokens=AGAIN_TOKENS,
        nulls=0,
        passages=0,
        shifts=0,
        replicates=0,
        workers=0,
    )
    [sizes] = summary(result).to_dict("records")
    figures = {**overview(result.tables["explained"])[SCHEME], **sizes}
    kept = (*MEDIANS, "rms_amplification", "rms_position", "rms_beyond", "beyond_equal_spread")
    return {"n_tokens": result.run["n_tokens"], **{figure: figures[figure] for figure in kept}}


def _uses(found: Any) -> dict[str, Any]:
    rows = found.loss.query("predicted_scheme == 'overall' and draw == 0").drop_duplicates("keeps").set_index("keeps")
    [controls] = found.controls.query("predicted_scheme == 'overall'").to_dict("records")
    removed = rows.loc["nothing"]
    return {
        "n_tokens": int(removed["n_tokens"]),
        "removed": [float(removed[name]) for name in ("difference", "ci_low", "ci_high")],
        "control": [controls["control_mean"], controls["control_sd"], int(controls["draws"])],
        **{name: [float(rows.loc[name, column]) for column in ("restored", "restored_ci_low", "restored_ci_high")]
           for name in GIVES_BACK},
    }  # fmt: skip


def plain(value: Any) -> Any:
    """Return a value for JSON: six figures, and None for what is missing."""
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, float):
        return None if math.isnan(value) else float(f"{value:.6g}")
    return value


HEADER = (
    "| model | key spread | η² position, type, class | rms A | by position | beyond | shifted labels | findings "
    "| singled out |\n| --- | --: | --: | --: | --: | --: | --: | --: | --: |"
)
USES_HEADER = (
    "| model | loss without b_Q | position gives back | type | class | loss without as widely spread scores |"
    "\n| --- | --: | --: | --: | --: | --: |"
)


def section(record: dict[str, Any]) -> str:
    """Return the tables, and the sentences that their figures allow."""
    rows, used = [HEADER], [USES_HEADER]
    for name, of in record.items():
        along = "" if of["along"] == name else f" (along b_Q of `{of['along']}`)"
        eta = ", ".join(f"{of[f'eta2_{what}']:.2f}" for what in ("position", "type", "class"))
        sizes = " | ".join(f"{of[f'rms_{what}']:.2f}" for what in ("amplification", "position", "beyond", "shifted"))
        singled = f"{of['beyond_equal_spread']:.0f}"
        rows.append(
            f"| `{name}`{along} | {of['key_spread']:.1f} | {eta} | {sizes} | {of['findings']} of {of['pairs']} | {singled} |"
        )
        if uses := of.get("uses"):
            mean, sd, draws = uses["control"]
            given = " | ".join(share(uses[what]) for what in GIVES_BACK)
            used.append(f"| `{name}` | {nats(uses['removed'])} | {given} | {mean:+.3f} ± {sd:.3f} ({draws} draws) |")
    return "\n".join([*rows, "", *used, "", *sentences(record)])


def sentences(record: dict[str, Any]) -> list[str]:
    """Return what the figures allow to say, each sentence in a line of its own."""
    broken = {name: of for name, of in record.items() if of.get("uses")}
    twins = {of["along"]: of for name, of in record.items() if of["along"] != name}
    found = []
    largest = [max(of["eta2_position"], of["eta2_type"]) for of in broken.values()]
    classes = [of["eta2_class"] for of in broken.values()]
    found.append(
        f"With b_Q, position or token type, whichever is more, explains {_range(largest)} of the bias score in the median "
        f"head, the class {_range(classes)}; a class is mostly a set of token types, so what it explains, the type does too."
    )
    larger = [name for name, twin in twins.items() if record[name]["rms_amplification"] > twin["rms_amplification"]]
    times = min(of["rms_amplification"] / of["rms_shifted"] for of in broken.values())
    alone = max(of["rms_position"] / of["rms_amplification"] for of in broken.values())
    found.append(
        f"A is larger than in the symmetric twin, read along the same b_Q, in {_counted(larger, twins)} models that have "
        f"one, and at least {times:.0f} times as large as for labels that mean nothing; position alone would give at most "
        f"{alone:.0%} of it, because classes lie at all positions alike."
    )
    singled = [f"{of['beyond_equal_spread']:.0f} of {of['pairs']} pairs in `{name}`" for name, of in broken.items()]
    found.append(
        "But a class lies as far along any direction in which keys spread as much: beyond such directions are "
        f"{', '.join(singled)}."
    )
    sure = [name for name, of in broken.items() if of["uses"]["position"][1] is not None]
    ahead = [
        n for n in sure if broken[n]["uses"]["position"][1] > max(broken[n]["uses"][w][2] for w in ("type", "class"))
    ]
    if ahead:
        found.append(
            f"What b_Q is used for is position first: in {_counted(ahead, broken)} models a bias that knows only the "
            "position gives back more of what removing b_Q costs than one that knows only the type or only the class, with "
            "intervals apart."
        )
    dearer = [name for name, of in broken.items() if of["uses"]["control"][0] > of["uses"]["removed"][0]]
    found.append(
        f"In {_counted(dearer, broken)} models removing scores along other directions that spread as much costs more than "
        "removing b_Q: that cost alone says nothing about b_Q."
    )
    return found


def _range(shares: list[float]) -> str:
    return f"{min(shares):.0%} to {max(shares):.0%}"


def _counted(some: Any, of: Any) -> str:
    return f"all {len(of)}" if len(some) == len(of) else f"{len(some)} of the {len(of)}"


def nats(numbers: list[float]) -> str:
    """Return a number of nats with the ends of its interval."""
    return "{:+.3f} [{:.3f}, {:.3f}]".format(*numbers)


def share(numbers: list[float | None]) -> str:
    """Return a share with the ends of its interval, a dash where it is not known."""
    if None in numbers:
        return "–"
    value, low, high = (f"{number:.0%}".replace("-", "−") for number in numbers if number is not None)
    return f"{value} [{low}, {high}]"


def written(record: dict[str, Any]) -> str:
    """Return the README with the section of this record."""
    return between(README, BEGIN, END, section(record))


def between(page: Path, begin: str, end: str, section: str) -> str:
    """Return the text of a page with another section between its two markers."""
    before, rest = page.read_text(encoding="utf-8").split(begin)
    return f"{before}{begin}\n{section}\n\n{end}{rest.split(end)[1]}"


if __name__ == "__main__":
    if "--measure" in sys.argv:
        figures = {name: plain(measured(name, other)) for name, other in DIRECTIONS.items()}
        figures[AGAIN]["beginning"] = plain(beginning(AGAIN))
        RECORD.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    README.write_text(written(json.loads(RECORD.read_text(encoding="utf-8"))), encoding="utf-8")
