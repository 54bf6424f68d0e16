"""The one engine of all three locks: an object in the hub, a record of epochs beside it, and ``judge``.

Expected flow of an acquisition: the judge allows it; the next epoch is noted in the record of epochs (so that it is never used
again, whatever becomes of the lock); the lock is written over the version that was judged; the tenure is noted in the record. Only
the second of these decides: whoever loses it has burnt a number and nothing else.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Callable

import msgspec

from raycp.base.clock import Clock
from raycp.kube import KubeError
from raycp.kube.budget import LIVE, URGENT
from raycp.leadership.epoch import Acquisition, Leadership, allocate, later, note, read_source, told_by
from raycp.leadership.locks.homes import Home
from raycp.leadership.locks.judge import State, Verdict, judge
from raycp.leadership.locks.observation import Observer
from raycp.leadership.locks.pods import KubePods
from raycp.leadership.locks.types import Confirmed, Holding, Identity, Kind, LockProblem, PodRef, Waiting
from raycp.leadership.records import Conflict, Record, Records

log = logging.getLogger(__name__)

PROOF_TIMEOUT = 1.5
LOOK_ANYWAY = 15.0
"""A candidate's watch may be stalled: it looks at the lock so often, in seconds, though it heard of nothing."""
TRIES = 5
"""Of a write that others keep outrunning."""


class Pods:
    """What a lock asks of Pods; this one knows of none (``KubePods`` does)."""

    async def until_gone(self, pod: PodRef) -> None:
        """See ``PodWatch``."""
        await asyncio.Event().wait()

    async def mine(self, pod: PodRef | None) -> PodRef | None:
        """``pod`` if it can own the lock: it exists, in this cluster and the lock's namespace."""
        return None


class Pace(msgspec.Struct, frozen=True):
    """Waits between attempts, in seconds: they double from ``least`` to ``most``, a share ``jitter`` of each at random."""

    least: float = 0.1
    most: float = 2.0
    jitter: float = 0.2

    def wait(self, failures: int, rng: random.Random) -> float:
        """After so many failures in a row, at least one."""
        whole = min(self.most, self.least * 2.0 ** min(failures - 1, 30))
        return whole * (1.0 - self.jitter * rng.random())


class KubeLock:
    """``Lock``. ``source`` names the record of epochs."""

    def __init__(
        self,
        kind: Kind,
        home: Home,
        records: Records,
        source: str,
        clock: Clock,
        *,
        pace: Pace | None = None,
        every: float = 1.0,
        pods: Pods | KubePods | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.kind: Kind = kind
        self.where = home.where
        self.every = every
        self._home = home
        self._records = records
        self._source = source
        self._clock = clock
        self._pace = pace or Pace()
        self._pods: Pods | KubePods = pods or Pods()
        self._rng = rng or random.Random()
        self._owner: PodRef | None = None
        self._proved = float("-inf")
        self._last: State | None = None
        """The object as it was last read or written as ours."""
        self._noted: Record | None = None
        """The record of epochs as it was last written."""

    # to become the holder

    async def acquire(
        self, me: Identity, permit: float, living_epoch: int = 0, told: Callable[[Waiting], None] | None = None
    ) -> Acquisition:
        """See ``Lock``."""
        failures, knocks, last = 0, 0, ""
        async with Observer(self._home, self._pods, self._clock, self._pace.most) as seen:
            while True:
                try:
                    source = await self._records.read(self._source)
                    sight = seen.sight(told_by(source))
                    verdict = judge(self.kind, self.where, sight, me, permit, self._clock.now())
                    if verdict.take:
                        return await self._take(me, permit, living_epoch, source, sight.state, verdict)
                    failures = 0
                except Conflict:
                    # Somebody was faster. What there is now will be seen; not all come back at once.
                    failures += 1
                    await self._clock.sleep(self._pace.wait(failures, self._rng))
                    await seen.refresh()
                    continue
                except (KubeError, LockProblem, TimeoutError) as error:
                    failures += 1
                    verdict = Verdict(False, why=str(error) or type(error).__name__)
                    last = self._tell(told, last, verdict.why, None)
                    await self._clock.sleep(self._pace.wait(failures, self._rng))
                    await seen.refresh()
                    continue
                last = self._tell(told, last, seen.problem or verdict.why, sight.state)
                wait = min(LOOK_ANYWAY, max(0.01, verdict.again - self._clock.now()))
                if verdict.knock and sight.state is not None:
                    # Not at once: a holder that has just answered lives. Candidates don't knock in step.
                    knocks += 1
                    wait = min(wait, self._pace.wait(knocks, self._rng))
                changed = await seen.changed(wait)
                if changed:
                    continue
                if verdict.knock and sight.state is not None:
                    await self._knock(me, sight.state)
                await seen.refresh()

    def _tell(self, told: Callable[[Waiting], None] | None, last: str, why: str, state: State | None) -> str:
        if why != last:
            log.info("waiting for the lock: %s", why)
        if told is not None:
            held = state.leadership if state is not None else None
            told(Waiting(why, held.holder if held else "", held.since if held else 0.0))
        return why

    async def _take(
        self, me: Identity, permit: float, living: int, source: Record | None, over: State | None, verdict: Verdict
    ) -> Acquisition:
        held = None if over is None else over.leadership
        allotted = await allocate(self._records, self._source, source, held, me.home, living, self._clock.wall())
        before = allotted.before
        mine = Leadership(allotted.epoch, allotted.incarnation, me.holder, allotted.since, permit, home=me.home, lock=self.kind)
        owner = self._owner = await self._pods.mine(me.pod)
        sent = self._clock.now()
        self._last = await self._home.write(State(mine, owner=owner), over)
        self._proved = sent
        told = await note(self._records, self._source, mine, allotted.record)
        noted, self._noted = told.before, told.record
        proved = sent if over is not None else None
        longest = permit if before is None or before.released else max(permit, before.permit)
        if allotted.going_on:
            # A living fleet goes on in its epoch: its own members are waited for one by one (``Ledger``).
            return Acquisition(mine, 0.0, longest, proved)
        wait = verdict.wait
        if noted is not None and not noted.released and noted.home != me.home and (held is None or noted.pair != held.pair):
            # Somebody else came and went since the lock was judged: whoever grants permits has noted its tenure before.
            wait = max(wait, permit, noted.permit)
        return Acquisition(mine, wait, longest, proved)

    async def _knock(self, me: Identity, state: State) -> None:
        knock = f"{me.holder} {self._rng.getrandbits(48):012x}"
        with contextlib.suppress(Conflict, KubeError):
            await self._home.write(msgspec.structs.replace(state, knock=knock), state)

    # to stay it

    async def confirm(self, mine: Leadership) -> Confirmed:
        """See ``Lock``. One that was asked for a sign of life gives it before it takes itself for confirmed: no proof is newer than
        an unanswered question."""
        timeout = proof_timeout(mine.permit, self.every)
        async with asyncio.timeout(2 * timeout):
            for _ in range(TRIES):
                sent = self._clock.now()
                state = await self._home.read(URGENT, timeout)
                try:
                    found = await self._confirmed(mine, state, sent)
                except Conflict:
                    continue
                if found.leadership is mine:
                    self._proved = sent
                return found
        raise Conflict(f"{self.where} is written by others all the time")

    async def _confirmed(self, mine: Leadership, state: State | None, now: float) -> Confirmed:
        if state is None:
            log.warning("%s was deleted: it is made again", self.where)
            return await self._restored(mine, None, 0.0)
        if state.stranger:
            raise LockProblem(f"{self.where} {state.stranger}; remove it, or take it over with `raycp leader unlock`")
        known = state.leadership
        if known.pair == mine.pair and known.holder == mine.holder:
            if known.released:
                return Confirmed(known)
            self._owner, self._last = state.owner, state
            if now - self._proved > mine.permit and (other := await self._outlived(mine)) is not None:
                return Confirmed(other)  # frozen or cut off, and the lock is of then: restored from a backup meanwhile
            if state.knock != state.answer or self.kind == "lease":
                self._last = await self._write(mine, msgspec.structs.replace(state, answer=state.knock))
            return Confirmed(mine)
        if known.pair >= mine.pair:
            return Confirmed(known)
        # Older than ours: restored from a backup. A rival may have taken the restored one and been granted leave by now.
        log.warning("%s is older than our own epoch %d: it is written again", self.where, mine.epoch)
        return await self._restored(mine, state, 0.0 if known.home == mine.home else max(mine.permit, known.permit))

    async def _restored(self, mine: Leadership, over: State | None, wait: float) -> Confirmed:
        """Write a lock that was lost; unless another has led since, which the record of epochs tells: whoever grants permits has
        noted its tenure before, so a look after the write misses nobody."""
        before = await self._outlived(mine)
        if before is not None:
            return Confirmed(before)
        await self._write(mine, over)
        after = await self._outlived(mine)
        return Confirmed(mine, wait) if after is None else Confirmed(after)

    async def _outlived(self, mine: Leadership) -> Leadership | None:
        """Who has led since, by the record of epochs."""
        source = await read_source(self._records, self._source)
        return source if source is not None and source.pair > mine.pair else None

    async def _write(self, mine: Leadership, over: State | None) -> State:
        state = (
            State(mine, owner=self._owner) if over is None else msgspec.structs.replace(over, leadership=mine, owner=self._owner)
        )
        return await self._home.write(state, over, URGENT, proof_timeout(mine.permit, self.every))

    async def amend(self, mine: Leadership, permit: float) -> Leadership:
        """See ``Lock``."""
        new = msgspec.structs.replace(mine, permit=permit)
        for _ in range(TRIES):
            state = await self._home.read()
            if state is None or state.leadership.pair != mine.pair or state.leadership.holder != mine.holder:
                raise Conflict(f"{self.where} is not ours")
            with contextlib.suppress(Conflict):
                self._last = await self._home.write(msgspec.structs.replace(state, leadership=new), state)
                self._noted = (await note(self._records, self._source, new)).record
                return new
        raise Conflict(f"{self.where} is written by others all the time")

    # to give it up

    async def release(self, mine: Leadership, successor: str = "") -> None:
        """See ``Lock``. Two writes, over what was last seen here: work waits for them."""
        known, self._last = self._last, None
        for _ in range(TRIES):
            state, known = known or await self._home.read(), None
            if state is None or state.stranger or state.leadership.pair != mine.pair or state.leadership.holder != mine.holder:
                return
            released = msgspec.structs.replace(state.leadership, released=True, successor=successor)
            try:
                await self._home.write(State(released, answer=state.answer), state)
            except Conflict:
                continue
            with contextlib.suppress(Conflict):  # the next one has begun already, and has noted it
                await note(self._records, self._source, released, self._noted)
            return
        raise Conflict(f"{self.where} is written by others all the time")

    async def unlock(self, told: str) -> Holding | None:
        """See ``Lock``."""
        for _ in range(TRIES):
            state = await self._home.read()
            source = await read_source(self._records, self._source)
            try:
                if state is not None:
                    await self._home.delete(state)
                last = later(source, state.leadership if state is not None and not state.stranger else None)
                if last is not None and not last.released:
                    # Nobody's any more; but its permits may live, and its numbers are used.
                    gone = msgspec.structs.replace(last, holder=f"{last.holder}, unlocked by {told}", lock=self.kind)
                    await note(self._records, self._source, gone)
            except Conflict:
                continue
            return None if state is None else _holding(state)
        raise Conflict(f"{self.where} is written by others all the time")

    # to look at it

    async def holder(self) -> Holding | None:
        """See ``Lock``."""
        state = await self._home.read(LIVE)
        return None if state is None else _holding(state)

    async def watch(self) -> AsyncIterator[Holding | None]:
        """See ``Lock``."""
        async with Observer(self._home, self._pods, self._clock, self._pace.most) as seen:
            while True:
                state = seen.sight(None).state
                yield None if state is None else _holding(state)
                while not await seen.changed(60.0):
                    pass


def proof_timeout(permit: float, every: float) -> float:
    """Deadline of one request of a proof, in seconds: short, so that one lost answer does not end all permits."""
    return max(0.25, min(PROOF_TIMEOUT, (permit - every) / 2))


def _holding(state: State) -> Holding:
    return Holding(state.leadership, state.owner, state.stranger)
