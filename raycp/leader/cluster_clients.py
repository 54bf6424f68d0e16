"""The leader's API clients: one per cluster, created when first needed and again when its connection changes."""

from raycp.base.clock import Clock
from raycp.kube import ClusterClient, ConnectSpec


class ClusterClients:
    """One per leader."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._clients: dict[str, tuple[ConnectSpec, ClusterClient]] = {}

    async def get(self, connect: ConnectSpec) -> ClusterClient:
        """The client of a cluster. Raises ``ConnectError``, ``KubeError``."""
        known = self._clients.get(connect.name)
        if known is not None and known[0] == connect:
            return known[1]
        if known is not None:
            await known[1].close()
            del self._clients[connect.name]
        client = await ClusterClient.connect(connect, self._clock)
        self._clients[connect.name] = (connect, client)
        return client

    def authority(self, cluster: str) -> str:
        """``host:port`` of the cluster's API server; empty while it is not known."""
        known = self._clients.get(cluster)
        return known[1].pool.target.authority if known is not None else ""

    def skew(self, cluster: str) -> float:
        """Seconds by which this process's wall clock is behind that of the cluster; 0 while it is not known."""
        known = self._clients.get(cluster)
        return known[1].skew if known is not None else 0.0

    async def close(self) -> None:
        """Close all connections."""
        for _, client in self._clients.values():
            await client.close()
        self._clients.clear()
