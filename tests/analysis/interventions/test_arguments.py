"""Places, and arguments that make no sense."""

import pytest

from interp.analysis.interventions.measure import intervene
from interp.analysis.interventions.plan import Place, places
from interp.analysis.settings import InterventionSettings
from interp.errors import InterpError


def test_words_name_places_once_each_and_wrong_ones_are_told():
    assert places("all, layers", 2, 3) == [Place("all"), Place("L0", 0), Place("L1", 1)]
    assert places(["L1H2", "heads", "l1"], 2, 3) == [
        Place("L1H2", 1, 2), *(Place(f"L{x}H{y}", x, y) for x in range(2) for y in range(3) if (x, y) != (1, 2)),
        Place("L1", 1),
    ]  # fmt: skip
    for word, message in (
        ("L2", "no L2"),
        ("L1H3", "layers 0 to 1 with heads 0 to 2"),
        ("layer", "'layer'"),
        ("", "No place"),
    ):
        with pytest.raises(InterpError, match=message):
            places(word, 2, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scales": ()}, "The scales are"),
        ({"scales": (float("nan"),)}, "The scales are"),
        ({"random_directions": -1}, "random_directions is -1"),
        ({"where": "L9"}, "There is no L9"),
    ],
)
def test_what_makes_no_sense_is_refused(make_model, corpus, arguments, message):
    scheme, documents = corpus
    with pytest.raises(InterpError, match=message):
        intervene(make_model(), documents, [scheme], InterventionSettings(**arguments))


def test_an_empty_corpus_and_a_scheme_that_takes_the_name_of_all_tokens_are_refused(
    make_model, make_documents, make_scheme
):
    model = make_model()
    with pytest.raises(InterpError, match="no document"):
        intervene(model, [], [make_scheme("s", 2)])
    scheme = make_scheme("overall", 2)
    with pytest.raises(InterpError, match="'overall', which stands for all tokens"):
        intervene(model, make_documents([scheme], 60, [20]), [scheme])
