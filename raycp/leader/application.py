"""The fleet document that the user applied, or amended, becomes the plan."""

import asyncio
from collections.abc import Callable

from raycp.leader.plan_store import PlanStore
from raycp.leader.plans import applied_plan, kept_pools
from raycp.leader.pools import Pools
from raycp.leader.promotion import Promotion
from raycp.protocol.control import Amended, ControlError, ErrorCode
from raycp.protocol.plan import Fleet, Plan


class Application:
    """One per leader. ``lock`` is held while a fleet document is taken over."""

    def __init__(self, plans: PlanStore, pools: Pools, promotion: Promotion, lock: asyncio.Lock) -> None:
        self._plans = plans
        self._pools = pools
        self._promotion = promotion
        self._lock = lock

    async def apply(self, fleet: Fleet) -> None:
        """Make ``fleet`` the desired one; the same generation again changes nothing.

        Raises ``ControlError`` where the fleet is a standby, or would move its lock.
        """
        async with self._lock:
            before = self._changeable()
            if before is not None and before.fleet.generation == fleet.generation:
                self._plans.wake()
                return
            if before is not None and (moved := before.fleet.doc.moved_lock(fleet.doc)):
                raise ControlError(ErrorCode.REFUSED, moved)
            self._promotion.reopen()
            self._pools.sizes = kept_pools(self._pools.sizes, before, fleet)
            await self._plans.replace(applied_plan(fleet, before))

    async def amend(self, change: Callable[[Fleet], Fleet]) -> Amended:
        """Make ``change`` of the running fleet the desired one; the same document again changes nothing.

        Raises ``ControlError`` where the fleet is a standby, or none runs, and what ``change`` raises.
        """
        async with self._lock:
            before = self._changeable()
            if before is None or self._promotion.closed:
                raise ControlError(ErrorCode.REFUSED, "no fleet runs: bring one up with `raycp run`")
            fleet = change(before.fleet)
            if fleet is before.fleet:
                return Amended(False, fleet.generation)
            await self._plans.replace(applied_plan(fleet, before))
            return Amended(True, fleet.generation)

    def _changeable(self) -> Plan | None:
        plan = self._plans.plan
        if plan is not None and plan.following is not None:
            raise ControlError(ErrorCode.REFUSED, "this fleet is a standby; it is changed by `raycp upgrade`")
        return plan
