"""The leader and all who knew the plan died together: the fleet is brought back from what was kept of it (``plan_memory``).

It is brought back only where its lock says that nobody else has led it since, so the hub is asked first, for as long as it takes;
an embedded hub that has died with the fleet is none to ask. Whoever applies a fleet meanwhile is faster.
"""

import asyncio
import logging
from collections.abc import Callable

from raycp.base.clock import Clock
from raycp.kube import ConnectSpec, KubeError
from raycp.leader.cluster_clients import ClusterClients
from raycp.leader.endpoints import connection
from raycp.leader.plan_memory import KeptPlan, PlanMemory, revived_plan
from raycp.leader.plan_store import PlanStore
from raycp.leader.pools import Pools
from raycp.leadership.locks import Holding, LockProblem, make_lock
from raycp.protocol.control import EndpointOf
from raycp.protocol.members import Role
from raycp.protocol.plan import Plan
from raycp.protocol.substrate import MemberDied, MemberFailed, MemberUnavailable, Substrate

log = logging.getLogger(__name__)

GRACE = 2.0
"""Seconds in which a driver that has just started this leader may apply its fleet first."""

EVERY = 1.0
"""Seconds between two questions to the hub."""


class Revival:
    """One per leader, used once. ``lock`` is held while a fleet document is taken over; ``revived`` is called with the plan."""

    def __init__(
        self,
        substrate: Substrate,
        clock: Clock,
        plans: PlanStore,
        pools: Pools,
        clients: ClusterClients,
        memory: PlanMemory,
        lock: asyncio.Lock,
        revived: Callable[[Plan], None],
    ) -> None:
        self.reason = ""
        """Why the fleet is not back yet; empty while there is nothing to bring back."""
        self._substrate = substrate
        self._clock = clock
        self._plans = plans
        self._pools = pools
        self._clients = clients
        self._memory = memory
        self._lock = lock
        self._revived = revived

    async def run(self) -> None:
        """Bring the fleet back, or find that there is none. Raises ``MemberUnavailable``."""
        kept = await self._memory.recall()
        if kept is None or self._plans.plan is not None:
            return
        name = kept.fleet.name
        log.warning("no living member knows the plan of fleet %s: it is brought back from what was kept", name)
        self.reason = f"fleet {name} is brought back: its hub is at {kept.hub}"
        await self._clock.sleep(GRACE)
        while self._plans.plan is None:
            try:
                holding = await self._holder(kept)
            except (KubeError, LockProblem, MemberUnavailable, TimeoutError) as error:
                reason = f"the hub of fleet {name} is at {kept.hub} and does not answer: {str(error) or type(error).__name__}"
                if reason != self.reason:
                    log.warning("%s", reason)
                self.reason = reason
                await self._clock.sleep(EVERY)
                continue
            if (why := _led_since(kept, holding)) is not None:
                log.warning("fleet %s is not brought back: %s", name, why)
                await self._memory.forget()
            else:
                await self._bring_back(kept)
            break
        self.reason = ""

    async def _holder(self, kept: KeptPlan) -> Holding | None:
        """The holder of the fleet's lock. Raises ``KubeError``, ``LockProblem``, ``MemberUnavailable``."""
        connect = await self._hub(kept)
        if connect is None:
            return None
        doc = kept.fleet.doc
        client = await self._clients.get(connect)
        return await make_lock(doc.spec.leader, client, kept.fleet.name, doc.spec.state.namespace, self._clock).holder()

    async def _hub(self, kept: KeptPlan) -> ConnectSpec | None:
        """How the hub is reached; None where it is embedded and has died, too."""
        hub = kept.fleet.doc.hub
        if hub.embedded is None:
            return connection(kept.fleet, hub.name)
        for member in sorted(await self._substrate.members(), reverse=True):
            if member.role is Role.EMBEDDED and member.place == hub.name:
                try:
                    return await self._substrate.ask(member, EndpointOf())
                except MemberDied as error:
                    if not error.certain:
                        raise MemberUnavailable(str(error)) from error
                    continue
                except MemberFailed as error:
                    raise MemberUnavailable(str(error)) from error
        return None

    async def _bring_back(self, kept: KeptPlan) -> None:
        async with self._lock:
            if self._plans.plan is not None:
                return
            plan = revived_plan(kept)
            self._pools.sizes = dict(kept.pools)
            self._revived(plan)
            await self._plans.replace(plan)


def _led_since(kept: KeptPlan, holding: Holding | None) -> str | None:
    """Why the kept plan is out of date: its fleet was taken down, or another one of its name has led since. A fleet that never led
    was a candidate, and is one again."""
    if holding is None or holding.foreign or not kept.epoch:
        return None
    held = holding.leadership
    if held.home != kept.home and held.epoch > kept.epoch:
        return f"{held.holder} has led it since, in epoch {held.epoch}"
    if held.released and held.epoch >= kept.epoch:
        return f"it was taken down, or handed over, in epoch {held.epoch}"
    return None
