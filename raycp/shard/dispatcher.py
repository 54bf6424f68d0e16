"""Hand-outs: workers with credit receive queued keys, and return them with their acknowledgements.

A hand-out never expires under a living worker. It ends by an acknowledgement, by the worker's report that it never arrived, or by
the certain death of the worker's process (``rollcall``). A worker that does not answer gets nothing more (``silence``). The shard's
quarantine worker gets suspects only, one at a time (``quarantine``).
"""

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from raycp.base.clock import Clock
from raycp.base.keys import RequestKey
from raycp.base.tasks import ApiCall, Done, Outcome, Task
from raycp.protocol.frames import Culprit, Fold, Hello, LivenessReply, Message, Pull, Read, Reply, Revoke, Tasks
from raycp.protocol.members import Member
from raycp.protocol.transport import Connection
from raycp.queueing import Item
from raycp.shard.identity import ShardIdentity
from raycp.shard.ledger import Ledger
from raycp.shard.own_writes import OwnWrites
from raycp.shard.silence import BLOCKED, Silence
from raycp.shard.suspects import Death
from raycp.shard.tasks import TaskMaker
from raycp.shard.tokens import Tokens

BATCH = 64
"""Hand-outs in one frame."""

UNSEEN_WRITE = 2.0
"""Seconds to hold a key for a write that its object's shard did not confirm (law 8)."""

HELD_FOR = 120.0
"""Seconds after its worker's last report for which a key of a predecessor's hand-out is held."""


class HandOutPermits(Protocol):
    """``PermitKeeper``, as the dispatcher needs it."""

    def covers(self, shard: str, epoch: int, term: int) -> bool: ...


class Asides(Protocol):
    """Frames of a worker that are not about its hand-outs."""

    def read(self, read: Read) -> Reply: ...

    def other(self, seat: "WorkerSeat", message: Message) -> None: ...


class WorkerSeat:
    """One worker, over reconnections. ``credit``: hand-outs that it takes now; ``foreign``: those of earlier primaries; ``alone``:
    whether it is this shard's quarantine worker; ``blocked``: whether it had not answered when its connection broke."""

    def __init__(self, dispatcher: "Dispatcher", name: str) -> None:
        self.name = name
        self.credit = 0
        self.slots = 0
        self.prefer: str | None = None
        self.address = ("", 0)
        self.in_flight: set[int] = set()
        self.foreign: dict[int, RequestKey] = {}
        self.culprits: list[Culprit] = []
        self.silence = Silence()
        self.alone = False
        self.blocked = False
        self.connection: Connection | None = None
        self.dead = False
        self._dispatcher = dispatcher

    def received(self, message: Message) -> None:
        """A frame of this worker."""
        self._dispatcher.received(self, message)

    def send(self, message: Message) -> None:
        """Queue a frame; dropped where the worker is not connected."""
        if self.connection is not None:
            self.connection.send(message)

    def lost(self) -> None:
        """The connection ended; ``on_lost`` finds out why."""
        self.connection = None
        self.credit = 0
        self._dispatcher.lost(self)


class Dispatcher:
    """See the module."""

    def __init__(
        self,
        clock: Clock,
        ledger: Ledger,
        tasks: TaskMaker,
        writes: OwnWrites,
        tokens: Tokens,
        identity: ShardIdentity,
        permits: HandOutPermits,
        asides: Asides,
        calls: Callable[[list[ApiCall]], None],
    ) -> None:
        self.seats: dict[str, WorkerSeat] = {}
        self.paused = False
        """During a hand-over, and while draining."""
        self.expected: set[str] | None = None
        """Workers that the roll-call waits for; None before it began."""
        self.on_lost: Callable[[WorkerSeat], None] = lambda seat: None
        self.on_suspects: Callable[[], None] = lambda: None
        """Called when suspects are due, and when none is any more."""
        self._suspects_due = False
        self._clock = clock
        self._ledger = ledger
        self._queue = ledger.queue
        self._tasks = tasks
        self._writes = writes
        self._tokens = tokens
        self._identity = identity
        self._permits = permits
        self._asides = asides
        self._calls = calls
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = math.inf
        self._queue.on_due_changed = self._arm

    # workers

    def seat(self, connection: Connection, hello: Hello) -> WorkerSeat:
        """A worker connects, for the first time or again, and names its open hand-outs."""
        seat = self.seats.get(hello.member)
        if seat is None or seat.dead:
            seat = self.seats[hello.member] = WorkerSeat(self, hello.member)
        if seat.connection is not None:
            seat.connection.abandon()
        seat.connection = connection
        self._tokens.worker_returned(seat.name)
        member = Member.parse(hello.member)
        seat.alone = member is not None and member.slot.quarantine == self._identity.shard
        seat.silence, seat.blocked = Silence(), False
        seat.silence.answers = hello.answers
        seat.credit = 0
        seat.prefer = hello.prefer or None
        seat.address = (hello.host, hello.port)
        running = dict(hello.in_flight)
        for identity in [identity for identity in seat.in_flight if identity not in running]:
            # Not received there, or acknowledged into a broken connection: hand it out again.
            seat.in_flight.discard(identity)
            self._ledger.returned(identity, "its hand-out did not arrive")
        for identity in [identity for identity in seat.foreign if identity not in running]:
            self._ledger.released(seat.foreign.pop(identity), why_held(seat.name, identity))
        for identity, key in running.items():
            if identity not in seat.in_flight and identity not in seat.foreign:
                seat.foreign[identity] = key
                self._ledger.held(key, why_held(seat.name, identity), HELD_FOR)
        return seat

    def lost(self, seat: WorkerSeat) -> None:
        """The connection of a worker has ended."""
        seat.blocked = seat.silence.unanswered(self._clock.now()) >= BLOCKED
        self.on_lost(seat)

    def worker_died(self, seat: WorkerSeat, *, fenced: bool = False) -> None:
        """Its process is certainly dead, or ``fenced``: its hand-outs return (see ``Ledger.died``)."""
        seat.dead = True
        if self.seats.get(seat.name) is seat:
            del self.seats[seat.name]
        if seat.connection is not None:
            connection, seat.connection = seat.connection, None
            connection.close()
        mine = self._ledger.keys_of(seat.in_flight)
        death = self._death(seat, {**mine, **seat.foreign}, fenced)
        self._ledger.died(death, mine, {why_held(seat.name, identity): key for identity, key in seat.foreign.items()})
        self._tokens.worker_lost(seat.name)
        self.dispatch_soon()

    def _death(self, seat: WorkerSeat, keys: Mapping[int, RequestKey], fenced: bool) -> Death:
        """What is known of the cause. A worker whose interpreter is held can't name it: where it had one key in work for the whole
        fleet, that was it."""
        blamed = {keys[i]: each.error for each in seat.culprits if each.certain for i in each.ids if i in keys}
        doubted = {keys[i] for each in seat.culprits if not each.certain for i in each.ids if i in keys}
        if seat.blocked and not fenced and not seat.culprits:
            if len(keys) == 1 and self._identity.only:
                blamed = dict.fromkeys(keys.values(), "its reconcile blocked the worker's process, alone, until that ended itself")
            else:
                doubted = set(keys.values())
        return Death(seat.name, seat.alone, blamed, frozenset(doubted))

    @property
    def open(self) -> bool:
        """Whether this shard may hand out: it is the primary and not paused, the roll-call is complete, and it has a permit of its
        epoch and term. A change of the permit calls back (``PermitKeeper.look``)."""
        identity = self._identity
        if not identity.term or not identity.epoch or self.paused or self.expected is None or self.expected:
            return False
        return self._permits.covers(identity.shard, identity.epoch, identity.term)

    @property
    def foreign(self) -> int:
        """Hand-outs of earlier primaries that still run."""
        return sum(len(seat.foreign) for seat in self.seats.values())

    def broadcast(self, message: Message) -> None:
        """To all workers."""
        for seat in self.seats.values():
            seat.send(message)

    def revoke_all(self) -> int:
        """Revoke all open hand-outs. Returns how many."""
        revoked = 0
        for seat in self.seats.values():
            if seat.in_flight:
                revoked += len(seat.in_flight)
                seat.send(Revoke(list(seat.in_flight)))
        return revoked

    # acknowledgements

    def received(self, seat: WorkerSeat, message: Message) -> None:
        """A worker's frame: credit and acknowledgements, or something else."""
        if isinstance(message, Pull):
            if message.done:
                seat.silence.heard_at = self._clock.now()
            for done in message.done:
                seat.in_flight.discard(done.id)
                seat.foreign.pop(done.id, None)
                if done.calls:
                    self._calls(done.calls)
                if done.writes and not self._writes.fold_all(done.writes, done.key):
                    asyncio.get_running_loop().call_later(UNSEEN_WRITE, self._ended, seat, done)
                else:
                    self._ended(seat, done)
                if self._tokens.active:
                    self._tokens.acknowledged(seat.name, done)
            seat.credit += message.credit
            seat.slots = max(seat.slots, seat.credit + len(seat.in_flight))
            if seat.alone:
                self._ledger.quarantine.stirred = True
            self.dispatch_soon()
        elif isinstance(message, LivenessReply):
            seat.silence.answered(message.number, self._clock.now())
            self.dispatch_soon()
        elif isinstance(message, Culprit):
            seat.culprits.append(message)
        elif isinstance(message, Read):
            seat.send(self._asides.read(message))
        elif isinstance(message, Fold):
            seat.send(self._writes.answer(message))
        else:
            self._asides.other(seat, message)

    def _ended(self, seat: WorkerSeat, done: Done) -> None:
        version = self._tasks.version_after(done) if done.writes and done.outcome is Outcome.OK else None
        if not self._ledger.ended(done, version):
            # A hand-out of an earlier primary, held until now (law 6g).
            self._ledger.released(done.key, why_held(seat.name, done.id))
        self.dispatch_soon()

    # hand-outs

    def dispatch_soon(self) -> None:
        """Hand out at the end of this loop iteration, once for all of its events."""
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self.dispatch)

    def dispatch(self) -> None:
        """Hand out the keys that are ready and allowed now."""
        self._scheduled = False
        if self._ledger.quarantine.stirred:
            self._dispatch_suspects()
        if not self._queue.ready or not self.open:
            return
        now = self._clock.now()
        seats = [seat for seat in self.seats.values() if seat.credit > 0 and not seat.alone and self._answers(seat, now)]
        if len(seats) > 1:
            seats.sort(key=_credit, reverse=True)
        for seat in seats:
            while seat.credit > 0:
                wanted = min(seat.credit, BATCH)
                items = self._ledger.pull(seat.name, wanted, prefer=seat.prefer, slots=seat.slots)
                self._hand_out(seat, items, now)
                if len(items) < wanted:
                    break  # nothing more can be pulled now

    def _hand_out(self, seat: WorkerSeat, items: Iterable[Item], now: float) -> None:
        tasks: list[Task] = []
        for item in items:
            task = self._tasks.make(seat.name, item)
            if task is None:
                self._ledger.dropped(seat.name, item)
                continue
            if self._tokens.active:
                self._tokens.lend(seat.name, task)
            if not seat.in_flight:
                seat.silence.heard_at = now  # it was idle: its silence begins now
            tasks.append(task)
            seat.in_flight.add(task.id)
        seat.credit -= len(tasks)
        if tasks:
            seat.send(Tasks(tasks))

    def _answers(self, seat: WorkerSeat, now: float) -> bool:
        """Whether a worker may get more; one that has to be asked first is asked."""
        if not seat.in_flight or not seat.silence.quiet(now):
            return True
        if (question := seat.silence.question(now)) is not None:
            seat.send(question)
        return False

    def _dispatch_suspects(self) -> None:
        """Give the quarantine worker its next suspect, once it has nothing in work."""
        quarantine, now = self._ledger.quarantine, self._clock.now()
        for seat in self.seats.values():
            if seat.alone and seat.credit > 0 and not seat.in_flight and not seat.foreign and self.open:
                item = quarantine.pull(seat.name)
                if item is not None:
                    self._hand_out(seat, [item], now)
        quarantine.stirred = False
        due = quarantine.due()
        if due != self._suspects_due:
            self._suspects_due = due
            self.on_suspects()

    def sweep(self) -> None:
        """Once a second: ask workers that are silent with work, and look for suspects whose backoff has ended."""
        now = self._clock.now()
        for seat in self.seats.values():
            if seat.in_flight and seat.connection is not None:
                self._answers(seat, now)
        if self._ledger.quarantine.active or self._suspects_due:
            self._dispatch_suspects()

    def _arm(self) -> None:
        """The queue's earliest due time has changed: have the timer ring then."""
        due = self._queue.next_due()
        if self._timer is not None:
            if self._rings_at <= due:
                return
            self._timer.cancel()
            self._timer = None
        if due != math.inf:
            self._rings_at = due
            self._timer = asyncio.get_running_loop().call_later(max(0.0, due - self._clock.now()), self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._queue.promote()
        self.dispatch()
        self._arm()

    def cut(self) -> None:
        """Stop handing out, as the death of this process would."""
        self.paused = True
        if self._timer is not None:
            self._timer.cancel()


def _credit(seat: WorkerSeat) -> int:
    return seat.credit


def why_held(worker: str, identity: int) -> str:
    """The reason for holding a key while a predecessor's hand-out runs: one per hand-out, since a key may have ended at one worker
    and run at another, while neither has reported it."""
    return f"in work at {worker} ({identity})"
