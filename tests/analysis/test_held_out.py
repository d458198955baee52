"""What one half of the documents chooses is reported on the other."""

import numpy as np
import pandas as pd
import pytest

from interp.analysis.findings import findings, why_none
from interp.analysis.result import Amplification
from interp.analysis.run import measure
from interp.analysis.settings import Settings
from interp.errors import InterpError


@pytest.fixture
def corpus(make_documents, make_scheme):
    scheme = make_scheme("s", 3)
    return make_documents([scheme], 60, [60, 70, 50, 90, 80, 66, 75, 64, 71, 59]), scheme


ASKED = {"nulls": 0, "shifts": 9, "replicates": 30, "seed": 3}


def test_all_tables_are_of_the_half_that_did_not_choose(make_model, corpus):
    documents, scheme = corpus
    model = make_model()
    found = measure(model, documents, [scheme], Settings(**ASKED, held_out=True))
    others = [document for document in documents if document.index // 2 % 2]
    alone = measure(model, others, [scheme], Settings(**ASKED), sample=documents)
    assert found.run["n_documents"] == len(others) == 4
    assert found.run["n_tokens"] == sum(len(document.tokens) for document in others)
    for name in ("heads", "positions", "nulls"):
        pd.testing.assert_frame_equal(found.tables[name], alone.tables[name])


def planted(amplification, beyond, p, rows=200):
    """A table of heads whose pairs have these numbers."""
    return pd.DataFrame({
        "model": "m", "layer": 0, "head": np.arange(rows), "scheme": "s", "token_class": "c", "n_tokens": 500,
        "n_documents": 9, "share": 0.1, "share_unbiased": 0.1, "log2_amplification": amplification, "ci_low": amplification,
        "ci_high": amplification, "bias_score_mean": 0.0, "bias_score_contrast": 0.0, "hedges_g": 0.0, "auroc": 0.5,
        "auroc_error_bound": 0.0, "alignment": 0.0, "log2_amplification_position": 0.0,
        "log2_amplification_beyond": beyond, "beyond_ci_low": beyond - 0.2, "beyond_ci_high": beyond + 0.2,
        "beyond_shifted_p": p, "beyond_shifted_q": 1.0,
    })  # fmt: skip


def result_of(heads, chosen, **run):
    empty = pd.DataFrame()
    run = {"direction": "bias", "bias": "mean", "held_out": True, **run}
    return Amplification(heads, empty, empty, empty, empty, run, further={} if chosen is None else {"chosen": chosen})


def test_only_what_was_chosen_is_tested_and_corrected_for_its_number():
    heads = planted(np.full(200, 0.5), np.full(200, 0.5), np.full(200, 0.02))
    heads.loc[3, ["beyond_ci_low", "beyond_shifted_p"]] = -0.1, 0.5
    chosen = heads.iloc[[1, 2, 3]].assign(log2_amplification=0.9, log2_amplification_beyond=0.8)
    found = findings(result_of(heads, chosen))
    assert sorted(found["head"]) == [1, 2]
    np.testing.assert_allclose(found["beyond_shifted_q"], 0.03)  # 0.02 * 3 / 2, not 0.02 of 200
    assert (found["chosen_amplification"] == 0.9).all() and (found["log2_amplification"] == 0.5).all()


@pytest.mark.parametrize("chosen", [None, planted(0.5, 0.5, 0.01).iloc[:0]], ids=["not saved", "empty"])
def test_where_nothing_was_chosen_nothing_is_found(chosen):
    heads = planted(np.full(9, 0.5), np.full(9, 0.5), np.full(9, 0.001), 9).assign(beyond_shifted_q=0.001)
    result = result_of(heads, chosen)
    assert findings(result).empty
    assert "One half of the documents chose nothing" in why_none(result)
    assert len(findings(result_of(heads, None, held_out=False))) == 9


def test_what_is_chosen_for_being_large_shrinks_on_the_other_half_where_there_is_only_noise():
    """Noise alone: the half that chooses shows large numbers, the other finds almost nothing of them."""
    generator = np.random.default_rng(0)
    first, second = generator.normal(0, 0.1, (2, 2000))
    heads = planted(second, second, 1.0, 2000).assign(beyond_shifted_p=2 * (1 - _normal(np.abs(second) / 0.1)))
    chosen = planted(first, first, 0.0, 2000).loc[np.abs(first) > 0.2]
    found = findings(result_of(heads, chosen))
    assert np.abs(chosen["log2_amplification_beyond"]).min() > 0.2
    assert len(found) <= 0.05 * len(chosen)


def _normal(z):
    from scipy import stats

    return stats.norm.cdf(z)


def test_too_few_documents_for_two_halves_are_refused(make_model, corpus):
    documents, scheme = corpus
    with pytest.raises(InterpError, match="held_out needs at least 3 documents"):
        measure(make_model(), documents[:2], [scheme], Settings(**ASKED, held_out=True))
