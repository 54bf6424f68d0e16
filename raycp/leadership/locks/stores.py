"""Objects that store a lock: a ConfigMap or a Lease of the hub, read, watched, and written over the version that was read."""

import datetime
import math
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Protocol

import msgspec

from raycp.base.clock import Clock
from raycp.base.protocol_version import PREVIOUS, PROTOCOL, IncompatibleVersion, check_protocol
from raycp.kube import ApiError, BadAnswer, ClusterClient, decode_answer
from raycp.kube.budget import LIVE
from raycp.leadership.answers import (
    NamespaceTerminating,
    ask,
    check_object,
    creation_refused,
    is_absent,
    version_number,
)
from raycp.leadership.epoch import LONGEST_PERMIT, Leadership, decode, encode
from raycp.leadership.locks.eligibility import LockState
from raycp.leadership.locks.types import LockProblem, PodRef
from raycp.leadership.records import Conflict

FLEET_LABEL = "raycp.io/fleet"
MANAGED = {"app.kubernetes.io/managed-by": "raycp"}
ANNOTATION = "raycp.io/"
PROTOCOL_KEY = "protocol"
"""Among a lock's texts: the protocol version of the raycp that wrote it; absent in version 1."""

WATCH_FOR = 300
"""Seconds after which a watch is reopened."""


class _Owner(msgspec.Struct):
    kind: str
    name: str
    uid: str


class _Meta(msgspec.Struct, rename="camel"):
    name: str = ""
    resource_version: str = ""
    uid: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: list[_Owner] | None = None


class _Object(msgspec.Struct):
    metadata: _Meta
    data: dict[str, str] | None = None
    spec: dict[str, Any] | None = None


class _ListMeta(msgspec.Struct, rename="camel"):
    resource_version: str = ""


class _List(msgspec.Struct):
    kind: str
    metadata: _ListMeta
    items: list[_Object]


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class LockStore(Protocol):
    """A lock's object. Raises ``KubeError``, whatever the hub answers; ``LockProblem`` for a missing right; ``TimeoutError``."""

    where: str

    async def read(self, priority: int = LIVE, timeout: float | None = None) -> LockState | None: ...

    async def write(
        self, state: LockState, over: LockState | None, priority: int = LIVE, timeout: float | None = None
    ) -> LockState:
        """Write over the very object and version that was read; None creates it. Raises ``Conflict``; ``NamespaceMissing``,
        ``NamespaceTerminating``."""
        ...

    async def delete(self, over: LockState) -> None:
        """Delete the very object that was read, even a foreign one. Raises ``Conflict``."""
        ...

    def follow(self) -> AsyncGenerator[LockState | None, None]:
        """The state now, and each change, until the watch ends or fails."""
        ...


class _KubeStore:
    """What both kinds share."""

    resource = ""
    collection = ""
    api_version = ""
    kind = ""

    def __init__(self, client: ClusterClient, fleet: str, namespace: str, name: str, clock: Clock) -> None:
        self._client = client
        self._fleet = fleet
        self._namespace = namespace
        self._name = name
        self._clock = clock
        self.where = f"{self.kind} {namespace}/{name}"

    def _state(self, found: _Object) -> LockState:
        """Raises ``BadAnswer``."""
        meta = found.metadata
        check_object(self._name, meta.name, meta.resource_version, meta.uid, self.where)
        labels = found.metadata.labels or {}
        state = LockState(Leadership(0, 0, "", 0.0), found.metadata.resource_version, found.metadata.uid)
        if labels.get(FLEET_LABEL) != self._fleet or any(labels.get(key) != value for key, value in MANAGED.items()):
            return msgspec.structs.replace(state, foreign="exists and is no lock of this fleet: it lacks raycp's labels")
        written_by = self._protocol(found)
        try:
            check_protocol(version_number(written_by), "it")
        except IncompatibleVersion as error:
            return msgspec.structs.replace(state, foreign=f"can't be read: {error}")
        pods = [owner for owner in found.metadata.owner_references or () if owner.kind == "Pod"]
        owner = PodRef(self._namespace, pods[0].name, pods[0].uid) if pods else None
        try:
            return self._decoded(found, msgspec.structs.replace(state, owner=owner))
        except (ValueError, TypeError, OverflowError) as error:
            raise BadAnswer(f"{self.where}: the answer has a field of a wrong type: {error}") from error

    def _protocol(self, found: _Object) -> str:
        raise NotImplementedError

    def _decoded(self, found: _Object, state: LockState) -> LockState:
        raise NotImplementedError

    def _encoded(self, state: LockState, over: LockState | None) -> dict[str, Any]:
        raise NotImplementedError

    async def _request(self, verb: str, path: str, **more: Any) -> bytes:
        try:
            return (await ask(self._client, verb, path, **more)).body
        except ApiError as error:
            refused = creation_refused(error, self._namespace) if verb == "POST" else error
            if error.status == 403 and not isinstance(refused, NamespaceTerminating):
                raise LockProblem(self._missing(verb, error)) from error
            raise refused from error

    def _missing(self, verb: str, error: ApiError) -> str:
        right = {"GET": "get, list, watch", "POST": "create", "PUT": "update", "DELETE": "delete"}[verb]
        return f"no right to {right} {self.resource} in namespace {self._namespace} ({error.message}): grant it (deploy/rbac)"

    async def read(self, priority: int = LIVE, timeout: float | None = None) -> LockState | None:
        try:
            body = await self._request("GET", f"{self.collection}/{self._name}", priority=priority, timeout=timeout)
        except ApiError as error:
            if is_absent(error, self._name):
                return None
            raise
        return self._state(decode_answer(body, _Object, self.where))

    async def write(
        self, state: LockState, over: LockState | None, priority: int = LIVE, timeout: float | None = None
    ) -> LockState:
        meta: dict[str, Any] = {
            "name": self._name,
            "namespace": self._namespace,
            "labels": {**MANAGED, FLEET_LABEL: self._fleet},
        }
        if over is not None:
            meta |= {"resourceVersion": over.version, "uid": over.uid}
        if state.owner is not None:
            meta["ownerReferences"] = [
                {"apiVersion": "v1", "kind": "Pod", "name": state.owner.name, "uid": state.owner.uid, "controller": False}
            ]
        obj = {"apiVersion": self.api_version, "kind": self.kind, "metadata": meta}
        content = self._encoded(state, over)
        meta |= content.pop("metadata", {})
        body = msgspec.json.encode(obj | content)
        path = self.collection if over is None else f"{self.collection}/{self._name}"
        try:
            answer = await self._request("POST" if over is None else "PUT", path, body=body, priority=priority, timeout=timeout)
        except ApiError as error:
            if error.status == 409 or (over is not None and is_absent(error, self._name)):
                raise Conflict(f"{self.where} was written by another client") from error
            raise
        return self._state(decode_answer(answer, _Object, self.where))

    async def delete(self, over: LockState) -> None:
        options = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": over.uid, "resourceVersion": over.version}}
        try:
            await self._request("DELETE", f"{self.collection}/{self._name}", body=msgspec.json.encode(options))
        except ApiError as error:
            if error.status == 409:
                raise Conflict(f"{self.where} was written by another client") from error
            if not is_absent(error, self._name):
                raise

    async def follow(self) -> AsyncGenerator[LockState | None, None]:
        only = f"metadata.name={self._name}"
        found = decode_answer(await self._request("GET", self.collection, query={"fieldSelector": only}), _List, self.where)
        if found.kind != f"{self.kind}List":
            raise BadAnswer(f"{self.where}: the answer to a list is a {found.kind!r}")
        yield self._state(found.items[0]) if found.items else None
        query: Mapping[str, str | int | bool] = {
            "watch": True,
            "fieldSelector": only,
            "resourceVersion": found.metadata.resource_version,
            "timeoutSeconds": WATCH_FOR,
        }
        try:
            async with self._client.stream(self.collection, query, idle_timeout=WATCH_FOR + 30.0) as batches:
                async for lines in batches:
                    for line in lines:
                        event = decode_answer(line, _Event, self.where)
                        if event.type == "ERROR":
                            return
                        if event.type == "DELETED":
                            yield None
                        elif event.type in ("ADDED", "MODIFIED"):
                            yield self._state(decode_answer(event.object, _Object, self.where))
        except ApiError as error:
            if error.status == 403:
                raise LockProblem(self._missing("GET", error)) from error
            raise


class ConfigMapStore(_KubeStore):
    """A ConfigMap: the whole lock is in its data."""

    resource = "configmaps"
    api_version = "v1"
    kind = "ConfigMap"

    def __init__(self, client: ClusterClient, fleet: str, namespace: str, name: str, clock: Clock) -> None:
        super().__init__(client, fleet, namespace, name, clock)
        self.collection = f"/api/v1/namespaces/{namespace}/configmaps"

    def _protocol(self, found: _Object) -> str:
        return (found.data or {}).get(PROTOCOL_KEY, str(PREVIOUS))

    def _decoded(self, found: _Object, state: LockState) -> LockState:
        data = found.data or {}
        return msgspec.structs.replace(state, leadership=decode(data), knock=data.get("knock", ""), answer=data.get("answer", ""))

    def _encoded(self, state: LockState, over: LockState | None) -> dict[str, Any]:
        return {"data": encode(state.leadership) | {"knock": state.knock, "answer": state.answer, PROTOCOL_KEY: str(PROTOCOL)}}


class LeaseStore(_KubeStore):
    """A Lease: the standard fields are in its spec, the rest in annotations ``raycp.io/...``.

    ``renewTime`` and ``acquireTime`` are informative; no decision depends on them. Source: API doc of coordination.k8s.io/v1.
    """

    resource = "leases.coordination.k8s.io"
    api_version = "coordination.k8s.io/v1"
    kind = "Lease"

    def __init__(self, client: ClusterClient, fleet: str, namespace: str, name: str, clock: Clock, duration: float) -> None:
        super().__init__(client, fleet, namespace, name, clock)
        self.collection = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._duration = duration
        self._transitions = 0

    def _protocol(self, found: _Object) -> str:
        return (found.metadata.annotations or {}).get(f"{ANNOTATION}{PROTOCOL_KEY}", str(PREVIOUS))

    def _decoded(self, found: _Object, state: LockState) -> LockState:
        spec, notes = found.spec or {}, found.metadata.annotations or {}
        self._transitions = int(spec.get("leaseTransitions") or 0)
        data = {key.removeprefix(ANNOTATION): value for key, value in notes.items() if key.startswith(ANNOTATION)}
        held = decode(data)
        if spec.get("holderIdentity", "") != ("" if held.released else held.holder):
            # Another elector set the spec alone: it counts as any holder, since it renews by the same rules.
            other = str(spec.get("holderIdentity") or "")
            held = msgspec.structs.replace(held, holder=other, home=f"elector {other}", released=not other, successor="")
        duration = float(spec.get("leaseDurationSeconds") or self._duration)
        if not 0.0 < duration <= LONGEST_PERMIT:
            raise ValueError(f"leaseDurationSeconds is {duration}")
        return msgspec.structs.replace(state, leadership=held, duration=duration)

    def _encoded(self, state: LockState, over: LockState | None) -> dict[str, Any]:
        held = state.leadership
        now = _micro(self._clock.wall())
        changed = over is None or over.leadership.holder != held.holder
        # A released Lease has no holder: the server rejects an empty one (validation of coordination.k8s.io/v1).
        spec: dict[str, Any] = {} if held.released else {"holderIdentity": held.holder}
        spec |= {
            "leaseDurationSeconds": max(1, math.ceil(self._duration)),
            "acquireTime": _micro(held.since),
            "renewTime": now,
            "leaseTransitions": self._transitions + (1 if changed and over is not None and not held.released else 0),
        }
        notes = {f"{ANNOTATION}{key}": value for key, value in (encode(held) | {PROTOCOL_KEY: str(PROTOCOL)}).items()}
        return {"metadata": {"annotations": notes}, "spec": spec}


def _micro(wall: float) -> str:
    return datetime.datetime.fromtimestamp(wall, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
