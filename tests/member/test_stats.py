"""What a member sends the observer: its last statistics are handled before it ends; answers at once, or later."""

import asyncio

import msgspec
from channels import credentials, listening
from inprocess import CLOCK, HOST, plan_of, until

from raycp.base.loops import Loops
from raycp.member.stats import LAST_WITHIN, StatsReporter
from raycp.metrics import Metrics
from raycp.protocol.frames import Hello, Message, Stats, Sync, SyncDone, TimelineQuery, TimelineReply
from raycp.protocol.members import Member, Role
from raycp.protocol.plan import ObserverPlan
from raycp.protocol.report import Report
from raycp.protocol.transport import Connection


class Observer:
    """Keeps what it receives; the test answers."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.connection: Connection | None = None

    def accept(self, connection: Connection, hello: Hello) -> "Observer":
        self.connection = connection
        return self

    def received(self, message: Message) -> None:
        self.messages.append(message)

    def lost(self) -> None: ...

    def synced(self) -> bool:
        """Whether a ``Sync`` has arrived, after ``Stats``."""
        kinds = [type(message) for message in self.messages]
        return Sync in kinds and kinds[0] is Stats


async def test_the_last_statistics_are_handled_before_the_end() -> None:
    observer, loops = Observer(), Loops(CLOCK)
    server = await listening(observer.accept)
    member = Member(Role.WORKER, "standard/0", 0)
    reporter = StatsReporter(member, credentials(member.actor_name), CLOCK, loops, Metrics(), lambda: Report(1, "node"))
    address = ObserverPlan(HOST, server.port, member="m")
    reporter.update(msgspec.structs.replace(plan_of({"here": "0"}, "tracked"), observer=address))
    last = asyncio.ensure_future(reporter.last())
    await until(observer.synced)
    assert not last.done(), "it may have to handle a thousand frames before this one"
    assert observer.connection is not None
    observer.connection.send(SyncDone())
    await asyncio.wait_for(last, LAST_WITHIN / 2)

    observer.messages.clear()
    begun = CLOCK.now()
    last = asyncio.ensure_future(reporter.last())
    await until(observer.synced)
    observer.connection.close()
    await asyncio.wait_for(last, 5.0)
    assert CLOCK.now() - begun < LAST_WITHIN, "a dead observer is not waited for"

    observer.messages.clear()
    await asyncio.wait_for(reporter.last(), 5.0)
    assert observer.synced(), "an observer that never answers does not hold up the end"
    server.close()
    await loops.stop()
    observer.connection.close()


async def test_an_answer_may_come_later_and_holds_nothing_up() -> None:
    """A page of ten thousand jobs is made in slices: other questions are answered meanwhile, and one that fails ends nothing."""
    ready, observer, loops = asyncio.Event(), Observer(), Loops(CLOCK)
    server = await listening(observer.accept)

    async def page() -> bytes:
        await ready.wait()
        return b"[]"

    async def broken() -> bytes:
        raise RuntimeError("no page")

    answers = {"jobs": page, "broken": broken}
    member = Member(Role.SHARD, "0", 0)
    reporter = StatsReporter(
        member, credentials(member.actor_name), CLOCK, loops, Metrics(), lambda: Report(1, "node"), None,
        lambda query: answers[query.topic]() if query.topic in answers else b"null",
    )  # fmt: skip
    address = ObserverPlan(HOST, server.port, member="m")
    reporter.update(msgspec.structs.replace(plan_of({"here": "0"}, "tracked"), observer=address))
    await until(lambda: observer.connection)
    assert observer.connection is not None
    for identity, topic in enumerate(("jobs", "broken", "queues")):
        observer.connection.send(TimelineQuery(identity, "hub", "", "", "", topic))

    def replies() -> list[tuple[int, bytes]]:
        return [(each.id, each.body) for each in observer.messages if isinstance(each, TimelineReply)]

    await until(lambda: replies() == [(2, b"null")])
    ready.set()
    await until(lambda: replies() == [(2, b"null"), (0, b"[]")])
    server.close()
    await loops.stop()
    observer.connection.close()
