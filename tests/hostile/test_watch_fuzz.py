"""Whatever the lines of a watch are made of: what could be read is decoded, and nothing is raised but what the reflector knows."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from raycp.kube import KubeError
from raycp.kube.codec import decode_watch_lines
from raycp.kube.errors import BadLine, UnreadableObject

META = {"name": "x", "namespace": "default", "uid": "u", "resourceVersion": "7", "labels": {"a": "b"}, "managedFields": []}
EVENT = json.dumps({"type": "MODIFIED", "object": {"apiVersion": "v1", "kind": "Pod", "metadata": META, "spec": {"n": 1}}}).encode()

SIGNS = [b'"', b"{", b"}", b"[", b"]", b"\\", b"null", b"\xff", b"\xed\xa0\x80", b"1e999", b":"]
pieces = st.binary(max_size=12) | st.sampled_from(SIGNS)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """An event of which some pieces are replaced."""
    line = EVENT
    for _ in range(draw(st.integers(1, 4))):
        begin = draw(st.integers(0, len(line)))
        end = draw(st.integers(begin, min(len(line), begin + 30)))
        line = line[:begin] + draw(pieces) + line[end:]
    return line


values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*META, "metadata", "spec"]), inner, max_size=4),
    max_leaves=10,
)
kinds = st.sampled_from(["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR", "OTHER"]) | st.text(max_size=5)
events = st.builds(lambda kind, obj: json.dumps({"type": kind, "object": obj}).encode(), kinds, values)


@given(st.lists(damaged() | events | st.binary(max_size=60) | st.just(EVENT), max_size=6))
def test_any_lines_of_a_watch(lines: list[bytes]) -> None:
    changes, unreadable, failure = decode_watch_lines([EVENT, *lines])
    assert changes[0][1].meta.name == "x"
    assert all(obj.meta.name or kind == "BOOKMARK" for kind, obj in changes), "an object without a name has no place in a cache"
    assert all(isinstance(each, UnreadableObject) for each in unreadable)
    assert failure is None or isinstance(failure, KubeError)
    taken = len(changes) + len(unreadable)
    assert taken == 1 + len(lines) if failure is None else taken <= len(lines)
    if isinstance(failure, BadLine):
        assert str(failure).isprintable()
