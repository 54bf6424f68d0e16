"""The leader's loop: once a second, and whenever something has changed, the fleet is compared with what it should be."""

import asyncio
from collections.abc import Awaitable, Callable

from raycp.base.loop_names import LoopName
from raycp.base.loops import Loops
from raycp.leader.endpoints import reachable
from raycp.leader.hub import Hub
from raycp.leader.member_controller import MemberController
from raycp.leader.plan_store import PlanStore
from raycp.leader.pools import Pools
from raycp.leader.publisher import Publisher
from raycp.leader.retirement import Retirement
from raycp.leader.roster import Roster

CHECK_EVERY = 1.0

LATEST_RETRY = 2.0
"""Seconds at most from a step that has failed to the next."""


class LeaderLoop:
    """One per leader. ``recover`` finds a living fleet at the start; ``allowed``: whether the leader may act at this moment;
    ``stepping`` is held during a step, after which ``report`` is called."""

    def __init__(
        self,
        plans: PlanStore,
        roster: Roster,
        members: MemberController,
        pools: Pools,
        hub: Hub,
        publisher: Publisher,
        retirement: Retirement,
        wake: asyncio.Event,
        stepping: asyncio.Lock,
        recover: Callable[[], Awaitable[None]],
        allowed: Callable[[], bool],
        report: Callable[[], None],
    ) -> None:
        self._plans = plans
        self._roster = roster
        self._members = members
        self._pools = pools
        self._hub = hub
        self._publisher = publisher
        self._retirement = retirement
        self._wake = wake
        self._stepping = stepping
        self._recover = recover
        self._allowed = allowed
        self._report = report
        self._recovered = False

    def start(self, loops: Loops) -> None:
        """Recover, then take steps, under supervision: what fails is tried again."""
        loops.supervise(self._run, LoopName.LEADER_STEPS, most=LATEST_RETRY)

    async def _run(self) -> None:
        if not self._recovered:
            await self._recover()
            self._recovered = True
        while True:
            self._wake.clear()
            await self._retirement.check(self._plans.plan)
            if self._allowed():
                async with self._stepping:
                    if self._allowed():
                        try:
                            await self._step()
                        finally:  # a leader whose steps fail is alive, and its problems must be seen
                            self._report()
            try:
                async with asyncio.timeout(CHECK_EVERY):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _step(self) -> None:
        plan = self._plans.current
        if plan.following is None:
            await self._pools.scale(plan)
        await self._members.step(plan)
        if plan.following is not None:
            await self._publisher.publish_standby()
            return
        self._hub.step(plan, reachable(plan, self._roster.endpoints))
        await self._publisher.publish_active()
