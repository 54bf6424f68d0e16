"""The fleet document that the user applied becomes the plan."""

import asyncio

from raycp.leader.plan_store import PlanStore
from raycp.leader.plans import applied_plan, kept_pools
from raycp.leader.pools import Pools
from raycp.leader.promotion import Promotion
from raycp.protocol.control import ControlError, ErrorCode
from raycp.protocol.plan import Fleet


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
            before = self._plans.plan
            if before is not None and before.following is not None:
                raise ControlError(ErrorCode.REFUSED, "this fleet is a standby; it is changed by `raycp upgrade`")
            if before is not None and before.fleet.generation == fleet.generation:
                self._plans.wake()
                return
            if before is not None and (moved := before.fleet.doc.moved_lock(fleet.doc)):
                raise ControlError(ErrorCode.REFUSED, moved)
            self._promotion.reopen()
            self._pools.sizes = kept_pools(self._pools.sizes, before, fleet)
            await self._plans.replace(applied_plan(fleet, before))
