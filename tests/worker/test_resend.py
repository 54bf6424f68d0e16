"""Law 6g at the worker's end: what a shard may not have taken in is told again before it, or its successor, hands the keys out."""

import asyncio
import contextlib
import socket
from collections.abc import Sequence

import fleet_samples as samples
from inprocess import CLOCK, HOST, holds, stack, until

from raycp.base.keys import RequestKey
from raycp.base.loops import Loops
from raycp.base.tasks import Done, Outcome, Task, Written
from raycp.protocol.frames import Fold, Hello, Message, Pull, Tasks, Welcome
from raycp.protocol.members import Member, Role
from raycp.protocol.plan import ShardPlan
from raycp.protocol.transport import HELLO_TIMEOUT, Connection, listen
from raycp.worker import shard_link
from raycp.worker.shard_link import ShardLink

KEY = RequestKey("c", "here", "default", "a")
WRITE = Written("here", "v1/Secret", "default", "a-child", "u", 7, b"{}")


class Worker:
    """A link's owner."""

    def __init__(self) -> None:
        self.member = Member(Role.WORKER, "standard/0", 0)
        self.clock = CLOCK
        self.loops = Loops(CLOCK)

    def hello_facts(self, shard: str) -> tuple[str, int, str, list[tuple[int, Task]]]:
        return HOST, 1, "standard", []

    def tasks(self, link: ShardLink, tasks: Sequence[Task]) -> None: ...

    def revoke(self, link: ShardLink, ids: Sequence[int]) -> None: ...

    def changed(self) -> None: ...


class Shard:
    """Takes frames in while it is ``awake``; a frozen one's kernel takes them, and nobody reads them."""

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


async def test_what_was_sent_to_a_frozen_primary_is_told_to_its_successor() -> None:
    worker, frozen, successor = Worker(), Shard(), Shard()
    server, port = await listen(HOST, "secret", frozen.accept)
    other, other_port = await listen(HOST, "secret", successor.accept)
    link = ShardLink(worker, "0", ShardPlan("0", "m", 1, HOST, port), "secret")
    link.set_credit(1)
    await until(lambda: link.connected)
    link.finished(ack(1))
    await until(lambda: [done.id for done in frozen.done] == [1])
    begun = CLOCK.now()
    await until(lambda: CLOCK.now() - begun > shard_link.REPEATED + 0.1)
    assert frozen.connection is not None
    frozen.connection.send(Tasks([]))  # it lives: what it was told a second ago it has taken in
    heard = link._heard
    await until(lambda: link._heard > heard)
    frozen.awake = False
    link.finished(ack(2))
    call = asyncio.ensure_future(link.call(lambda identity: Fold(identity, [WRITE], KEY), 30.0))
    begun = CLOCK.now()
    await until(lambda: CLOCK.now() - begun > shard_link.REPEATED + 0.3, what="longer than what is repeated of a living one")
    link.retarget(ShardPlan("0", "n", 2, HOST, other_port), "secret")
    await until(lambda: [done.id for done in successor.done] == [2], 5.0)
    assert successor.hello[0].in_flight == [(2, KEY)], "the key is held until then"
    assert [fold.writes for fold in successor.folds] == [[WRITE]], "another key's writes too"
    assert successor.order.index("Fold") < successor.order.index("Pull")
    call.cancel()
    await link.close()
    await worker.loops.stop()
    server.close()
    other.close()


async def test_a_successor_is_dialled_while_its_predecessor_lets_one_wait() -> None:
    """Its node is cut off: no connection, and no refusal."""
    worker, successor = Worker(), Shard()
    other, other_port = await listen(HOST, "secret", successor.accept)
    with contextlib.ExitStack() as full:
        cut = full.enter_context(socket.create_server((HOST, 0), backlog=0))
        for _ in range(2):  # what does not fit into its backlog is not answered
            each = full.enter_context(socket.socket())
            each.setblocking(False)
            each.connect_ex(cut.getsockname())
        link = ShardLink(worker, "0", ShardPlan("0", "m", 1, HOST, cut.getsockname()[1]), "secret")
        await until(lambda: link._dialing is not None)
        await holds(lambda: link._dialing is not None, 0.2)
        link.retarget(ShardPlan("0", "n", 2, HOST, other_port), "secret")
        await until(lambda: link.connected, HELLO_TIMEOUT / 2)
    await link.close()
    await worker.loops.stop()
    other.close()


async def test_what_was_sent_into_a_broken_connection_is_told_again() -> None:
    worker, shard = Worker(), Shard()
    server, port = await listen(HOST, "secret", shard.accept)
    link = ShardLink(worker, "0", ShardPlan("0", "m", 1, HOST, port), "secret")
    link.set_credit(1)
    await until(lambda: link.connected)
    shard.awake = False
    link.finished(ack(1))
    await holds(lambda: not shard.done, 0.05)
    shard.awake = True
    assert shard.connection is not None
    shard.connection.abandon()
    await until(lambda: [done.id for done in shard.done] == [1], 5.0)
    assert shard.hello[1].in_flight == [(1, KEY)]
    await link.close()
    await worker.loops.stop()
    server.close()


async def test_a_key_that_ended_at_one_worker_and_runs_at_another_stays_held() -> None:
    """A hot key: its acknowledgement by the first worker is repeated to the new primary while a second worker has it in work."""
    async with stack(["stubborn"], workers=2) as fleet:
        await fleet.put("here", "stubborn", "hot")
        await until(lambda: samples.RAN)
        key = RequestKey("stubborn", "here", "default", "hot")
        runs = next(n for n in (0, 1) if fleet.worker(n)._runs)
        ended = fleet.worker(1 - runs)
        link = ended._links["0"]
        # It had the key before the other, and its acknowledgement was not heard.
        link._sent.append((CLOCK.now() + 60.0, Done(12345, key, Outcome.OK, 0.0, writes=[])))
        await fleet.kill("shard", "0")
        core = await fleet.new_shard("0")
        await fleet.tell(core.member, fleet.worker(runs).member)
        seats = core.conductor._seats
        holder = fleet.worker(runs).member.actor_name
        await until(lambda: holder in seats and seats[holder].foreign, what="the one that runs it has said so")
        await fleet.tell()
        other = ended.member.actor_name
        await until(
            lambda: other in seats and core.conductor.open and not seats[other].foreign, what="and the other has told again"
        )
        await holds(lambda: not samples.OVERLAPS, 0.3)
        assert seats[holder].foreign
        samples.OPEN["hot"] = True
        await until(lambda: len(samples.RAN) == 2, 5.0, "interrupted under the old term, run again")
        assert not samples.OVERLAPS
