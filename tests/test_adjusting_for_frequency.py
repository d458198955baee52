import re
from functools import partial

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import interp
from interp.amplify import app
from interp.analysis.resume import ResumeFile
from interp.analysis.run import measure
from interp.analysis.settings import Settings
from interp.data.classes.built_in import build_schemes
from interp.data.corpora.corpus import open_corpus
from interp.data.tagging.documents import tag_documents
from interp.errors import InterpError
from interp.report.metrics import with_evidence

TEXTS = [f"In {1900 + n} the cat {n % 7} sat on {n} mats, and the dog didn't. " * (1 + n % 3) for n in range(12)]
SETTINGS = {"pipeline": "blank:en", "workers": 0, "nulls": 0, "replicates": 4}


pytestmark = pytest.mark.usefixtures("own_cache")


def tenth_by_hand(tokenizer, d_vocab):
    """The tenth of all occurrences in which the middle one of each token falls, most frequent tokens first."""
    count = np.zeros(d_vocab, dtype=np.int64)
    for text in TEXTS:
        for token in tokenizer(text)["input_ids"]:
            count[token] += 1
    tenth, before = np.full(d_vocab, 9), 0
    for token in sorted(range(d_vocab), key=lambda token: (-count[token], token)):
        if count[token]:
            tenth[token] = min(9, int(10 * (before + count[token] / 2) // count.sum()))
        before += count[token]
    return tenth


@pytest.mark.slow
def test_on_request_contrasts_are_between_tokens_of_the_same_position_and_frequency():
    model, corpus = interp.load_model("tiny-bq"), open_corpus(TEXTS)
    found = interp.amplification(model, TEXTS, ("surface",), adjust_frequency=True, **SETTINGS)
    schemes = build_schemes(("surface",), model.tokenizer, corpus, "blank:en")
    documents = list(tag_documents(model.tokenizer, corpus, schemes, "blank:en", workers=0))
    tenth = tenth_by_hand(model.tokenizer, model.cfg.d_vocab)
    expected = measure(model, documents, schemes, Settings(nulls=0, replicates=4), deciles=tenth).adjusted
    assert list(found.adjusted["adjusted_for"].unique()) == ["nothing", "position", "position and frequency"]
    pd.testing.assert_frame_equal(found.adjusted, expected, rtol=1e-4, atol=1e-6)
    assert found.run["adjust_frequency"] is True
    assert with_evidence(found)["contrast_frequency"].notna().any()


@pytest.mark.slow
def test_classes_that_are_the_frequency_cannot_be_told_from_it():
    adjusted = interp.amplification("tiny-bq", TEXTS, ("freq",), adjust_frequency=True, **SETTINGS).adjusted
    contrasts = adjusted.set_index("adjusted_for")["bias_score_contrast"]
    assert (contrasts["position"].abs() > 0.01).any()
    assert contrasts["position and frequency"].isna().any()
    np.testing.assert_allclose(contrasts["position and frequency"].dropna(), 0, atol=1e-9)


def test_without_the_request_nothing_is_adjusted_for_frequency():
    found = interp.amplification("tiny-bq", TEXTS, ("surface",), **SETTINGS)
    assert set(found.adjusted["adjusted_for"]) == {"nothing", "position"}
    assert found.run["adjust_frequency"] is False


def test_partial_results_that_are_not_adjusted_for_frequency_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("interp.api.ResumeFile", partial(ResumeFile, every_seconds=0.0))
    interp.amplification("tiny-bq", TEXTS, ("surface",), partial=tmp_path, **SETTINGS)
    with pytest.raises(InterpError, match="its adjust_frequency is False, here it is True"):
        interp.amplification("tiny-bq", TEXTS, ("surface",), partial=tmp_path, adjust_frequency=True, **SETTINGS)


@pytest.mark.slow
def test_the_command_offers_the_contrast_with_frequency_removed_on_its_page(tmp_path):
    (tmp_path / "texts.jsonl").write_text("".join(f'{{"text": "{text}"}}\n' for text in TEXTS))
    words = ["tiny-bq", "--corpus", str(tmp_path / "texts.jsonl"), "--schemes", "surface", "--workers", "0", "-q",
             "--interventions", "none", "--no-uses", "--nulls", "0", "--pipeline", "blank:en"]  # fmt: skip
    offered = {}
    for name, more in (("without", []), ("with", ["--adjust-frequency"])):
        outcome = CliRunner().invoke(app, [*words, "-o", str(tmp_path / name), *more])
        assert outcome.exit_code == 0, outcome.stderr
        page = (tmp_path / name / "report.html").read_text()
        offered[name] = bool(re.search(r'<option[^>]*value="contrast_frequency"', page))
        tables = interp.Amplification.load(tmp_path / name).adjusted
        assert ("position and frequency" in set(tables["adjusted_for"])) == (name == "with")
    assert offered == {"without": False, "with": True}
