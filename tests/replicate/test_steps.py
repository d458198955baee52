"""The summary of an amplification result against sums over its rows, one by one."""

import numpy as np
import pytest

import interp
from interp.data.corpora.corpus import open_corpus
from interp.replicate.steps import beginnings_of, rms_replicates, summary

FREQUENT = ["freq 1 (most frequent)", "freq 2", "freq 3", "freq 4", "freq 5"]


@pytest.fixture(scope="module")
def result():
    return interp.amplification(
        "tiny-bq", schemes=("pos", "function", "freq"), max_tokens=6_000, nulls=0, workers=0, passages=1, replicates=10
    )


@pytest.mark.slow
def test_amplification_is_the_root_mean_square_over_heads_and_frequent_classes(result):
    rows = [r for r in result.heads.itertuples() if r.scheme == "pos" and r.token_class != "bos" and r.n_tokens >= 100]
    assert len(rows) > 100
    expected = np.sqrt(sum(r.log2_amplification**2 for r in rows) / len(rows))
    assert summary(result)["rms_amplification"] == pytest.approx(expected)


def test_parts_and_controls_are_those_of_the_tables(result):
    heads, found = result.heads, summary(result)
    rows = heads[(heads["scheme"] == "pos") & (heads["token_class"] != "bos") & (heads["n_tokens"] >= 100)]
    for name, column in (("rms_position", "log2_amplification_position"), ("rms_beyond", "log2_amplification_beyond")):
        assert found[name] == pytest.approx(np.sqrt(np.mean(rows[column] ** 2)))
    assert found["singled_out"] == pytest.approx((rows["class_beyond_q"] < 0.05).mean())
    explained = result.tables["explained"].query("scheme == 'pos'")
    for name in ("key_spread", "eta2_position", "eta2_type", "eta2_class"):
        assert found[name] == pytest.approx(np.median(explained[name]))
    assert 0 < found["rms_shifted"] < found["rms_amplification"]


def test_replicates_are_those_of_the_root_mean_square_and_spread_as_widely_as_documents_tell(result):
    found = rms_replicates(result)
    heads = result.heads
    rows = heads[(heads["scheme"] == "pos") & (heads["token_class"] != "bos") & (heads["n_tokens"] >= 100)]
    for name, table in (("rms_amplification", "replicates"), ("rms_beyond", "replicates_beyond")):
        values = result.tables[table].loc[rows.index, [str(n) for n in range(10)]].astype(float)
        np.testing.assert_allclose(found[name], np.sqrt((values**2).mean()), rtol=1e-5)


def test_function_words_are_averaged_over_all_heads(result):
    values = [r.log2_amplification for r in result.heads.itertuples() if (r.scheme, r.token_class) == ("function",) * 2]
    assert len(values) == 24
    assert summary(result)["amplification_function"] == pytest.approx(sum(values) / 24)


def test_the_amplification_of_several_classes_is_that_of_their_joint_share(result):
    values = []
    for layer in range(4):
        for head in range(6):
            rows = [
                r for r in result.heads.itertuples()
                if (r.layer, r.head, r.scheme) == (layer, head, "freq") and r.token_class in FREQUENT
            ]  # fmt: skip
            assert len(rows) == 5
            values.append(np.log2(sum(r.share for r in rows) / sum(r.share_unbiased for r in rows)))
    assert summary(result)["amplification_frequent"] == pytest.approx(np.mean(values))


@pytest.mark.parametrize(
    ("name", "scheme", "members"), [("function", "function", ["function"]), ("frequent", "freq", FREQUENT)]
)
def test_enrichment_counts_the_most_aligned_tokens_of_every_head(result, name, scheme, members):
    odds = []
    for _, rows in result.tokens[result.tokens["function"] != "bos"].groupby(["layer", "head"]):
        pool = rows[rows["count"] >= 10]
        top = pool.nlargest(min(50, len(pool) // 2), "alignment")
        rest = pool.drop(top.index)
        a, c = (own[scheme].isin(members).sum() + 0.5 for own in (top, rest))
        b, d = ((~own[scheme].isin(members)).sum() + 0.5 for own in (top, rest))
        odds.append(np.log2(a * d / (b * c)))
    assert np.ptp(odds) > 1
    assert summary(result)[f"enrichment_{name}"] == pytest.approx(np.median(odds))


def test_every_document_is_read_from_its_beginning_however_long_it_is(tokenizer):
    texts = ["one two three four five six seven eight", "nine.", "ten eleven twelve thirteen fourteen"]
    read = beginnings_of(open_corpus(texts), tokenizer, 100)
    whole = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    assert max(map(len, whole)) > 5
    for _ in range(2):  # it is read more than once
        assert [tokenizer(each.text, add_special_tokens=False)["input_ids"] for each in read] == [t[:5] for t in whole]
