"""The leader's loop: what it tells while its steps fail."""

import asyncio
from types import SimpleNamespace
from typing import Any

from inprocess import CLOCK, fleet_doc, fleet_of, until

from raycp.base.loops import Loops
from raycp.leader.leader_loop import LeaderLoop
from raycp.leader.plan_store import PlanStore
from raycp.leader.plans import applied_plan


async def test_leader_whose_steps_fail_reports_its_status() -> None:
    """Law 11: the observer shows what the leader sends, so a leader that cannot act must send."""
    woken = asyncio.Event()
    plans = PlanStore(woken.set)
    await plans.replace(applied_plan(fleet_of(fleet_doc(["here"], ["fleet_samples:tracked"])), None))
    steps, reports = [], []

    async def failing(*_: object) -> None:
        steps.append(1)
        raise RuntimeError("Ray refuses")

    async def nothing(*_: object) -> None:
        pass

    parts: Any = SimpleNamespace(scale=failing, step=failing, check=nothing)
    loops = Loops(CLOCK)
    loop = LeaderLoop(
        plans, parts, parts, parts, parts, parts, parts, woken, asyncio.Lock(), nothing, lambda: True, lambda: reports.append(1)
    )
    loop.start(loops)
    try:
        await until(lambda: len(steps) >= 1 and len(reports) >= len(steps))
        assert [problem.message for problem in loops.problems] == ["RuntimeError: Ray refuses"]
        await until(lambda: len(steps) >= 2 and len(reports) >= len(steps))
    finally:
        loops.close()
        await loops.stop()
