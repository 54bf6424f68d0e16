"""A standby's replica: what comes in several frames is taken as a whole, and what can't be compared is kept."""

from collections.abc import AsyncIterator

import pytest_asyncio
from inprocess import CLOCK, HOST

from raycp.base.events import Event, EventType, Source
from raycp.base.keys import GVK
from raycp.base.loops import Loops
from raycp.base.objects import Meta, Obj
from raycp.protocol.channels import ChannelCredentials
from raycp.protocol.frames import ControllerStart, MarkedKind, Progress, Reached
from raycp.shard.caches import Caches
from raycp.shard.identity import ShardIdentity
from raycp.shard.routes import Routes
from raycp.shard.standby import FEW, StandbyReplica

CM = GVK("", "v1", "ConfigMap")
MARKS = [MarkedKind(f"c{number}", str(CM), number, 0.0) for number in range(3)]
START = ControllerStart("c", "c0", "s", 1)


@pytest_asyncio.fixture
async def replica() -> AsyncIterator[StandbyReplica]:
    loops = Loops(CLOCK)
    yield StandbyReplica(ShardIdentity("0", "m"), ChannelCredentials("m"), HOST, CLOCK, loops, Caches(Routes()), {}, lambda: None)
    await loops.stop()


def event(name: str, rv: int) -> Event:
    meta = Meta(name=name, uid=name, resource_version=str(rv or "opaque"))
    return Event(EventType.ADDED, Source.WATCH, None, Obj(meta, b"{}", rv, 1), 0.0)


async def test_marks_in_parts_replace_the_old_ones_when_all_are_there(replica: StandbyReplica) -> None:
    replica.received(Progress(1, [], [], [], [], marks=MARKS[:1], starts=[START]))
    assert (replica.marks, replica.starts) == (MARKS[:1], [START])
    replica.received(Progress(2, [], [], [], [], marks=MARKS[1:2], more=True))
    assert replica.marks == MARKS[:1]
    replica.received(Progress(3, [], [], [], [], marks=MARKS[2:]))
    assert (replica.marks, replica.starts) == (MARKS[1:], [START])
    replica.received(Progress(4, [], [], [], []))
    assert (replica.marks, replica.starts) == (MARKS[1:], [START]), "unchanged ones are not sent"


async def test_an_event_whose_version_can_not_be_compared_is_kept_until_the_promotion(replica: StandbyReplica) -> None:
    replica.received(Progress(1, [], [Reached("here", str(CM), 100)], [], [], complete=True))
    for name, rv in (("old", 90), ("new", 110), ("opaque", 0)):
        replica.keep("here", CM, [event(name, rv)])
    assert replica.kept == 2
    replica.received(Progress(2, [], [Reached("here", str(CM), 200)], [], []))
    assert [found.obj.meta.name for _, _, found in replica.events()] == ["opaque"]


async def test_of_many_kept_events_those_that_are_judged_are_forgotten(replica: StandbyReplica) -> None:
    replica.received(Progress(1, [], [], [], [], complete=True))
    many = 4 * FEW
    replica.keep("here", CM, [event(str(rv), rv) for rv in range(1, many + 1)])
    for judged in range(1, many, FEW // 4):
        replica.received(Progress(1 + judged, [], [Reached("here", str(CM), judged)], [], []))
        assert replica.kept == many - judged
    replica.received(Progress(2 * many, [], [Reached("here", str(CM), many - 1)], [], []))
    assert [found.obj.meta.name for _, _, found in replica.events()] == [str(many)]
