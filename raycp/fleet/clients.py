"""A worker's API clients: one per cluster, made when first needed, made anew when its connection changes."""

import asyncio

from raycp.base.clock import Clock
from raycp.fleet.plan import Plan
from raycp.kube import ClusterClient, ConnectSpec, Unreachable


class Clients:
    """Lives on one loop (the user loop); ``update`` may come from another thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._specs: dict[str, ConnectSpec] = {}
        self._clients: dict[str, tuple[ConnectSpec, asyncio.Task[ClusterClient]]] = {}

    def update(self, plan: Plan) -> None:
        """Use the connections of ``plan`` from now on."""
        self._specs = {cluster.name: cluster.connect for cluster in plan.clusters if cluster.connect is not None}

    async def get(self, cluster: str) -> ClusterClient:
        """The client of a cluster. Raises ``Unreachable`` for one that is not up or not of this fleet, ``ConnectError``."""
        spec = self._specs.get(cluster)
        if spec is None:
            raise Unreachable(f"cluster {cluster!r} is not part of the fleet, or not up yet", sent=False)
        known = self._clients.get(cluster)
        if known is not None and known[0] == spec and not (known[1].done() and (known[1].cancelled() or known[1].exception())):
            if known[1].done():
                return known[1].result()
            return await asyncio.shield(known[1])
        if known is not None and known[1].done() and not known[1].cancelled() and known[1].exception() is None:
            await known[1].result().close()
        making = asyncio.create_task(ClusterClient.connect(spec, self._clock, probe=False))
        self._clients[cluster] = (spec, making)
        return await asyncio.shield(making)

    async def close(self) -> None:
        """Close all."""
        for _, making in self._clients.values():
            if making.done() and not making.cancelled() and making.exception() is None:
                await making.result().close()
            else:
                making.cancel()
        self._clients.clear()
