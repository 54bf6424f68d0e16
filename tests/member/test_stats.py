"""What a member tells the observer last is taken in before it ends."""

import asyncio

import msgspec
from inprocess import CLOCK, HOST, plan_of, until

from raycp.base.loops import Loops
from raycp.member.stats import LAST_WITHIN, StatsReporter
from raycp.metrics import Metrics
from raycp.protocol.frames import Answered, Hello, Message, Question, Stats
from raycp.protocol.members import Member, Role
from raycp.protocol.plan import ObserverPlan
from raycp.protocol.report import Report
from raycp.protocol.transport import Connection, listen


class Observer:
    """Hears; answers when it is told to."""

    def __init__(self) -> None:
        self.heard: list[Message] = []
        self.connection: Connection | None = None

    def accept(self, connection: Connection, hello: Hello) -> "Observer":
        self.connection = connection
        return self

    def received(self, message: Message) -> None:
        self.heard.append(message)

    def lost(self) -> None: ...

    def asked(self) -> bool:
        """Stats, and after them the question whether they were heard."""
        kinds = [type(message) for message in self.heard]
        return Question in kinds and kinds[0] is Stats


async def test_the_last_word_is_heard_before_the_end() -> None:
    observer, loops = Observer(), Loops(CLOCK)
    server, port = await listen(HOST, "t", observer.accept)
    teller = StatsReporter(Member(Role.WORKER, "standard/0", 0), CLOCK, loops, Metrics(), lambda: Report(1, "node"))
    teller.update(msgspec.structs.replace(plan_of({"here": "0"}, "tracked"), observer=ObserverPlan(HOST, port)))
    last = asyncio.ensure_future(teller.last())
    await until(observer.asked)
    assert not last.done(), "it may have to handle a thousand frames before this one"
    assert observer.connection is not None
    observer.connection.send(Answered(0, b"null"))
    await asyncio.wait_for(last, LAST_WITHIN / 2)

    observer.heard.clear()
    begun = CLOCK.now()
    last = asyncio.ensure_future(teller.last())
    await until(observer.asked)
    observer.connection.close()
    await asyncio.wait_for(last, 5.0)
    assert CLOCK.now() - begun < LAST_WITHIN, "who is gone is not waited for"

    observer.heard.clear()
    await asyncio.wait_for(teller.last(), 5.0)
    assert observer.asked(), "one that never answers does not hold up the end"
    server.close()
    await loops.stop()
    observer.connection.close()
