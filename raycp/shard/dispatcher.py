"""The shard's side of its workers: who is connected, how much credit each has, who holds what, who is dead.

A hand-out never expires under a living worker. A lost connection proves nothing: the worker's port is asked, and only a refusal
(its process is gone, law 6f) returns its keys. A new primary hands nothing out before every worker of the plan has told what it
still has in work, or is gone.
"""

import asyncio
import contextlib
import logging
import math
from typing import TYPE_CHECKING

from raycp.base.keys import RequestKey
from raycp.base.tasks import Task
from raycp.protocol.frames import CallOutcome, Culprit, Fold, Hello, Message, Pull, Read, Revoke, Tasks, TokenRequest, Welcome
from raycp.protocol.plan import Plan
from raycp.protocol.transport import Connection, Life, probe
from raycp.shard.handouts import why_held
from raycp.shard.tokens import Asked

if TYPE_CHECKING:
    from raycp.shard.core import ShardCore

log = logging.getLogger(__name__)

BATCH = 64
PROBE_EVERY = 0.1
PROBE_SLOWLY = 1.0
ROLL_CALL_MARGIN = 0.5
"""Beyond ``leader.permit``, how long a new primary waits for workers of the plan that do not come: by then each of them has pulled
a permit, and with it the news of this term, or has none (law 6g). In seconds."""

HELD_FOR = 120.0
"""A key that another primary's hand-out still runs is kept back for at most this long after its worker was last heard."""


class WorkerSeat:
    """One worker, over reconnections."""

    def __init__(self, conductor: "Dispatcher", name: str) -> None:
        self.name = name
        self.credit = 0
        self.slots = 0
        self.prefer: str | None = None
        self.address = ("", 0)
        self.in_flight: set[int] = set()
        self.foreign: dict[int, RequestKey] = {}
        self.culprits: dict[int, str] = {}
        self.connection: Connection | None = None
        self.dead = False
        self._conductor = conductor

    def received(self, message: Message) -> None:
        """A frame of this worker."""
        shard = self._conductor.shard
        if isinstance(message, Pull):
            for done in message.done:
                self.in_flight.discard(done.id)
                self.foreign.pop(done.id, None)
                shard.handouts.done(self, done)
                if shard.tokens.active:
                    shard.tokens.took_back(self.name, done)
            self.credit += message.credit
            self.slots = max(self.slots, self.credit + len(self.in_flight))
            self._conductor.dispatch_soon()
        elif isinstance(message, Read):
            self.send(shard.read(message))
        elif isinstance(message, Fold):
            self.send(shard.fold_for(message))
        elif isinstance(message, TokenRequest):
            connection = self.connection
            gone = lambda: connection is None or self.connection is not connection  # noqa: E731
            shard.tokens.ask(Asked(self.name, message, shard.clock.now(), self.send, gone))
        elif isinstance(message, CallOutcome):
            shard.isolation.fared(message)
        elif isinstance(message, Culprit):
            self.culprits.update(dict.fromkeys(message.ids, message.error))

    def send(self, message: Message) -> None:
        """Queue a frame."""
        if self.connection is not None:
            self.connection.send(message)

    def lost(self) -> None:
        """The connection ended; the conductor finds out what that means."""
        self.connection = None
        self.credit = 0
        self._conductor.connection_lost(self)


class Dispatcher:
    """See the module."""

    def __init__(self, shard: "ShardCore") -> None:
        self.shard = shard
        self.paused = False
        self._seats: dict[str, WorkerSeat] = {}
        self._scheduled = False
        self._expected: set[str] | None = None
        self._asked_at = 0.0
        self._patience = math.inf
        self._pauses = 0
        self._credit = asyncio.Event()
        self._sooner = asyncio.Event()
        shard.state.queue.on_due_changed = self._sooner.set
        shard.loops.forever(self._pump, "hand-out")

    def update(self, plan: Plan) -> None:
        """The plan's workers; the first plan with a term begins the roll-call."""
        listed = {worker.member: worker for worker in plan.workers}
        if self._expected is None and self.shard.state.term:
            # The first primary of a shard has no predecessor whose hand-outs could still run.
            # Who has said hello before we knew our term has told what it has in work.
            self._expected = set(listed) - set(self._seats) if self.shard.state.term > 1 else set()
            self._asked_at = self.shard.clock.now()
        elif self._expected:
            self._expected &= set(listed)
            self._expected -= set(plan.gone)
        self._patience = plan.fleet.doc.spec.leader.permit + ROLL_CALL_MARGIN
        for name in plan.gone:
            seat = self._seats.get(name)
            if seat is not None and not seat.dead:
                self._gone(seat)
        for worker in plan.workers:
            if self._expected and worker.member in self._expected and worker.member not in self._seats:
                self.shard.loops.spawn(self._roll_call(worker.member, worker.host, worker.port), f"roll-call of {worker.member}")
        self.dispatch_soon()

    async def _roll_call(self, name: str, host: str, port: int) -> None:
        """Strike a worker off that is dead for certain, or that does not come."""
        while self._expected and name in self._expected:
            gone = await probe(host, port) is Life.DEAD
            if gone or self.shard.clock.now() - self._asked_at > self._patience:
                if not gone:
                    log.warning("%s did not tell what it has in work; going on without it", name)
                self._expected.discard(name)
                self.dispatch_soon()
                return
            await self.shard.clock.sleep(PROBE_EVERY)

    # workers come and go

    def accept(self, connection: Connection, hello: Hello) -> WorkerSeat:
        """A worker says hello, for the first time or again."""
        seat = self._seats.get(hello.member)
        if seat is None or seat.dead:
            seat = self._seats[hello.member] = WorkerSeat(self, hello.member)
        if seat.connection is not None:
            seat.connection.abandon()
        seat.connection = connection
        self.shard.tokens.worker_returned(seat.name)
        seat.credit = 0
        seat.prefer = hello.prefer or None
        seat.address = (hello.host, hello.port)
        running = dict(hello.in_flight)
        for identity in [identity for identity in seat.in_flight if identity not in running]:
            # Sent and never heard of there, or acknowledged into a broken connection: once more.
            seat.in_flight.discard(identity)
            self.shard.handouts.returned(seat, identity)
        for identity in [identity for identity in seat.foreign if identity not in running]:
            self.shard.state.queue.release(seat.foreign.pop(identity), why_held(seat.name, identity))
        for identity, key in running.items():
            if identity not in seat.in_flight and identity not in seat.foreign:
                seat.foreign[identity] = key
                self.shard.state.queue.hold(key, why_held(seat.name, identity), timeout=HELD_FOR)
        if self._expected:
            self._expected.discard(hello.member)
        seat.send(Welcome(self.shard.shard, self.shard.state.epoch, self.shard.state.term, self.shard.account.states()))
        self.dispatch_soon()
        return seat

    def connection_lost(self, seat: WorkerSeat) -> None:
        """TokenRequest the worker's port until it is dead for certain, or it is back."""
        if not seat.dead:
            self.shard.loops.spawn(self._inquire(seat), f"inquiry into {seat.name}")

    async def _inquire(self, seat: WorkerSeat) -> None:
        wait = PROBE_EVERY
        while seat.connection is None and not seat.dead:
            if await probe(*seat.address) is Life.DEAD and seat.connection is None:
                self._gone(seat)
                return
            await self.shard.clock.sleep(wait)
            wait = min(PROBE_SLOWLY, wait * 1.5)

    def _gone(self, seat: WorkerSeat) -> None:
        """Its process is dead, or may write no more: what it had in work returns."""
        seat.dead = True
        if self._seats.get(seat.name) is seat:
            del self._seats[seat.name]
        if seat.connection is not None:
            connection, seat.connection = seat.connection, None
            connection.close()
        log.warning("%s is gone: %d of its keys return", seat.name, len(seat.in_flight) + len(seat.foreign))
        for identity, key in seat.foreign.items():
            self.shard.state.queue.release(key, why_held(seat.name, identity))
        self.shard.handouts.worker_lost(seat, seat.culprits)
        self.shard.tokens.worker_lost(seat.name)

    def broadcast(self, message: Message) -> None:
        """To all workers."""
        for seat in self._seats.values():
            seat.send(message)

    # handing out

    @property
    def open(self) -> bool:
        """Whether anything may be handed out at all."""
        return (
            bool(self.shard.state.epoch and self.shard.state.term)
            and not self._expected
            and self._expected is not None
            and not self.paused
            and self.shard.permits.look()
            and self.shard.permits.epoch <= self.shard.state.epoch
            and self.shard.permits.term_of(self.shard.shard) <= self.shard.state.term
        )

    @property
    def foreign(self) -> int:
        """Hand-outs of primaries before this one that still run."""
        return sum(len(seat.foreign) for seat in self._seats.values())

    def pause(self, limit: float) -> None:
        """Hand out nothing, for a hand-over; after ``limit`` seconds it has failed and handing out goes on."""
        self.paused = True
        self._pauses += 1
        asyncio.get_running_loop().call_later(limit, self._resume_if, self._pauses)

    def _resume_if(self, pause: int) -> None:
        if self.paused and pause == self._pauses:
            log.warning("the hand-over was not completed; going on")
            self.resume()

    def resume(self) -> None:
        """Hand out again."""
        self.shard.permits.resume()
        self.paused = False
        self._pauses += 1
        self.dispatch_soon()

    def revoke_all(self) -> int:
        """TokenRequest for everything back that is in work; how many there were."""
        revoked = 0
        for seat in self._seats.values():
            if seat.in_flight:
                revoked += len(seat.in_flight)
                seat.send(Revoke(list(seat.in_flight)))
        return revoked

    def dispatch_soon(self) -> None:
        """Hand out at the end of this turn of the loop, once for all that happens in it."""
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._dispatch)

    def _dispatch(self) -> None:
        self._scheduled = False
        if not self.open:
            return
        seats = [seat for seat in self._seats.values() if seat.credit > 0 and seat.connection is not None]
        seats.sort(key=lambda seat: seat.credit, reverse=True)
        for seat in seats:
            while seat.credit > 0:
                items = self.shard.state.queue.pull(seat.name, min(seat.credit, BATCH), prefer=seat.prefer, slots=seat.slots)
                if not items:
                    break
                tasks: list[Task] = []
                for item in items:
                    task = self.shard.handouts.make_task(item)
                    if task is None:
                        self.shard.state.queue.done(seat.name, item.key, id=item.id)
                        continue
                    if self.shard.tokens.active:
                        self.shard.tokens.lend(seat.name, task)
                    tasks.append(task)
                    seat.in_flight.add(task.id)
                    self.shard.state.timelines.handed_out(item.key, worker=seat.name, attempt=item.attempt, waited=item.waited)
                seat.credit -= len(tasks)
                if tasks:
                    seat.send(Tasks(tasks))
        if any(seat.credit > 0 for seat in self._seats.values()):
            self._credit.set()
        else:
            self._credit.clear()

    async def _pump(self) -> None:
        """Wake up for delayed items; what becomes ready otherwise calls ``dispatch_soon`` itself."""
        await self._credit.wait()
        if not self.open:
            await self.shard.clock.sleep(0.05)  # ready items of a closed shard would keep this turning
            return
        queue = self.shard.state.queue
        self._sooner.clear()
        wait = queue.next_due() - self.shard.clock.now()
        if wait > 0.0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._sooner.wait(), min(wait, 5.0))
            return
        queue.promote()
        self._dispatch()
        await asyncio.sleep(0.001)
