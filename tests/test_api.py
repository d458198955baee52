import json

import pandas as pd
import pytest
from typer.testing import CliRunner

import interp
from interp.amplify import app
from interp.analysis.measurements import value_bias
from interp.analysis.saving import read_csv
from interp.analysis.settings import Settings
from interp.api import Text
from interp.errors import InterpError
from interp.model.checkpoint import save_checkpoint
from interp.model.config import BiasConfig
from interp.report.findings import headlines

TEXTS = [
    "The cat sat on 3 mats, and the dog didn't.",
    "Why <b>not</b>? </script> nan null 😀 שלום",
    "A third document.",
]


pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def result():
    return interp.amplification(
        "tiny-bqbv", TEXTS, ("pos", "function", "surface", "freq", "tag", "dep", "ent"), workers=0
    )


@pytest.mark.slow
def test_all_schemes_together_are_partitions_of_the_same_tokens(result):
    sizes = result.heads.groupby(["scheme", "layer", "head"])["n_tokens"].sum()
    assert set(sizes) == {result.run["n_tokens"]}
    assert set(result.heads["scheme"]) == {"pos", "function", "surface", "freq", "tag", "dep", "ent"}
    bos = result.heads[result.heads["token_class"] == "bos"]
    assert (bos["n_tokens"] == 3).all()


def test_a_result_survives_saving_and_loading(result, tmp_path):
    files = result.save(tmp_path / "report")
    assert {f.name for f in files} == {
        "heads.parquet", "heads.csv", "heads.json", "tokens.parquet", "positions.parquet", "passages.parquet",
        "passage_scores.parquet", "nulls.parquet", "adjusted.parquet", "replicates.parquet",
        "replicates_beyond.parquet", "explained.parquet", "head_scores.parquet", "top_passages.parquet", "run.json",
    }  # fmt: skip
    loaded = interp.Amplification.load(tmp_path / "report")
    assert {f"{name}.parquet" for name in result.tables} < {f.name for f in files} and set(loaded.tables) == set(
        result.tables
    )
    for name, table in result.tables.items():
        pd.testing.assert_frame_equal(loaded.tables[name], table, check_dtype=False, check_column_type=False)
    assert loaded.run == json.loads(json.dumps(result.run))
    csv = read_csv(tmp_path / "report" / "heads.csv")
    pd.testing.assert_frame_equal(csv, result.heads, check_dtype=False)
    assert loaded.to_html(tmp_path / "page.html").read_text().startswith("<!doctype html>")


def test_what_the_biases_point_at_and_write_is_found_on_request(result):
    model = interp.load_model("tiny-bqbv")
    static = result.static(model)
    assert set(static["static_positions"]["pos"]) == set(range(result.run["n_ctx"]))
    assert len(static["static_agreement"]) == result.run["n_layers"] * result.run["n_heads"]
    components = values_of(result, model, TEXTS, schemes=result.run["schemes"])["value_components"]
    assert set(components["model"]) == {"tiny-bqbv"}
    keys = ["layer", "head", "scheme", "token_class"]
    both = components.merge(result.heads, on=keys, how="outer")
    assert (both["n_tokens_x"] == both["n_tokens_y"]).all()  # so short a text is read whole


@pytest.mark.slow
def test_values_are_measured_on_the_beginnings_of_the_documents_and_tokens_along_the_direction_asked_for(monkeypatch):
    assert value_bias.VALUE_TOKENS == 6000  # as is documented; fewer here
    monkeypatch.setattr(value_bias, "VALUE_TOKENS", 1500)
    texts = [f"{TEXTS[n % 2]} " * 8 for n in range(24)]
    settings = {"schemes": ("surface",), "pipeline": "blank:en", "workers": 0, "nulls": 0, "replicates": 2,
                "shifts": 0, "passages": 0, "fit_tokens": 0}  # fmt: skip
    twin, symmetric = interp.load_model("tiny-bqbv"), interp.load_model("tiny-symmetric")
    found = interp.amplification(twin, texts, **settings)
    components = values_of(found, twin, texts, schemes=("surface",), pipeline="blank:en")["value_components"]
    read = components.groupby(["layer", "head"])["n_tokens"].sum()
    assert set(read) == {1500} and found.run["n_tokens"] > 2000
    assert (components.query("token_class == 'bos'")["n_tokens"] == 20).all()  # of 20 documents
    along = interp.amplification(symmetric, texts, direction=twin, **settings)
    assert len(along.static(symmetric, twin)["static_tokens"]) == len(found.static(twin)["static_tokens"]) > 0
    with pytest.raises(InterpError, match=r"The run looked along b_Q of .*; give it as direction="):
        along.static(symmetric)
    values = values_of(along, symmetric, texts, schemes=("surface",), pipeline="blank:en")
    assert values["value_tokens"].empty and values["value_components"].empty
    own = interp.amplification(symmetric, texts, **settings).static(symmetric)
    assert own["static_tokens"].empty and own["static_agreement"].empty


def values_of(result, model, texts, **settings):
    text = Text.opened(model.need_tokenizer(), texts, Settings(**settings))
    return result.values(model, text.documents(workers=0), text.schemes)


def test_a_folder_that_is_no_result_is_named(tmp_path):
    with pytest.raises(InterpError, match=r"lacks heads\.parquet, tokens\.parquet, .*run\.json"):
        interp.Amplification.load(tmp_path)


def test_workers_and_batches_do_not_change_the_tables(result):
    other = interp.amplification("tiny-bqbv", TEXTS, ("pos",), workers=1, batch_size=1)
    pos = result.heads[result.heads["scheme"] == "pos"].reset_index(drop=True)
    pd.testing.assert_frame_equal(other.heads, pos, rtol=1e-4, atol=1e-6)


def test_a_first_document_longer_than_the_limit_is_measured_whole_and_told():
    found = interp.amplification("tiny-symmetric", TEXTS, ("surface",), workers=0, max_tokens=3)
    assert found.run["n_documents"] == 1 and found.run["n_tokens"] > 3
    assert any("more than max_tokens 3; it is measured whole" in warning for warning in found.run["warnings"])
    most = found.run["n_tokens"]
    found = interp.amplification("tiny-symmetric", TEXTS, ("surface",), workers=0, max_tokens=most)
    assert not any("max_tokens" in warning for warning in found.run["warnings"])


def test_the_run_tells_how_it_was_made(result):
    assert {"model", "corpus", "corpus_sha256", "pipeline", "seed", "versions", "wall_seconds", "date"} <= set(
        result.run
    )
    assert result.run["versions"]["torch"]
    assert any("Only 3 documents" in warning for warning in result.run["warnings"])
    symmetric = interp.amplification("tiny-symmetric", TEXTS, workers=0)
    assert any("No query bias is in force" in warning for warning in symmetric.run["warnings"])
    assert (symmetric.heads["log2_amplification"].dropna() == 0).all()


@pytest.fixture
def corpus(tmp_path):
    (tmp_path / "texts").mkdir()
    for number, text in enumerate(TEXTS):
        (tmp_path / "texts" / f"{number}.txt").write_text(text)
    return tmp_path / "texts"


@pytest.mark.slow
def test_the_command_writes_a_report_and_names_its_files(corpus, tmp_path):
    words = [
        "tiny-bq",
        "--corpus",
        str(corpus),
        "--schemes",
        "pos, surface",
        "-o",
        str(tmp_path / "out"),
        "--workers",
        "0",
    ]
    outcome = CliRunner().invoke(app, words)
    assert outcome.exit_code == 0, outcome.stderr
    assert outcome.stdout.strip() == (tmp_path / "out" / "report.html").resolve().as_uri()
    for name in ("report.html", "heads.parquet", "heads.csv", "tokens.parquet", "run.json"):
        assert (tmp_path / "out" / name).stat().st_size > 0
    written = [path for path in (tmp_path / "out").rglob("*.*") if path.name != "report.html" and path.name[0] != "."]
    *told, files = outcome.stderr.strip().splitlines()
    assert files.startswith(f"{len(written)} more files in {tmp_path / 'out'}, ")
    result = interp.Amplification.load(tmp_path / "out")
    assert told[-len(headlines(result)) :] == headlines(result)
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["command"].startswith("python -m interp.amplify")
    assert len(run["weights_sha256"]) == 64


@pytest.mark.slow
def test_the_command_writes_more_tables_on_request_and_removes_them_when_they_are_not_asked_for(corpus, tmp_path):
    words = ["tiny-bqbv", "--corpus", str(corpus), "--schemes", "surface", "--pipeline", "blank:en", "--workers", "0", "-q",
             "--interventions", "none", "--no-uses", "--nulls", "0", "-o", str(tmp_path / "out")]  # fmt: skip
    usual = {
        "heads",
        "tokens",
        "positions",
        "passages",
        "passage_scores",
        "adjusted",
        "replicates",
        "replicates_beyond",
        "nulls",
        "explained",
        "head_scores",
        "top_passages",
    }
    for more, names in (
        (["--static", "--values"], {"static_positions", "static_agreement", "value_components"}),
        (["--static"], {"static_positions", "static_agreement"}),
        ([], set()),
    ):
        outcome = CliRunner().invoke(app, [*words, *more])
        assert outcome.exit_code == 0, outcome.stderr
        assert {path.stem for path in (tmp_path / "out").glob("*.parquet")} == usual | names
        assert set(interp.Amplification.load(tmp_path / "out").tables) == usual | names


def test_the_command_measures_a_component_and_all_of_them(make_model, corpus, tmp_path):
    q = BiasConfig(0.5, 0.1, "batch", directions=2)
    save_checkpoint(make_model(q=q), tmp_path / "two")
    words = f"{tmp_path / 'two'} --corpus {corpus} --schemes surface --pipeline blank:en --workers 0 -q --no-uses --nulls 0 "
    words += f"--interventions none --bias component:1 --components -o {tmp_path / 'out'}"
    outcome = CliRunner().invoke(app, words.split())
    assert outcome.exit_code == 0, outcome.stderr
    found = interp.Amplification.load(tmp_path / "out")
    table = found.tables["components"].query("component == 1").drop(columns="component").reset_index(drop=True)
    pd.testing.assert_frame_equal(table, found.heads[list(table.columns)], atol=1e-6, rtol=0)
    assert found.run["settings"]["components"] and found.run["bias"] == "component:1"
    assert "the mean of its component 1" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.slow
def test_several_checkpoints_get_a_folder_each_and_one_for_their_differences(corpus, tmp_path):
    words = ["tiny-bq", "tiny-bqbv", "--corpus", str(corpus), "-o", str(tmp_path), "--workers", "0", "-q", "--schemes",
             "surface", "--pipeline", "blank:en", "--interventions", "none", "--no-uses", "--nulls", "0"]  # fmt: skip
    outcome = CliRunner().invoke(app, words)
    assert outcome.exit_code == 0, outcome.stderr
    names = ("tiny-bq", "tiny-bqbv", "tiny-bq-vs-tiny-bqbv")
    pages = [(tmp_path / name / "report.html").resolve().as_uri() for name in names]
    assert outcome.stdout.split() == pages


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["tiny-symetric"], 1, "There is no checkpoint 'tiny-symetric'; did you mean 'tiny-symmetric'"),
        (["--corpus", "nowhere.txt"], 1, "nowhere.txt"),  # the last --corpus counts
        (["--schemes", "poss"], 1, "did you mean 'pos'"),
        (["--max-tokens", "0"], 1, "max_tokens is 0"),
        (["--pipeline", "en_core_web_smm"], 1, "There is no spaCy pipeline 'en_core_web_smm'"),
        (["--bias", "meen"], 1, "bias is 'meen'; choose mean, sample, none or component:K; did you mean 'mean'?"),
        (["--no-such-option"], 2, "no-such-option"),
    ],
)
def test_bad_input_is_one_line_and_a_non_zero_exit(unchecked, corpus, tmp_path, words, status, message):
    outcome = CliRunner().invoke(app, ["--corpus", str(corpus), *words, "-o", str(tmp_path / "out")])
    assert outcome.exit_code == status
    assert message in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert not (tmp_path / "out").exists()
    if status == 1:
        assert len(outcome.stderr.strip().splitlines()) == 1
