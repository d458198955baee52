import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import interp
from interp.amplify import app
from interp.api import summary
from interp.errors import InterpError
from interp.model.checkpoint import save_checkpoint

TEXTS = ["The cat sat on 3 mats, and the dog didn't.", "Why not? Because it sleeps.", "A third document about foxes."]


pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def places(tmp_path_factory, make_model):
    """Two checkpoints with random weights and a corpus of three documents."""
    folder = tmp_path_factory.mktemp("places")
    for seed, name in enumerate(("one", "two")):
        save_checkpoint(make_model(seed=seed), folder / name)
    (folder / "texts").mkdir()
    for number, text in enumerate(TEXTS):
        (folder / "texts" / f"{number}.txt").write_text(text)
    return folder


def command(places, *words):
    names = [str(places / name) for name in ("one", "two")]
    fixed = ["--corpus", str(places / "texts"), "--workers", "0", "--schemes", "surface", "--nulls", "4", "-q",
             "--interventions", "none", "--no-uses"]  # fmt: skip
    return CliRunner().invoke(app, [*names, *fixed, *words])


@pytest.mark.slow
def test_the_command_compares_two_checkpoints_on_the_same_documents(places, tmp_path):
    outcome = command(places, "-o", str(tmp_path))
    assert outcome.exit_code == 0, outcome.stderr
    found = interp.Comparison.load(tmp_path / "one-vs-two")
    results = [interp.Amplification.load(tmp_path / name) for name in ("one", "two")]
    difference = results[1].heads["log2_amplification"] - results[0].heads["log2_amplification"]
    np.testing.assert_allclose(found.heads["difference"], difference)
    pd.testing.assert_frame_equal(interp.compare(tmp_path / "one", results[1]).classes, found.classes)
    for name in ("heads.parquet", "heads.csv", "classes.parquet", "classes.csv", "run.json"):
        assert (tmp_path / "one-vs-two" / name).is_file()
    assert f"7 more files in {tmp_path / 'one-vs-two'}, " in outcome.stderr
    told = " ".join(outcome.stderr.split())
    assert "3 documents" in told and "over 6 heads" in told and "do not correspond" in told
    assert "Better:" not in told  # both have a b_Q
    html = (tmp_path / "one-vs-two" / "report.html").read_text(encoding="utf-8")
    assert "compared</h1>" in html and "alone</h2>" in html


def test_the_summary_shows_the_classes_that_differ_most_and_rare_ones_last():
    names = [f"c{number}" for number in range(10)]
    classes = pd.DataFrame({
        "scheme": "s", "token_class": names, "statistic": "root_mean_square", "n_heads_a": 4, "n_heads_b": 6,
        "n_tokens": [99, *[100] * 9], "value_a": 0.5, "value_b": 0.5, "difference": [9, 1, -2, 3, -4, 5, -6, 7, -8, np.nan],
        "ci_low": np.nan, "ci_high": 1.0,
    })  # fmt: skip
    run = {"a": {"model": "m[1]"}, "b": {"model": "n"}, "shared": {"n_documents": 12}}
    table = summary(interp.Comparison(pd.DataFrame(), classes, run))
    assert list(table.columns[1].cells) == ["c8", "c7", "c6", "c5", "c4", "c3", "c2", "c1"]
    assert list(table.columns[5].cells)[:2] == ["-8.00", "+7.00"]
    assert "over 4 and 6 heads" in str(table.title) and "12 documents" in str(table.title)
    rare = summary(interp.Comparison(pd.DataFrame(), classes.iloc[[0, 1]], run))
    assert list(rare.columns[1].cells) == ["c1", "c0"] and set(rare.columns[6].cells) == {"unknown"}
    assert list(rare.columns[3].cells) == ["0.50", "0.50"]
    control = classes.assign(statistic="root_mean_square_shifted", value_a=0.125, value_b=0.25)
    beside = summary(interp.Comparison(pd.DataFrame(), pd.concat([classes, control]), run))
    assert set(beside.columns[3].cells) == {"0.50 (0.12)"} and set(beside.columns[4].cells) == {"0.50 (0.25)"}


@pytest.mark.slow
def test_both_can_be_read_along_the_direction_of_one(places, tmp_path):
    outcome = command(places, "-o", str(tmp_path), "--direction", str(places / "two"))
    assert outcome.exit_code == 0, outcome.stderr
    runs = [json.loads((tmp_path / name / "run.json").read_text()) for name in ("one", "two")]
    twin = interp.load_model(places / "two")
    assert runs[0]["direction"] == f"b_Q of {twin.cfg.model_name}" and runs[1]["direction"] == "bias"
    settings = {"corpus": places / "texts", "schemes": ("surface",), "workers": 0, "nulls": 4}
    same = interp.compare(places / "one", twin, direction=twin, **settings)
    loaded = interp.Comparison.load(tmp_path / "one-vs-two")
    pd.testing.assert_frame_equal(same.heads, loaded.heads, rtol=1e-5, atol=1e-6)
    assert same.run["b"]["direction"] == "bias"


@pytest.mark.slow
def test_the_command_measures_under_draws_of_the_bias_and_keeps_them(places, tmp_path):
    outcome = command(places, "-o", str(tmp_path), "--bias-samples", "2", "--seed", "3")
    assert outcome.exit_code == 0, outcome.stderr
    loaded = interp.Amplification.load(tmp_path / "one")
    assert loaded.run["bias_samples"] == 2 and set(loaded.tables["bias_draws"]["draw"]) == {0, 1}
    settings = {"schemes": ("surface",), "workers": 0, "nulls": 0, "bias_samples": 2}
    there, other = (
        interp.amplification(places / "one", places / "texts", seed=seed, **settings).tables["bias_samples"]
        for seed in (3, 4)
    )
    pd.testing.assert_frame_equal(loaded.tables["bias_samples"], there, atol=1e-6)
    assert not np.allclose(there["mean_over_draws"], other["mean_over_draws"], equal_nan=True)


def test_a_checkpoint_is_measured_as_the_result_beside_it_was(places):
    settings = {"corpus": TEXTS, "schemes": ("surface",), "workers": 0, "nulls": 0}
    result = interp.amplification(places / "one", **settings)
    found = interp.compare(result, places / "one", **settings)
    here = found.heads["n_tokens"] > 0
    assert (found.heads.loc[here, "difference"] == 0).all() and len(found.heads) == len(result.heads)


def test_what_cannot_be_compared_is_refused(places, make_model, tmp_path):
    settings = {"schemes": ("surface",), "workers": 0, "nulls": 0}
    result = interp.amplification(places / "one", TEXTS, **settings)
    with pytest.raises(InterpError, match="measured already, so seed would do nothing"):
        interp.compare(result, result, seed=3)
    with pytest.raises(InterpError, match="they differ in corpus, number of documents"):
        interp.compare(result, places / "two", corpus=TEXTS[:2], **settings)
    with pytest.raises(InterpError, match="There is no checkpoint 'thre'"):
        interp.compare(result, "thre", corpus=TEXTS, **settings)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tiny-bq", "{one}"], "tiny-bq and {one} have different tokenizers"),
        (["tiny-bq", "tiny-bq"], "Two checkpoints have the same name (tiny-bq, tiny-bq)"),
        (["tiny-bq", "tiny-nothing"], "There is no checkpoint 'tiny-nothing'"),
        (["tiny-bq", "--direction", "efective"], "There is no checkpoint 'efective'"),
    ],
)
def test_the_command_refuses_before_it_measures(places, tmp_path, words, message):
    words = [word.format(one=places / "one") for word in words]
    outcome = CliRunner().invoke(app, [*words, "-o", str(tmp_path / "out")])
    assert outcome.exit_code == 1
    assert message.format(one=places / "one") in outcome.stderr
    assert not (tmp_path / "out").exists()
