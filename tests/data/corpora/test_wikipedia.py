"""The Wikipedia sample is prose: markup is gone, what a reader sees is there."""

import re
import sys

import pytest

from interp.data.corpora import wikipedia
from interp.data.corpora.corpus import open_corpus
from interp.data.corpora.wikipedia import tidy, unwrap
from interp.errors import InterpError

LEFT_OVERS = [
    r"\[\[",
    r"\]\]",
    r"\{\{",
    r"'''",
    r"<ref",
    r"^==",
    r"^\*",
    r"File:",
    r"Category:",
    r"\(\)",
    r"__\w+__",
]


@pytest.mark.slow
def test_the_sample_is_about_a_hundred_clean_articles_and_the_second_reading_needs_no_parser(monkeypatch):
    corpus = open_corpus("wikipedia-sample")
    articles = list(corpus)
    monkeypatch.setattr(wikipedia, "_parse", None)
    assert list(corpus) == articles
    assert 90 <= len(articles) <= 110
    assert 2_000_000 < sum(len(article.text) for article in articles) < 3_500_000
    assert all(len(article.text) > wikipedia.SHORTEST_ARTICLE for article in articles)
    text = "\n".join(article.text for article in articles)
    assert [re.findall(pattern, text, re.MULTILINE) for pattern in LEFT_OVERS] == [[]] * len(LEFT_OVERS)
    assert "\n\n\n" not in text
    by_name = {article.name: article.text for article in articles}
    assert by_name["Anarchism"].startswith("Anarchism is a political philosophy that advocates")
    assert not any(article.text.lower().startswith("#redirect") for article in articles)


def test_without_gensim_the_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gensim.test.utils", None)
    with pytest.raises(InterpError, match=r"pip install 'interp\[samples\]'"):
        open_corpus("wikipedia-sample")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{convert|30|km|mi}} away", "30 km away"),
        ("{{convert|25|-|35|mm|in}}", "25 - 35 mm"),
        ("Greek {{lang|el|ἀρχή}}", "Greek ἀρχή"),
        ("a[[File:X.jpg|thumb|with a [[link]] in it]]b", "ab"),
        ("a{| class=x\n|-\n| {| inner |}\n|}b", "ab"),
        ("a<gallery>\nX.jpg|caption\n</gallery>b", "ab"),
    ],
)
def test_visible_templates_stay_and_pictures_and_tables_go(source, text):
    assert unwrap(source) == text


def test_left_over_markup_is_tidied():
    text = tidy(
        "'''Ada''' ( ; , ''adá'') is ()  a name .\n\n\n\n== Use ==\n* one\n** ''two''\n* \n"
        "==See also==\n* gone\n===Deeper===\ngone too\n==Style==\n__TOC__\nkept"
    )
    assert text == "Ada (adá) is a name.\n\nUse\n\none\ntwo\n\nStyle\n\nkept"
