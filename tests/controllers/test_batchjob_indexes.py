"""Sets of indexes as text, held as intervals."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raycp.controllers.batchjob.indexes import IndexSet, problem_of

SETS = st.sets(st.integers(0, 60))


@given(SETS, SETS)
def test_a_set_of_indexes_behaves_as_the_set_that_it_shows(one: set[int], other: set[int]) -> None:
    made = IndexSet(one)
    assert IndexSet.read(str(made), 61) == made
    assert (len(made), list(made)) == (len(one), sorted(one))
    assert [index in made for index in range(62)] == [index in one for index in range(62)]
    assert list(made.missing(50)) == [index for index in range(50) if index not in one]
    assert set(made.below(30)) == {index for index in one if index < 30}
    assert made.common(IndexSet(other)) == len(one & other)
    assert made.union(IndexSet(other)) == IndexSet(one | other)
    for index in sorted(other, reverse=True):
        made.add(index)
    assert made == IndexSet(one | other)


def test_the_notation_is_that_of_the_api_reference() -> None:
    assert str(IndexSet([1, 3, 4, 5, 7])) == "1,3-5,7"
    assert str(IndexSet([0, 1, 3])) == "0,1,3", "two in a row are no interval"


def test_thousands_of_millions_cost_nothing() -> None:
    made = IndexSet.read("0-3000000000", 2**31 - 1)
    assert len(made) == 2**31 - 1
    assert next(made.missing(2**31), None) == 2**31 - 1
    assert made.common(IndexSet([5, 7])) == 2


@pytest.mark.parametrize(
    ("text", "left"),
    [("abc", ""), ("0-2,zero,4", "0-2,4"), ("5-1", ""), ("3,1-2,2", "1-3"), ("-4", ""), ("7-20", "7-9"), ("99", ""), (" 1 ", "1")],
)
def test_a_damaged_text_says_what_can_be_read_of_it(text: str, left: str) -> None:
    assert str(IndexSet.read(text, 10)) == left


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", ""),
        ("0-2,4", ""),
        ("zero", "cannot convert"),
        ("5-1", "non-increasing"),
        ("5-5", "non-increasing"),
        ("1,1", "non-increasing"),
        ("0-6000000", "too large index"),
        ("1-2-3", "at most two parts"),
        ("1,,2", "cannot convert"),
    ],
)
def test_what_a_user_may_write(text: str, problem: str) -> None:
    found = problem_of(text, 10)
    assert (problem in found) if problem else not found
