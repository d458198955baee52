"""A few hundred mutations of every kind of file; `make fuzz` tries thousands."""

import pytest

from tests.fuzz.outcomes import outcomes, table
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("target", TARGETS)
def test_damaged_files_give_equal_numbers_or_one_sentence(unchecked, target):
    found = list(outcomes(60, only=target))
    assert [one for one in found if one[3][0] == "!"] == []
    assert table(found)[target, "refused"] > 10, "these mutations damage nothing, which proves nothing"
