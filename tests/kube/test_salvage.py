"""One object that cannot be read spoils neither its list nor its watch."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raycp.base.objects import Meta
from raycp.kube import BadAnswer, UnreadableObject, salvage
from raycp.kube.codec import (
    decode_object,
    decode_objects,
    decode_watch_lines,
    split_damaged_list,
    split_list,
)

NEST = b"[" * 1_100 + b"]" * 1_100
META = b'{"name":"deep","namespace":"ns","uid":"u1","resourceVersion":"7"}'
DEEP = b'{"metadata":' + META + b',"data":' + NEST + b"}"
BAD = {
    "nested too deeply": DEEP,
    "nested 10 000 levels": b'{"spec":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b',"metadata":' + META + b"}",
    "nan": b'{"metadata":' + META + b',"x":NaN}',
    "labels of the wrong type": b'{"metadata":' + META[:-1] + b',"labels":{"a":1}}}',
    "labels that are no text": b'{"metadata":' + META[:-1] + b',"labels":{"a":"\xff"}}}',
    "no json at all in it": b'{"metadata":' + META + b',"x":oops}',
}


def good(name: str) -> bytes:
    return json.dumps({"metadata": {"name": name, "namespace": "ns", "uid": name, "resourceVersion": "8"}}).encode()


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_an_unreadable_object_is_known_by_its_name(bad: bytes) -> None:
    with pytest.raises(UnreadableObject, match="ns/deep") as caught:
        decode_object(bad)
    assert caught.value.meta == Meta("deep", "ns", "u1", "7")


NAMELESS = [b"5", b"[]", b"", b'"x"', b"{}", b'{"metadata":{"name":7}}', b'{"metadata":"x"}', b'{"metadata":{"na']


@pytest.mark.parametrize("bad", NAMELESS)
def test_an_object_without_a_readable_name_is_unreadable_all_the_same(bad: bytes) -> None:
    with pytest.raises(UnreadableObject, match="without a readable name") as caught:
        decode_object(bad)
    assert caught.value.meta is None


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_the_others_of_its_list_are_read(bad: bytes) -> None:
    head = b'{"kind":"ConfigMapList","apiVersion":"v1","metadata":{"resourceVersion":"9"},"items":['
    body = head + b",".join((good("a"), bad, good("b"))) + b"]}"
    try:
        meta, items, kind = split_list(body)
    except BadAnswer:
        meta, items, kind = split_damaged_list(body)
    assert meta.rv == 9
    assert items[1] == bad
    objs, unreadable = decode_objects(items, kind)
    assert [obj.meta.name for obj in objs] == ["a", "b"]
    assert json.loads(objs[0].raw)["kind"] == "ConfigMap"
    assert [error.meta.name for error in unreadable if error.meta is not None] == ["deep"]


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_the_others_of_its_watch_are_read(bad: bytes) -> None:
    def line(kind: str, obj: bytes) -> bytes:
        return b'{"type":"%b","object":%b}' % (kind.encode(), obj)

    lines = [line("ADDED", good("a")), line("MODIFIED", bad), line("DELETED", bad), line("ADDED", good("b"))]
    found = decode_watch_lines(lines)
    assert found.failure is None
    assert [(kind, obj.meta.name) for kind, obj in found.changes] == [("ADDED", "a"), ("DELETED", "deep"), ("ADDED", "b")]
    assert [error.meta.name for error in found.unreadable if error.meta is not None] == ["deep"]
    gone = found.changes[1][1]
    assert (gone.meta.uid, gone.rv, json.loads(gone.raw)["metadata"]["name"]) == ("u1", 7, "deep")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"<html>",
        b'{"metadata":{"resourceVersion":"9"}}',
        b'{"items":[]}',
        b'{"metadata":{},"items":[]}',
        b'{"metadata":{"resourceVersion":"9"},"items":{}}',
        b'{"metadata":{"resourceVersion":"9"},"items":[{"metadata":{"name":"a"}}',
        b'{"metadata":{"resourceVersion":"9"},"items":[]} {}',
        b'{"kind":"Status","status":"Success","metadata":{}}',
    ],
)
def test_what_is_no_list_is_an_error_and_never_an_empty_list(body: bytes) -> None:
    """An empty list would delete the whole cache."""
    with pytest.raises(BadAnswer):
        split_list(body)
    with pytest.raises(BadAnswer):
        split_damaged_list(body)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(['"', "\\", '\\"', "{", "]", ",", ":"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(max_size=6), values, max_size=5), st.booleans())
def test_members_are_those_of_the_object(whole: dict[str, Any], spaced: bool) -> None:
    raw = json.dumps(whole, separators=None if spaced else (",", ":"), indent=1 if spaced else None).encode()
    found = salvage.members(raw)
    assert found is not None
    assert {name: json.loads(text) for name, text in found.items()} == whole
    for cut in range(1, len(raw)):
        assert salvage.members(raw[:cut]) is None, "a part of it is no object"


@given(st.lists(values, max_size=6))
def test_elements_are_those_of_the_array(whole: list[Any]) -> None:
    found = salvage.elements(json.dumps(whole).encode())
    assert found is not None
    assert [json.loads(text) for text in found] == whole


@given(st.binary(max_size=60))
def test_no_bytes_raise(raw: bytes) -> None:
    salvage.members(raw)
    salvage.elements(raw)
    salvage.metadata(raw)
    with pytest.raises(UnreadableObject):
        decode_object(b"[" + raw)


def test_a_text_that_breaks_off_in_a_string_with_many_quotes_takes_linear_time() -> None:
    """Each escaped quote could be taken for the begin of another string."""
    raw = b'{"a":"' + b'\\"' * 400_000
    begun = time.process_time()
    assert salvage.members(raw) is None
    assert time.process_time() - begun < 5.0
