"""Calls on objects, as bytes, on top of ``request``."""

from abc import abstractmethod
from collections.abc import Mapping

import msgspec

from raycp.base.keys import GVK
from raycp.kube.connection import Response
from raycp.kube.discovery import Discovery, Resource
from raycp.kube.errors import ApiError

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"  # YAML is a superset of JSON: every server takes it

Query = Mapping[str, str | int | bool]


class _Metadata(msgspec.Struct):
    uid: str = ""


class _Identified(msgspec.Struct):
    metadata: _Metadata


class ServerVersion(msgspec.Struct, frozen=True):
    """``GET /version``."""

    gitVersion: str = ""
    major: str = ""
    minor: str = ""
    platform: str = ""


class ObjectCalls:
    """Mixed into the client. All calls raise what ``request`` raises, and ``NoSuchKind``; they return the JSON of the object."""

    discovery: Discovery

    @abstractmethod
    async def request(
        self,
        verb: str,
        path: str,
        *,
        body: bytes | None = None,
        query: Query | None = None,
        content_type: str = JSON,
        timeout: float | None = None,
    ) -> Response:
        """One request."""

    async def version(self) -> ServerVersion:
        """The server's version."""
        return msgspec.json.decode((await self.request("GET", "/version")).body, type=ServerVersion)

    async def resource(self, gvk: GVK) -> Resource:
        """The resource of a kind, from cached discovery. Raises ``NoSuchKind``."""
        return self.discovery.known(gvk) or await self.discovery.resource(gvk)

    async def get(
        self, gvk: GVK, namespace: str, name: str, *, subresource: str | None = None, timeout: float | None = None
    ) -> bytes:
        resource = await self.resource(gvk)
        return (await self.request("GET", resource.path(namespace, name, subresource), timeout=timeout)).body

    async def create(
        self,
        gvk: GVK,
        namespace: str,
        body: bytes,
        *,
        name: str | None = None,
        subresource: str | None = None,
        query: Query | None = None,
    ) -> bytes:
        """``name`` and ``subresource`` are for eviction, binding and the like."""
        resource = await self.resource(gvk)
        return (await self.request("POST", resource.path(namespace, name, subresource), body=body, query=query)).body

    async def update(
        self,
        gvk: GVK,
        namespace: str,
        name: str,
        body: bytes,
        *,
        subresource: str | None = None,
        query: Query | None = None,
    ) -> bytes:
        resource = await self.resource(gvk)
        return (await self.request("PUT", resource.path(namespace, name, subresource), body=body, query=query)).body

    async def patch(
        self,
        gvk: GVK,
        namespace: str,
        name: str,
        body: bytes,
        *,
        content_type: str = MERGE_PATCH,
        subresource: str | None = None,
        query: Query | None = None,
    ) -> bytes:
        resource = await self.resource(gvk)
        path = resource.path(namespace, name, subresource)
        return (await self.request("PATCH", path, body=body, query=query, content_type=content_type)).body

    async def apply(
        self,
        gvk: GVK,
        namespace: str,
        name: str,
        body: bytes,
        *,
        field_manager: str,
        force: bool = True,
        subresource: str | None = None,
    ) -> bytes:
        """Server-side apply."""
        query: dict[str, str | int | bool] = {"fieldManager": field_manager, "force": force}
        return await self.patch(gvk, namespace, name, body, content_type=APPLY_PATCH, subresource=subresource, query=query)

    async def delete(
        self,
        gvk: GVK,
        namespace: str,
        name: str,
        *,
        uid: str = "",
        resource_version: str = "",
        propagation: str = "",
        grace: int | None = None,
    ) -> bytes:
        """``uid`` and ``resource_version`` are preconditions; ``grace`` in seconds. Returns the object or a Status."""
        options: dict[str, object] = {"kind": "DeleteOptions", "apiVersion": "v1"}
        preconditions = {k: v for k, v in (("uid", uid), ("resourceVersion", resource_version)) if v}
        if preconditions:
            options["preconditions"] = preconditions
        if propagation:
            options["propagationPolicy"] = propagation
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        resource = await self.resource(gvk)
        return (await self.request("DELETE", resource.path(namespace, name), body=msgspec.json.encode(options))).body

    async def identity(self) -> str:
        """The uid of namespace ``kube-system``, which identifies the cluster (law 7); empty if it cannot be read."""
        try:
            body = (await self.request("GET", "/api/v1/namespaces/kube-system")).body
        except ApiError as error:
            if error.status in (403, 404):
                return ""
            raise
        return msgspec.json.decode(body, type=_Identified).metadata.uid
