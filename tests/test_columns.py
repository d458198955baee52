"""docs/columns.md has an entry for every column of every table, and none for a column that no table has."""

import dataclasses
import json
import re
from fnmatch import fnmatchcase
from pathlib import Path

import pandas as pd
import pytest

import interp
from interp.analysis.settings import Settings, settings_from
from interp.api import Text
from interp.evals import arithmetic
from interp.evals.held_out import held_out_loss
from interp.evals.puzzles import evaluate, generate
from interp.model.config import BiasConfig
from interp.replicate.jobs import MEASURED, TRAINED
from interp.replicate.plan import scale
from interp.replicate.results import AMPLIFICATION, REPLICATES, contrasts_table, results_table
from tests.conftest import TEXT

PAGE = Path(__file__).parents[1] / "docs" / "columns.md"
COMMON = "Columns that many tables have"
SCHEMES = ("surface", "pos")
ENTRY = re.compile(r"- (`[^\n]*?`) \(([^)]+)\): (\S.*)")
REPLICATION = Path(__file__).parents[1] / "docs" / "replication" / "tiny"


def entries():
    """The columns of each section of the page, in its order."""
    found = {}
    for section in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        heading, text = section.split("\n", 1)
        lines = [ENTRY.fullmatch(line) for line in text.splitlines() if line.startswith("- ")]
        assert all(lines), f"{heading}: an entry is `name` (unit): what it is"
        found[heading] = [name for line in lines for name in re.findall("`([^`]+)`", line[1])]
    return found


def frames(result, name):
    """The tables of a result's dataclass."""
    return {
        f"{name}.{f.name}": getattr(result, f.name)
        for f in dataclasses.fields(result)
        if isinstance(getattr(result, f.name), pd.DataFrame)
    }


def results_of_today(root):
    """The results of one run of the record, as it would be measured now: the record has less."""
    plan = scale("tiny")
    name = plan.cells()[0].name
    trained, measured = (json.loads((REPLICATION / "runs" / name / file).read_text()) for file in (TRAINED, MEASURED))
    trained["best_batch_validation_loss"] = 3.0
    measured["amplification"] |= dict.fromkeys(AMPLIFICATION, 0.5)
    (root / "runs" / name).mkdir(parents=True)
    for file, values in ((TRAINED, trained), (MEASURED, measured)):
        (root / "runs" / name / file).write_text(json.dumps(values))
    return results_table(plan, root).drop(columns=REPLICATES)


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tables(own_cache, make_model, tokenizer, tmp_path_factory):
    """Every table of runs that make all of them, under the headings of the page."""
    texts = [f"{number} {TEXT} {TEXT[number * 3 :]}" for number in range(12)]
    model = make_model(q=BiasConfig(0.5, (0.05, 0.15), "batch", directions=2))
    few = {"workers": 0, "replicates": 20}
    result = interp.amplification(
        model, texts, SCHEMES, nulls=4, amplified_nulls=2, shifts=19, by_type=True, bias_samples=2, components=True,
        held_out=True, adjust_frequency=True, **few,
    )  # fmt: skip
    assert "chosen" in result.tables  # something was found, or this table and columns of findings would not be there
    found = {f"result.{name}": result.tables[name] for name in
             ("heads", "tokens", "positions", "passages", "passage_scores", "nulls", "adjusted")}  # fmt: skip
    found |= {name: table for name, table in result.tables.items() if f"result.{name}" not in found}
    found["replicates, replicates_beyond"] = found.pop("replicates")
    assert list(found.pop("replicates_beyond")) == list(found["replicates, replicates_beyond"])
    found |= {"result.findings()": result.findings(), "result.selectivity()": result.selectivity()}
    found |= {f"result.static(): {name}": table for name, table in result.static(model).items()}
    text = Text.opened(tokenizer, texts, settings_from(Settings, {"schemes": SCHEMES}))
    values = result.values(model, text.documents(0), text.schemes)
    found |= {f"result.values(): {name}": table for name, table in values.items()}
    found |= frames(interp.interventions(model, texts, "surface", where="all", scales=(0,), **few), "interventions")
    uses = interp.uses(model, texts, "surface", controls=2, **few)
    found |= {**frames(uses, "uses"), "uses.controls": uses.controls}
    twin = make_model(1)
    found |= frames(interp.compare(model, twin, corpus=texts, schemes="surface", nulls=0, **few), "comparison")
    sentence = interp.read_sentence(model, "The fox.", ["surface"], scale=0)
    found |= {**frames(sentence, "sentence"), "sentence.shares()": sentence.shares("surface")}
    longer = make_model(n_ctx=256)
    found |= {f"evals: {name}": table for name, table in
              frames(evaluate(longer, generate(n_items=1)), "of").items()}  # fmt: skip
    problems = arithmetic.generate("test", 2, digits=1)
    found |= {f"evals --arithmetic: {name}": table for name, table in
              frames(arithmetic.evaluate(longer, problems), "of").items()}  # fmt: skip
    found |= {f"evals: {name}": table for name, table in frames(held_out_loss(model, texts, ["surface"]), "of").items()}
    done = results_table(scale("tiny"), REPLICATION)
    found |= {"replicate: results": results_of_today(tmp_path_factory.mktemp("replication"))}
    found |= {"replicate: contrasts": contrasts_table(done, ["validation_loss"])}
    return {name.replace(" of.", " "): table for name, table in found.items()}


def described(table):
    """The names that a table's columns have on the page; the integers in a column `pos` are positions, not tags."""
    for column in map(str, table):
        scheme = column in SCHEMES and not pd.api.types.is_integer_dtype(table[column])
        yield "scheme's name" if scheme else "replicate's number" if column.isdigit() else column


def test_every_table_has_its_section(tables):
    assert set(entries()) == {COMMON, *tables}


def test_every_column_has_an_entry_and_no_entry_is_left_over(tables):
    known = entries()
    common, used = known.pop(COMMON), {}
    for heading, table in tables.items():
        own = known[heading]
        names = set(described(table))
        unknown = {name for name in names if not any(fnmatchcase(name, entry) for entry in [*own, *common])}
        left = {entry for entry in own if not any(fnmatchcase(name, entry) for name in names)}
        assert not unknown and not left, f"{heading}: without an entry {unknown}, entries of nothing {left}"
        for name in names & set(common):
            used.setdefault(name, set()).add(heading)
    assert {entry: len(used.get(entry, ())) for entry in common if len(used.get(entry, ())) < 2} == {}


def test_no_column_is_described_twice_in_a_section():
    assert [name for names in entries().values() for name in set(names) if names.count(name) > 1] == []
