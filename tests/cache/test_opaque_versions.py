"""resourceVersions that are no decimal below 2**63: only equality counts, and the kind has no watermark."""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inprocess import until
from watched import QUICK

from raycp.base.clock import SystemClock
from raycp.base.events import Event, EventType, Source
from raycp.base.keys import GVK, RequestKey
from raycp.base.objects import Obj, same_version, version_number
from raycp.base.tasks import Written
from raycp.cache import Reflector, ReflectorOptions, Store
from raycp.classify import Known, Reason, classify
from raycp.kube.codec import decode_object, decode_watch_line, split_list
from raycp.kube.limits import AnswerLimits
from raycp.protocol.plan import ControllerPlan
from raycp.shard.watermarks import Watermarks

CM = GVK("", "v1", "ConfigMap")
HUGE = str(2**70)


def raw(name: str, version: str, uid: str = "", **data: str) -> bytes:
    meta = {"name": name, "namespace": "ns", "uid": uid or f"uid-{name}", "resourceVersion": version}
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}).encode()


def make(name: str, version: str, uid: str = "", **data: str) -> Obj:
    return decode_object(raw(name, version, uid, **data))


@given(st.one_of(st.integers(0, 2**70).map(str), st.text(max_size=25), st.sampled_from(["", "²", "٣", "-1", "1e3", " 7", HUGE])))
def test_only_a_decimal_below_2_to_the_63_is_a_number(text: str) -> None:
    number = version_number(text)
    assert 0 <= number < 2**63
    if text.isascii() and text.isdecimal() and int(text) < 2**63 and len(text) < 20:
        assert number == int(text)
    else:
        assert number == 0


@pytest.mark.parametrize("version", [HUGE, "opaque-2", ""])
def test_another_version_that_is_no_number_is_a_change_and_the_same_is_none(version: str) -> None:
    store = Store()
    for known, expected in (("opaque-1", 1), ("opaque-1", 0), (version, 1), (version, 0)):
        events = store.apply("MODIFIED", make("a", known), Source.WATCH, 0.0)
        assert len(events) == expected, known
    assert store.rv == 0
    assert store.voids == 0
    relisted = store.replace([make("a", version), make("b", "opaque-9")], 0, Source.RELIST, 0.0)
    assert [(event.type, event.obj.meta.name) for event in relisted] == [(EventType.ADDED, "b")]
    changed = store.replace([make("a", "opaque-3"), make("b", "opaque-9")], 0, Source.RELIST, 0.0)
    assert [(event.type, event.obj.meta.name) for event in changed] == [(EventType.MODIFIED, "a")]
    assert store.voids == 0


def test_a_number_amid_others_voids_nothing() -> None:
    store = Store()
    store.apply("ADDED", make("a", "500"), Source.WATCH, 0.0)
    assert store.apply("MODIFIED", make("a", HUGE), Source.WATCH, 0.0)
    assert store.apply("MODIFIED", make("a", "501"), Source.WATCH, 0.0)
    assert not store.apply("MODIFIED", make("a", "501"), Source.WATCH, 0.0)
    store.replace([make("a", HUGE)], 502, Source.RELIST, 0.0)
    assert store.voids == 0


def test_an_own_write_with_such_a_version_is_seen_when_its_object_is_there() -> None:
    store = Store()
    assert not store.reached("ns", "a", "uid-a", 0)
    store.fold(Written("c", str(CM), "ns", "a", "uid-a", 0, raw("a", HUGE)), 0.0)
    assert not store.reached("ns", "a", "uid-a", 0), "a deletion may have come before: the watch decides"
    store.apply("ADDED", make("a", HUGE), Source.WATCH, 0.0)
    assert store.reached("ns", "a", "uid-a", 0)
    assert not store.reached("ns", "a", "uid-other", 0)
    events = store.fold(Written("c", str(CM), "ns", "a", "uid-a", 0, raw("a", "opaque-5", n="2")), 0.0)
    assert [event.type for event in events] == [EventType.MODIFIED]


def test_a_change_with_such_a_version_is_judged_a_change() -> None:
    old, new = make("a", "v1", n="1"), make("a", "v2", n="1")
    assert same_version(old, make("a", "v1"))
    assert not same_version(old, new)
    status = classify(Event(EventType.MODIFIED, Source.WATCH, old, new, 0.0), Known())
    assert status.reason is Reason.STATUS
    child = classify(Event(EventType.MODIFIED, Source.RELIST, old, new, 0.0), Known(is_child=True))
    assert child.reason is Reason.OWNED_AWAY


def test_the_kind_has_no_watermark() -> None:
    marks = Watermarks()
    controller = ControllerPlan("c", "m", "c", str(CM), "members", ("here",), 0)
    key = RequestKey("c", "here", "ns", "a")
    for number in range(6):
        marks.due(key._replace(name=f"k{number}"), "here", CM, 0)
    marks.observe("here", CM, 0)
    marks.begin([controller], "here", 0)
    assert marks.rv("here", CM) is None
    seen = marks.seen(key, controller, "here", CM, 0)
    assert not seen.covered, "whether it changed while nobody watched is not known"
    assert not seen.has_watermark
    again = Watermarks()
    again.restore("here", marks.export("here", max_exceptions=3), ["c"])
    assert again.rv("here", CM) is None


class OpaqueServer:
    """A client of an API server whose versions are no numbers: what a reflector needs of it."""

    name = "opaque"
    limits = AnswerLimits()

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.changed = asyncio.Event()
        self.lines: list[bytes] = []
        self.watched_from: list[str] = []
        self.cut = False
        self.numbers = itertools.count(1)
        self.version = "v0"
        self.discovery = SimpleNamespace(forget=lambda: None)

    def put(self, name: str, **data: str) -> None:
        self.version = f"v{next(self.numbers)}"
        kind = "MODIFIED" if name in self.objects else "ADDED"
        self.objects[name] = raw(name, self.version, **data)
        self.send(kind, self.objects[name])

    def drop(self, name: str) -> None:
        self.version = f"v{next(self.numbers)}"
        self.send("DELETED", self.objects.pop(name))

    def send(self, kind: str, obj: bytes) -> None:
        self.lines.append(b'{"type":"%s","object":%s}' % (kind.encode(), obj))
        self.changed.set()

    async def resource(self, gvk: GVK) -> Any:
        return SimpleNamespace(path=lambda: "/configmaps")

    async def identity(self) -> str:
        return "one"

    async def request(self, verb: str, path: str, **_: Any) -> Any:
        items = b",".join(self.objects.values())
        head = json.dumps({"resourceVersion": self.version}).encode()
        body = b'{"kind":"ConfigMapList","apiVersion":"v1","metadata":%s,"items":[%s]}' % (head, items)
        assert split_list(body)[0].rv == 0
        return SimpleNamespace(body=body)

    @contextlib.asynccontextmanager
    async def stream(self, path: str, query: Any, idle_timeout: float) -> AsyncIterator[Any]:
        self.watched_from.append(str(query["resourceVersion"]))
        self.cut = False
        yield self._follow()

    async def _follow(self) -> AsyncIterator[list[bytes]]:
        while not self.cut:
            lines, self.lines = self.lines, []
            for line in lines:
                decode_watch_line(line)
            if lines:
                yield lines
            self.changed.clear()
            if not self.lines and not self.cut:
                await self.changed.wait()


async def test_a_reflector_follows_a_server_with_such_versions() -> None:
    server, store, events = OpaqueServer(), Store(), []
    server.put("a")
    server.lines.clear()
    options = ReflectorOptions(**{**QUICK, "watch_list": False, "stall": 30.0, "settled": 0.0})  # type: ignore[arg-type]
    reflector = Reflector(server, CM, store, events.extend, SystemClock(), options=options)  # type: ignore[arg-type]
    running = asyncio.create_task(reflector.run())

    def emitted() -> list[tuple[str, str]]:
        return [(event.type.value, event.obj.meta.name) for event in events]

    await until(lambda: emitted() == [("added", "a")])
    server.put("b")
    server.put("a", n="2")
    await until(lambda: emitted() == [("added", "a"), ("added", "b"), ("modified", "a")])
    server.cut = True  # the watch ends; the next one goes on where it ended
    server.changed.set()
    await until(lambda: len(server.watched_from) == 2)
    server.put("b", n="3")
    server.drop("a")
    await until(lambda: emitted()[3:] == [("modified", "b"), ("deleted", "a")])
    assert server.watched_from == ["v1", "v3"]
    assert store.voids == 0
    assert reflector.status().lists == 1
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
