"""Events about objects whose names are no names for an Event."""

import re
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from live_fleet import LiveFleet, make_task

from raycp.base.clock import VirtualClock
from raycp.base.tasks import Task
from raycp.kube import ApiError, Unreachable
from raycp.sdk import Answer, ApiRequest, EventRecorder
from raycp.sdk.event_recorder import SERIES_PERIOD, event_for

SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
NAMES = ["system:node", "Größe", "名前", "a b?c%d", "UPPER", "-.-", "a..b", "x" * 253, f"{'x' * 219}-.{'y' * 30}", f"{'a.' * 126}z"]


@pytest_asyncio.fixture
async def fleet() -> AsyncIterator[LiveFleet]:
    async with LiveFleet("one") as made:
        yield made


def about(name: str) -> dict[str, Any]:
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name, "uid": "u"}}


@pytest.mark.parametrize("name", NAMES)
async def test_an_event_has_a_name_of_its_own_that_every_server_takes(name: str) -> None:
    sent: list[ApiRequest] = []

    async def send(task: Task, call: ApiRequest) -> Answer:
        sent.append(call)
        return Answer(201, b"{}")

    recorder = EventRecorder(send, VirtualClock(wall=1.8e9))
    event = event_for(about(name), "Warning", "Failed", "a note", "Reconcile", "raycp.io/c", "s0", 0.0)
    recorder.record(make_task("c", "one", about("n")), "one", msgspec.json.encode(event))
    await recorder.flush()
    assert recorder.sent == 1
    assert SUBDOMAIN.fullmatch(sent[0].name)
    assert len(sent[0].name) <= 253
    assert msgspec.json.decode(sent[0].body or b"")["regarding"]["name"] == name


async def test_the_server_takes_them(fleet: LiveFleet) -> None:
    recorder = EventRecorder(fleet.request, VirtualClock(wall=1.8e9))
    for name in NAMES:
        event = event_for(about(name), "Warning", "Failed", f"about {name}", "Reconcile", "raycp.io/c", "s0", 1.8e9)
        recorder.record(make_task("c", "one", about("n")), "one", msgspec.json.encode(event))
    await recorder.flush()
    assert (recorder.sent, recorder.dropped) == (len(NAMES), 0)


async def test_an_event_whose_answer_was_lost_is_counted_on() -> None:
    """Its name is taken, by itself: a series that made it again and again would never tell how often."""
    kept: dict[str, Any] = {}
    lost = [Unreachable("the answer was lost", sent=True)]

    async def send(task: Task, call: ApiRequest) -> Answer:
        if call.verb == "create" and call.name in kept:
            raise ApiError(409, "AlreadyExists")
        kept.setdefault(call.name, {}).update(msgspec.json.decode(call.body or b""))
        if lost:
            raise lost.pop()
        return Answer(201, b"{}")

    clock = VirtualClock(wall=1.8e9)
    recorder = EventRecorder(send, clock)
    event = msgspec.json.encode(event_for(about("n"), "Warning", "Failed", "a note", "Reconcile", "raycp.io/c", "s0", 0.0))
    for _ in range(4):
        recorder.record(make_task("c", "one", about("n")), "one", event)
        await recorder.flush()
        await clock.advance(SERIES_PERIOD)
    (only,) = kept.values()
    assert only["series"]["count"] == 4
    assert recorder.dropped == 1
