"""A worker's API clients: one per cluster, and one for each user that a controller has there in its place (``credentials`` in the
fleet file). Made when first needed, made anew when the connection changes.
"""

from collections.abc import Callable

import msgspec

from raycp.base.clock import Clock
from raycp.kube import ClusterClient, ConnectSpec, Unreachable
from raycp.kube.client_table import ClientTable
from raycp.kube.connect import UserSource
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
        self._users: dict[tuple[str, str], UserSource] = {}  # by cluster and controller
        self._outdated = False
        self._clients = ClientTable(self._connect, clock)

    def update(self, plan: Plan) -> None:
        """Use the connections of ``plan`` from now on."""
        self._specs = {cluster.name: cluster.connect for cluster in plan.clusters if cluster.connect is not None}
        self._users = {
            (cluster, controller.name): user for controller in plan.fleet.controllers for cluster, user in controller.credentials
        }
        self._outdated = True
        if self.ask_tokens is not None:
            limited = {name for name in self._specs if plan.fleet.doc.cluster(name).qps}
            known = self.token_pools
            self.token_pools = {
                name: known.get(name) or TokenPool(name, self._clock, self.ask_tokens, self.waited) for name in limited
            }

    def user(self, cluster: str, controller: str) -> UserSource | None:
        """Whose credentials that controller has in that cluster, if it has its own."""
        return self._users.get((cluster, controller))

    async def get(self, cluster: str, controller: str = "") -> ClusterClient:
        """The client of a cluster, for a controller by that name as its user there. Raises ``Unreachable`` for a cluster that is
        not up or not of this fleet, ``ConnectError``.
        """
        if self._outdated:
            self._outdated = False
            self._clients.keep({(each, user) for (each, _), user in self._users.items()})
        spec = self._specs.get(cluster)
        if spec is None:
            raise Unreachable(f"cluster {cluster!r} is not part of the fleet, or not up yet", sent=False)
        user = self._users.get((cluster, controller))
        if user is not None:
            spec = msgspec.structs.replace(spec, user=user)
        return self._limited(cluster, await self._clients.get(spec))

    async def _connect(self, spec: ConnectSpec) -> ClusterClient:
        client = await ClusterClient.connect(_following(spec), self._clock, probe=False)
        if spec.user is not None:
            client.breaker = None  # whether the cluster is well is not for a controller's own credentials to say
        return client

    def _limited(self, cluster: str, client: ClusterClient) -> ClusterClient:
        """With the tokens that the whole fleet shares, where it does."""
        pool = self.token_pools.get(cluster)
        if pool is not None and client.budget is not pool:
            client.budget = pool
        return client

    def in_flight(self) -> dict[str, int]:
        """Requests under way, by cluster. May be called from another thread."""
        found: dict[str, int] = {}
        for cluster, user in [*((name, None) for name in self._specs), *{(name, user) for (name, _), user in self._users.items()}]:
            client = self._clients.peek(cluster, user)
            if client is not None:
                found[cluster] = found.get(cluster, 0) + client.gate.in_flight
        return found

    async def close(self) -> None:
        """Close all."""
        await self._clients.close()


def _following(spec: ConnectSpec) -> ConnectSpec:
    """With a breaker that is soon half open: that of the cluster's shard is in charge, and hands nothing out while it is open."""
    breaker = msgspec.structs.replace(spec.breaker, retry_max=min(_RETRY_MAX, spec.breaker.retry_max))
    return msgspec.structs.replace(spec, breaker=breaker)
