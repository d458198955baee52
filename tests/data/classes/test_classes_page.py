"""The examples of docs/classes.md do what the page says."""

import re
from pathlib import Path

import pandas as pd
import pytest

from interp.data.classes.built_in import build_schemes
from interp.data.corpora import corpus
from interp.data.tagging.documents import tag_documents
from tests.data.classes.own import members

PAGE = Path(__file__).parents[3] / "docs" / "classes.md"
EXAMPLES = re.findall(r"```(yaml|python)\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
TEXT = (
    "Mr. Ford said that nothing in the United States cost 5.30 in 1905. "
    "He doesn't write, I am told; Dr Watson never asked."
)


def classes_of(example, tmp_path, tokenizer, text):
    path = tmp_path / "my.yaml"
    path.write_text(EXAMPLES[example][1])
    texts = corpus.open_corpus([text])
    schemes = build_schemes([str(path)], tokenizer, texts)
    (document,) = tag_documents(tokenizer, texts, schemes, workers=0, cache=None)
    return {(s.name, c): members(document, s, c) for s in schemes for c in s.classes[1:]}


def test_the_page_has_three_examples_in_this_order():
    assert [language for language, _ in EXAMPLES] == ["yaml", "yaml", "python"]


def test_words_and_expressions_of_the_first_example_are_found_without_spacy(tmp_path, tokenizer, monkeypatch):
    monkeypatch.setattr("interp.data.tagging.documents.TagPool", None)  # would be called if spaCy had to read
    found = classes_of(0, tmp_path, tokenizer, TEXT)
    assert found["negation/negative", "negative"] == "nothing n't never"
    assert found["negation/number", "number"] == "5.30 1905"
    assert set(found) == {(f"negation/{c}", one) for c in ("negative", "number") for one in (c, "other")}


def test_token_patterns_and_phrases_of_the_second_example_are_found(tmp_path, tokenizer):
    found = classes_of(1, tmp_path, tokenizer, TEXT)
    assert found["people", "title and name"] == "Mr. Ford Dr Watson"
    assert found["people", "verb of saying"] == "said write told asked"
    assert found["people", "country"] == "United States"
    assert "nothing" in found["people", "other"]


@pytest.mark.slow
def test_the_third_example_runs_as_it_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole = corpus.NAMED["wikipedia-sample"]
    monkeypatch.setitem(corpus.NAMED, "wikipedia-sample", lambda: ((name, text[:3000]) for name, text in whole()))
    names = {}
    exec(compile(EXAMPLES[2][1], "classes.md", "exec"), names)
    heads = names["result"].heads
    speech = heads[(heads["scheme"] == "speech") & (heads["layer"] == 0) & (heads["head"] == 0)]
    assert list(speech["token_class"]) == ["bos", "quotation", "question", "other"]
    assert (speech["n_tokens"] > 0)[speech["token_class"] != "question"].all()
    pd.testing.assert_series_equal(
        heads.groupby(["scheme", "layer", "head"])["share"].sum(),
        heads.groupby(["scheme", "layer", "head"])["n_tokens"].sum() * 0.0 + 1.0,
        check_names=False, atol=1e-6, rtol=0,
    )  # fmt: skip
