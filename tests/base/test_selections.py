"""Keys that are not one object's are told from those that are, whatever the objects are called."""

from hypothesis import given
from hypothesis import strategies as st

from raycp.base.keys import RequestKey
from raycp.base.selections import Selection, every, mapping, naming, selection_of

# Kubernetes: a path segment is neither "." nor "..", and has no "/" and no "%".
names = st.text(st.characters(exclude_characters="/%"), min_size=1, max_size=20).filter(lambda name: name not in (".", ".."))
numbers = st.integers(0, 10_000)


@given(names, names, names)
def test_no_object_is_a_selection(cluster: str, namespace: str, name: str) -> None:
    assert selection_of(RequestKey("c", cluster, namespace, name)) is None


@given(numbers, names, names)
def test_a_selection_says_what_it_was_made_of(number: int, namespace: str, name: str) -> None:
    assert selection_of(naming("c", "x", number, namespace, name)) == Selection("naming", number, name)
    assert selection_of(mapping("c", "x", number, namespace, name)) == Selection("mapping", number, name)
    assert selection_of(every("c", "x", namespace)) == Selection("every")
    assert naming("c", "x", number, namespace, name) != mapping("c", "x", number, namespace, name)
