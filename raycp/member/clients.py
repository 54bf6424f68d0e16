"""A worker's API clients: one per cluster, made when first needed, made anew when its connection changes."""

import asyncio
from collections.abc import Callable

from raycp.base.clock import Clock
from raycp.kube import ClusterClient, ConnectSpec, Unreachable
from raycp.member.token_pool import AskTokens, TokenPool
from raycp.protocol.plan import Plan


class Clients:
    """``ask_tokens``: where a cluster's ``qps`` is the whole fleet's, its requests take their tokens from a ``TokenPool``.

    Lives on one loop (the user loop); ``update`` may come from another thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.ask_tokens: AskTokens | None = None
        self.waited: Callable[[str, float], None] = lambda cluster, seconds: None
        """Called with (cluster, seconds) when a request has waited for a token."""
        self.token_pools: dict[str, TokenPool] = {}
        self._specs: dict[str, ConnectSpec] = {}
        self._clients: dict[str, tuple[ConnectSpec, asyncio.Task[ClusterClient]]] = {}

    def update(self, plan: Plan) -> None:
        """Use the connections of ``plan`` from now on."""
        self._specs = {cluster.name: cluster.connect for cluster in plan.clusters if cluster.connect is not None}
        if self.ask_tokens is not None:
            limited = {name for name in self._specs if plan.fleet.doc.cluster(name).qps}
            known = self.token_pools
            self.token_pools = {
                name: known.get(name) or TokenPool(name, self._clock, self.ask_tokens, self.waited) for name in limited
            }

    async def get(self, cluster: str) -> ClusterClient:
        """The client of a cluster. Raises ``Unreachable`` for one that is not up or not of this fleet, ``ConnectError``."""
        spec = self._specs.get(cluster)
        if spec is None:
            raise Unreachable(f"cluster {cluster!r} is not part of the fleet, or not up yet", sent=False)
        known = self._clients.get(cluster)
        if known is not None and known[0] == spec and (_usable(known[1]) or not known[1].done()):
            if known[1].done():
                return self._limited(cluster, known[1].result())
            return await asyncio.shield(known[1])
        if known is not None and _usable(known[1]):
            await known[1].result().close()
        making = asyncio.create_task(ClusterClient.connect(spec, self._clock, probe=False))
        self._clients[cluster] = (spec, making)
        return self._limited(cluster, await asyncio.shield(making))

    def _limited(self, cluster: str, client: ClusterClient) -> ClusterClient:
        """With the tokens that the whole fleet shares, where it does."""
        pool = self.token_pools.get(cluster)
        if pool is not None and client.budget is not pool:
            client.budget = pool
        return client

    def in_flight(self) -> dict[str, int]:
        """Requests under way, by cluster. May be called from another thread."""
        made = [(name, making) for name, (_, making) in list(self._clients.items())]
        return {name: making.result().gate.in_flight for name, making in made if name in self._specs and _usable(making)}

    async def close(self) -> None:
        """Close all."""
        for _, making in self._clients.values():
            if _usable(making):
                await making.result().close()
            else:
                making.cancel()
        self._clients.clear()


def _usable(making: asyncio.Task[ClusterClient]) -> bool:
    """Whether the client is made."""
    return making.done() and not making.cancelled() and making.exception() is None
