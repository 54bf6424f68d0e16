"""Whether this fleet is a standby: how it becomes one, and stops being one."""

import asyncio
from collections.abc import Callable

from raycp.leader.plan_store import PlanStore
from raycp.leader.pools import Pools
from raycp.leader.scaler import living_pools
from raycp.leader.standby_fleet import StandbyFleet
from raycp.protocol.control import ControlError, ErrorCode
from raycp.protocol.members import Member
from raycp.protocol.plan import Fleet


class StandbyRole:
    """One per leader. ``make`` returns the standby of the fleet in a Ray namespace; ``lock`` is held while a fleet document is
    taken over."""

    def __init__(self, plans: PlanStore, pools: Pools, lock: asyncio.Lock, make: Callable[[str], StandbyFleet]) -> None:
        self.fleet: StandbyFleet | None = None
        """None for an active fleet."""
        self._plans = plans
        self._pools = pools
        self._lock = lock
        self._make = make

    @property
    def held(self) -> bool:
        """Whether a hand-over to this fleet is under way."""
        return self.fleet is not None and self.fleet.held

    async def stand(self, fleet: Fleet, namespace: str) -> None:
        """Become the standby of the fleet in Ray namespace ``namespace``, with the document ``fleet``; idempotent.

        Raises ``ControlError``, ``MemberDied``, ``MemberUnavailable``, ``MemberFailed``.
        """
        async with self._lock:
            plan = self._plans.plan
            if plan is not None:
                if plan.following is None or plan.fleet.generation != fleet.generation:
                    raise ControlError(ErrorCode.REFUSED, f"another fleet, of generation {plan.fleet.generation}, is here already")
                return
            standby = self.fleet = self._make(namespace)
            try:
                await standby.begin(fleet)
            except BaseException as error:
                self.fleet = None
                if isinstance(error, ValueError):
                    raise ControlError(ErrorCode.REFUSED, str(error)) from error
                raise
            active = standby.active_plan
            assert active is not None
            # The pools of the active fleet were scaled to its load.
            workers = [member for worker in active.workers if (member := Member.parse(worker.member)) is not None]
            self._pools.sizes = living_pools(workers, fleet.doc)
            standby.start()

    def resume(self, namespace: str) -> None:
        """Go on as the standby that the leader before was."""
        self.fleet = self._make(namespace)
        self.fleet.start()

    def end(self) -> None:
        """This fleet is active, or taken down."""
        if self.fleet is not None:
            self.fleet.close()
            self.fleet = None
