"""The store's rules, by number (``raycp.embedded.store``)."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raycp.embedded.store import FIRST_REVISION, SNAPSHOTS, Compacted, ObjectStore, StoreChange, with_revision


def put(store: ObjectStore, ns: str, name: str, **more: object) -> StoreChange:
    table = store.table("", "things")
    meta = {"name": name, "namespace": ns, "uid": f"u-{name}", "resourceVersion": str(store.revision + 1), **more}
    raw = msgspec.json.encode({"kind": "Thing", "apiVersion": "v1", "metadata": meta})
    return store.put(table, ns, name, f"u-{name}", raw)


def names(store: ObjectStore, revision: int | None = None, ns: str = "") -> list[str]:
    table = store.table("", "things")
    records = table.records(ns) if revision is None else table.at(ns, revision)
    return [f"{r.ns}/{r.name}" for r in records]


def test_all_tables_share_one_revision_counter() -> None:
    store = ObjectStore()
    first = put(store, "a", "x").rv
    other = store.table("", "others")
    second = store.put(other, "", "y", "u", b'{"metadata":{}}').rv
    assert (second, put(store, "a", "z").rv) == (first + 1, first + 2)


def test_records_are_in_the_order_of_etcd_keys() -> None:
    store = ObjectStore()
    for ns, name in (("a-b", "x"), ("a", "z"), ("a", "b"), ("b", "a")):
        put(store, ns, name)
    assert names(store) == ["a-b/x", "a/b", "a/z", "b/a"]


def test_a_subscriber_receives_every_change_of_its_namespace_once() -> None:
    store = ObjectStore()
    heard: list[tuple[str, str]] = []
    table = store.table("", "things")
    stop = table.subscribe("a", lambda c: heard.append((c.type, c.record.name)))
    put(store, "a", "x")
    put(store, "b", "x")
    put(store, "a", "x")
    record = table.get("a", "x")
    assert record is not None
    store.delete(table, record)
    stop()
    put(store, "a", "y")
    assert heard == [("ADDED", "x"), ("MODIFIED", "x"), ("DELETED", "x")]


def test_deleted_objects_have_the_version_of_their_deletion() -> None:
    store = ObjectStore()
    put(store, "a", "x", annotations={"n": '"resourceVersion":"101"'})
    table = store.table("", "things")
    record = table.get("a", "x")
    assert record is not None
    change = store.delete(table, record)
    meta = change.record.decode()["metadata"]
    assert meta["resourceVersion"] == str(change.rv) == str(store.revision)
    assert meta["annotations"] == {"n": '"resourceVersion":"101"'}


def test_reads_below_the_floor_raise_compacted() -> None:
    store = ObjectStore(history=100)
    versions = [put(store, "a", f"n{i}").rv for i in range(250)]
    table = store.table("", "things")
    assert table.floor > versions[0]
    with pytest.raises(Compacted):
        table.since(versions[0])
    with pytest.raises(Compacted):
        table.at("", versions[0])
    kept = table.since(table.floor)
    assert [c.rv for c in kept] == list(range(table.floor + 1, store.revision + 1))


def test_history_is_bounded_by_bytes() -> None:
    store = ObjectStore(history=100_000, history_bytes=200_000)
    for i in range(2000):
        put(store, "a", "x", annotations={"filler": "f" * 500, "i": str(i)})
    held = sum(len(c.prev.raw) for c in store.table("", "things").history if c.prev is not None)
    assert held == store.superseded <= 201_000


def test_compaction_on_demand_keeps_current_objects() -> None:
    store = ObjectStore()
    before = put(store, "a", "x").rv
    now = put(store, "a", "y").rv
    store.compact()
    table = store.table("", "things")
    assert table.since(now) == []
    with pytest.raises(Compacted):
        table.since(before)
    assert names(store) == ["a/x", "a/y"]


def test_earlier_states_that_are_kept_are_few_and_end_with_the_history() -> None:
    things = ObjectStore(history=100)
    table = things.table("", "things")
    versions = [put(things, "a", f"n{number}").rv for number in range(20)]
    for version in versions[:-1]:
        assert len(table.at("", version)) == version - FIRST_REVISION
    assert table.at("", versions[-2]) is table.at("", versions[-2])
    assert len(table._snapshots) == SNAPSHOTS
    things.compact(versions[-3])
    assert set(table._snapshots) == {("", versions[-3]), ("", versions[-2])}
    things.compact()
    assert not table._snapshots
    with pytest.raises(Compacted):
        table.at("", versions[-2])


steps = st.lists(st.tuples(st.sampled_from(["put", "delete"]), st.sampled_from("ab"), st.sampled_from("xyz")), max_size=40)


@given(steps)
def test_earlier_states_can_be_read(script: list[tuple[str, str, str]]) -> None:
    """Rule 3, against a model that keeps every state."""
    store = ObjectStore()
    table = store.table("", "things")
    states = {store.revision: names(store)}
    for verb, ns, name in script:
        record = table.get(ns, name)
        if verb == "put":
            put(store, ns, name)
        elif record is not None:
            store.delete(table, record)
        states[store.revision] = names(store)
    for revision, state in states.items():
        assert names(store, revision) == state
        assert names(store, revision, "a") == [n for n in state if n.startswith("a/")]


@given(st.integers(1, 10**9), st.integers(1, 10**9))
def test_with_revision_replaces_the_resource_version(old: int, new: int) -> None:
    obj = {"metadata": {"name": "x", "resourceVersion": str(old)}, "involvedObject": {"resourceVersion": str(old)}}
    changed = msgspec.json.decode(with_revision(msgspec.json.encode(obj), old, new))
    assert changed["metadata"]["resourceVersion"] == str(new)
    assert changed["involvedObject"]["resourceVersion"] == str(old)
