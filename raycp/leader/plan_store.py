"""The current plan: one value that all members run, replaced as a whole under the next version."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import msgspec

from raycp.metrics.recorder import FlightRecorder
from raycp.protocol.plan import Plan


class PlanStore:
    """One per leader. ``wake`` starts the next step of the leader's loop."""

    def __init__(self, wake: Callable[[], None], recorder: FlightRecorder | None = None) -> None:
        self.wake = wake
        self._recorder = recorder
        self._plan: Plan | None = None
        self._changed = asyncio.Condition()

    @property
    def plan(self) -> Plan | None:
        """The plan; None before the first fleet is applied and after the fleet is taken down."""
        return self._plan

    @property
    def current(self) -> Plan:
        """The plan, where the caller has made sure that there is one."""
        assert self._plan is not None, "no fleet has been applied"
        return self._plan

    @property
    def leads(self) -> bool:
        """Whether the fleet has a plan and is not a standby."""
        return self._plan is not None and self._plan.following is None

    async def replace(self, plan: Plan) -> None:
        """Publish another plan to all members."""
        self._plan = plan
        if self._recorder is not None:
            shards = [f"{shard.shard}: {shard.member}, term {shard.term}" for shard in plan.shards]
            workers = len(plan.workers)
            self._recorder.note("plan", urgent=True, version=plan.version, epoch=plan.epoch, shards=shards, workers=workers)
        async with self._changed:
            self._changed.notify_all()
        self.wake()

    async def change(self, **fields: Any) -> None:
        """Publish the plan with other values of these fields, under its next version."""
        plan = self.current
        await self.replace(msgspec.structs.replace(plan, version=plan.version + 1, **fields))

    def clear(self) -> None:
        """The fleet is down."""
        self._plan = None

    async def newer(self, version: int, within: float | None = None) -> Plan | None:
        """Wait for a plan that is newer than ``version``; None if there is none after ``within`` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within), self._changed:
                await self._changed.wait_for(lambda: self._newer(version))
        return self._plan if self._newer(version) else None

    def _newer(self, version: int) -> bool:
        return self._plan is not None and self._plan.version > version
