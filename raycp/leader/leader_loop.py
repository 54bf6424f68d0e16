"""The leader's loop: once a second, and whenever something has changed, the fleet is compared with what it should be."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from raycp.leader.endpoints import reachable
from raycp.leader.hub import Hub
from raycp.leader.member_controller import MemberController
from raycp.leader.plan_store import PlanStore
from raycp.leader.pools import Pools
from raycp.leader.publisher import Publisher
from raycp.leader.retirement import Retirement
from raycp.leader.roster import Roster

log = logging.getLogger(__name__)

CHECK_EVERY = 1.0


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

    async def run(self) -> None:
        """Recover, then take steps until cancelled. A step that fails is logged and taken again."""
        try:
            await self._recover()
        except Exception:
            log.exception("recovery from living members failed; the next `raycp run` completes it")
        while True:
            try:
                await self._retirement.check(self._plans.plan)
                if self._allowed():
                    async with self._stepping:
                        if self._allowed():
                            try:
                                await self._step()
                            finally:  # a leader whose steps fail is alive, and its problems must be seen
                                self._report()
            except Exception:
                log.exception("a step of the leader failed and is retried")
            self._wake.clear()
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
