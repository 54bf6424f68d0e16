"""A worker's API clients: one per cluster, made when first needed, made anew when its connection changes."""

import asyncio

from raycp.base.clock import Clock
from raycp.fleet.limits import rate_share
from raycp.fleet.plan import Plan
from raycp.kube import ClusterClient, ConnectSpec, Unreachable


class Clients:
    """``shared``: each worker keeps to its part of a cluster's ``qps``, which changes with their number.

    Lives on one loop (the user loop); ``update`` may come from another thread."""

    def __init__(self, clock: Clock, shared: bool = False) -> None:
        self._clock = clock
        self._shared = shared
        self._rates: dict[str, float] = {}
        self._applied: dict[str, tuple[int, float]] = {}
        self._specs: dict[str, ConnectSpec] = {}
        self._clients: dict[str, tuple[ConnectSpec, asyncio.Task[ClusterClient]]] = {}

    def update(self, plan: Plan) -> None:
        """Use the connections of ``plan`` from now on."""
        self._specs = {cluster.name: cluster.connect for cluster in plan.clusters if cluster.connect is not None}
        if self._shared:
            self._rates = {name: rate_share(plan, spec.qps) for name, spec in self._specs.items() if spec.qps > 0}

    async def get(self, cluster: str) -> ClusterClient:
        """The client of a cluster. Raises ``Unreachable`` for one that is not up or not of this fleet, ``ConnectError``."""
        spec = self._specs.get(cluster)
        if spec is None:
            raise Unreachable(f"cluster {cluster!r} is not part of the fleet, or not up yet", sent=False)
        known = self._clients.get(cluster)
        if known is not None and known[0] == spec and not (known[1].done() and (known[1].cancelled() or known[1].exception())):
            if known[1].done():
                return self._limited(cluster, known[1].result())
            return await asyncio.shield(known[1])
        if known is not None and known[1].done() and not known[1].cancelled() and known[1].exception() is None:
            await known[1].result().close()
        making = asyncio.create_task(ClusterClient.connect(spec, self._clock, probe=False))
        self._clients[cluster] = (spec, making)
        return self._limited(cluster, await asyncio.shield(making))

    def _limited(self, cluster: str, client: ClusterClient) -> ClusterClient:
        """With this worker's part of the cluster's requests per second."""
        rate = self._rates.get(cluster)
        if rate is not None and client.budget is not None and self._applied.get(cluster) != (id(client), rate):
            self._applied[cluster] = (id(client), rate)
            client.budget.configure(rate)
        return client

    async def close(self) -> None:
        """Close all."""
        for _, making in self._clients.values():
            if making.done() and not making.cancelled() and making.exception() is None:
                await making.result().close()
            else:
                making.cancel()
        self._clients.clear()
