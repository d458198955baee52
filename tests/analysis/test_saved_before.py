"""A result that was saved when every table was an attribute, in `saved_before/`: it stays readable, and its numbers true.

It was made with `AMPLIFICATION` and `INTERVENTIONS` below, the second saved with the first; CSV and JSON files are left out.
"""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import interp
from interp.analysis.interventions.result import TABLES as INTERVENED
from interp.analysis.settings import Settings
from interp.api import Text

BEFORE = Path(__file__).with_name("saved_before")
TEXTS = [
    "The keeper of the lighthouse saw the boats, the birds, the fog, the moon, and the sea. In 1912 the boats were late, "
    "and the fog was thick. Why, the keeper asked, do the birds, the boats, and the sea come back?",
    "The baker, the miller, and the cat of the baker rose early. The oven was hot, the bread was good, and the cat was "
    "warm. She didn't ask why the miller was late, or why the bread cost $2.",
]
AMPLIFICATION = {"nulls": 2, "replicates": 4, "passages": 1, "max_tokens": 600}
INTERVENTIONS = {"where": "L3", "scales": (0,), "replicates": 4, "paths": False}
MADE_BY_EVERY_RUN = {"heads", "tokens", "positions", "passages", "passage_scores", "nulls", "adjusted", "replicates"}
STATIC = {"static_tokens", "static_positions", "static_agreement", "static_enrichment"}
VALUES = {"value_tokens", "value_components"}
LATER_PANELS = {"panel-explained", "panel-uses", "panel-pattern"}

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def before():
    return interp.Amplification.load(BEFORE)


@pytest.fixture(scope="module")
def now():
    """The same, as it is measured today."""
    model = interp.load_model("tiny-bqbv")
    result = interp.amplification(model, TEXTS, ("function",), workers=0, **AMPLIFICATION)
    text = Text.opened(model.need_tokenizer(), TEXTS, Settings(schemes=("function",)))
    found = interp.interventions(model, TEXTS, ("function",), workers=0, **INTERVENTIONS)
    result = result.with_tables({**result.static(model), **result.values(model, text.documents(0), text.schemes)})
    return replace(result, interventions=found)


TOLD_OTHERWISE = re.compile(r"(.*_)?(ci_low|ci_high|p|q|p_rank|null_mean|null_sd)$|folds$|\d+$")
"""Columns of intervals, which now need some more than four effective documents, of p and q, which belong to other
nulls, and bootstrap replicates, which are to first order in the weights."""


def assert_alike(one, two):
    """All numbers but those of `TOLD_OTHERWISE`, of nulls those of random directions."""
    if "null" in one:
        one, two = (table.query("null == 'direction'").reset_index(drop=True) for table in (one, two))
    one = one[[name for name in one if not TOLD_OTHERWISE.match(name)]]
    pd.testing.assert_frame_equal(one, two[list(one)], rtol=1e-4, atol=1e-5, check_dtype=False, check_categorical=False)


def test_every_table_that_was_not_empty_is_there_and_its_run_is_told(before):
    assert set(before.tables) == {*MADE_BY_EVERY_RUN, *STATIC, *VALUES, "selectivity"}
    for name, table in before.tables.items():
        pd.testing.assert_frame_equal(table, pd.read_parquet(BEFORE / f"{name}.parquet"))
    assert before.run == json.loads((BEFORE / "run.json").read_text())
    assert len(before.interventions.loss) and len(before.interventions.attention)


def test_its_numbers_are_those_that_are_measured_today(before, now):
    later = {"explained", "head_scores", "replicates_beyond", "top_passages", "patterns", "writes"}
    assert set(now.tables) == set(before.tables) - {"selectivity"} | later
    for name in set(before.tables) - {"selectivity", "passages", "passage_scores"}:
        assert_alike(before.tables[name], now.tables[name])
    [shift] = {
        place
        for place in range(len(before.passages))
        if before.passages["token_index"].tolist()[place : place + len(now.passages)]
        == now.passages["token_index"].tolist()
    }  # the passage is the same, less what was cut away so that it begins and ends with a word
    assert len(now.passages) > 20
    for name in ("passages", "passage_scores"):
        table = before.tables[name].assign(place=before.tables[name]["place"] - shift)
        table = table[table["place"].isin(now.passages["place"])].reset_index(drop=True)
        assert_alike(table, now.tables[name])
    for name in INTERVENED:
        assert_alike(getattr(before.interventions, name), getattr(now.interventions, name))
    for name in ("n_tokens", "n_documents", "schemes", "corpus_sha256", "tokenizer_sha256", "direction", "warnings"):
        assert before.run[name] == now.run[name]


def test_tables_that_were_attributes_are_in_tables_and_selectivity_is_made_on_request(before):
    assert_alike(before.tables["selectivity"], before.selectivity())
    for name in (*STATIC, *VALUES, "replicates"):
        with pytest.raises(AttributeError, match=rf"result\.tables\['{name}'\]"):
            getattr(before, name)


def test_it_can_be_compared_drawn_and_saved_again(before, now, tmp_path):
    here = before.heads["n_tokens"] > 0
    for one, two in ((BEFORE, now), (now, before)):
        found = interp.compare(one, two)
        np.testing.assert_allclose(found.heads.loc[here, "difference"], 0, atol=1e-4)
        assert len(found.heads) == len(before.heads) and len(found.classes)
    pages = [each.to_html(tmp_path / "page.html").read_text(encoding="utf-8") for each in (before, now)]
    for page in pages:
        assert page.startswith("<!doctype html>") and "tiny-bqbv" in page and "Only 2 documents" in page
    panels = [re.findall(r'<section class="panel[^>]* id="([^"]+)"', page) for page in pages]
    assert panels[0] == [name for name in panels[1] if name not in LATER_PANELS] and len(panels[0]) > 4
    before.save(tmp_path / "again")
    again = interp.Amplification.load(tmp_path / "again")
    assert set(again.tables) == set(before.tables) and again.run == before.run
    for name, table in before.tables.items():
        pd.testing.assert_frame_equal(again.tables[name], table)
    for name in INTERVENED:
        pd.testing.assert_frame_equal(getattr(again.interventions, name), getattr(before.interventions, name))
