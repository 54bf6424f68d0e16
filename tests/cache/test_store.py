"""Laws 7 and 8: the store rule by rule, and as a whole against a simple model of a cluster."""

import json
import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from raycp.base.events import Event, EventType, Source
from raycp.base.objects import Obj
from raycp.base.tasks import Written
from raycp.cache import Selector, Store
from raycp.cache.difference import EMITTED
from raycp.cache.indexes import OBJECT_OVERHEAD
from raycp.kube.codec import decode_object


def make(name: str, rv: int, uid: str = "", namespace: str = "ns", labels: dict[str, str] | None = None, **meta: object) -> Obj:
    fields = {"name": name, "namespace": namespace, "uid": uid or f"uid-{name}", "resourceVersion": str(rv), **meta}
    if labels:
        fields["labels"] = labels
    return decode_object(json.dumps({"kind": "ConfigMap", "metadata": fields, "data": {"rv": str(rv)}}).encode())


def written(obj: Obj, *, deleted: bool = False, rv: int | None = None) -> Written:
    meta = obj.meta
    raw = None if deleted else obj.raw
    return Written("c", "v1/ConfigMap", meta.namespace, meta.name, meta.uid, obj.rv if rv is None else rv, raw, deleted)


def emitted(events: list[Event]) -> list[tuple[str, str]]:
    return [(event.type.value, event.obj.meta.name) for event in events]


def watch(store: Store, kind: str, obj: Obj) -> list[tuple[str, str]]:
    return emitted(store.apply(kind, obj, Source.WATCH, 0.0))


def test_older_versions_of_an_object_are_ignored() -> None:
    store = Store()
    assert watch(store, "ADDED", make("a", 10)) == [("added", "a")]
    assert watch(store, "MODIFIED", make("a", 12)) == [("modified", "a")]
    assert watch(store, "MODIFIED", make("a", 12)) == []
    assert watch(store, "MODIFIED", make("a", 11)) == []
    assert store.get("ns", "a") is not None
    assert store.rv == 12


def test_another_uid_under_the_same_name_is_emitted_as_deleted_then_added() -> None:
    store = Store()
    watch(store, "ADDED", make("a", 10, "u1"))
    assert watch(store, "ADDED", make("a", 20, "u2")) == [("deleted", "a"), ("added", "a")]
    assert watch(store, "DELETED", make("a", 15, "u1")) == []
    assert emitted(store.replace([make("a", 30, "u3")], 31, Source.RELIST, 0.0)) == [("deleted", "a"), ("added", "a")]


def test_a_relist_emits_deletions_first_and_nothing_for_unchanged_objects() -> None:
    store = Store()
    store.replace([make("a", 1), make("b", 2), make("c", 3)], 5, Source.INITIAL, 0.0)
    kept = store.get("ns", "b")
    events = store.replace([make("b", 2), make("c", 7), make("d", 8)], 9, Source.RELIST, 0.0)
    assert emitted(events) == [("deleted", "a"), ("modified", "c"), ("added", "d")]
    assert store.get("ns", "b") is kept
    assert store.voids == 0


def test_a_list_is_in_the_store_before_its_events_are_emitted() -> None:
    store = Store()
    store.replace([make("a", 1), make("b", 2)], 5, Source.INITIAL, 0.0)
    replacement = store.begin_replacement()
    replacement.add([make("c", 8)])
    slices = store.commit(replacement, 9, Source.RELIST, 0.0)
    assert [o.meta.name for o in store] == ["c"]
    assert [emitted(events) for events in slices] == [[("deleted", "a"), ("deleted", "b")], [("added", "c")]]


def test_an_own_write_is_emitted_at_once_and_its_watch_event_is_ignored() -> None:
    store = Store()
    ours = make("a", 10)
    events = store.fold(written(ours), 0.0)
    assert emitted(events) == [("added", "a")]
    assert events[0].source is Source.OWN_WRITE
    assert watch(store, "ADDED", make("a", 10)) == []
    assert emitted(store.fold(written(make("a", 12)), 0.0)) == [("modified", "a")]
    assert emitted(store.fold(written(make("a", 14)), 0.0)) == [("modified", "a")]
    assert watch(store, "MODIFIED", make("a", 12)) == []
    assert watch(store, "MODIFIED", make("a", 14)) == []
    assert watch(store, "MODIFIED", make("a", 15)) == [("modified", "a")]


def test_a_change_by_others_that_an_own_write_has_hidden_is_emitted_when_the_watch_shows_it() -> None:
    """Our write came after it and was applied before: what others changed would never be reconciled."""
    store = Store()
    store.replace([make("a", 1)], 5, Source.INITIAL, 0.0)
    for rv in (11, 14):
        store.fold(written(make("a", rv)), 0.0)
    seen = []
    for rv in (8, 8, 11, 12, 14, 14):
        seen += store.apply("MODIFIED", make("a", rv), Source.WATCH, 0.0)
    assert [(event.source, event.old and event.old.rv, event.obj.rv) for event in seen] == [
        (Source.OVERTAKEN, 1, 14), (Source.OVERTAKEN, 8, 14),
    ]  # fmt: skip
    store.fold(written(make("b", 20)), 0.0)
    (created,) = store.apply("ADDED", make("b", 18), Source.WATCH, 0.0)
    assert (created.type, created.source, created.old, created.obj.rv) == (EventType.ADDED, Source.OVERTAKEN, None, 20)


def test_a_change_by_others_that_an_own_write_has_hidden_is_emitted_when_a_list_shows_it() -> None:
    for version, listed in ((7, 6), (12, 8)):
        store = Store()
        store.replace([make("a", 1)], 5, Source.INITIAL, 0.0)
        store.fold(written(make("a", 8)), 0.0)
        (event,) = store.replace([make("a", listed)], version, Source.RELIST, 0.0)
        assert (event.source, event.old and event.old.rv, event.obj.rv) == (Source.OVERTAKEN, 1, 8), listed


def test_an_own_write_survives_an_older_list() -> None:
    store = Store()
    store.replace([make("a", 1)], 5, Source.INITIAL, 0.0)
    store.fold(written(make("a", 8)), 0.0)
    store.fold(written(make("b", 9)), 0.0)
    assert store.replace([make("a", 1)], 7, Source.RELIST, 0.0) == []
    assert {(o.meta.name, o.rv) for o in store} == {("a", 8), ("b", 9)}
    assert store.voids == 0
    assert emitted(store.replace([make("a", 8)], 12, Source.RELIST, 0.0)) == [("deleted", "b"), ("modified", "a")]


def test_late_events_and_lists_do_not_restore_an_object_that_we_deleted() -> None:
    store = Store()
    store.replace([make("a", 1)], 5, Source.INITIAL, 0.0)
    assert emitted(store.fold(written(make("a", 1), deleted=True, rv=0), 0.0)) == [("deleted", "a")]
    assert watch(store, "MODIFIED", make("a", 6)) == []
    assert store.replace([make("a", 6)], 6, Source.RELIST, 0.0) == []
    assert watch(store, "DELETED", make("a", 7)) == []
    assert watch(store, "ADDED", make("a", 9, "u2")) == [("added", "a")]


def test_a_late_answer_to_a_write_does_not_restore_a_deleted_object() -> None:
    store = Store()
    watch(store, "ADDED", make("a", 6))
    watch(store, "DELETED", make("a", 8))
    assert store.fold(written(make("a", 7)), 0.0) == []
    assert len(store) == 0


def test_own_writes_outside_the_selector_are_left_out() -> None:
    store = Store()
    store.selector = Selector.parse("app=x")
    assert store.fold(written(make("a", 5)), 0.0) == []
    assert emitted(store.fold(written(make("b", 6, labels={"app": "x"})), 0.0)) == [("added", "b")]
    assert emitted(store.fold(written(make("b", 7, labels={"app": "y"})), 0.0)) == [("deleted", "b")]


@pytest.mark.parametrize("case", ["list below", "object below"])
def test_a_list_of_a_restored_cluster_replaces_the_store(case: str) -> None:
    store = Store()
    store.replace([make("a", 10), make("b", 20)], 30, Source.INITIAL, 0.0)
    version = 25 if case == "list below" else 35
    events = store.replace([make("a", 10), make("b", 15)], version, Source.RELIST, 0.0)
    assert emitted(events) == [("modified", "b")]
    assert (store.voids, store.rv) == (1, version)
    assert watch(store, "MODIFIED", make("b", version + 1)) == [("modified", "b")]


def test_an_own_write_during_the_emission_of_a_list_follows_the_events_of_its_object() -> None:
    store = Store()
    replacement = store.begin_replacement()
    replacement.add([make(f"a{n}", n + 1) for n in range(600)])
    slices = store.commit(replacement, 1000, Source.INITIAL, 0.0)
    first = next(slices)
    assert len(first) == EMITTED
    folded = store.fold(written(make("a599", 1001)), 0.0)
    assert [(e.type, e.obj.rv) for e in folded] == [(EventType.ADDED, 600), (EventType.MODIFIED, 1001)]
    rest = [event for events in slices for event in events]
    assert len(rest) == 600 - EMITTED - 1, "without the one emitted early"


def test_indexes_follow_each_change() -> None:
    store = Store()
    store.add_index("data", lambda obj: [str(obj.rv % 2)])
    owner = [{"apiVersion": "v1", "kind": "Job", "name": "j", "uid": "owner-1"}]
    watch(store, "ADDED", make("a", 1, labels={"app": "x"}, ownerReferences=owner))
    assert [o.meta.name for o in store.by_index("owner", "owner-1")] == ["a"]
    watch(store, "ADDED", make("b", 2, namespace="other", labels={"app": "x"}, ownerReferences=owner))
    assert {o.meta.name for o in store.by_index("owner", "owner-1")} == {"a", "b"}
    assert {o.meta.name for o in store.by_index("label", "app=x")} == {"a", "b"}
    assert [o.meta.name for o in store.by_index("namespace", "other")] == ["b"]
    assert [o.meta.name for o in store.by_index("data", "0")] == ["b"]
    assert [(uid, obj.meta.uid != "", count) for uid, obj, count in store.groups("owner")] == [("owner-1", True, 2)]
    watch(store, "MODIFIED", make("a", 3, labels={"app": "y"}))
    assert [o.meta.name for o in store.by_index("owner", "owner-1")] == ["b"]
    assert [(uid, obj.meta.name, count) for uid, obj, count in store.groups("owner")] == [("owner-1", "b", 1)]
    assert [o.meta.name for o in store.select(None, "app in (x,y),!tier")] == ["a", "b"]
    assert [o.meta.name for o in store.select("ns", "app=y")] == ["a"]
    assert list(store.select("other", "app=y")) == []
    store.replace([make("c", 9, labels={"app": "x"})], 10, Source.RELIST, 0.0)
    assert [o.meta.name for o in store.by_index("label", "app=x")] == ["c"]
    with pytest.raises(KeyError):
        store.by_index("none", "x")
    with pytest.raises(ValueError, match="exists already"):
        store.add_index("label", lambda obj: [])


def test_an_index_function_that_raises_is_logged_and_does_not_affect_the_store(caplog: pytest.LogCaptureFixture) -> None:
    store = Store()

    def bad(obj: Obj) -> list[str]:
        if obj.meta.name == "b":
            raise RuntimeError("boom")
        return ["x"]

    store.add_index("bad", bad)
    watch(store, "ADDED", make("a", 1))
    assert [o.meta.name for o in store.by_index("bad", "x")] == ["a"]
    assert watch(store, "ADDED", make("b", 2)) == [("added", "b")]
    assert watch(store, "DELETED", make("b", 3)) == [("deleted", "b")]
    assert "index function failed on ns/b" in caplog.text


@pytest.mark.parametrize(
    ("text", "labels", "expected"),
    [
        ("", {}, True),
        ("a=b", {"a": "b"}, True),
        ("a==b,c!=d", {"a": "b"}, True),
        ("a!=b", {"a": "b"}, False),
        ("a in (b, c)", {"a": "c"}, True),
        ("a notin (b,c),d", {"d": ""}, True),
        ("!a", {"a": "x"}, False),
        ("example.com/a_b=v.1", {"example.com/a_b": "v.1"}, True),
        ("a=", {"a": ""}, True),
    ],
)
def test_selector_matches(text: str, labels: dict[str, str], expected: bool) -> None:
    assert Selector.parse(text).matches(labels) is expected


@pytest.mark.parametrize("text", ["a=b,,c", "=x", "a in b", "a b", ",", "a=b=c"])
def test_a_bad_selector_raises_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="label selector"):
        Selector.parse(text)


def test_a_write_is_reached_by_its_event_or_a_later_version() -> None:
    store = Store()
    watch(store, "ADDED", make("a", 5))
    assert store.reached("ns", "a", "uid-a", 5)
    assert not store.reached("ns", "b", "uid-b", 6)
    store.advance(7)
    assert store.reached("ns", "b", "uid-b", 6)


class Cluster(RuleBasedStateMachine):
    """A cluster with one version counter; a lagging watch; own writes folded at once; relists at any time; restores.

    The objects that a handler knows from the events must be those of the store at all times; once the watch has caught up, both
    must be those of the cluster.
    """

    names = Bundle("names")

    @initialize()
    def begin(self) -> None:
        self.rv = 100_000
        self.uids = 0
        self.there: dict[str, Obj] = {}
        self.log: list[tuple[str, Obj]] = []  # events not yet seen by the watch
        self.store = Store()
        self.known_objects: dict[str, Obj] = {}
        self.others: dict[str, int] = {}
        """The last version of each object that somebody else wrote."""
        self.announced: dict[str, int] = {}
        """The last version of each object in an event that is not of an own write."""
        self.store.by_index("label", "x")
        self.handle(self.store.replace([], self.rv, Source.INITIAL, 0.0))

    def handle(self, events: list[Event]) -> None:
        for event in events:
            name = event.obj.meta.name
            if event.source is Source.OVERTAKEN:
                assert event.new is not None
                assert self.known_objects[name].rv == event.new.rv, "nothing is older than what was emitted"
                assert (event.old is None) is (event.type is EventType.ADDED)
                self.announced[name] = event.new.rv
                continue
            if event.source is not Source.OWN_WRITE and event.new is not None:
                self.announced[name] = event.new.rv
            if event.type is EventType.DELETED:
                assert self.known_objects.pop(name).meta.uid == event.obj.meta.uid
                assert event.new is None
            elif event.type is EventType.ADDED:
                assert name not in self.known_objects
                assert event.new is not None
                self.known_objects[name] = event.new
            else:
                assert event.old is not None
                assert event.new is not None
                assert self.known_objects[name].rv == event.old.rv
                assert event.old.meta.uid == event.new.meta.uid
                self.known_objects[name] = event.new

    def write(self, name: str, label: str) -> Obj:
        self.rv += 1
        old = self.there.get(name)
        if old is None:
            self.uids += 1
        uid = old.meta.uid if old is not None else f"u{self.uids}"
        self.there[name] = obj = make(name, self.rv, uid, labels={"l": label})
        self.log.append(("MODIFIED" if old else "ADDED", obj))
        return obj

    def remove(self, name: str) -> Obj:
        self.rv += 1
        old = self.there.pop(name)
        self.others.pop(name, None)
        deleted = make(name, self.rv, old.meta.uid)
        self.log.append(("DELETED", deleted))
        return deleted

    @rule(name=st.sampled_from("abcd"), label=st.sampled_from("xyz"), ours=st.booleans())
    def put(self, name: str, label: str, ours: bool) -> None:
        obj = self.write(name, label)
        if ours:
            self.handle(self.store.fold(written(obj), 0.0))
            assert self.store.get("ns", name) is not None
        else:
            self.others[name] = obj.rv

    @rule(name=st.sampled_from("abcd"))
    def overtake(self, name: str) -> None:
        """Somebody else's write, and one of ours over it."""
        self.put(name, "x", ours=False)
        self.put(name, "y", ours=True)

    @rule(name=st.sampled_from("abcd"), ours=st.booleans(), known=st.booleans())
    def drop(self, name: str, ours: bool, known: bool) -> None:
        if name in self.there:
            deleted = self.remove(name)
            if ours:
                self.handle(self.store.fold(written(deleted, deleted=True, rv=deleted.rv if known else 0), 0.0))

    @rule(n=st.integers(1, 5))
    def catch_up(self, n: int) -> None:
        for kind, obj in self.log[:n]:
            self.handle(self.store.apply(kind, obj, Source.WATCH, 0.0))
        del self.log[:n]

    @rule()
    def bookmark(self) -> None:
        if not self.log:
            self.store.advance(self.rv)

    @rule()
    def relist(self) -> None:
        unchanged = not self.log
        events = self.store.replace(list(self.there.values()), self.rv, Source.RELIST, 0.0)
        assert not (unchanged and events)
        self.handle(events)
        self.log.clear()

    @rule(name=st.sampled_from("abcd"), seed=st.integers(0, 9))
    def relist_with_writes_meanwhile(self, name: str, seed: int) -> None:
        """Own writes between the request of a list and its arrival, and between the slices of its events."""
        rng = random.Random(seed)
        listed, version = list(self.there.values()), self.rv
        self.log.clear()
        replacement = self.store.begin_replacement()
        replacement.add(listed)
        if name in self.there and rng.random() < 0.4:
            self.handle(self.store.fold(written(self.remove(name), deleted=True), 0.0))
        else:
            self.handle(self.store.fold(written(self.write(name, "m")), 0.0))
        slices = self.store.commit(replacement, version, Source.RELIST, 0.0)
        for events in slices:
            self.handle(events)
            if rng.random() < 0.5:
                self.handle(self.store.fold(written(self.write(rng.choice("abcd"), "n")), 0.0))

    @rule(back=st.integers(1, 60), name=st.sampled_from("abcd"))
    def restore(self, back: int, name: str) -> None:
        """An older state at a lower version, without the objects that were written since."""
        self.rv -= back
        self.there = {n: o for n, o in self.there.items() if o.rv <= self.rv}
        self.log.clear()
        self.others.clear()
        voids, was = self.store.voids, self.store.rv
        replacement = self.store.begin_replacement()
        replacement.add(list(self.there.values()))
        for events in self.store.commit(replacement, self.rv, Source.RELIST, 0.0):
            self.handle(events)
        if self.rv < was:
            assert self.store.voids == voids + 1

    @invariant()
    def events_give_the_content_of_the_store(self) -> None:
        if not self.store.emitting:
            assert self.known_objects == {o.meta.name: o for o in self.store}

    @invariant()
    def caught_up_is_equal(self) -> None:
        if not self.log:
            assert {(o.meta.name, o.rv, o.meta.uid) for o in self.store} == {
                (o.meta.name, o.rv, o.meta.uid) for o in self.there.values()
            }

    @invariant()
    def no_change_by_others_is_hidden(self) -> None:
        if not self.log and not self.store.emitting:
            for name, rv in self.others.items():
                assert self.announced[name] >= rv

    @invariant()
    def indexes_are_right(self) -> None:
        for label in "xyzmn":
            found = {o.meta.name for o in self.store.by_index("label", f"l={label}")}
            assert found == {o.meta.name for o in self.store if (o.meta.labels or {}).get("l") == label}

    @invariant()
    def bytes_are_counted(self) -> None:
        assert self.store.memory_bytes == sum(len(o.raw) + OBJECT_OVERHEAD for o in self.store)


def test_a_list_that_was_requested_between_two_own_writes_hides_no_change_by_others() -> None:
    """A history that hypothesis found: what the list shows is ours, and lies upon a change by others."""
    cluster = Cluster()
    cluster.begin()
    cluster.overtake(name="a")
    cluster.relist_with_writes_meanwhile(name="a", seed=0)
    cluster.catch_up(n=2)
    cluster.no_change_by_others_is_hidden()
    assert cluster.others == {"a": 100_001}


Cluster.TestCase.settings = settings(max_examples=max(150, settings.default.max_examples), stateful_step_count=40, deadline=None)
TestCluster = Cluster.TestCase
