"""Law 6g at the worker: frames that a shard may not have received are resent before it, or its successor, hands the keys out."""

import asyncio
import contextlib
import socket
from collections.abc import Sequence

import fleet_samples as samples
from channels import listening
from inprocess import CLOCK, HOST, holds, stack, until
from worker_links import link_to

from raycp.base.keys import RequestKey
from raycp.base.loops import Loops
from raycp.base.tasks import Done, Outcome, Task, Written
from raycp.protocol.channels import DIAL_TIMEOUT
from raycp.protocol.frames import Fold, Hello, Message, Pull, Tasks, Welcome
from raycp.protocol.plan import ShardPlan
from raycp.protocol.transport import Connection
from raycp.worker.resends import RESEND_WINDOW
from raycp.worker.shard_link import InFlight, ShardLink

KEY = RequestKey("c", "here", "default", "a")
WRITE = Written("here", "v1/Secret", "default", "a-child", "u", 7, b"{}")


class Worker:
    """A link's runs: there are none."""

    def __init__(self) -> None:
        self.loops = Loops(CLOCK)

    def link(self, port: int) -> ShardLink:
        return link_to(ShardPlan("0", "m", 1, HOST, port), self, self.loops)

    def in_flight(self, shard: str) -> InFlight:
        return []

    def start(self, link: ShardLink, tasks: Sequence[Task]) -> None: ...

    def revoke(self, link: ShardLink, ids: Sequence[int]) -> None: ...


class Shard:
    """Processes frames while it is ``awake``; a frozen one's kernel accepts them, and no code reads them."""

    def __init__(self) -> None:
        self.awake = True
        self.hello: list[Hello] = []
        self.done: list[Done] = []
        self.folds: list[Fold] = []
        self.order: list[str] = []
        self.connection: Connection | None = None

    def accept(self, connection: Connection, hello: Hello) -> "Shard":
        self.connection = connection
        self.hello.append(hello)
        connection.send(Welcome("0", 1, 1, []))
        return self

    def received(self, message: Message) -> None:
        if not self.awake:
            return
        self.order.append(type(message).__name__)
        if isinstance(message, Pull):
            self.done += message.done
        elif isinstance(message, Fold):
            self.folds.append(message)

    def lost(self) -> None: ...


def ack(identity: int) -> Done:
    return Done(identity, KEY, Outcome.OK, 0.0, writes=[WRITE])


async def test_frames_sent_to_a_frozen_primary_are_resent_to_its_successor() -> None:
    worker, frozen, successor = Worker(), Shard(), Shard()
    server = await listening(frozen.accept)
    other = await listening(successor.accept, "n")
    link = worker.link(server.port)
    link.set_credit(1)
    await until(lambda: link.connected)
    link.finished(ack(1))
    await until(lambda: [done.id for done in frozen.done] == [1])
    begun = CLOCK.now()
    await until(lambda: CLOCK.now() - begun > RESEND_WINDOW + 0.1)
    assert frozen.connection is not None
    frozen.connection.send(Tasks([]))  # it lives: it has processed what was sent a second ago
    received = link.resends.last_received
    await until(lambda: link.resends.last_received > received)
    frozen.awake = False
    link.finished(ack(2))
    call = asyncio.ensure_future(link.call(lambda identity: Fold(identity, [WRITE], KEY), 30.0))
    begun = CLOCK.now()
    await until(lambda: CLOCK.now() - begun > RESEND_WINDOW + 0.3, what="longer than the window of a live primary")
    link.retarget(ShardPlan("0", "n", 2, HOST, other.port))
    await until(lambda: [done.id for done in successor.done] == [2])
    assert successor.hello[0].in_flight == [(2, KEY)], "the key is held until then"
    assert [fold.writes for fold in successor.folds] == [[WRITE]], "another key's writes too"
    assert successor.order.index("Fold") < successor.order.index("Pull")
    call.cancel()
    await link.close()
    await worker.loops.stop()
    server.close()
    other.close()


async def test_a_link_connects_to_a_successor_while_its_predecessor_neither_accepts_nor_refuses() -> None:
    """The predecessor's node is partitioned."""
    worker, successor = Worker(), Shard()
    other = await listening(successor.accept, "n")
    with contextlib.ExitStack() as full:
        cut = full.enter_context(socket.create_server((HOST, 0), backlog=0))
        for _ in range(2):  # connections beyond the backlog get no answer
            each = full.enter_context(socket.socket())
            each.setblocking(False)
            each.connect_ex(cut.getsockname())
        link = worker.link(cut.getsockname()[1])
        await until(lambda: link.dialing)
        await holds(lambda: link.dialing, 0.2)
        link.retarget(ShardPlan("0", "n", 2, HOST, other.port))
        await until(lambda: link.connected, DIAL_TIMEOUT / 2)
    await link.close()
    await worker.loops.stop()
    other.close()


async def test_frames_sent_into_a_broken_connection_are_resent() -> None:
    worker, shard = Worker(), Shard()
    server = await listening(shard.accept)
    link = worker.link(server.port)
    link.set_credit(1)
    await until(lambda: link.connected)
    shard.awake = False
    link.finished(ack(1))
    await holds(lambda: not shard.done, 0.05)
    shard.awake = True
    assert shard.connection is not None
    shard.connection.abandon()
    await until(lambda: [done.id for done in shard.done] == [1])
    assert shard.hello[1].in_flight == [(1, KEY)]
    await link.close()
    await worker.loops.stop()
    server.close()


async def test_a_key_in_work_stays_held_when_another_worker_resends_an_older_acknowledgement() -> None:
    """A hot key: the first worker resends its acknowledgement to the new primary while a second worker has the key in work."""
    async with stack(["stubborn"], workers=2) as fleet:
        await fleet.put("here", "stubborn", "hot")
        await until(lambda: samples.RAN)
        key = RequestKey("stubborn", "here", "default", "hot")
        runs = next(n for n in (0, 1) if fleet.worker(n).runs)
        ended = fleet.worker(1 - runs)
        link = ended.links["0"]
        # It had the key before the other, and its acknowledgement may be lost.
        link.resends.add_done(Done(12345, key, Outcome.OK, 0.0, writes=[]))
        await fleet.kill("shard", "0")
        core = await fleet.new_shard("0")
        await fleet.configure(core.member, fleet.worker(runs).member)
        seats = core.dispatcher.seats
        holder = fleet.worker(runs).member.actor_name
        await until(lambda: holder in seats and seats[holder].foreign, what="the worker that runs it has connected")
        await fleet.configure()
        other = ended.member.actor_name
        await until(lambda: other in seats and core.dispatcher.open and not seats[other].foreign, what="and the other has resent")
        await holds(lambda: not samples.OVERLAPS, 0.3)
        assert seats[holder].foreign
        samples.OPEN["hot"] = True
        await until(lambda: len(samples.RAN) == 2, what="interrupted under the old term, run again")
        assert not samples.OVERLAPS
