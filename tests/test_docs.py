"""What the README and the docs say of the house is so."""

import copy
import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))
import broken  # noqa: E402 - scripts of the docs
import fine_tuned  # noqa: E402
import gpu  # noqa: E402
import results  # noqa: E402
import tree  # noqa: E402


def test_the_readme_has_the_tree_as_it_is():
    assert tree.README.read_text(encoding="utf-8") == tree.written(), "run python docs/tree.py"


def test_every_file_of_the_tree_says_what_it_holds():
    empty = [line for line in tree.tree(ROOT / "interp") if len(line.split(maxsplit=1)) < 2]
    assert not empty


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.name
)
def test_paths_and_links_that_pages_name_are_there(page):
    text = page.read_text(encoding="utf-8")
    named = {ROOT / path for path in re.findall(r"`((?:interp|tests|docs|notebooks)/[\w/.-]+\.\w+)`", text)}
    linked = {page.parent / path for path in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)}
    missing = [str(path) for path in named | linked if not path.exists()]
    assert not missing


RECORD = json.loads(results.RECORD.read_text(encoding="utf-8"))


def test_the_readme_has_the_tables_and_sentences_of_the_record():
    assert results.README.read_text(encoding="utf-8") == results.written(RECORD), "run python docs/results.py"


def test_sentences_say_no_more_than_the_record_does():
    said = " ".join(results.sentences(RECORD))
    assert "position first: in all 3 models" in said and "9 of 384 pairs in `tiny-bq`" in said
    other = copy.deepcopy(RECORD)
    for of in other.values():
        of["rms_amplification"] = 0.1
        if "uses" in of:
            of["uses"]["position"] = [0.1, -0.2, 0.4]
            of["uses"]["control"][0] = 0.0
    said = " ".join(results.sentences(other))
    assert "position first" not in said and "in 0 of the 2 models that have one" in said
    assert "In 0 of the 3 models removing scores" in said


@pytest.mark.parametrize("script", [broken, fine_tuned, gpu], ids=lambda script: script.__name__)
def test_pages_have_the_tables_and_sentences_of_their_records(script):
    record = json.loads(script.RECORD.read_text(encoding="utf-8"))
    assert script.PAGE.read_text(encoding="utf-8") == script.written(record), f"run python docs/{script.__name__}.py"


def test_a_model_is_called_broken_only_where_every_seed_says_so():
    record = json.loads(broken.RECORD.read_text(encoding="utf-8"))
    said = " ".join(broken.sentences(record))
    assert "above both in every seed, and no more than along any direction" in said and "not above" not in said
    record["last"]["bq-seed1"]["key_spread"] = record["last"]["start"]["key_spread"]
    record["last"]["bq-seed2"]["key_spread"] = 3.5
    record["last"]["bq-seed1"]["uses"]["removed"][1] = -0.001
    said = " ".join(broken.sentences(record))
    assert "not above both in every seed." in said and "in 2 of 3 seeds" in said


def test_a_difference_of_fine_tunings_is_one_only_beyond_its_interval():
    right = {"symmetric": [50, 52, 54], "b_Q": [50, 53, 54], "b_Q, four directions": [60, 62, 65]}
    record = {name: {str(seed): {"sums": [n, 100]} for seed, n in enumerate(of)} for name, of in right.items()}
    one, four = fine_tuned.sentences(record)
    assert "+0.3 points [-1.1, +1.8]" in one and one.endswith("no difference that three seeds can tell.")
    assert "+10.3 points [+8.9, +11.8]" in four and four.endswith(": a difference.")


@pytest.mark.slow
def test_the_record_is_what_is_measured():
    """Of one model, the figures that need no draws (intervals and shifted labels depend on a seed), on the first article."""
    now, record = results.beginning(results.AGAIN), RECORD[results.AGAIN]["beginning"]
    assert set(now) == set(record) and now["n_tokens"] == record["n_tokens"] > 10_000
    for name, figure in now.items():
        assert figure == pytest.approx(record[name], rel=1e-3), name


def test_the_record_is_of_the_whole_held_out_text():
    import interp
    from interp.data.contexts import token_stream
    from interp.data.corpora.corpus import open_corpus

    articles = open_corpus("wikipedia-sample", "validation")
    whole = len(token_stream(interp.load_model(results.AGAIN).need_tokenizer(), articles))
    assert {(of["n_documents"], of["n_tokens"]) for of in RECORD.values()} == {(len(list(articles)), whole)}


def test_figures_of_a_card_take_the_place_of_older_ones_and_of_the_sentence_that_there_are_none(tmp_path):
    rows = [{"name": "a | b", "result": "1.5 <x>", "aim": "<= 1", "verdict": "MISSED"}]
    found = {"card": "B", "driver": "1", "torch": "2", "cuda": "12", "memory_gb": 80.0, "rows": rows}
    (tmp_path / "gpu.json").write_text(json.dumps(found))
    records = gpu.with_file([{**found, "rows": []}, {**found, "card": "A"}], tmp_path / "gpu.json")
    assert [record["card"] for record in records] == ["A", "B"] and records[1]["rows"] == rows
    assert "No GPU has been seen" in gpu.written([])
    page = gpu.written(records)
    assert "No GPU has been seen" not in page and "1 lines, 0 failed, 1 missed their aim" in page
    assert "| a \\| b | 1.5 \\<x\\> | \\<= 1 | MISSED |" in page
    for content in ("{}", "no", "[]", json.dumps({**found, "card": ""})):
        (tmp_path / "other.json").write_text(content)
        with pytest.raises(SystemExit, match=r"other\.json (is not what|has no card)"):
            gpu.with_file([], tmp_path / "other.json")
