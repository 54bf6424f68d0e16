"""The sizes of the worker pools: scaled about once a second, and sent to Ray's autoscaler and to the observer."""

from typing import Any

from raycp.base.clock import Clock
from raycp.base.loops import Loops
from raycp.config import FleetDoc
from raycp.leader.roster import Roster
from raycp.leader.scaler import Scaler, worker_bundles
from raycp.protocol.control import PoolSizes
from raycp.protocol.members import OBSERVER_SLOT, Member
from raycp.protocol.plan import Plan
from raycp.protocol.substrate import Substrate


class Pools:
    """One per leader. ``sizes``: how many workers each tier is to have."""

    def __init__(self, substrate: Substrate, clock: Clock, loops: Loops, roster: Roster) -> None:
        self.sizes: dict[str, int] = {}
        self._substrate = substrate
        self._clock = clock
        self._loops = loops
        self._roster = roster
        self._scaler = Scaler()
        self._sent: tuple[Member, dict[str, int]] | None = None

    async def scale(self, plan: Plan) -> None:
        """Scale the pools by queue delay, and request what all of them need from Ray's autoscaler."""
        sizes = self._scaler.step(plan.fleet.doc, self._roster.members, self.sizes, self._clock.now())
        if sizes != self.sizes:
            self.sizes = sizes
            await self._substrate.request_nodes(worker_bundles(plan.fleet.doc, sizes))

    def notify_observer(self, plan: Plan) -> None:
        """Send the observer the pools' sizes, if one has changed or the observer is new."""
        observer = self._roster.members.get(OBSERVER_SLOT)
        if observer is None or not observer.report.ready:
            return
        sizes = {row["tier"]: row["workers"] for row in self.rows(plan.fleet.doc)}
        if self._sent != (observer.member, sizes):
            self._sent = (observer.member, sizes)
            sent = self._substrate.ask(observer.member, PoolSizes(sizes))
            self._loops.spawn(sent, "pool sizes to the observer")

    def rows(self, doc: FleetDoc) -> list[dict[str, Any]]:
        """See ``Scaler.rows``."""
        return self._scaler.rows(doc, self.sizes)
