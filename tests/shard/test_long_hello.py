"""A worker that has more in work than fits into a first frame says it in parts; before the last one the shard decides nothing."""

from typing import Any

import pytest
from channels import credentials, listening
from inprocess import CLOCK, HOST, until

from raycp.base.keys import RequestKey
from raycp.base.loops import Loops
from raycp.protocol.frames import Hello, HelloPart, Message, Pull, Refusal, RefusalCode, Welcome
from raycp.protocol.plan import ShardPlan
from raycp.protocol.transport import Connection, Peer
from raycp.shard.long_hello import LongHello
from raycp.worker.shard_link import ShardLink

MANY = [(number, RequestKey("c", "here", "d" * 60, f"{number}-" + "n" * 200)) for number in range(5_000)]


class Seat:
    """What the shard accepts a worker with."""

    def __init__(self) -> None:
        self.hellos: list[Hello] = []
        self.messages: list[Message] = []
        self.ended = False

    def accept(self, connection: Connection, hello: Hello) -> Peer | Refusal:
        if hello.more:
            return LongHello(connection, hello, self.accept)
        self.hellos.append(hello)
        connection.send(Welcome("0", 1, 1, []))
        return self

    def received(self, message: Message) -> None:
        self.messages.append(message)

    def lost(self) -> None:
        self.ended = True


class Busy:
    """A worker with thousands of tasks in work."""

    def start(self, link: Any, tasks: Any) -> None: ...

    def revoke(self, link: Any, ids: Any) -> None: ...

    def in_flight(self, shard: str) -> list[tuple[int, RequestKey]]:
        return MANY


async def test_all_of_it_arrives_in_a_hello() -> None:
    seat, loops = Seat(), Loops(CLOCK)
    server = await listening(seat.accept)
    link = ShardLink(
        "0",
        ShardPlan("0", "m", 1, HOST, server.port),
        credentials=credentials("w"),
        runs=Busy(),
        hello=lambda in_flight: Hello("w", "worker", HOST, 1, "", in_flight),
        clock=CLOCK,
        loops=loops,
        changed=lambda: None,
        states_changed=lambda: None,
    )
    link.set_credit(len(MANY) + 3)
    await until(lambda: seat.messages)
    assert [hello.in_flight for hello in seat.hellos] == [MANY]
    assert seat.messages == [Pull(3)]
    await link.close()
    await until(lambda: seat.ended)
    await loops.stop()
    server.close()


class Line:
    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.closed = False

    def send(self, message: Message) -> None:
        self.sent.append(message)

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("refused", [True, False])
def test_before_the_last_part_nothing_is_decided(refused: bool) -> None:
    line: Any = Line()
    seat, found = Seat(), []

    def accept(connection: Connection, hello: Hello) -> Peer | Refusal:
        found.append(hello.in_flight)
        return Refusal("no", RefusalCode.NOT_PRIMARY) if refused else seat

    waiting = LongHello(line, Hello("w", "worker", HOST, 1, "", MANY[:1], more=True), accept)
    waiting.received(HelloPart(MANY[1:2], more=True))
    waiting.received(Pull(1))
    assert found == []
    waiting.received(HelloPart(MANY[2:3]))
    assert found == [MANY[:3]]
    assert line.closed is refused
    waiting.received(Pull(2))
    assert seat.messages == ([] if refused else [Pull(2)])
    waiting.lost()
    assert seat.ended is not refused
