import pytest

from interp.analysis.readers import own
from tests.analysis.interventions.observed import LENGTHS


@pytest.fixture(scope="module")
def corpus(make_documents, make_scheme):
    scheme = make_scheme("s", 3)
    return scheme, make_documents([scheme], 60, LENGTHS)


@pytest.fixture(autouse=True)
def vocabulary_in_blocks(monkeypatch):
    """The few tokens of these models' vocabularies are read in several blocks, the last of them smaller."""
    monkeypatch.setattr(own, "BLOCK", 23)
