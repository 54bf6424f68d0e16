"""A problem of storing or reading is shown while it lasts, and is gone once a later try succeeds, though nothing was written."""

from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from inprocess import stack

from raycp.base.clock import VirtualClock
from raycp.base.loops import Loops
from raycp.kube import Unreachable
from raycp.leader.fleet_condition import RENEW, FleetCondition
from raycp.leader.history import EVERY, RECHECK, History
from raycp.leadership.answers import NamespaceMissing
from raycp.leadership.epoch import Leadership
from raycp.leadership.locks.eligibility import LockState
from raycp.leadership.locks.lock_watch import LockWatch
from raycp.leadership.records import Record, Records
from raycp.metrics import FleetMetrics, Metrics
from raycp.protocol.status import FleetStatus

DOWN = "connection refused"
LEADS = Leadership(1, 1, "host/1/a", 0.0)


class Hub:
    """The records of a hub that can be down."""

    def __init__(self) -> None:
        self.down = False
        self.reads = 0
        self._stored: dict[str, Record] = {}

    async def read(self, what: str) -> Record | None:
        self.reads += 1
        if self.down:
            raise Unreachable(DOWN, sent=False)
        return self._stored.get(what)

    async def write(self, what: str, data: dict[str, str], over: Record | None) -> Record:
        self._stored[what] = Record(data, "1", "uid")
        return self._stored[what]

    @property
    def records(self) -> Records:
        return cast(Records, self)


async def test_a_look_at_the_history_that_failed_is_repeated_at_once_and_forgotten() -> None:
    clock, hub = VirtualClock(), Hub()
    loops = Loops(clock)

    async def no_tail(_: str) -> list[str]:
        return []

    history = History(clock, loops, FleetMetrics(Metrics()).switches, no_tail)
    history.begin(hub.records, LEADS)
    await clock.advance(EVERY)
    hub.down = True
    await clock.advance(RECHECK + EVERY)
    assert history.problem == DOWN
    hub.down = False
    await clock.advance(2 * EVERY)
    assert history.problem == ""
    reads = hub.reads
    await clock.advance(RECHECK / 2)
    assert hub.reads == reads, "not read all the time"
    loops.close()


async def test_a_condition_that_was_not_stored_and_has_passed() -> None:
    clock, hub = VirtualClock(), Hub()
    loops = Loops(clock)
    condition = FleetCondition(clock, loops, lambda: hub.records)
    well, ill = FleetStatus(fleet="t", readiness="ready"), FleetStatus(fleet="t", readiness="degraded")
    condition.observed(well)
    condition.begin()
    await clock.advance(RENEW)
    condition.observed(ill)
    hub.down = True
    await clock.advance(3.0)
    assert condition.problem == DOWN
    condition.observed(well)
    await clock.advance(3.0)
    assert condition.problem == ""
    loops.close()


async def test_a_lock_that_could_not_be_read_and_has_not_changed() -> None:
    answers: list[LockState | Exception] = [
        LockState(LEADS, "7", "uid"), Unreachable(DOWN, sent=False), LockState(LEADS, "7", "uid"),
    ]  # fmt: skip

    class Store:
        async def read(self) -> LockState:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

    clock = VirtualClock()
    watch = LockWatch(cast(Any, Store()), cast(Any, None), clock, 1.0, Loops(clock))
    shown = []
    for _ in range(3):
        await watch.refresh()
        shown.append(watch.problem)
    assert shown == ["", DOWN, ""]


async def test_watermarks_that_could_be_read_at_the_third_try(monkeypatch: pytest.MonkeyPatch) -> None:
    refused: list[str] = []
    real: Callable[..., Awaitable[Any]] = Records.list

    async def listed(self: Records, prefix: str) -> Any:
        if len(refused) < 2:
            refused.append(prefix)
            raise Unreachable(DOWN, sent=False)
        return await real(self, prefix)

    async def unwritten(*_: object) -> Any:
        raise NamespaceMissing("default")

    monkeypatch.setattr(Records, "list", listed)
    monkeypatch.setattr(Records, "write", unwritten)  # one that succeeds would hide it
    async with stack(["tracked"], state={"namespace": "default", "watermark": "50ms"}) as fleet:
        marks = fleet.shard().watermarks
        assert (len(refused), marks.stored, marks.problem) == (2, False, "")
