"""The pools of workers as the leader keeps them: scaled about once a second, told to Ray's autoscaler and to the observer."""

from typing import Any

from raycp.config import FleetDoc
from raycp.leader.roster import Roster
from raycp.leader.scaler import Scaler, worker_bundles
from raycp.protocol.control import PoolSizes
from raycp.protocol.members import OBSERVER_SLOT, Member
from raycp.protocol.plan import Plan


class Pools:
    """One per leader. ``sizes``: how many workers each tier is to have."""

    def __init__(self, roster: Roster) -> None:
        self.sizes: dict[str, int] = {}
        self._roster = roster
        self._scaler = Scaler()
        self._told: tuple[Member, dict[str, int]] | None = None

    async def scale(self, plan: Plan) -> None:
        """Pools by queue delay; Ray's autoscaler is told what all of them need."""
        sizes = self._scaler.step(plan.fleet.doc, self._roster.members, self.sizes, self._roster.clock.now())
        if sizes != self.sizes:
            self.sizes = sizes
            await self._roster.substrate.request_nodes(worker_bundles(plan.fleet.doc, sizes))

    def tell(self, plan: Plan) -> None:
        """The observer shows the pools' sizes: when one has changed, or there is a new observer."""
        observer = self._roster.members.get(OBSERVER_SLOT)
        if observer is None or not observer.report.ready:
            return
        sizes = {row["tier"]: row["workers"] for row in self.rows(plan.fleet.doc)}
        if self._told != (observer.member, sizes):
            self._told = (observer.member, sizes)
            told = self._roster.substrate.ask(observer.member, PoolSizes(sizes))
            self._roster.loops.spawn(told, "tell the observer of the pools")

    def rows(self, doc: FleetDoc) -> list[dict[str, Any]]:
        """See ``Scaler.rows``."""
        return self._scaler.rows(doc, self.sizes)
