"""Hand-outs: workers with credit receive queued keys, and return them with their acknowledgements.

A hand-out never expires under a living worker. It ends by an acknowledgement, by the worker's report that it never arrived or that
it does not have it (``handout_audit``), or by the certain death of the worker's process (``rollcall``). A worker that does not
answer gets nothing more (``silence``). The shard's quarantine worker gets suspects only, one at a time (``quarantine``).

Every step is about one key: what fails for it is an error of that key, and takes no other key and no credit with it.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from raycp.base.clock import Clock
from raycp.base.keys import RequestKey
from raycp.base.tasks import ApiCall, Done, Outcome
from raycp.base.text import message_of
from raycp.metrics.recorder import scrub_error
from raycp.protocol.frames import (
    Culprit,
    Fold,
    Held,
    Hello,
    LivenessReply,
    Message,
    Pull,
    Read,
    Reply,
    ReplyCode,
    Revoke,
    Unsendable,
    encode,
    task_token,
)
from raycp.protocol.members import Member
from raycp.protocol.transport import Connection
from raycp.queueing import Item
from raycp.shard.handouts import WorkerSeat
from raycp.shard.identity import ShardIdentity
from raycp.shard.ledger import Ledger
from raycp.shard.own_writes import OwnWrites
from raycp.shard.read_pages import ReadPages
from raycp.shard.silence import BLOCKED, Silence
from raycp.shard.suspects import Death
from raycp.shard.tasks import HandOuts, TaskMaker
from raycp.shard.tokens import Tokens

log = logging.getLogger(__name__)

BATCH = 64
"""Hand-outs in one frame."""

REVOKED_AT_ONCE = 10_000
"""Hand-outs that one frame revokes."""

UNSEEN_WRITE = 2.0
"""Seconds to hold a key for a write that its object's shard did not confirm (law 8)."""

HELD_FOR = 120.0
"""Seconds after its worker's last report for which a key of a predecessor's hand-out is held."""


class HandOutPermits(Protocol):
    """``PermitKeeper``, as the dispatcher needs it."""

    def covers(self, shard: str, epoch: int, term: int) -> bool: ...


class Asides(Protocol):
    """Frames of a worker that are not about its hand-outs."""

    def read(self, worker: str, read: Read) -> Reply: ...

    def other(self, seat: WorkerSeat, message: Message) -> None: ...


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
        rests: ReadPages,
    ) -> None:
        self.seats: dict[str, WorkerSeat] = {}
        self.paused = False
        """During a hand-over, and while draining."""
        self.expected: set[str] | None = None
        """Workers that the roll-call waits for; None before it began."""
        self.unseen: set[int] = set()
        """Hand-outs that are acknowledged, and wait for a write to arrive in the cache."""
        self.on_lost: Callable[[WorkerSeat], None] = lambda seat: None
        self.on_held: Callable[[WorkerSeat, Held], None] = lambda seat, held: None
        """A worker reports what it has."""
        self.large: Mapping[RequestKey, str] = {}
        """Keys that no worker can be given."""
        self.on_large: Callable[[Done], None] = lambda done: None
        """One of these was acknowledged, or one that belongs to them."""
        self.on_suspects: Callable[[], None] = lambda: None
        """Called when suspects are due, and when none is any more."""
        self._suspects_due = False
        self._clock = clock
        self._ledger = ledger
        self._queue = ledger.queue
        self._tasks = tasks
        self._handouts = HandOuts[WorkerSeat](ledger, tasks, tokens, rests, self._acknowledged)
        self._writes = writes
        self._tokens = tokens
        self._identity = identity
        self._permits = permits
        self._asides = asides
        self._calls = calls
        self._rests = rests
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = math.inf
        self._queue.on_due_changed = self._arm

    # workers

    def seat(self, connection: Connection, hello: Hello) -> WorkerSeat:
        """A worker connects, for the first time or again, and names its open hand-outs."""
        seat = self.seats.get(hello.member)
        if seat is None or seat.dead:
            seat = self.seats[hello.member] = WorkerSeat(hello.member, self)
        if seat.connection is not None:
            seat.connection.abandon()
        seat.connection = connection
        self._tokens.worker_returned(seat.name)
        self._rests.disconnected(seat.name)
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
            self.give_back(seat, identity, "its hand-out did not arrive")
        seat.in_flight = dict.fromkeys(seat.in_flight, 0)
        seat.reported, seat.revoked = set(), {}
        for identity in [identity for identity in seat.foreign if identity not in running]:
            self.release(seat, identity)
        for identity, key in running.items():
            if identity in seat.in_flight or identity in seat.foreign:
                continue
            if identity not in self.unseen and self._ledger.keys_of([identity]):
                seat.in_flight[identity] = 0  # its acknowledgement came, and could not be handled
            else:
                seat.foreign[identity] = key
                self._ledger.held(key, why_held(seat.name, identity), HELD_FOR)
        return seat

    def give_back(self, seat: WorkerSeat, identity: int, error: str) -> None:
        """A living worker does not have this hand-out: its key returns."""
        del seat.in_flight[identity]
        self._rests.drop(seat.name, task_token(identity))
        self._ledger.returned(identity, error)

    def release(self, seat: WorkerSeat, identity: int) -> None:
        """A living worker does not have this hand-out of an earlier primary: its key is held no longer."""
        self._ledger.released(seat.foreign.pop(identity), why_held(seat.name, identity))

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
        self._rests.forget(seat.name)
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

    def broadcast(self, bodies: list[bytes]) -> None:
        """Encoded frames, to all workers."""
        for seat in self.seats.values():
            for body in bodies:
                seat.write(body)

    def revoke_all(self) -> int:
        """Revoke all open hand-outs. Returns how many."""
        revoked = 0
        for seat in self.seats.values():
            revoked += len(seat.in_flight)
            self.revoke(seat, list(seat.in_flight))
        return revoked

    @staticmethod
    def revoke(seat: WorkerSeat, ids: list[int]) -> None:
        """Revoke these hand-outs of ``seat``."""
        for start in range(0, len(ids), REVOKED_AT_ONCE):
            seat.send(Revoke(ids[start : start + REVOKED_AT_ONCE]))

    # acknowledgements

    def received(self, seat: WorkerSeat, message: Message) -> None:
        """A worker's frame: credit and acknowledgements, or something else."""
        if isinstance(message, Pull):
            if message.done:
                seat.silence.heard_at = self._clock.now()
            seat.credit += message.credit
            for done in message.done:
                self._acknowledged(seat, done)
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
            seat.write(self._read(seat, message))
        elif isinstance(message, Fold):
            seat.send(self._writes.answer(message))
        elif isinstance(message, Held):
            self.on_held(seat, message)
        else:
            self._asides.other(seat, message)

    def _acknowledged(self, seat: WorkerSeat, done: Done) -> None:
        seat.in_flight.pop(done.id, None)
        seat.foreign.pop(done.id, None)
        arrived = True
        try:
            if self._rests.unfinished:
                self._rests.drop(seat.name, task_token(done.id))
            if done.calls:
                self._calls(done.calls)
            arrived = not done.writes or self._writes.fold_all(done.writes, done.key)
            if self._tokens.active:
                self._tokens.acknowledged(seat.name, done)
        except Exception:
            log.exception("an acknowledgement of %s could not be handled completely", done.key)
        if arrived:
            self._ended(seat, done)
        else:
            self.unseen.add(done.id)
            asyncio.get_running_loop().call_later(UNSEEN_WRITE, self._ended, seat, done)

    def _ended(self, seat: WorkerSeat, done: Done) -> None:
        self.unseen.discard(done.id)
        mine = False
        try:
            if done.error:  # an author's or an API server's words: timeline, status and observer show them
                done.error = scrub_error(done.error)
            version = self._tasks.version_after(done) if done.writes and done.outcome is Outcome.OK else None
            mine = self._ledger.ended(done, version)
        except Exception:  # the audit ends it
            log.exception("the end of a hand-out of %s could not be recorded", done.key)
        if not mine:
            # A hand-out of an earlier primary, held until now (law 6g).
            self._ledger.released(done.key, why_held(seat.name, done.id))
        if done.too_large or done.key in self.large:
            self.on_large(done)
        self.dispatch_soon()

    def _read(self, seat: WorkerSeat, read: Read) -> bytes:
        """The answer to a read, as a frame: whatever fails, the one who asked gets an answer."""
        try:
            return encode(self._asides.read(seat.name, read))
        except Exception as error:
            if not isinstance(error, Unsendable):
                log.exception("a read of %s failed", seat.name)
            return encode(Reply(read.id, error=f"the shard could not answer: {message_of(error)}", code=ReplyCode.FAILED))

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
            while seat.credit > 0 and not seat.congested:
                wanted = min(seat.credit, BATCH)
                items = self._ledger.pull(seat.name, wanted, prefer=seat.prefer, slots=seat.slots)
                self._hand_out(seat, items, now)
                if len(items) < wanted:
                    break  # nothing more can be pulled now

    def _hand_out(self, seat: WorkerSeat, items: Iterable[Item], now: float) -> None:
        if not seat.in_flight:
            seat.silence.heard_at = now  # it was idle: its silence begins now
        self._handouts.send(seat, items)

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
        try:
            self._queue.promote()
            self.dispatch()
        finally:
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
