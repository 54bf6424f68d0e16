"""Names that must not come back."""

from hypothesis import given
from hypothesis import strategies as st

from raycp.base.gone import Gone


@given(st.lists(st.sampled_from("abcdefgh")), st.integers(1, 5))
def test_the_newest_are_kept_in_the_order_of_their_last_coming(names: list[str], size: int) -> None:
    gone = Gone(size=size)
    for name in names:
        gone.add(name)
    last = [name for place, name in enumerate(names) if name not in names[place + 1 :]]
    assert list(gone) == last[-size:]
    assert all((name in gone) == (name in last[-size:]) for name in "abcdefgh")
    assert list(Gone(gone, size)) == list(gone), "as after a restart"
