"""The fleet's documents in its hub: ConfigMaps that are written only over the version that was read.

A Kubernetes object is the one store of a fleet with compare-and-set that outlives the Ray cluster (Ray's key-value store has
neither property). Each record names the protocol version that wrote it; none is version 1.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from raycp.base.protocol_version import PREVIOUS, PROTOCOL, IncompatibleVersion, check_protocol
from raycp.kube import ApiError, BadAnswer, ClusterClient, KubeError, decode_answer
from raycp.kube.budget import LIVE
from raycp.leadership.answers import (
    NamespaceTerminating,
    ask,
    check_object,
    creation_refused,
    is_absent,
    version_number,
)

MAX_BYTES = 900_000
"""A ConfigMap holds 1 MiB (API doc, ConfigMap); the rest is for metadata."""


PROTOCOL_KEY = "_protocol"
"""In a record's data; no cluster's name begins with an underscore."""


class Conflict(Exception):
    """Another client has written the record since it was read."""


class IncompatibleRecord(IncompatibleVersion, KubeError):
    """A record was written by a release of raycp that this one does not understand: to its readers the hub's answer is no use."""


class Record(msgspec.Struct, frozen=True):
    """A record as read: its data without the protocol version, and the resourceVersion to write over."""

    data: dict[str, str]
    version: str
    uid: str


class _Meta(msgspec.Struct, rename="camel"):
    name: str
    resource_version: str
    uid: str


class _ConfigMap(msgspec.Struct):
    metadata: _Meta
    data: dict[str, str] | None = None


class _List(msgspec.Struct):
    kind: str
    items: list[_ConfigMap]


class _NamespaceStatus(msgspec.Struct):
    phase: str = ""


class _NamespaceMeta(msgspec.Struct):
    name: str


class _Namespace(msgspec.Struct):
    metadata: _NamespaceMeta
    status: _NamespaceStatus = msgspec.field(default_factory=_NamespaceStatus)


class Records:
    """Reads and writes of one fleet's records in one namespace of its hub. Whatever the hub answers, they raise ``KubeError``,
    ``Conflict`` or ``TimeoutError``, and nothing else (``answers``)."""

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
        """Create the namespace if it does not exist. Raises ``KubeError``; ``NamespaceTerminating`` while it is being deleted."""
        name = self._namespace
        body = msgspec.json.encode({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        try:
            answer = await ask(self._client, "GET", f"/api/v1/namespaces/{name}")
        except ApiError as error:
            if not is_absent(error, name):
                raise
            try:
                await ask(self._client, "POST", "/api/v1/namespaces", body=body)
            except ApiError as again:
                if again.status != 409:
                    raise
            return
        found = decode_answer(answer.body, _Namespace, f"namespace {name}")
        if found.metadata.name != name:
            raise BadAnswer(f"the answer to GET namespace {name} is {found.metadata.name!r}")
        if found.status.phase == "Terminating":
            raise NamespaceTerminating(f"namespace {name} is being deleted: it is made again when its deletion has ended")

    async def read(self, what: str, priority: int = LIVE, timeout: float | None = None) -> Record | None:
        """The record, None where there is none; ``priority`` as in ``kube.budget``, ``timeout`` in seconds.

        Raises ``KubeError``, such as ``IncompatibleRecord``.
        """
        try:
            answer = await self._ask("GET", self._path(self.name(what)), priority=priority, timeout=timeout)
        except ApiError as error:
            if is_absent(error, self.name(what)):
                return None
            raise
        return self._decode(self.name(what), answer)

    async def list(self, prefix: str) -> dict[str, Record]:
        """All records of the fleet whose name begins with ``prefix``, by name.

        Raises ``KubeError``, such as ``IncompatibleRecord``.
        """
        answer = await self._ask("GET", self._path(), query={"labelSelector": f"raycp.io/fleet={self._fleet}"})
        found = decode_answer(answer, _List, f"the list of ConfigMaps in {self._namespace}")
        if found.kind != "ConfigMapList":
            raise BadAnswer(f"the list of ConfigMaps in {self._namespace}: the answer is a {found.kind!r}")
        start = self.name(prefix)
        own = len(self.name(""))
        return {
            item.metadata.name[own:]: self._record(item.metadata.name, item.data, item.metadata)
            for item in found.items
            if item.metadata.name.startswith(start)
        }

    async def write(self, what: str, data: dict[str, str], over: Record | None) -> Record:
        """Write over the record that was read; ``None`` creates it.

        Raises ``Conflict``, ``NamespaceMissing``, ``NamespaceTerminating`` and other ``KubeError``.
        """
        meta: dict[str, object] = {
            "name": self.name(what),
            "namespace": self._namespace,
            "labels": {"app.kubernetes.io/managed-by": "raycp", "raycp.io/fleet": self._fleet},
        }
        if over is not None:
            meta |= {"resourceVersion": over.version, "uid": over.uid}
        stored = {**data, PROTOCOL_KEY: str(PROTOCOL)}
        body = msgspec.json.encode({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": stored})
        try:
            if over is None:
                answer = await self._ask("POST", self._path(), body=body)
            else:
                answer = await self._ask("PUT", self._path(self.name(what)), body=body)
        except ApiError as error:
            if error.status == 409 or (over is not None and is_absent(error, self.name(what))):
                raise Conflict(f"{self.name(what)} was written by another client") from error
            raise creation_refused(error, self._namespace) from error
        return self._decode(self.name(what), answer)

    async def delete(self, what: str) -> None:
        """Delete the record if it is there."""
        try:
            await self._ask("DELETE", self._path(self.name(what)))
        except ApiError as error:
            if not is_absent(error, self.name(what)):
                raise

    async def _ask(self, verb: str, path: str, **more: Any) -> bytes:
        return (await ask(self._client, verb, path, **more)).body

    def _decode(self, name: str, body: bytes) -> Record:
        what = f"ConfigMap {self._namespace}/{name}"
        found = decode_answer(body, _ConfigMap, what)
        check_object(name, found.metadata.name, found.metadata.resource_version, found.metadata.uid, what)
        return self._record(name, found.data, found.metadata)

    def _record(self, name: str, data: Mapping[str, str] | None, meta: _Meta) -> Record:
        found = dict(data or {})
        written_by = found.pop(PROTOCOL_KEY, str(PREVIOUS))
        try:
            check_protocol(version_number(written_by), f"ConfigMap {self._namespace}/{name}")
        except IncompatibleVersion as error:
            raise IncompatibleRecord(str(error)) from error
        return Record(found, meta.resource_version, meta.uid)
