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
from raycp.shard.kept_events import KeptEvents
from raycp.shard.routes import Routes
from raycp.shard.standby import StandbyReplica

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
    many = 1000
    replica.keep("here", CM, [event(str(rv), rv) for rv in range(1, many + 1)])
    for judged in range(1, many, 64):
        replica.received(Progress(1 + judged, [], [Reached("here", str(CM), judged)], [], []))
        assert replica.kept == many - judged
    replica.received(Progress(2 * many, [], [Reached("here", str(CM), many - 1)], [], []))
    assert [found.obj.meta.name for _, _, found in replica.events()] == [str(many)]


def test_changes_before_which_one_stays_are_forgotten_all_the_same() -> None:
    """A cluster is replaced by one whose versions are lower: what was kept of the first is never judged."""
    kept = KeptEvents()
    kept.add("here", CM, 10**9, event("former", 10**9))
    for version in range(1, 20_001):
        kept.add("here", CM, version, event(str(version), version))
        kept.judged("here", CM, version)
    assert len(kept) < 600
    assert next(found.obj.meta.name for _, _, found in kept.take()) == "former"
    assert len(kept) == 0


def test_what_is_kept_of_an_object_is_one_change_in_the_place_of_the_last() -> None:
    kept = KeptEvents()
    for name, version in (("a", 1), ("b", 2), ("a", 3)):
        kept.add("here", CM, version, event(name, version))
    kept.judged("here", CM, 2)
    assert [(found.obj.meta.name, found.obj.rv) for _, _, found in kept.take()] == [("a", 3)]
    kept.add("here", CM, 0, event("a", 0))
    kept.add("here", CM, 4, event("a", 4))
    kept.judged("here", CM, 4)
    assert len(kept) == 0, "the last says as of which version"
    kept.add("there", CM, 1, event("b", 1))
    kept.add("here", CM, 0, event("c", 0))
    kept.drop_cluster("there")
    assert [(cluster, found.obj.meta.name) for cluster, _, found in kept.take()] == [("here", "c")]
    assert kept.oldest() is None


def test_the_oldest_is_the_first_that_is_kept_in_any_kind() -> None:
    kept = KeptEvents()
    for number, cluster in enumerate(("a", "b")):
        found = event("x", 5)
        kept.add(cluster, CM, 5, Event(found.type, found.source, None, found.new, 10.0 + number))
    assert kept.oldest() == 10.0
    kept.judged("a", CM, 5)
    assert kept.oldest() == 11.0
