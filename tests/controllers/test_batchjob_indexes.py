"""Sets of indexes as text."""

from hypothesis import given
from hypothesis import strategies as st

from raycp.controllers.batchjob import indexes


@given(st.sets(st.integers(0, 60)))
def test_a_set_of_indexes_parses_to_what_was_shown(found: set[int]) -> None:
    assert indexes.parse(indexes.show(found)) == found
