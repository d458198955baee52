"""Schemes from files and functions: what is found, what is refused, and what is kept."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.data.classes.built_in import build_schemes
from interp.data.classes.scheme import SpanPatterns, TokenPatterns, Words, align
from interp.data.classes.spans import Rule, span_schemes, token_classes
from interp.data.corpora.corpus import open_corpus
from interp.data.tagging.documents import tag_documents
from interp.data.tagging.pool import TagCache
from interp.errors import InterpError
from tests.data.classes.own import members

BLANK = "blank:en"
TEXT = "The old New York team walked on, talking of new yorkers in new york."


def tagged(tokenizer, schemes, text=TEXT, **options):
    corpus = open_corpus([text])
    built = build_schemes(schemes, tokenizer, corpus, BLANK)
    (document,) = tag_documents(tokenizer, corpus, built, BLANK, **{"workers": 0, "cache": None, **options})
    return document, {scheme.name: scheme for scheme in built}


def write(tmp_path, text):
    path = tmp_path / "my.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


OVERLAPPING = """
place:
  {overlaps}
  classes:
    city: {{phrases: [New York]}}
    new: {{words: [new]}}
    suffix: {{regex: ["(?<=walk)ed|(?<=talk)ing"]}}
"""


def test_overlapping_classes_are_each_measured_against_the_rest(tmp_path, tokenizer):
    document, schemes = tagged(tokenizer, [write(tmp_path, OVERLAPPING.format(overlaps=""))])
    assert [s.classes for s in schemes.values()] == [("bos", c, "other") for c in ("city", "new", "suffix")]
    assert members(document, schemes["place/city"], "city") == "New York new york"
    assert members(document, schemes["place/new"], "new") == "New new new"
    both = (document.classes["place/city"] == 1) & (document.classes["place/new"] == 1)
    assert both.any(), "tokens of New are in two classes"


def test_without_overlaps_the_first_class_of_the_file_goes_before(tmp_path, tokenizer):
    document, schemes = tagged(tokenizer, [write(tmp_path, OVERLAPPING.format(overlaps="overlaps: false"))])
    assert schemes["place"].classes == ("bos", "city", "new", "suffix", "other")
    assert members(document, schemes["place"], "city") == "New York new york"
    assert members(document, schemes["place"], "new") == "new"


def test_case_counts_where_the_class_says_so(tmp_path, tokenizer):
    path = write(tmp_path, "s:\n  classes:\n    a: {phrases: [New York], words: [old, The], case_sensitive: true}\n")
    document, schemes = tagged(tokenizer, [path])
    assert members(document, schemes["s/a"], "a") == "The old New York"


def test_words_that_yaml_would_read_as_something_else_stay_words(tmp_path, tokenizer):
    path = write(tmp_path, "no:\n  classes:\n    1: {words: [no, 1905, null]}\n")
    document, schemes = tagged(tokenizer, [path], "no one said null in 1905, nobody")
    assert members(document, schemes["no/1"], "1") == "no null 1905"


REFUSED = [
    ("", "is empty"),
    ("- a\n", r"line 1: expected schemes by name, found a list"),
    ("a: [\n", r"is no YAML file of schemes .*line 2"),
    (
        "a:\n  klasses: {}\n",
        r"line 2: the scheme 'a' has no setting 'klasses', only classes, overlaps; did you mean 'classes'",
    ),
    ("a:\n  classes: {}\n", "line 2: the scheme 'a' has no classes"),
    (
        "a:\n  overlaps: maybe\n  classes: {b: {words: [x]}}\n",
        "line 2: 'overlaps' must be true or false, found 'maybe'",
    ),
    ("a:\n  classes:\n    b:\n      words: cat\n", "line 4: 'words' must be a list, found 'cat'"),
    ("a:\n  classes:\n    b:\n      words: [x, ]\n    b: {words: [y]}\n", "line 5: 'b' stands twice"),
    ("a:\n  classes:\n    b: {}\n", "line 3: the class 'b' is empty; give it matcher, phrases, regex or words"),
    ("a:\n  classes:\n    other: {words: [x]}\n", "line 3: no class can be named 'other'"),
    (
        "a:\n  classes:\n    b:\n      regex:\n        - x\n        - (y\n",
        r"line 6: the regular expression '\(y' of the class 'b'",
    ),
    (
        "a:\n  classes:\n    b:\n      phrases: [x,\n        [y]]\n",
        "line 5: expected a phrase of the class 'b', found a list",
    ),
    (
        "a:\n  classes:\n    b:\n      matcher:\n        - [{LOWER: x}]\n        - [{POSS: NOUN}]\n",
        r"line 6: pattern 2 of the class 'b', \[\{'POSS': 'NOUN'\}\], is no token pattern of spaCy's Matcher \(.*POSS",
    ),
    (
        "a:\n  classes:\n    b:\n      matcher:\n        - {LOWER: x}\n",
        "line 5: pattern 1 of the class 'b'.*list of dicts",
    ),
    ("a:\n  classes:\n    b:\n      matcher:\n        - [{TEXT: {REGEX: (}}]\n", "line 5: pattern 1 of the class 'b'"),
    ("a:\n  classes:\n    b:\n      matcher:\n        - []\n", "line 5: pattern 1 of the class 'b'"),
]


@pytest.mark.parametrize(("text", "sentence"), REFUSED)
def test_what_does_not_fit_is_refused_in_one_sentence_with_its_line(tmp_path, tokenizer, text, sentence):
    with pytest.raises(InterpError, match=sentence) as refusal:
        build_schemes([write(tmp_path, text)], tokenizer, open_corpus([TEXT]))
    assert "\n" not in str(refusal.value)
    assert "my.yaml" in str(refusal.value)


def test_a_missing_file_is_named(tmp_path, tokenizer):
    with pytest.raises(InterpError, match=r"Cannot read the scheme file .*none\.yaml: No such file"):
        build_schemes([str(tmp_path / "none.yaml")], tokenizer, open_corpus([TEXT]))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_pattern_that_the_pipeline_cannot_serve_says_what_is_missing(tmp_path, tokenizer, workers):
    path = write(tmp_path, "a:\n  classes:\n    b: {matcher: [[{POS: NOUN}]]}\n")
    with pytest.raises(InterpError, match=r"'a/b' cannot be searched for \(\[E155\].*POS"):
        tagged(tokenizer, [path], workers=workers)


def test_tags_are_found_alike_in_other_processes_and_kept_by_the_content_of_the_patterns(tmp_path, tokenizer):
    cache = tmp_path / "kept"
    first = write(tmp_path, "a:\n  classes:\n    b: {phrases: [New York], words: [team]}\n")
    found = [tagged(tokenizer, [first], cache=cache, workers=w)[0].classes["a/b"] for w in (1, 0, 0)]
    assert all(np.array_equal(found[0], other) for other in found)
    assert len(list(cache.rglob("*.parquet"))) == 1
    changed = write(tmp_path, "a:\n  classes:\n    b: {phrases: [old New]}\n")
    document, schemes = tagged(tokenizer, [changed], cache=cache)
    assert members(document, schemes["a/b"], "b") == "old New"
    assert len(list(cache.rglob("*.parquet"))) == 2


def test_spans_come_back_from_the_cache_as_they_went_in(tmp_path):
    nothing = np.zeros(0, dtype=np.int64)
    codes, names = (
        dict.fromkeys(("pos", "tag", "dep", "ent"), nothing),
        dict.fromkeys(("pos", "tag", "dep", "ent"), ("x",)),
    )
    spans = {"a/é": np.array([[0, 3], [1, 2]]), "none": np.zeros((0, 2), dtype=np.int64)}
    cache = TagCache(tmp_path, BLANK, SpanPatterns({"a/é": TokenPatterns(phrases=("x",))}).digest())
    cache.write("text", Words(nothing, nothing, codes, names, spans))
    read = cache.read("text")
    assert read is not None
    assert list(read.spans) == list(spans)
    assert all(np.array_equal(read.spans[key], spans[key]) for key in spans)
    assert TagCache(tmp_path, BLANK).read("text") is None


def test_labels_for_tokens_and_for_stretches_of_text_give_the_same_classes(tokenizer):
    @token_classes("long", "short", name="by token")
    def by_token(document):
        return ["long" if len(token) > 4 else "short" if token.is_alpha else None for token in document]

    @token_classes("long", "short", name="by span")
    def by_span(document):
        named = zip(document, by_token(document), strict=True)
        return [(token.idx, token.idx + len(token), label) for token, label in named if label]

    document, schemes = tagged(tokenizer, [by_token, by_span], workers=1)  # which spaCy then does not use
    assert np.array_equal(document.classes["by token"], document.classes["by span"])
    assert members(document, schemes["by token"], "long") == "walked talking yorkers"


def test_overlapping_labels_of_a_function_are_schemes_of_their_own(tokenizer):
    @token_classes("all", "York", overlaps=True)
    def where(document):
        return [(0, len(document.text), "all"), (document.text.index("York"), document.text.index("York") + 4, "York")]

    document, schemes = tagged(tokenizer, [where])
    assert members(document, schemes["where/York"], "York") == "York"
    assert (document.classes["where/all"][1:] == 1).all()


def test_functions_find_their_places_in_later_pieces_of_a_long_text(tokenizer):
    @token_classes("end")
    def last(document):
        return [(token.idx, token.idx + len(token), "end") for token in document if token.text == "end"]

    document, schemes = tagged(tokenizer, [last], "a word. \n\n" * 2500 + "the end")
    assert members(document, schemes["last"], "end") == "end"


BAD_LABELS = [
    (lambda d: ["a"], r"gave 1 labels for 16 tokens"),
    (lambda d: [(0, 4)], r"gave \(0, 4\); expected \(start_char, end_char, label\)"),
    (lambda d: [(3, 3, "a")], "gave characters 3 to 3 of a text of 68"),
    (lambda d: [(0, 99, "a")], "gave characters 0 to 99 of a text of 68"),
    (lambda d: ["aa"] * len(d), "gave the label 'aa'; it announced a, b; did you mean 'a'"),
    (lambda d: [(0, 4, "a"), (3, 5, "b")], r"gave overlapping labels \(0, 4, 'a'\) and \(3, 5, 'b'\)"),
    (lambda d: 1 / 0, "failed on a text .ZeroDivisionError"),
]


@pytest.mark.parametrize(("function", "sentence"), BAD_LABELS)
def test_labels_that_are_none_are_refused(tokenizer, function, sentence):
    with pytest.raises(InterpError, match=f"The function 'mine' {sentence}"):
        tagged(tokenizer, [token_classes("a", "b", name="mine")(function)])


@pytest.mark.parametrize(
    ("classes", "sentence"), [((), "no class"), (("a", "a"), "'a', which is named twice"), (("bos",), "'bos'")]
)
def test_classes_that_cannot_be_are_refused(classes, sentence):
    with pytest.raises(InterpError, match=sentence):
        token_classes(*classes)


def test_a_function_that_announces_nothing_is_told_how(tokenizer, unchecked):
    with pytest.raises(
        InterpError, match=r"'members' does not say which classes it gives; write @interp\.token_classes"
    ):
        build_schemes([members], tokenizer, open_corpus([TEXT]))


@given(text=st.text(min_size=1, max_size=80).filter(str.strip), data=st.data())
@settings(deadline=None, max_examples=60)
def test_a_token_is_in_a_class_if_most_of_its_characters_are(tokenizer, text, data):
    """Against counting characters one by one, for any text and any spans."""
    document = next(iter(open_corpus([text])))
    place = st.integers(0, len(document.text))
    spans = [sorted(pair) for pair in data.draw(st.lists(st.tuples(place, place), max_size=5))]
    words = Words(*[np.zeros(0, dtype=np.int64)] * 2, {}, {}, {"key": np.array(spans, dtype=np.int64).reshape(-1, 2)})
    (scheme,) = span_schemes("s", [Rule("c", "key")], SpanPatterns(), True, "")
    runs = scheme.units(document.text, words)
    inside = np.array([any(start <= at < end for start, end in spans) for at in range(len(document.text))])
    assert np.array_equal(np.repeat(runs.codes["class"], runs.ends - runs.starts) == 1, inside)
    for start, end in data.draw(st.lists(st.tuples(place, place).map(sorted), max_size=8)):
        visible = [at for at in range(start, end) if not document.text[at].isspace()]
        own = range(visible[0] if visible else start, end)
        if not len(own):
            continue
        lengths = [len(set(own) & set(range(*run))) for run in zip(runs.starts, runs.ends, strict=True)]
        expected = int(runs.codes["class"][int(np.argmax(lengths))])
        assert _class(scheme, runs, document.text, start, end) == expected


def _class(scheme, runs, text, start, end):
    nearest = align(np.array([[start, end]]), text, runs.starts, runs.ends)
    return int(scheme.assign(np.zeros(1, dtype=np.int64), runs, nearest)[0])
