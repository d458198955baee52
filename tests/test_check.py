"""The checker under all tests finds what it should, in what goes in, what comes out, and functions inside functions."""

import pytest
import torch
from jaxtyping import Float, TypeCheckError, jaxtyped
from torch import Tensor

from tests import check

checked = jaxtyped(typechecker=check)
ONE, OTHER = torch.zeros(2, 3), torch.zeros(3, 2)


@checked
def second(first: Float[Tensor, "a b"], returned, scale: float = 1.0) -> Float[Tensor, "b a"]:
    return returned


def test_axes_of_what_is_returned_are_those_of_the_arguments():
    assert second(ONE, OTHER, 2) is OTHER  # an int stands for a float
    for arguments in (
        (ONE, ONE),
        (ONE, OTHER[:2]),
        (ONE, OTHER.int()),
        (ONE, None),
        (ONE[0], OTHER),
        (ONE, OTHER, "2"),
    ):
        with pytest.raises(TypeCheckError):
            second(*arguments)


@checked
def nothing(returned) -> None:
    return returned


def test_what_is_returned_is_checked_where_no_argument_is():
    assert nothing(None) is None
    with pytest.raises(TypeCheckError, match="return value"):
        nothing(1)


def inner(hint, returned, hint_returned):
    @checked
    def function(argument: hint, *more: int, last: int = 0) -> hint_returned:
        return returned

    return function


def test_functions_inside_functions_keep_their_own_checks_and_values():
    """They have the same name and differ in what they are annotated with, or only in what they return."""
    for _ in range(2):  # compiled, then found again
        one, two = inner(Float[Tensor, "a b"], ONE, Float[Tensor, "a b"]), inner(Float[Tensor, "a"], OTHER, Tensor)
        assert one(ONE, 1) is ONE and two(ONE[0], last=2) is OTHER
        for function, arguments in ((one, (ONE[0],)), (one, (OTHER,)), (two, (ONE,)), (one, (ONE, "1"))):
            with pytest.raises(TypeCheckError):
                function(*arguments)
        assert inner(Float[Tensor, "a b"], OTHER, Float[Tensor, "a b"])(OTHER) is OTHER
        with pytest.raises(TypeCheckError, match="return value"):
            inner(Float[Tensor, "a b"], OTHER, Float[Tensor, "a b"])(ONE)
