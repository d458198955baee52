import pytest

from tests.analysis.interventions.observed import LENGTHS


@pytest.fixture(scope="module")
def corpus(make_documents, make_scheme):
    scheme = make_scheme("s", 3)
    return scheme, make_documents([scheme], 60, LENGTHS)
