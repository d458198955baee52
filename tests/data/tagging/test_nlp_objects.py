"""An `nlp` object in the place of a pipeline's name, wherever one is taken."""

import re
from functools import partial

import pytest
import spacy
from spacy.language import Language

import interp
from interp.analysis.readers.own import OwnReader
from interp.analysis.resume import ResumeFile
from interp.analysis.sentences import tag_sentence
from interp.data.classes.built_in import build_schemes
from interp.data.corpora.corpus import open_corpus
from interp.data.spacy_pipelines import fingerprint, pipeline_label
from interp.data.tagging.documents import tag_documents
from interp.errors import InterpError
from interp.evals.held_out import held_out_loss

TEXTS = ["The quick brown fox sleeps. " * 9, "Prices rose and a lazy fox sleeps. " * 9]
LITTLE = {"nulls": 0, "shifts": 0, "fit_tokens": 0, "replicates": 2, "passages": 1}
RERUN = {"replicates": 2, "max_tokens": 60}

pytestmark = pytest.mark.usefixtures("own_cache")


def rules(**tags):
    """An untrained pipeline that gives these words these parts of speech."""
    nlp = spacy.blank("en")
    ruler = nlp.add_pipe("attribute_ruler")
    for word, pos in tags.items():
        ruler.add(patterns=[[{"ORTH": word}]], attrs={"POS": pos})
    return nlp


@Language.component("nouns_only")
def nouns_only(document):
    for token in document:
        token.pos_ = "NOUN"
    return document


def own():
    nlp = spacy.blank("en")
    nlp.add_pipe("nouns_only")
    return nlp


def nouns(tokenizer, nlp, **options):
    corpus = open_corpus(TEXTS)
    [scheme] = build_schemes(["pos"], tokenizer, corpus, nlp)
    found = tag_documents(tokenizer, corpus, [scheme], nlp, **options)
    return [int((document.classes["pos"] == scheme.classes.index("NOUN")).sum()) for document in found]


def test_an_object_tags_in_this_process_whatever_the_workers_and_its_label_says_which_it_was(make_model):
    nlp = rules(fox="NOUN", sleeps="VERB")
    one, two = (
        interp.amplification(make_model(), TEXTS, "pos", pipeline=nlp, workers=workers, **LITTLE) for workers in (0, 2)
    )
    assert one.heads.equals(two.heads)
    counts = one.heads.query("layer == 0 and head == 0").set_index("token_class")["n_tokens"]
    assert counts["NOUN"] > 0 and counts["VERB"] > 0 and counts["DET"] == 0
    assert one.run["pipeline"] == pipeline_label(nlp) and "spacy" in one.run["versions"]
    assert re.fullmatch(r"en_pipeline 0\.0\.0 \([0-9a-f]{12}\)", one.run["pipeline"])


def test_everything_that_takes_a_pipeline_takes_an_object(make_model):
    model, nlp = make_model(), rules(fox="NOUN")
    changed = interp.interventions(model, TEXTS, "pos", pipeline=nlp, where="all", scales=[0], **RERUN)
    assert "NOUN" in set(changed.loss["token_class"])
    used = interp.uses(model, TEXTS, "pos", pipeline=nlp, controls=0, **RERUN)
    assert "pos" in set(used.loss["predicted_scheme"])
    other = make_model(1)
    assert len(interp.compare(model, other, corpus=TEXTS, schemes="pos", pipeline=nlp, **LITTLE).classes)
    assert "NOUN" in set(held_out_loss(model, TEXTS, ["pos"], pipeline=nlp).classes["token_class"])
    assert "NOUN" in set(interp.read_sentence(model, "A fox.", ["pos"], pipeline=nlp).tokens["pos"])
    explorer = interp.explore(model, text="A fox.", schemes=["pos"], pipeline=nlp)
    assert "NOUN" in set(explorer.sentence.tokens["pos"])


def test_tags_are_kept_for_the_same_object_and_for_no_other(tokenizer, tmp_path):
    nlp = rules(fox="NOUN")
    first, known = nouns(tokenizer, nlp, cache=tmp_path), fingerprint(nlp)
    assert all(first) and len(list(tmp_path.rglob("*.parquet"))) == len(TEXTS)
    nlp("Words that it has not seen")
    assert fingerprint(nlp) == known == fingerprint(rules(fox="NOUN"))  # what it read is no part of it
    nlp.get_pipe("attribute_ruler").add(patterns=[[{"ORTH": "lazy"}]], attrs={"POS": "NOUN"})
    assert fingerprint(nlp) != known
    assert nouns(tokenizer, nlp, cache=tmp_path)[1] > first[1]
    with nlp.select_pipes(disable=["attribute_ruler"]):
        assert fingerprint(nlp) not in (known, None)


def test_parts_that_are_not_spacys_may_set_tags_are_not_cached_and_cannot_be_resumed(make_model, tokenizer, tmp_path):
    nlp = own()
    assert nouns(tokenizer, nlp, cache=tmp_path / "tags") and not (tmp_path / "tags").exists()
    assert fingerprint(nlp) is None and pipeline_label(nlp) == "en_pipeline 0.0.0 (no digest)"
    result = interp.amplification(make_model(), TEXTS, "pos", pipeline=nlp, **LITTLE)
    assert result.heads.query("token_class == 'NOUN'")["n_tokens"].min() > 50
    with pytest.raises(InterpError, match="nobody can tell this nlp object from others"):
        interp.amplification(make_model(), TEXTS, "pos", pipeline=nlp, partial=tmp_path / "partial", **LITTLE)


def test_sums_are_resumed_with_the_same_object_only(make_model, tmp_path, monkeypatch):
    monkeypatch.setattr("interp.api.ResumeFile", partial(ResumeFile, every_seconds=0.0))

    def amplify(nlp):
        return interp.amplification(make_model(), TEXTS, "pos", pipeline=nlp, partial=tmp_path, **LITTLE)

    assert amplify(rules(fox="NOUN")).heads.equals(amplify(rules(fox="NOUN")).heads)
    with pytest.raises(InterpError, match="partial results of another run: its pipeline is 'en_pipeline"):
        amplify(rules(fox="VERB"))


def test_an_object_that_gives_every_word_the_same_tag_is_refused_everywhere(make_model):
    model, blank = make_model(), spacy.blank("en")
    asked = (
        lambda pipeline: interp.amplification(model, TEXTS, "pos", pipeline=pipeline, **LITTLE),
        lambda pipeline: held_out_loss(model, TEXTS, ["pos"], pipeline=pipeline),
        lambda pipeline: interp.read_sentence(model, "A fox.", ["pos"], pipeline=pipeline),
        lambda pipeline: interp.explore(model, schemes=["pos"], pipeline=pipeline),
    )
    for pipeline, named in ((blank, "en_pipeline 0.0.0"), ("blank:en", "blank:en")):
        for ask in asked:
            with pytest.raises(InterpError, match=rf"'pos' needs a pipeline with one of tagger.*{named}.* has none"):
                ask(pipeline)


def test_rulers_of_any_name_give_the_scheme_of_entities_its_classes(make_model):
    nlp = spacy.blank("en")
    nlp.add_pipe("entity_ruler", name="animals").add_patterns([{"label": "ANIMAL", "pattern": "fox"}])
    found = interp.read_sentence(make_model(), "The fox sleeps.", ["ent"], pipeline=nlp).tokens["ent"]
    assert list(found.cat.categories) == ["bos", "ANIMAL", "none", "SPACE"] and "ANIMAL" in set(found)


@pytest.mark.parametrize("wrong", [5, None, ["en_core_web_sm"], spacy], ids=["number", "None", "list", "module"])
def test_what_is_no_pipeline_is_refused(make_model, wrong):
    with pytest.raises(InterpError, match="expected the name of a spaCy pipeline, or an nlp object"):
        interp.amplification(make_model(), TEXTS, "pos", pipeline=wrong, **LITTLE)


def test_a_folder_may_be_given_as_a_path(make_model, tmp_path):
    rules(fox="NOUN").to_disk(tmp_path / "mine")
    kept = interp.read_sentence(make_model(), "A fox.", ["pos"], pipeline=tmp_path / "mine").tokens["pos"]
    assert "NOUN" in set(kept)
    by_worker = interp.amplification(make_model(), TEXTS, "pos", pipeline=tmp_path / "mine", workers=1, **LITTLE)
    assert by_worker.run["pipeline"] == str(tmp_path / "mine")


def test_a_sentence_tagged_by_an_object_keeps_nothing(make_model, tmp_path, monkeypatch):
    monkeypatch.setenv("INTERP_CACHE", str(tmp_path))
    model, nlp = make_model(), rules(fox="NOUN")
    tag_sentence(OwnReader(model), "A fox.", build_schemes(["pos"], model.tokenizer, open_corpus(["a"]), nlp), nlp)
    assert list(tmp_path.iterdir()) == []


@Language.component("failing")
def failing(document):
    raise KeyError("what it needs")


def test_a_component_that_fails_is_told_in_a_sentence(make_model):
    nlp = own()
    nlp.add_pipe("failing")
    with pytest.raises(
        InterpError, match=r"'en_pipeline .*' failed on a text \(ValueError: .*'failing' could not be run"
    ):
        interp.read_sentence(make_model(), "A fox.", ["pos"], pipeline=nlp)
