"""RecentNames: the newest names, in the order in which they were last added."""

from hypothesis import given
from hypothesis import strategies as st

from raycp.base.recent_names import RecentNames


@given(st.lists(st.sampled_from("abcdefgh")), st.integers(1, 5))
def test_recent_names_keep_the_newest_in_the_order_they_were_last_added(names: list[str], size: int) -> None:
    recent = RecentNames(size=size)
    for name in names:
        recent.add(name)
    last = [name for place, name in enumerate(names) if name not in names[place + 1 :]]
    assert list(recent) == last[-size:]
    assert all((name in recent) == (name in last[-size:]) for name in "abcdefgh")
    assert list(RecentNames(recent, size)) == list(recent), "as after a restart"
