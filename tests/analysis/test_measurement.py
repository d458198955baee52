"""A measurement and a null that this file defines: a class and its place in the list are all that a pass needs of them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import interp
from interp.analysis import run as run_module
from interp.analysis.measurement import Measurement, as_numpy, per_head
from interp.analysis.measurements.bias_scores import BiasScores
from interp.analysis.nulls.table import Null, value_of
from interp.analysis.resume import ResumeFile
from interp.analysis.run import measure
from interp.analysis.settings import Settings
from interp.analysis.significance import p_of_deviation
from interp.model.distributed import World
from tests.analysis.blocks import KilledError, after, in_blocks, killed_after
from tests.analysis.reference import observe, rows_of
from tests.analysis.sharing import folders_of_two_processes, write_case


class Largest(Measurement):
    """The largest bias score of the keys of each class, and of all: a maximum, where other sums add."""

    PARTS = ("largest",)

    def __init__(self, context):
        self.largest = torch.full(context.per_class, -torch.inf, dtype=torch.float64)

    @classmethod
    def wanted(cls, context):
        return cls(context) if context.settings.passages else None

    def layer(self, view, batch):
        for row in batch.classes:
            scores = view.scores.double()
            self.largest[view.layer].scatter_reduce_(1, row.expand_as(scores), scores, "amax")

    def merge(self, other):
        self.largest = torch.maximum(self.largest, other.largest)

    def columns(self, found):
        return {"largest_score": np.where(as_numpy(self.largest) > -np.inf, as_numpy(self.largest), np.nan)}

    def tables(self, found):
        layers, heads, _ = found.context.per_class
        rows = per_head(layers, heads, "rank", 1).assign(largest_score=as_numpy(self.largest.amax(-1)).ravel())
        return {"largest": rows}


class Normal(Measurement):
    """What the largest score would be held against if it were one of the head's scores drawn at random."""

    PARTS = ("batches",)

    def __init__(self):
        self.batches = 0

    @classmethod
    def wanted(cls, context):
        return cls()

    def start(self, batch):
        self.batches += 1

    def nulls(self, found):
        scores = found.of(BiasScores).scores
        mean, sd = (as_numpy(each) for each in (scores.overall(found.context.classes.spans), scores.variance().sqrt()))
        p = p_of_deviation(value_of(found.heads, "largest_score", mean.shape), mean, sd)
        yield Null("normal", "largest_score", mean, sd, p, np.full_like(p, np.nan), self.batches)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setattr(run_module, "MEASUREMENTS", (*run_module.MEASUREMENTS, Largest, Normal))


@pytest.fixture(scope="module")
def case(make_model, make_documents, make_scheme):
    model, schemes = make_model(n_ctx=9, n_layers=1), [make_scheme("s", 4), make_scheme("t", 3)]
    documents = make_documents(schemes, model.cfg.d_vocab, np.random.default_rng(0).integers(5, 300, size=24))
    return model, in_blocks(documents, 9), schemes


@pytest.mark.slow
def test_its_columns_rows_and_table_are_in_the_saved_report(case, tmp_path):
    model, documents, schemes = case
    documents = [replace(document, block=None) for document in documents]  # contexts end with a block
    measure(model, documents, schemes, Settings(nulls=4, batch_size=64)).save(tmp_path)
    loaded = interp.Amplification.load(tmp_path)
    rows, labels = rows_of(documents, 9, "t")
    scores = np.concatenate([each[2] for each in observe(model.double(), rows, 0, 2)])
    model.float()
    heads = loaded.heads.query("head == 2 and scheme == 't'")
    expected = [scores[np.concatenate(labels) == c].max() for c in range(3)]
    np.testing.assert_allclose(heads["largest_score"], expected, atol=1e-5)
    assert loaded.tables["largest"].set_index("head").loc[2, "largest_score"] == pytest.approx(scores.max(), abs=1e-5)
    own = loaded.nulls.query("null == 'normal'")
    assert set(loaded.nulls["null"]) == {"direction", "equal spread", "shifted", "normal"}
    assert set(own["statistic"]) == {"largest_score"}
    np.testing.assert_array_equal(own["value"], loaded.heads["largest_score"])
    np.testing.assert_array_equal(own["q"], loaded.heads["largest_score_normal_q"])
    assert (own["p"] < own["q"]).any() and (own["draws"] > 1).all()
    assert (tmp_path / "largest.parquet").exists() and "largest_score" in (tmp_path / "heads.csv").read_text()


def test_it_is_left_out_where_it_is_not_wanted_and_a_null_may_stand_alone(case, monkeypatch):
    model, documents, schemes = case
    with_it = measure(model, documents, schemes, Settings(nulls=0, shifts=0))
    assert set(with_it.nulls["null"]) == {"equal spread", "normal"} and "largest" in with_it.tables
    monkeypatch.setattr(run_module, "MEASUREMENTS", run_module.MEASUREMENTS[:-1])
    without = measure(model, documents, schemes, Settings(nulls=0, shifts=0, passages=0))
    assert "largest" not in without.tables and "largest_score" not in without.heads
    pd.testing.assert_frame_equal(without.heads, with_it.heads[list(without.heads)])


@pytest.mark.slow
def test_an_interrupted_run_goes_on_to_the_same_bits_of_it(case, tmp_path):
    model, documents, schemes = case
    settings = Settings(nulls=4)
    whole = measure(model, documents, schemes, settings)
    with pytest.raises(KilledError):
        resume = ResumeFile(tmp_path, {}, every_seconds=0.0)
        measure(model, documents, schemes, settings, resume=resume, sample=documents, on_tokens=killed_after(4))
    resume = ResumeFile(tmp_path, {}, every_seconds=0.0)
    left = after(documents, resume)
    assert 0 < len(left) < len(documents)
    resumed = measure(model, left, schemes, settings, resume=resume, sample=documents)
    assert set(resumed.tables) == set(whole.tables) >= {"largest", "nulls"}
    for name, table in whole.tables.items():
        pd.testing.assert_frame_equal(resumed.tables[name], table, check_exact=True)


def amplified(folder, world):
    """What one process among others returns; in a process of its own nothing is registered yet."""
    with pytest.MonkeyPatch.context() as patch:
        if Largest not in run_module.MEASUREMENTS:
            patch.setattr(run_module, "MEASUREMENTS", (*run_module.MEASUREMENTS, Largest, Normal))
        return interp.amplification(
            folder / "model", folder / "texts.jsonl", ("surface",), pipeline="blank:en", workers=0, nulls=4, world=world,
            batch_size=64,
        )  # fmt: skip


@pytest.mark.slow
@pytest.mark.usefixtures("own_cache")
def test_two_processes_find_of_it_what_one_finds(make_model, tmp_path):
    write_case(tmp_path, make_model(n_ctx=9, n_layers=1))
    one = amplified(tmp_path, World(0, 1, torch.device("cpu")))
    assert one.nulls.query("null == 'normal'")["draws"].iloc[0] >= 4  # batches, and blocks of one each
    for folder in folders_of_two_processes(amplified, tmp_path):
        two = interp.Amplification.load(folder)
        assert set(two.tables) == set(one.tables) >= {"largest", "nulls"}
        for name, table in one.tables.items():
            pd.testing.assert_frame_equal(
                two.tables[name], table, rtol=1e-6, atol=1e-7, check_dtype=False, check_categorical=False
            )
