import pandas as pd
import pytest
from typer.testing import CliRunner

import interp
from interp.amplify import app
from interp.analysis.interventions.result import TABLES

TEXTS = [f"The cat number {n} sat on {n} mats, and the dog didn't. " * (1 + n % 3) for n in range(8)]


pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def corpus(tmp_path):
    (tmp_path / "texts").mkdir()
    for number, text in enumerate(TEXTS):
        (tmp_path / "texts" / f"{number}.txt").write_text(text)
    return tmp_path / "texts"


@pytest.mark.slow
def test_a_checkpoint_and_texts_are_enough_and_the_run_tells_how_it_was_made():
    settings = {"where": "all,L1", "scales": (0, 1), "workers": 0}
    found = interp.interventions("tiny-bq", TEXTS, ("pos", "surface"), **settings, replicates=20)
    overall = found.loss[(found.loss["scheme"] == "overall") & (found.loss["scale"] == 0)].set_index(
        ["intervention", "direction"]
    )
    assert overall.loc[("all", "bias"), "difference"] != 0 and len(overall) == 4
    assert set(found.attention["scheme"]) == {"pos", "surface"}
    assert found.run["interventions"] == ["all", "L1"] and found.run["n_documents"] == 8
    assert any("Only 8 documents" in warning for warning in found.run["warnings"])
    symmetric = interp.interventions("tiny-symmetric", TEXTS, **settings)
    assert any("No bias is in force" in warning for warning in symmetric.run["warnings"])
    assert (symmetric.loss["difference"].dropna() == 0).all()


def test_to_remove_the_value_bias_costs_loss_and_leaves_no_doubt_that_it_was_another_part():
    both = {
        part: interp.interventions("tiny-bqbv", TEXTS, where="all", scales=(0,), part=part, workers=0).loss
        for part in "qv"
    }
    loss = {
        part: table[(table["scheme"] == "overall") & (table["direction"] == "bias")]["loss"].item()
        for part, table in both.items()
    }
    assert loss["q"] != loss["v"]
    assert set(both["v"]["part"]) == {"v"}


@pytest.mark.slow
def test_the_command_measures_interventions_beside_the_report_and_can_leave_them_out(corpus, tmp_path):
    words = ["tiny-bq", "--corpus", str(corpus), "--schemes", "surface", "-o", str(tmp_path / "out"), "--workers", "0",
             "--nulls", "0", "-q"]  # fmt: skip
    outcome = CliRunner().invoke(app, [*words, "--interventions", "L0,L3H1", "--intervention-scales", "0.5"])
    assert outcome.exit_code == 0, outcome.stderr
    result = interp.Amplification.load(tmp_path / "out")
    found = result.interventions
    assert set(result.uses.loss["scheme"]) == {"", "surface"} and result.uses.controls["draws"].eq(20).all()
    assert (tmp_path / "out" / "uses" / "loss.parquet").is_file()
    assert f"more files in {tmp_path / 'out'}" in outcome.stderr
    assert set(found.loss["intervention"]) == {"L0", "L3H1"} and set(found.loss["scale"]) == {0.5}
    for name in TABLES:
        assert len(pd.read_parquet(tmp_path / "out" / "interventions" / f"{name}.parquet"))
    outcome = CliRunner().invoke(app, [*words, "--interventions", "none", "--no-uses"])
    assert outcome.exit_code == 0, outcome.stderr
    result = interp.Amplification.load(tmp_path / "out")
    assert result.interventions is None and result.uses is None and not (tmp_path / "out" / "uses").exists()


def test_uses_of_a_checkpoint_tell_the_text_and_of_a_symmetric_one_that_there_are_none():
    found = interp.uses("tiny-bq", TEXTS, controls=1, replicates=20, workers=0)
    overall = found.loss[found.loss["predicted_scheme"] == "overall"].set_index(["keeps", "scheme"])
    assert overall.loc[("nothing", ""), "difference"] != overall.loc[("class", "pos"), "difference"]
    assert found.run["n_documents"] == 8 and any("Only 8 documents" in warning for warning in found.run["warnings"])
    symmetric = interp.uses("tiny-symmetric", TEXTS, workers=0, replicates=20)
    assert symmetric.run["warnings"][0] == "No query bias is in force, so nothing changes."
    assert (symmetric.loss["difference"].dropna() == 0).all()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--interventions", "L9"], "There is no L9; this model has layers 0 to 3"),
        (["--interventions", "layer"], "There is no place 'layer'"),
        (["--intervention-scales", "a"], "intervention_scales is 'a'"),
        (["--intervention-tokens", "0"], "intervention_tokens is 0"),
    ],
)
def test_a_bad_word_is_told_before_anything_is_measured(corpus, tmp_path, words, message):
    outcome = CliRunner().invoke(app, ["tiny-bq", "--corpus", str(corpus), "-o", str(tmp_path / "out"), "-q", *words])
    assert outcome.exit_code == 1 and message in outcome.stderr
    assert not (tmp_path / "out").exists()
