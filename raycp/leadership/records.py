"""The fleet's documents in its hub: ConfigMaps that are written only over the version that was read.

A Kubernetes object is the one store of a fleet with compare-and-set that outlives the Ray cluster (Ray's key-value store has
neither property).
"""

import msgspec

from raycp.kube import ApiError, ClusterClient
from raycp.kube.budget import LIVE

MAX_BYTES = 900_000
"""A ConfigMap holds 1 MiB (API doc, ConfigMap); the rest is for metadata."""


class Conflict(Exception):
    """Another client has written the record since it was read."""


class Record(msgspec.Struct, frozen=True):
    """A record as read: its data and the version to write over."""

    data: dict[str, str]
    version: str
    uid: str


class _Meta(msgspec.Struct, rename="camel"):
    resource_version: str
    uid: str


class _ConfigMap(msgspec.Struct):
    metadata: _Meta
    data: dict[str, str] | None = None


class _Named(msgspec.Struct, rename="camel"):
    name: str
    resource_version: str
    uid: str


class _Item(msgspec.Struct):
    metadata: _Named
    data: dict[str, str] | None = None


class _List(msgspec.Struct):
    items: list[_Item]


class Records:
    """Reads and writes of one fleet's records in one namespace of its hub."""

    def __init__(self, client: ClusterClient, fleet: str, namespace: str) -> None:
        self._client = client
        self._fleet = fleet
        self._namespace = namespace

    def name(self, what: str) -> str:
        """The ConfigMap's name of record ``what``."""
        return f"raycp-{self._fleet}-{what}"

    def _path(self, name: str = "") -> str:
        path = f"/api/v1/namespaces/{self._namespace}/configmaps"
        return f"{path}/{name}" if name else path

    async def ensure_namespace(self) -> None:
        """Create the namespace if it does not exist. Raises ``ApiError``, ``Unreachable``."""
        body = msgspec.json.encode({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self._namespace}})
        try:
            await self._client.request("GET", f"/api/v1/namespaces/{self._namespace}")
        except ApiError as error:
            if error.status != 404:
                raise
            try:
                await self._client.request("POST", "/api/v1/namespaces", body=body)
            except ApiError as again:
                if again.status != 409:
                    raise

    async def read(self, what: str, priority: int = LIVE, timeout: float | None = None) -> Record | None:
        """The record, None where there is none; ``priority`` as in ``kube.budget``, ``timeout`` in seconds.

        Raises ``ApiError``, ``Unreachable``.
        """
        try:
            answer = await self._client.request("GET", self._path(self.name(what)), priority=priority, timeout=timeout)
        except ApiError as error:
            if error.status == 404:
                return None
            raise
        return self._decode(answer.body)

    async def list(self, prefix: str) -> dict[str, Record]:
        """All records of the fleet whose name begins with ``prefix``, by name. Raises ``ApiError``, ``Unreachable``."""
        try:
            answer = await self._client.request("GET", self._path(), query={"labelSelector": f"raycp.io/fleet={self._fleet}"})
        except ApiError as error:
            if error.status == 404:
                return {}
            raise
        start = self.name(prefix)
        own = len(self.name(""))
        return {
            item.metadata.name[own:]: Record(item.data or {}, item.metadata.resource_version, item.metadata.uid)
            for item in msgspec.json.decode(answer.body, type=_List).items
            if item.metadata.name.startswith(start)
        }

    async def write(self, what: str, data: dict[str, str], over: Record | None) -> Record:
        """Write over the record that was read; ``None`` creates it. Raises ``Conflict``, ``ApiError``, ``Unreachable``."""
        meta: dict[str, object] = {
            "name": self.name(what),
            "namespace": self._namespace,
            "labels": {"app.kubernetes.io/managed-by": "raycp", "raycp.io/fleet": self._fleet},
        }
        if over is not None:
            meta |= {"resourceVersion": over.version, "uid": over.uid}
        body = msgspec.json.encode({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data})
        try:
            if over is None:
                answer = await self._client.request("POST", self._path(), body=body)
            else:
                answer = await self._client.request("PUT", self._path(self.name(what)), body=body)
        except ApiError as error:
            if error.status == 409 or (error.status == 404 and over is not None):
                raise Conflict(f"{self.name(what)} was written by another client") from error
            raise
        return self._decode(answer.body)

    async def delete(self, what: str) -> None:
        """Delete the record if it is there."""
        try:
            await self._client.request("DELETE", self._path(self.name(what)))
        except ApiError as error:
            if error.status != 404:
                raise

    @staticmethod
    def _decode(body: bytes) -> Record:
        found = msgspec.json.decode(body, type=_ConfigMap)
        return Record(found.data or {}, found.metadata.resource_version, found.metadata.uid)
