"""Bytes to ``Obj``, and the *version* that distinguishes users' changes from noise."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raycp.kube import ApiError, Status
from raycp.kube.codec import decode_object, decode_watch_line, decode_watch_lines, parse_time, split_list
from raycp.kube.errors import BadLine


def pod(**meta: Any) -> dict[str, Any]:
    fields = {"name": "p", "namespace": "default", "uid": "u1", "resourceVersion": "7", "generation": 1, **meta}
    return {"kind": "Pod", "apiVersion": "v1", "metadata": fields, "spec": {"a": 1}, "status": {"phase": "Pending"}}


def raw(obj: Any, *, spaced: bool = False) -> bytes:
    return json.dumps(obj, separators=None if spaced else (",", ":")).encode()


MANAGED = [
    {"manager": "kubectl", "operation": "Update", "time": "2026-01-01T00:00:05Z", "fieldsV1": {"f:spec": {}}},
    {"manager": "kubelet", "operation": "Update", "time": "2026-01-01T00:09:00Z", "subresource": "status"},
]


@pytest.mark.parametrize("spaced", [False, True])
@pytest.mark.parametrize("place", ["first", "last", "only", "middle"])
def test_managed_fields_are_cut_out_except_for_their_time(spaced: bool, place: str) -> None:
    meta = pod()["metadata"]
    managed = {"managedFields": MANAGED}
    items = list(meta.items())
    meta = {
        "first": {**managed, **meta},
        "last": {**meta, **managed},
        "only": {"resourceVersion": "7", **managed},
        "middle": {**dict(items[:2]), **managed, **dict(items[2:])},
    }[place]
    whole = {**pod(), "metadata": meta}
    found = decode_object(raw(whole, spaced=spaced))
    assert json.loads(found.raw) == {**whole, "metadata": {k: v for k, v in meta.items() if k != "managedFields"}}
    assert found.changed_at == parse_time("2026-01-01T00:00:05Z")  # the status write is not a user's change
    assert found.rv == 7


def test_managed_fields_of_a_template_are_kept() -> None:
    template = {"metadata": {"managedFields": [{"time": "x"}], "note": '"managedFields":['}}
    before = {"aTemplate": template, **pod(managedFields=MANAGED)}
    found = json.loads(decode_object(raw(before)).raw)
    assert found["aTemplate"] == template
    assert "managedFields" not in found["metadata"]


def test_the_time_of_a_status_write_counts_if_there_is_no_other() -> None:
    assert decode_object(raw(pod(managedFields=MANAGED[1:]))).changed_at == parse_time("2026-01-01T00:09:00Z")
    assert decode_object(raw(pod())).changed_at == 0.0


def test_the_version_changes_with_users_changes_only() -> None:
    base = decode_object(raw(pod())).version
    for noise in ({"resourceVersion": "8"}, {"managedFields": MANAGED}):
        assert decode_object(raw(pod(**noise))).version == base
    assert decode_object(raw({**pod(), "status": {"phase": "Running"}})).version == base
    for change in (
        {"generation": 2},
        {"labels": {"a": "b"}},
        {"annotations": {"a": "b"}},
        {"finalizers": ["x"]},
        {"deletionTimestamp": "2026-01-01T00:00:00Z"},
        {"uid": "u2"},
    ):
        assert decode_object(raw(pod(**change))).version != base


def test_the_version_of_a_kind_without_generation_covers_its_body() -> None:
    one = {"metadata": {"name": "c", "uid": "u", "resourceVersion": "1"}, "data": {"a": "1"}}
    base = decode_object(raw(one)).version
    assert decode_object(raw({**one, "kind": "ConfigMap", "apiVersion": "v1"})).version == base
    assert decode_object(raw({**one, "status": {"x": 1}})).version == base
    assert decode_object(raw({**one, "data": {"a": "2"}})).version != base
    assert decode_object(raw({**one, "binaryData": {"a": "2"}})).version != base


def test_items_of_a_typed_list_get_the_kind_of_the_list() -> None:
    item = {k: v for k, v in pod(managedFields=MANAGED).items() if k not in ("kind", "apiVersion")}
    whole = {
        "kind": "PodList",
        "apiVersion": "v1",
        "metadata": {"resourceVersion": "9", "continue": "t"},
        "items": [item],
    }
    meta, [found], head = split_list(raw(whole))
    assert (meta.rv, meta.continue_) == (9, "t")
    assert json.loads(decode_object(found, head=head).raw) == pod()
    empty, none, _ = split_list(raw({**whole, "items": None}))
    assert (empty.rv, none) == (9, [])


def test_a_watch_line_is_an_object_a_bookmark_or_a_status() -> None:
    kind, found = decode_watch_line(raw({"type": "ADDED", "object": pod()}))
    assert kind == "ADDED"
    assert json.loads(found.raw) == pod()  # type: ignore[union-attr]
    kind, found = decode_watch_line(raw({"type": "ERROR", "object": {"code": 410, "reason": "Expired"}}))
    assert isinstance(found, Status)
    assert found.to_error().expired
    kind, found = decode_watch_line(raw({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "12"}}}))
    assert found.rv == 12  # type: ignore[union-attr]


def test_lines_before_one_that_ends_the_watch_are_decoded() -> None:
    added = raw({"type": "ADDED", "object": pod()})
    changes, unreadable, failure = decode_watch_lines([added, added])
    assert not unreadable
    assert ([kind for kind, _ in changes], failure) == (["ADDED", "ADDED"], None)
    changes, _, failure = decode_watch_lines([added, raw({"type": "ERROR", "object": {"code": 410}}), added], "watch pods")
    assert len(changes) == 1
    assert isinstance(failure, ApiError)
    assert (failure.expired, failure.request) == (True, "watch pods")
    changes, _, failure = decode_watch_lines([added, b"nonsense", added])
    assert len(changes) == 1
    assert isinstance(failure, BadLine)


@pytest.mark.parametrize("line", [b"", b"nonsense", b"[]", b'{"type":"ADDED"}', b'{"type":"OTHER","object":{"metadata":{}}}'])
def test_a_line_that_is_no_event_raises_bad_line(line: bytes) -> None:
    with pytest.raises(BadLine):
        decode_watch_line(line)


text = st.text(max_size=12)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | text | st.just('"managedFields":[]'),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text | st.just("managedFields"), inner, max_size=3),
    max_leaves=12,
)


@given(
    before=st.dictionaries(text.filter(lambda t: t not in ("metadata", "kind", "apiVersion")), json_values, max_size=3),
    labels=st.dictionaries(text, text, max_size=3),
    managed=st.lists(st.dictionaries(st.sampled_from(["manager", "time"]), text), max_size=3),
    spaced=st.booleans(),
)
def test_cutting_managed_fields_changes_nothing_else(
    before: dict[str, Any], labels: dict[str, str], managed: list[dict[str, str]], spaced: bool
) -> None:
    meta = {"name": "x", "resourceVersion": "1", "labels": labels}
    whole = {"metadata": {**meta, "managedFields": managed}, **before}
    assert json.loads(decode_object(raw(whole, spaced=spaced)).raw) == {**whole, "metadata": meta}


def test_a_time_is_no_longer_than_times_are() -> None:
    """A server's texts are no keys of a cache, whatever their length."""
    assert parse_time("2026-01-01T00:00:05.123456789+00:00") > 1.7e9
    assert parse_time(f"2026-01-01T00:00:05.{'1' * 100_000}Z") == 0.0
