"""The sizes of the worker pools: scaled about once a second, and sent to Ray's autoscaler."""

from raycp.base.clock import Clock
from raycp.config import FleetDoc
from raycp.leader.roster import Roster
from raycp.leader.scaler import Scaler, worker_bundles
from raycp.protocol.plan import Plan
from raycp.protocol.status import PoolStatus
from raycp.protocol.substrate import Substrate


class Pools:
    """One per leader. ``sizes``: how many workers each tier is to have."""

    def __init__(self, substrate: Substrate, clock: Clock, roster: Roster) -> None:
        self.sizes: dict[str, int] = {}
        self._substrate = substrate
        self._clock = clock
        self._roster = roster
        self._scaler = Scaler()

    async def scale(self, plan: Plan) -> None:
        """Scale the pools by queue delay, and request what all of them need from Ray's autoscaler."""
        sizes = self._scaler.step(plan.fleet.doc, self._roster.members, self.sizes, self._clock.now())
        if sizes != self.sizes:
            self.sizes = sizes
            await self._substrate.request_nodes(worker_bundles(plan.fleet.doc, sizes))

    def rows(self, doc: FleetDoc) -> list[PoolStatus]:
        """See ``Scaler.rows``."""
        return self._scaler.rows(doc, self.sizes)
