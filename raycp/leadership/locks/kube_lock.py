"""The implementation of all three locks: an object in the hub, a record of epochs beside it, and ``eligibility``.

Expected flow of an acquisition: the candidate is eligible; the next epoch is allocated in the record of epochs (so that it is never
used again, whatever becomes of the lock); the lock is written over the version that was judged; the leadership is noted in the
record. Only the write of the lock decides: a candidate that loses it has used up a number and nothing else.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Callable

import msgspec

from raycp.base.clock import Clock
from raycp.base.loops import Loops
from raycp.kube import KubeError
from raycp.kube.budget import LIVE, URGENT
from raycp.leadership.answers import NamespaceMissing
from raycp.leadership.epoch import Acquisition, Leadership, allocate, later, leadership_of, note, read_leadership
from raycp.leadership.locks.eligibility import Eligibility, LockState, Observation, eligibility
from raycp.leadership.locks.lock_watch import LockWatch
from raycp.leadership.locks.pods import KubePods
from raycp.leadership.locks.stores import LockStore
from raycp.leadership.locks.types import Confirmed, EpochFloor, FloorStore, Holding, Identity, Kind, LockProblem, PodRef, Waiting
from raycp.leadership.records import Conflict, Record, Records

log = logging.getLogger(__name__)

PROOF_TIMEOUT = 1.5
POLL_ANYWAY = 15.0
"""Seconds between two reads of a lock that does not change: a candidate's watch may be stalled."""

TRIES = 5
"""Of a write that conflicts."""

FLOOR_WITHIN = 1.5
"""Seconds for which an acquisition waits for the floor to be raised: a hub that keeps no floor has a leader all the same."""


class Pods:
    """The Pods of a lock that no Pod owns; see ``KubePods`` for others."""

    async def until_ended(self, pod: PodRef) -> None:
        """See ``PodWatch``."""
        await asyncio.Event().wait()

    async def mine(self, pod: PodRef | None) -> PodRef | None:
        """``pod`` if it can own the lock: it exists, in this cluster and the lock's namespace."""
        return None


class Pace(msgspec.Struct, frozen=True):
    """Waits between attempts, in seconds: they double from ``least`` to ``most``; a share ``jitter`` of each is random."""

    least: float = 0.1
    most: float = 2.0
    jitter: float = 0.2

    def wait(self, failures: int, rng: random.Random) -> float:
        """After so many failures in a row, at least one."""
        whole = min(self.most, self.least * 2.0 ** min(failures - 1, 30))
        return whole * (1.0 - self.jitter * rng.random())


class KubeLock:
    """``Lock``. ``epochs`` names the record of epochs, ``floor`` is where its floor stands as well."""

    def __init__(
        self,
        kind: Kind,
        store: LockStore,
        records: Records,
        epochs: str,
        clock: Clock,
        *,
        pace: Pace | None = None,
        every: float = 1.0,
        pods: Pods | KubePods | None = None,
        rng: random.Random | None = None,
        floor: FloorStore | None = None,
        loops: Loops | None = None,
    ) -> None:
        self.kind: Kind = kind
        self.where = store.where
        self.every = every
        self._store = store
        self._records = records
        self._epochs = epochs
        self._clock = clock
        self._pace = pace or Pace()
        self._pods: Pods | KubePods = pods or Pods()
        self._rng = rng or random.Random()
        self._owner: PodRef | None = None
        self._proved = float("-inf")
        self._others_end = float("-inf")
        """When permits of other leaders have ended: a release says that none is valid."""
        self._last: LockState | None = None
        """The object as it was last read or written as ours."""
        self._noted: Record | None = None
        """The record of epochs as it was last written."""
        self._floor = floor
        self._loops = loops or Loops(clock)
        self._deleted = False
        """Whether the lock was missing at the last proof."""
        self._unnoted = False
        """Whether the record of epochs may be lost, since the lock was."""
        self._amended: Leadership | None = None
        """What ``amend`` recorded last, or is about to: a proof that began before it writes this as well."""

    # acquisition

    async def acquire(
        self, me: Identity, permit: float, living_epoch: int = 0, waits: Callable[[Waiting], None] | None = None
    ) -> Acquisition:
        """See ``Lock``."""
        failures, knocks, last = 0, 0, ""
        async with LockWatch(self._store, self._pods, self._clock, self._pace.most, self._loops) as seen:
            while True:
                try:
                    record, floor = await self._recorded()
                    found = seen.observation(leadership_of(record), floor)
                    verdict = eligibility(self.kind, self.where, found, me, permit, self._clock.now())
                    if verdict.eligible:
                        return await self._take(me, permit, living_epoch, record, found, verdict.wait)
                    failures = 0
                except Conflict:
                    # Another candidate wrote first: read what there is now, and not all candidates at the same time.
                    failures += 1
                    await self._clock.sleep(self._pace.wait(failures, self._rng))
                    await seen.refresh()
                    continue
                except (KubeError, LockProblem, TimeoutError) as error:
                    failures += 1
                    if isinstance(error, NamespaceMissing):
                        error = await self._make_namespace() or error
                    verdict = Eligibility(False, why=str(error) or type(error).__name__)
                    last = self._report(waits, last, verdict.why, None)
                    await self._clock.sleep(self._pace.wait(failures, self._rng))
                    await seen.refresh()
                    continue
                last = self._report(waits, last, seen.problem or verdict.why, found.state)
                wait = min(POLL_ANYWAY, max(0.01, verdict.recheck_at - self._clock.now()))
                if verdict.knock and found.state is not None:
                    # Not at once: a holder that has just answered lives. And candidates must not knock at the same time.
                    knocks += 1
                    wait = min(wait, self._pace.wait(knocks, self._rng))
                changed = await seen.changed(wait)
                if changed:
                    continue
                if verdict.knock and found.state is not None:
                    await self._knock(me, found.state)
                await seen.refresh()

    def _report(self, waits: Callable[[Waiting], None] | None, last: str, why: str, state: LockState | None) -> str:
        if why != last:
            log.info("waiting for the lock: %s", why)
        if waits is not None:
            held = state.leadership if state is not None else None
            waits(Waiting(why, held.holder if held else "", held.since if held else 0.0))
        return why

    async def _recorded(self, *, both: bool = False) -> tuple[Record | None, EpochFloor | None]:
        """The record of epochs, and the floor where it is known. Without a record, or for ``both``, the floor has to be known.
        Raises ``KubeError``, ``TimeoutError``."""
        if self._floor is None:
            return await self._records.read(self._epochs), None
        record, floor = await asyncio.gather(self._records.read(self._epochs), self._floor.read(), return_exceptions=True)
        if isinstance(record, BaseException):
            raise record
        if isinstance(floor, LockProblem):
            floor = None  # without the right to read it there is none; keep_floor reports that
        elif isinstance(floor, BaseException):
            if both or record is None or not isinstance(floor, (KubeError, TimeoutError)):
                raise floor
            floor = None
        return record, floor

    async def _make_namespace(self) -> KubeError | TimeoutError | None:
        """Create the namespace of the fleet's state; why that was not possible."""
        try:
            await self._records.ensure_namespace()
        except (KubeError, TimeoutError) as error:
            return error
        return None

    async def _take(
        self, me: Identity, permit: float, living: int, record: Record | None, seen: Observation, wait: float
    ) -> Acquisition:
        over, least = seen.state, seen.floor.pair if seen.floor is not None else (0, 0)
        held = None if over is None else over.leadership
        allocated = await allocate(self._records, self._epochs, record, held, me.home, living, self._clock.wall(), least)
        before = allocated.before
        wait = max(wait, self._others_end - self._clock.now())  # of an attempt before, which wrote and was overtaken
        # The longest of the permits that may be valid: who replaces us while we wait for a predecessor's waits as long.
        longer = max(permit, wait)
        mine = Leadership(allocated.epoch, allocated.incarnation, me.holder, allocated.since, longer, home=me.home, lock=self.kind)
        owner = self._owner = await self._pods.mine(me.pod)
        sent = self._clock.now()
        self._last = await self._store.write(LockState(mine, owner=owner), over)
        self._proved = sent
        noted, floor_wait = await asyncio.gather(
            note(self._records, self._epochs, mine, allocated.record), self._raise_floor(mine, seen.floor)
        )
        self._noted = noted.record
        wait = max(wait, floor_wait)
        proved = sent if over is not None else None
        longest = permit if before is None or before.released else max(permit, before.permit)
        if allocated.continues:
            # A living fleet continues its epoch: the permit ledger waits for its own members one by one.
            self._others_end = self._clock.now() + floor_wait
            return Acquisition(mine, floor_wait, longest, proved)
        other = noted.before
        if other is not None and not other.released and other.home != me.home and (held is None or other.pair != held.pair):
            # Another leader led after the lock was judged: a leader notes its leadership before it grants permits.
            wait = max(wait, permit, other.permit)
        self._others_end = self._clock.now() + wait
        if wait > mine.permit:
            mine = await self.amend(mine, wait)
        return Acquisition(mine, wait, longest, proved)

    async def _raise_floor(self, mine: Leadership, judged: EpochFloor | None) -> float:
        """Raise the floor before anything is granted; the seconds to wait for permits of a leader that it shows. Lock and record
        can be created twice where the namespace was deleted in between; the floor can't: one that is not as it was ``judged`` means
        that another leader has led meanwhile. Raises ``Conflict`` where its numbers are not below ours."""
        if self._floor is None:
            return 0.0
        try:
            async with asyncio.timeout(FLOOR_WITHIN):
                before = await self._floor.raise_to(EpochFloor.of(mine))
        except LockProblem as error:
            log.warning("%s", error)
            return 0.0  # without the right there is no floor; keep_floor reports that
        except (KubeError, Conflict, TimeoutError) as error:
            log.warning("the floor of the epochs was not raised to %d: %s", mine.epoch, str(error) or type(error).__name__)
            return mine.permit
        if before is None or before == judged:
            return 0.0
        if before.pair >= mine.pair:
            raise Conflict(f"{before.holder} has led in epoch {before.epoch} meanwhile")
        return 0.0 if before.home == mine.home else max(mine.permit, before.permit)

    async def keep_floor(self, mine: Leadership) -> None:
        """See ``Lock``."""
        if self._floor is not None:
            await self._floor.read()
            await self._floor.raise_to(EpochFloor.of(mine))

    async def _knock(self, me: Identity, state: LockState) -> None:
        knock = f"{me.holder} {self._rng.getrandbits(48):012x}"
        with contextlib.suppress(Conflict, KubeError):
            await self._store.write(msgspec.structs.replace(state, knock=knock), state)

    # proof

    async def confirm(self, mine: Leadership) -> Confirmed:
        """See ``Lock``. A holder answers a knock before it counts as confirmed: no proof is newer than an unanswered knock."""
        timeout = proof_timeout(mine.permit, self.every)
        async with asyncio.timeout(2 * timeout):
            for _ in range(TRIES):
                sent = self._clock.now()
                state = await self._store.read(URGENT, timeout)
                try:
                    found = await self._confirmed(mine, state, sent)
                except Conflict:
                    continue
                if found.leadership is mine:
                    self._proved = sent
                return found
        raise Conflict(f"{self.where} is written by other clients all the time")

    async def _confirmed(self, mine: Leadership, state: LockState | None, now: float) -> Confirmed:
        if state is None:
            if not self._deleted:
                log.warning("%s was deleted: it is created again", self.where)
            self._deleted = self._unnoted = True
            return await self._restored(mine, None, 0.0)
        self._deleted = False
        if state.foreign:
            raise LockProblem(f"{self.where} {state.foreign}; remove it, or take it over with `raycp leader unlock`")
        known = state.leadership
        if known.pair == mine.pair and known.holder == mine.holder:
            if known.released:
                return Confirmed(known)
            self._owner = state.owner
            await self._note_again(mine)
            # Unread for long, or written by others: a later leader may have had it, before it was restored from an older backup.
            if now - self._proved > mine.permit:
                other = await self._led_since(mine)
            elif self._last is None or self._last.version != state.version:
                other = await self._noted_since(mine)
            else:
                other = None
            if other is not None:
                return Confirmed(other)
            self._last = state
            if state.knock != state.answer or self.kind == "lease":
                self._last = await self._write(mine, msgspec.structs.replace(state, answer=state.knock))
            return Confirmed(mine)
        if known.pair >= mine.pair:
            return Confirmed(known)
        # Older than ours: restored from a backup. Another candidate may have acquired the restored lock, and granted permits.
        log.warning("%s is older than our own epoch %d: it is written again", self.where, mine.epoch)
        return await self._restored(mine, state, 0.0 if known.home == mine.home else max(mine.permit, known.permit))

    async def _restored(self, mine: Leadership, over: LockState | None, wait: float) -> Confirmed:
        """Write a lock that was lost, unless another leader has led since by the record of epochs. A leader notes its leadership
        before it grants permits, so the read after the write misses none."""
        before = await self._led_since(mine)
        if before is not None:
            return Confirmed(before)
        try:
            self._last = await self._write(mine, over)
        except NamespaceMissing:
            await self._records.ensure_namespace()
            self._last = await self._write(mine, over)
        after = await self._led_since(mine)
        if after is not None:
            return Confirmed(after)
        await self._note_again(mine)
        self._others_end = max(self._others_end, self._clock.now() + wait)
        return Confirmed(mine, wait)

    async def _note_again(self, mine: Leadership) -> None:
        """Where the lock was lost, the record of epochs may be, too. Raises ``Conflict`` where a later leader has noted itself."""
        if not self._unnoted:
            return
        known = await read_leadership(self._records, self._epochs)
        if known is None or known.pair != mine.pair or known.holder != mine.holder:
            self._noted = (await note(self._records, self._epochs, self._newest(mine))).record
        self._unnoted = False

    async def _led_since(self, mine: Leadership) -> Leadership | None:
        """The leader after ``mine``, by the record of epochs or, where that is lost, by the floor."""
        record, floor = await self._recorded(both=True)
        led = leadership_of(record)
        if floor is not None and floor.holder == mine.holder:
            floor = None  # its pair may be above ours all the same: an incarnation of an epoch before
        if floor is not None and floor.pair > mine.pair and (led is None or led.pair <= mine.pair):
            epoch, incarnation = floor.pair
            return Leadership(epoch, incarnation, floor.holder, mine.since, floor.permit, home=floor.home, lock=self.kind)
        return led if led is not None and led.pair > mine.pair else None

    async def _noted_since(self, mine: Leadership) -> Leadership | None:
        """The same where the floor is needed only if the record is lost: a candidate's knock must not tie the proof to both."""
        led = await read_leadership(self._records, self._epochs)
        if led is None:
            return await self._led_since(mine)
        return led if led.pair > mine.pair else None

    async def _write(self, mine: Leadership, over: LockState | None) -> LockState:
        mine = self._newest(mine)
        state = LockState(mine, owner=self._owner)
        if over is not None:
            state = msgspec.structs.replace(over, leadership=mine, owner=self._owner)
        return await self._store.write(state, over, URGENT, proof_timeout(mine.permit, self.every))

    def _newest(self, mine: Leadership) -> Leadership:
        """``mine``, with the permit of its last amendment."""
        amended = self._amended
        return amended if amended is not None and (amended.pair, amended.holder) == (mine.pair, mine.holder) else mine

    async def amend(self, mine: Leadership, permit: float) -> Leadership:
        """See ``Lock``."""
        new = msgspec.structs.replace(mine, permit=permit)
        if permit > self._newest(mine).permit:
            self._amended = new  # before the write: a proof that reads what this writes must not write the shorter one again
        for _ in range(TRIES):
            state = await self._store.read()
            if state is None or state.leadership.pair != mine.pair or state.leadership.holder != mine.holder:
                raise Conflict(f"{self.where} is not ours")
            with contextlib.suppress(Conflict):
                self._last = await self._store.write(msgspec.structs.replace(state, leadership=new), state)
                self._amended = new
                self._noted = (await note(self._records, self._epochs, new)).record
                with contextlib.suppress(KubeError, LockProblem, Conflict, TimeoutError):
                    await self.keep_floor(new)
                return new
        raise Conflict(f"{self.where} is written by other clients all the time")

    # release

    async def release(self, mine: Leadership, successor: str = "") -> None:
        """See ``Lock``. Two writes without a read before them: the fleet's work waits for them. First, all permits have ended
        that the acquisition was told to wait for: whoever takes a released lock waits for none.
        """
        await self._clock.sleep(max(0.0, self._others_end - self._clock.now()))
        known, self._last = self._last, None
        for _ in range(TRIES):
            state, known = known or await self._store.read(), None
            if state is None or state.foreign or state.leadership.pair != mine.pair or state.leadership.holder != mine.holder:
                return
            released = msgspec.structs.replace(state.leadership, released=True, successor=successor)
            try:
                await self._store.write(LockState(released, answer=state.answer), state)
            except Conflict:
                continue
            with contextlib.suppress(Conflict):  # the next leader has noted its leadership already
                await note(self._records, self._epochs, released, self._noted)
            return
        raise Conflict(f"{self.where} is written by other clients all the time")

    async def unlock(self, by: str) -> Holding | None:
        """See ``Lock``."""
        for _ in range(TRIES):
            state = await self._store.read()
            record = await read_leadership(self._records, self._epochs)
            try:
                if state is not None:
                    await self._store.delete(state)
                last = later(record, state.leadership if state is not None and not state.foreign else None)
                if last is not None and not last.released:
                    # It has no holder from now on; but permits may be valid, and its numbers are used.
                    unlocked = msgspec.structs.replace(last, holder=f"{last.holder}, unlocked by {by}", lock=self.kind)
                    await note(self._records, self._epochs, unlocked)
            except Conflict:
                continue
            return None if state is None else _holding(state)
        raise Conflict(f"{self.where} is written by other clients all the time")

    # readers

    async def holder(self) -> Holding | None:
        """See ``Lock``."""
        state = await self._store.read(LIVE)
        return None if state is None else _holding(state)

    async def watch(self) -> AsyncIterator[Holding | None]:
        """See ``Lock``."""
        async with LockWatch(self._store, self._pods, self._clock, self._pace.most, self._loops) as seen:
            while True:
                state = seen.observation(None).state
                yield None if state is None else _holding(state)
                while not await seen.changed(60.0):
                    pass


def proof_timeout(permit: float, every: float) -> float:
    """Deadline of one request of a proof, in seconds: short, so that one lost answer does not end all permits."""
    return max(0.25, min(PROOF_TIMEOUT, (permit - every) / 2))


def _holding(state: LockState) -> Holding:
    return Holding(state.leadership, state.owner, state.foreign)
