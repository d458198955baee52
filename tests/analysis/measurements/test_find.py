"""What heads do to one token."""

import numpy as np
import pytest

from interp.analysis.run import measure
from interp.analysis.settings import Settings
from interp.errors import InterpError
from tests.analysis.reference import observe, rows_of


@pytest.fixture(scope="module")
def case(make_model, make_documents, make_scheme):
    model, scheme = make_model(), make_scheme("s", 3)
    documents = make_documents([scheme], 40, [50, 64, 33])
    result = measure(model, documents, [scheme], Settings(nulls=0, shifts=0, replicates=2, passages=0, fit_tokens=0))
    return model, documents, result


def test_heads_are_sorted_by_what_they_do_to_the_token(case):
    model, documents, result = case
    token = int(result.tokens["token_index"].iloc[7])
    rows, _ = rows_of(documents, model.cfg.n_ctx, "s")
    tokens, expected = np.concatenate([row.numpy() for row in rows]), {}
    for layer in range(2):
        for head in range(3):
            scores = np.concatenate([seen[2] for seen in observe(model.double(), rows, layer, head)])
            expected[layer, head] = scores[tokens == token].mean() - scores.mean()
    model.float()
    found = result.find(token)
    assert list(zip(found["layer"], found["head"], strict=True)) == sorted(expected, key=lambda head: -expected[head])
    np.testing.assert_allclose(found["bias_score_contrast"], sorted(expected.values(), reverse=True), atol=1e-5)
    assert set(found["count"]) == {(tokens == token).sum()}
    assert {"ci_low", "ci_high", "token_string", "s"} <= set(found)


def test_a_token_is_found_by_its_text_and_by_its_index(case):
    _, _, result = case
    row = result.tokens.iloc[3]
    by_text = result.find(str(row["token_string"]))
    assert set(by_text["token_string"]) == {row["token_string"]} and len(by_text) % 6 == 0
    assert len(result.find(int(row["token_index"]))) == 6


def test_a_token_that_does_not_occur_is_named_with_the_nearest_that_does(case):
    _, _, result = case
    renamed = result.tokens.assign(token_string=[f" word{index}" for index in result.tokens["token_index"]])
    result.tokens["token_string"] = renamed["token_string"]
    index = renamed["token_index"].iloc[0]
    for asked, hint in (
        (f"word{index}", f"did you mean ' word{index}'?"),
        (" wrd", "did you mean ' word"),
        (10**6, "do, with"),
    ):
        with pytest.raises(InterpError, match=r"does not occur in the text; [0-9]+ tokens do") as refused:
            result.find(asked)
        assert hint in str(refused.value)
