"""Every door through which a corpus comes in takes the name of the column that holds its text, and says so."""

import csv
import json
from dataclasses import fields
from pathlib import Path

import pytest

import interp
from interp.amplify import AmplifyConfig
from interp.data.shards.config import PrepareConfig
from interp.data.shards.prepare import prepare
from interp.errors import InterpError
from interp.evals.__main__ import EvaluateConfig, evaluate_checkpoints
from interp.model.checkpoint import save_checkpoint
from interp.replicate.config import ReplicateConfig
from interp.replicate.jobs import jobs_of
from interp.replicate.plan import plan_of
from interp.replicate.steps import make_shards
from interp.train.config import TrainConfig
from interp.train.setup import open_tokens

SENTENCE = "The quick brown fox doesn't jump over 13 lazy dogs; it sleeps. "
READ = {"workers": 0, "replicates": 2}
AMPLIFY = {**READ, "nulls": 0, "shifts": 0, "fit_tokens": 0, "passages": 1}


@pytest.fixture
def corpus(tmp_path):
    with (tmp_path / "texts.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("n", "body"), *((number, SENTENCE * 2) for number in range(16))])
    return str(tmp_path / "texts.csv")


def evaluated(model, corpus, **column):
    folder = Path(corpus).parent
    (folder / "items.json").write_text(json.dumps({"mine": [{"prompt": "The", "expected": " fox"}] * 2}))
    save_checkpoint(model, folder / "model")
    return evaluate_checkpoints(
        EvaluateConfig([str(folder / "model")], items=folder / "items.json", corpus=corpus, schemes="surface", **column)
    )


def replicated(model, corpus, **column):
    plan = plan_of(ReplicateConfig(scale="tiny", corpus=corpus, **column))
    make_shards(plan, jobs_of(plan)[0])


DOORS = {
    "amplification": lambda *given, **column: interp.amplification(*given, "surface", **AMPLIFY, **column),
    "interventions": lambda *given, **column: interp.interventions(*given, "surface", where="all", **READ, **column),
    "uses": lambda *given, **column: interp.uses(*given, "surface", controls=0, **READ, **column),
    "explore": lambda model, corpus, **column: interp.explore(
        model, text="A fox.", schemes=["freq"], corpus=corpus, **column
    ),
    "evals": evaluated,
    "train": lambda model, corpus, **column: open_tokens(TrainConfig(corpus=corpus, **column), model.cfg),
    "prepare": lambda _, corpus, **column: prepare(
        PrepareConfig(corpus, Path(corpus).parent / "shards", vocabulary=300, workers=0, **column)
    ),
    "replicate": replicated,
}


@pytest.mark.parametrize("door", DOORS)
def test_a_missing_column_is_named_with_the_option_and_those_there_are(make_model, corpus, door, monkeypatch):
    monkeypatch.chdir(Path(corpus).parent)
    with pytest.raises(
        InterpError, match=r"no column 'text' .* columns are 'n', 'body'.* --text-field \(text_field=\)"
    ):
        DOORS[door](make_model(), corpus)
    DOORS[door](make_model(), corpus, text_field="body")


@pytest.mark.parametrize("config", [AmplifyConfig, EvaluateConfig, PrepareConfig, TrainConfig, ReplicateConfig])
def test_every_command_that_takes_a_corpus_takes_its_column(config):
    assert {"corpus", "text_field"} <= {field.name for field in fields(config)}
