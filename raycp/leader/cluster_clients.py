"""The leader's API clients: one per cluster, created when first needed and again when its connection changes."""

from raycp.base.clock import Clock
from raycp.kube import ClusterClient, ConnectSpec
from raycp.kube.client_table import ClientTable


class ClusterClients:
    """One per leader."""

    def __init__(self, clock: Clock) -> None:
        self._clients = ClientTable(lambda spec: ClusterClient.connect(spec, clock), clock)

    async def get(self, connect: ConnectSpec) -> ClusterClient:
        """The client of a cluster. Raises ``ConnectError``, ``KubeError``."""
        return await self._clients.get(connect)

    def authority(self, cluster: str) -> str:
        """``host:port`` of the cluster's API server; empty while it is not known."""
        client = self._clients.peek(cluster)
        return client.pool.target.authority if client is not None else ""

    def skew(self, cluster: str) -> float:
        """Seconds by which this process's wall clock is behind that of the cluster; 0 while it is not known."""
        client = self._clients.peek(cluster)
        return client.skew if client is not None else 0.0

    async def close(self) -> None:
        """Close all connections."""
        await self._clients.close()
