"""A fleet under a leader, in one process."""

import asyncio
from typing import Any

import msgspec

from raycp.driver.fleet_client import FleetError
from raycp.driver.in_process.substrate import InProcessSubstrate
from raycp.embedded.cluster import EmbeddedCluster
from raycp.leader.core import LeaderCore
from raycp.protocol.members import LEADER, Role
from raycp.protocol.plan import Fleet
from raycp.runtime.embedded import EmbeddedCore


class InProcessFleet:
    """Starts its leader at once, on the running loop; ``apply`` a fleet, ``stop`` at the end.

    ``node``: where the leader lives, from its next start on; ``left``: the nodes on which a leader has ended itself.
    """

    def __init__(self, substrate: InProcessSubstrate | None = None) -> None:
        self.substrate = substrate or InProcessSubstrate()
        self.number = 0
        self.node = ""
        self.left: list[str] = []
        self.leader = self.start_leader()

    def start_leader(self) -> LeaderCore:
        """Start a leader's process, the first or the next."""
        self.number += 1
        leader = LeaderCore(
            self.substrate,
            self.substrate.clock,
            f"leader-{self.number}",
            self.node,
            lambda: self.left.append(leader.nodes.leader),
            self.substrate.record(LEADER),
        )
        self.leader = self.substrate.leader = leader
        leader.start()
        return leader

    async def die(self) -> None:
        """The leader's process dies."""
        self.substrate.leader = None
        self.substrate.stop_recording(LEADER)
        await self.leader.abort()

    async def restart(self) -> None:
        """The leader's process dies, and Ray restarts it."""
        await self.die()
        self.start_leader()

    def status(self) -> dict[str, Any]:
        """``LeaderCore.status`` as ``raycp status -o json`` prints it."""
        found: dict[str, Any] = msgspec.to_builtins(self.leader.status())
        return found

    async def run(self, fleet: Fleet, seconds: float = 20.0) -> dict[str, Any]:
        """Apply ``fleet`` and wait until it is ready; the status then. Raises ``ControlError``, ``FleetError``."""
        await self.leader.apply(fleet)
        return await self.ready(fleet.generation, seconds)

    async def ready(self, generation: str = "", seconds: float = 20.0) -> dict[str, Any]:
        """Wait until the fleet is settled: all that its plan, with ``generation`` if given, asks for is at work; the status then.
        Raises ``FleetError``."""
        clock = self.substrate.clock
        deadline = clock.now() + seconds
        while True:
            status = self.status()
            if status["ready"] and not status["unsettled"] and generation in ("", status["generation"]):
                return status
            if clock.now() > deadline:
                reasons = "; ".join(status["unsettled"] or status["reasons"] or ["it runs another generation"])
                raise FleetError(f"the fleet is not ready after {seconds:g} s: {reasons} {status.get('problems')}")
            await asyncio.sleep(0.01)

    def cluster(self, name: str) -> EmbeddedCluster:
        """The embedded cluster of that name, which is up."""
        core: EmbeddedCore = self.substrate.living(Role.EMBEDDED, name)[0]
        assert core.cluster is not None
        return core.cluster

    async def stop(self) -> None:
        """End everything, abruptly."""
        await self.die()
        await self.substrate.close()
        await self.leader.hub.close()
