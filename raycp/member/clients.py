"""A worker's API clients: one per cluster, made when first needed, made anew when its connection changes."""

from collections.abc import Callable

import msgspec

from raycp.base.clock import Clock
from raycp.kube import ClusterClient, ConnectSpec, Unreachable
from raycp.kube.client_table import ClientTable
from raycp.member.token_pool import AskTokens, TokenPool
from raycp.protocol.plan import Plan

_RETRY_MAX = 2.0  # seconds between probes of a worker's own breaker of a cluster


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
        self._clients = ClientTable(lambda spec: ClusterClient.connect(_following(spec), clock, probe=False), clock)

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
        return self._limited(cluster, await self._clients.get(spec))

    def _limited(self, cluster: str, client: ClusterClient) -> ClusterClient:
        """With the tokens that the whole fleet shares, where it does."""
        pool = self.token_pools.get(cluster)
        if pool is not None and client.budget is not pool:
            client.budget = pool
        return client

    def in_flight(self) -> dict[str, int]:
        """Requests under way, by cluster. May be called from another thread."""
        made = {name: self._clients.peek(name) for name in list(self._specs)}
        return {name: client.gate.in_flight for name, client in made.items() if client is not None}

    async def close(self) -> None:
        """Close all."""
        await self._clients.close()


def _following(spec: ConnectSpec) -> ConnectSpec:
    """With a breaker that is soon half open: that of the cluster's shard is in charge, and hands nothing out while it is open."""
    breaker = msgspec.structs.replace(spec.breaker, retry_max=min(_RETRY_MAX, spec.breaker.retry_max))
    return msgspec.structs.replace(spec, breaker=breaker)
