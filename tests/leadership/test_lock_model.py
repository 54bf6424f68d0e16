"""All three locks against a model of their world: a hub with compare-and-set, watches that lag, answers that are lost; leaders that
freeze at any await, are killed, cut off, or release; a virtual clock. Whatever happens: one writer, rising epochs, no dead end."""

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from raycp.base.clock import VirtualClock
from raycp.kube import KubeError, Unreachable
from raycp.leadership.epoch import Acquisition
from raycp.leadership.locks import Identity, PodRef
from raycp.leadership.locks.eligibility import LockState
from raycp.leadership.locks.kube_lock import KubeLock, Pace, Pods
from raycp.leadership.locks.types import EpochFloor
from raycp.leadership.records import Conflict, Record, Records

PERMIT = 2.0
STEP = 0.25
SAME = (PERMIT,) * 4


class Hub:
    """Objects with versions; which contenders may reach it, and how long that takes."""

    def __init__(self, clock: VirtualClock, seed: int) -> None:
        self.clock = clock
        self.random = random.Random(seed)
        self.states: dict[str, LockState] = {}
        self.data: dict[str, Record] = {}
        self.floor: EpochFloor | None = None
        self.cut: set[str] = set()
        self.frozen: dict[str, asyncio.Event] = {}
        self.pods: set[str] = set()
        self.leaders: list[Leader] = []
        self.permits: dict[str, float] = {}
        """Seconds that the fleet file of each home grants."""
        self.changed = asyncio.Event()
        self._versions = itertools.count(1)

    def idle(self, home: str) -> None:
        """All holders of permits of this fleet have ended."""
        for each in self.leaders:
            if each.home == home:
                each.until = float("-inf")

    def version(self) -> str:
        return str(next(self._versions))

    def notify(self) -> None:
        event, self.changed = self.changed, asyncio.Event()
        event.set()

    async def way(self, who: str) -> None:
        """To the hub or back: takes time, may fail, may be frozen in."""
        delay = self.random.choice((0.0, 0.0, 0.05, 0.3))
        if delay:
            await self.clock.sleep(delay)
        await self.frozen[who].wait()
        if who in self.cut:
            raise Unreachable("cut off", sent=True)


class FakeStore:
    """``LockStore`` of one contender."""

    def __init__(self, hub: Hub, who: str) -> None:
        self.where = "the lock"
        self._hub = hub
        self._who = who

    async def read(self, priority: int = 0, timeout: float | None = None) -> LockState | None:
        await self._hub.way(self._who)
        found = self._hub.states.get("lock")
        await self._hub.way(self._who)
        return found

    async def write(self, state: LockState, over: LockState | None, priority: int = 0, timeout: float | None = None) -> LockState:
        await self._hub.way(self._who)
        known = self._hub.states.get("lock")
        if (known.version if known else None) != (over.version if over else None):
            raise Conflict("the lock")
        uid = known.uid if known else self._hub.version()
        new = msgspec.structs.replace(state, version=self._hub.version(), uid=uid, duration=state.leadership.permit)
        self._hub.states["lock"] = new
        self._hub.notify()
        await self._hub.way(self._who)
        return new

    async def delete(self, over: LockState) -> None:
        await self._hub.way(self._who)
        known = self._hub.states.get("lock")
        if known is None or known.version != over.version:
            raise Conflict("the lock")
        self._hub.states.pop("lock", None)
        self._hub.notify()

    async def follow(self) -> AsyncGenerator[LockState | None, None]:
        while True:
            event = self._hub.changed
            yield await self.read()
            await event.wait()


class FakeRecords(Records):
    """``Records`` of one contender."""

    def __init__(self, hub: Hub, who: str) -> None:
        self._hub = hub
        self._who = who

    async def read(self, what: str, priority: int = 0, timeout: float | None = None) -> Record | None:
        await self._hub.way(self._who)
        found = self._hub.data.get(what)
        await self._hub.way(self._who)
        return found

    async def write(self, what: str, data: dict[str, str], over: Record | None) -> Record:
        await self._hub.way(self._who)
        known = self._hub.data.get(what)
        if (known.version if known else None) != (over.version if over else None):
            raise Conflict(what)
        new = self._hub.data[what] = Record(dict(data), self._hub.version(), "u")
        await self._hub.way(self._who)
        return new

    async def ensure_namespace(self) -> None:
        await self._hub.way(self._who)


class FakeFloor:
    """``FloorStore`` of one contender: nothing deletes it."""

    def __init__(self, hub: Hub, who: str) -> None:
        self._hub = hub
        self._who = who

    async def read(self) -> EpochFloor | None:
        await self._hub.way(self._who)
        found = self._hub.floor
        await self._hub.way(self._who)
        return found

    async def raise_to(self, floor: EpochFloor) -> EpochFloor | None:
        await self._hub.way(self._who)
        before = self._hub.floor
        self._hub.floor = floor.raised(before)
        await self._hub.way(self._who)
        return before


class FakePods(Pods):
    """``Pods`` of one contender."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def until_ended(self, pod: PodRef) -> None:
        while pod.name in self._hub.pods:
            await self._hub.clock.sleep(2 * STEP)

    async def mine(self, pod: PodRef | None) -> PodRef | None:
        return pod


def lock_of(hub: Hub, kind: Any, who: str) -> KubeLock:
    return KubeLock(
        kind, FakeStore(hub, who), FakeRecords(hub, who), "source", hub.clock,
        pace=Pace(0.1, 0.5, 0.2), pods=FakePods(hub), rng=random.Random(hub.random.random()), floor=FakeFloor(hub, who),
    )  # fmt: skip


class Leader:
    """A contender; ``until`` is when its last permit ends. ``living``: the epoch of the fleet that it comes back to, a restarted
    leader of ``home``."""

    def __init__(self, hub: Hub, kind: Any, name: str, home: str = "", living: int = 0) -> None:
        self.name, self.hub = name, hub
        self.home, self.living = home or f"home {name}", living
        self.permit = hub.permits[self.home]
        self.until = float("-inf")
        self.writes = 0
        self.leads = living  # the epoch that its members know: its own, once the waiting for others' permits is over
        self.entered: Acquisition | None = None
        hub.frozen[name] = asyncio.Event()
        hub.frozen[name].set()
        self.pod = PodRef("n", f"pod-{name}", f"uid-{name}") if kind == "configMap" else None
        if self.pod is not None:
            hub.pods.add(self.pod.name)
        self.lock = lock_of(hub, kind, name)
        self.task = asyncio.create_task(self.live())
        hub.leaders.append(self)

    async def live(self) -> None:
        clock, awake = self.hub.clock, self.hub.frozen[self.name]
        while True:
            self.entered = entered = await self.lock.acquire(Identity(self.name, self.home, self.pod), self.permit, self.living)
            not_before = clock.now() + entered.wait
            while True:
                await awake.wait()
                sent = clock.now()
                try:
                    confirmed = await self.lock.confirm(entered.mine)
                    await awake.wait()
                except (KubeError, Conflict, TimeoutError):
                    pass
                else:
                    found = confirmed.leadership
                    if found.pair != entered.mine.pair or found.holder != self.name or found.released:
                        break
                    if confirmed.wait:
                        not_before = clock.now() + confirmed.wait
                    if clock.now() >= not_before:
                        self.writes = self.leads = entered.mine.epoch
                        self.until = max(self.until, sent + self.permit)
                        if entered.mine.permit != self.permit:
                            self.entered = entered = await self.amended(entered)
                await clock.sleep(0.5)
            self.entered, self.living = None, self.leads
            if found.home == self.home:
                return  # another process of the same fleet leads it: this one is history

    async def amended(self, entered: Acquisition) -> Acquisition:
        """With its own permit recorded, after the waiting for a predecessor's longer one."""
        with contextlib.suppress(KubeError, Conflict, TimeoutError):
            return msgspec.structs.replace(entered, mine=await self.lock.amend(entered.mine, self.permit))
        return entered

    def kill(self) -> None:
        self.task.cancel()
        if self.pod is not None:
            self.hub.pods.discard(self.pod.name)

    async def release(self, successor: str) -> None:
        if self.entered is None:
            return
        mine = self.entered.mine
        self.task.cancel()
        self.hub.idle(self.home)
        try:
            await self.lock.release(mine, successor)
        except (KubeError, Conflict):
            self.kill()


ops = st.tuples(
    st.sampled_from(
        [
            "release", "freeze", "thaw", "kill", "restart", "replace", "cut", "mend", "delete", "restore", "wipe", "rewind",
            "unlock", "wait", "wait",
        ]
    ),
    st.integers(0, 3),
    st.floats(0.0, 4.0),
)


# A lock that was given back while its holder still waited for its predecessor's permits: the next one did not wait for them.
HASTY_RELEASE = [("freeze", 1, 0.0), ("release", 0, 3.75), ("restart", 1, 0.0), ("kill", 2, 0.0), ("release", 0, 0.0)]


# The namespace was deleted between what a candidate had read and what it wrote: it created lock and record once more.
WIPED = [("thaw", 2, 0.0), ("wipe", 1, 2.5)]

# A namespace that was restored to an earlier epoch, whose fleet lives and would have continued it.
REWOUND = [
    ("wipe", 3, 4.0), ("release", 1, 0.0), ("wait", 0, 2.5), ("cut", 0, 0.0), ("rewind", 3, 4.0), ("kill", 0, 0.0),
    ("restart", 0, 2.5),
]  # fmt: skip

# The lock was restored to what a process had written that another of its home had replaced, and that had not seen it yet.
RESTORED_TO_A_LIVING_PROCESS = [
    ("wipe", 0, 0.0), ("replace", 1, 0.25), ("delete", 2, 0.0), ("cut", 2, 2.0), ("restore", 3, 2.5),
]  # fmt: skip

# The floor had an earlier epoch of a later incarnation: the leader took the merged numbers for those of its successor.
LATE_EARLY_NUMBERS = [
    ("freeze", 3, 1.0), ("restore", 2, 0.5), ("restore", 0, 0.0), ("restart", 0, 1.0), ("restart", 2, 1.5), ("freeze", 2, 2.0),
    ("restart", 1, 3.75), ("release", 1, 3.75), ("wipe", 1, 0.5), ("freeze", 0, 0.25), ("cut", 0, 1.5),
]  # fmt: skip

# Permits of several lengths: who replaced a leader that waited for the longer ones of its predecessor waited for its own only.
REPLACED_WHILE_IT_WAITED = [
    ("wait", 0, 2.0), ("kill", 1, 2.0), ("replace", 0, 0.0), ("replace", 2, 0.0), ("replace", 3, 0.0), ("wait", 0, 4.0),
]  # fmt: skip
OVERTAKEN_BY_A_DELETION = [("delete", 3, 1.0), ("restart", 2, 0.5), ("freeze", 1, 0.25), ("release", 3, 3.0)]
WIPED_EARLY = [("wipe", 2, 3.75), ("freeze", 1, 0.25)]
DELETED_TWICE = [("delete", 1, 0.25), ("delete", 0, 3.75), ("mend", 1, 2.0), ("freeze", 2, 3.0)]


@pytest.mark.parametrize("kind", ["ray", "configMap", "lease"])
@settings(deadline=None, suppress_health_check=list(HealthCheck))
@example(steps=WIPED, seed=25045, permits=SAME)
@example(steps=REWOUND, seed=42573, permits=SAME)
@example(steps=HASTY_RELEASE, seed=0, permits=SAME)
@example(steps=HASTY_RELEASE, seed=20, permits=SAME)
@example(steps=RESTORED_TO_A_LIVING_PROCESS, seed=25203, permits=SAME)
@example(steps=LATE_EARLY_NUMBERS, seed=58437, permits=SAME)
@example(steps=REPLACED_WHILE_IT_WAITED, seed=48490, permits=(2.0, 6.0, 2.0, 2.0))
@example(steps=OVERTAKEN_BY_A_DELETION, seed=40406, permits=(2.0, 2.0, 6.0, 2.0))
@example(steps=WIPED_EARLY, seed=34142, permits=(2.0, 6.0, 2.0, 2.0))
@example(steps=DELETED_TWICE, seed=25090, permits=(6.0, 2.0, 2.0, 2.0))
@given(
    steps=st.lists(ops, min_size=1, max_size=8), seed=st.integers(0, 2**16),
    permits=st.just(SAME) | st.tuples(*[st.sampled_from([PERMIT, 3 * PERMIT])] * 4),
)  # fmt: skip
def test_one_writer_and_rising_epochs_under_random_faults(
    kind: str, steps: list[tuple[str, int, float]], seed: int, permits: tuple[float, ...]
) -> None:
    asyncio.run(play(kind, steps, seed, permits))


async def play(kind: str, steps: list[tuple[str, int, float]], seed: int, permits: tuple[float, ...] = SAME) -> list[int]:
    clock = VirtualClock()
    hub = Hub(clock, seed)
    hub.permits = {f"home l{n}": permit for n, permit in enumerate(permits)}
    leaders = [Leader(hub, kind, f"l{n}") for n in range(4)]
    wrote: list[int] = []
    steps_taken: list[str] = []
    backup: LockState | None = None
    releases: list[asyncio.Task[Any]] = []

    async def run(seconds: float) -> None:
        for _ in range(max(1, round(seconds / STEP))):
            await clock.advance(STEP)
            for each in hub.leaders:
                if each.task.done() and not each.task.cancelled():
                    each.task.result()
            now = [each for each in hub.leaders if each.until > clock.now()]
            who = {(each.home, each.writes) for each in now}
            assert len(who) < 2, f"{who} write at once after {steps_taken}"
            for each in now:
                if not wrote or wrote[-1] != each.writes:
                    assert not wrote or each.writes > wrote[-1], f"epoch {each.writes} after {wrote} after {steps_taken}"
                    wrote.append(each.writes)

    await run(1.0)
    first = dict(hub.states), dict(hub.data)
    for op, who, seconds in steps:
        leader = leaders[who]
        steps_taken.append(f"{op} {who} {seconds:.1f}")
        if op == "release":
            successor = f"home l{(who + 1) % 4}" if seconds > 2 else ""
            releases.append(asyncio.create_task(leader.release(successor)))
        elif op == "freeze":
            hub.frozen[leader.name].clear()
        elif op == "thaw":
            hub.frozen[leader.name].set()
        elif op == "kill":
            leader.kill()
        elif op in ("restart", "replace"):
            # Ray starts the leader's next process, whatever has become of the one before; ``replace``: without its fleet.
            living = leader.leads if op == "restart" else 0
            leaders[who] = Leader(hub, kind, f"{leader.name}'", leader.home, living)
        elif op == "cut":
            hub.cut.add(leader.name)
        elif op == "mend":
            hub.cut.discard(leader.name)
        elif op == "delete" and "lock" in hub.states:
            backup = hub.states.pop("lock")
            hub.notify()
        elif op == "restore" and backup is not None and not backup.leadership.released:
            hub.states["lock"] = msgspec.structs.replace(backup, version=hub.version(), uid=hub.version())
            hub.notify()
        elif op == "unlock":  # by hand
            hub.frozen.setdefault("somebody", asyncio.Event()).set()
            releases.append(asyncio.create_task(lock_of(hub, kind, "somebody").unlock("somebody")))
        elif op == "wipe":  # the namespace is deleted
            hub.states.clear()
            hub.data.clear()
            hub.notify()
        elif op == "rewind":  # the namespace is restored from a backup
            hub.states = {what: msgspec.structs.replace(state, version=hub.version()) for what, state in first[0].items()}
            hub.data = {what: msgspec.structs.replace(record, version=hub.version()) for what, record in first[1].items()}
            hub.notify()
        await run(seconds)
    # All faults end: a living contender leads in the end. A lock for life is not free while its holder's Pod exists.
    for each in hub.leaders:
        each.kill() if each not in leaders or each.task.done() or each.task.cancelling() else None
        hub.frozen[each.name].set()
        hub.cut.discard(each.name)
    if any(not each.task.done() for each in leaders):
        alive = [each for each in leaders if not each.task.done()]
        end = clock.now() + 40.0
        while not any(each.until > clock.now() for each in alive):
            assert clock.now() < end, f"no contender leads after {steps_taken}: {hub.states}, {hub.data}"
            await run(STEP)
    for each in hub.leaders:
        each.task.cancel()
    for task in releases:
        task.cancel()
    await asyncio.gather(*(each.task for each in hub.leaders), *releases, return_exceptions=True)
    return wrote
