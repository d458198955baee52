"""Figures of a sentence read twice, and its coloured text: checked by their data."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
import pytest

from interp.analysis.sentences import read_sentence
from interp.errors import InterpError
from interp.report.explorer.figures import attention_received, coloured_text, loss_per_token, next_token

HOSTILE = "<b>x</b> </script><script>alert(1)</script> \"q\" &lt; 'y' \n\t 😀"


class Parsed(HTMLParser):
    """The tags and attributes of a page, and its text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def sentence(make_model):
    return read_sentence(make_model(n_ctx=200), HOSTILE, ["surface"], scale=0, where="L0")


def test_attention_is_drawn_for_every_token_in_both_readings_and_without_the_own_bias(sentence):
    rows = sentence.of_head(1, 2)
    for first_token, start in ((True, 0), (False, 1)):
        unchanged, scaled, unbiased, _ = attention_received(rows, "L1H2", first_token=first_token).data
        np.testing.assert_array_equal(unchanged.y, rows["attention_unchanged"][start:])
        np.testing.assert_array_equal(scaled.y, rows["attention"][start:])
        np.testing.assert_array_equal(unbiased.y, rows["attention_unbiased"][start:])


def test_every_query_gives_1_so_n_queries_are_those_that_the_means_are_over(sentence):
    rows = sentence.of_head(1, 2)
    for name in ("attention_unchanged", "attention", "attention_unbiased"):
        assert (rows[name] * rows["n_queries"]).sum() == pytest.approx(len(rows))
    assert rows["n_queries"].tolist()[-2:] == [2, 1]


def test_bars_of_tokens_that_fewer_than_five_see_are_hollow_and_do_not_set_the_axis(sentence):
    rows = sentence.of_head(1, 2)
    rows.loc[rows.index[-1], "attention"] = 0.9
    figure = attention_received(rows, "L1H2")
    for bars in figure.data[:2]:
        assert [colour == "rgba(0,0,0,0)" for colour in bars.marker.color] == [False] * (len(rows) - 5) + [True] * 4
    seen = rows.iloc[1:-4]
    top = seen[["attention_unchanged", "attention", "attention_unbiased"]].to_numpy().max()
    assert top < figure.layout.yaxis.range[1] < 1.1 * top < 0.9
    assert figure.data[3].name == "hollow: mean over fewer than 5 queries, cut off"
    assert figure.data[0].customdata[-1].endswith(", mean over 1")
    few = attention_received(rows.iloc[[0, -2, -1]], "L1H2")  # nothing else is there to see
    assert few.layout.yaxis.range is None and "cut" not in few.data[3].name


def test_the_title_of_the_losses_says_both_means(sentence):
    figure = loss_per_token(sentence.tokens, scaled="bias × 0")
    np.testing.assert_array_equal(figure.data[1].y, sentence.tokens["loss"][1:])
    after, before = sentence.loss()
    assert f"{before:.2f} → {after:.2f}" in figure.layout.title.text
    assert [bars.name for bars in figure.data] == ["as trained", "bias × 0"]


def test_the_most_probable_next_token_is_drawn_on_top(sentence):
    figure = next_token(sentence.predictions, 3)
    rows = sentence.predictions.query("place == 3")
    top = figure.data[1]
    assert top.name == "as trained" and top.x[-1] == rows["probability_unchanged"].max()
    assert len(top.x) == len(rows)


def test_marked_tokens_are_bold_and_no_other_markup_reaches_a_label(sentence):
    figure = attention_received(sentence.of_head(0, 0), "<i>", marked=[2])
    labels = figure.layout.xaxis.ticktext
    assert labels[1].startswith("<b>") and labels[1].endswith("</b>")
    plain = [*labels[:1], *labels[2:], *figure.data[0].customdata, figure.layout.title.text]
    assert not any("<" in text for text in plain)
    assert "&lt;" in "".join(plain)


def test_hostile_tokens_are_text_in_the_coloured_text_and_nothing_else(sentence):
    page = Parsed(coloured_text(sentence.of_head(0, 0), "surface", "punctuation"))
    assert set(page.tags) == {"div", "span"}
    assert {name for name, _ in page.attributes} == {"style", "title"}
    seen = page.text.replace("↵", "\n").replace("⇥", "\t")
    tokens = list(sentence.tokens["token_string"])
    assert "<0xF0>" in tokens and all(token in seen for token in tokens)
    titles = [value for name, value in page.attributes if name == "title"]
    assert len(titles) == len(sentence.tokens)
    assert any(title.startswith('"') or title.startswith(' "') for title in titles)


def test_colours_follow_the_bias_score_and_one_limit_serves_all_heads(sentence):
    rows = sentence.of_head(0, 1)
    places = np.argsort(rows["bias_score_contrast"].to_numpy())
    wide, narrow = (_backgrounds(coloured_text(rows, "surface", limit=limit)) for limit in (100.0, 1e-6))
    red = [int(colour[4:-1].split(",")[0]) - int(colour[4:-1].split(",")[2]) for colour in narrow]
    assert red[places[0]] < 0 < red[places[-1]]
    assert wide != narrow


def _backgrounds(page):
    styles = [value for name, value in Parsed(page).attributes if name == "style" and "background:rgb" in value]
    return [style.split("background:")[1].split(";")[0] for style in styles]


def test_tables_of_another_kind_are_refused(sentence):
    with pytest.raises(InterpError, match="lacks the column"):
        attention_received(sentence.tokens, "L0H0")
    with pytest.raises(InterpError, match="There is no place 9999"):
        next_token(sentence.predictions, 9999)
