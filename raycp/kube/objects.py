"""Calls on objects, as bytes, on top of ``request``."""

from abc import abstractmethod
from collections.abc import Mapping

import msgspec

from raycp.base.keys import GVK
from raycp.kube.answers import decode_answer
from raycp.kube.budget import LIVE
from raycp.kube.connection import Response
from raycp.kube.discovery import Discovery, Resource
from raycp.kube.errors import ApiError, KubeError, unserved
from raycp.kube.guard import HeaderSource, WriteGuard

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
        priority: int = LIVE,
        guard: WriteGuard | None = None,
        headers: HeaderSource | None = None,
    ) -> Response:
        """One request."""

    async def version(self, *, timeout: float | None = None) -> ServerVersion:
        """The server's version."""
        answer = await self.request("GET", "/version", timeout=timeout)
        return decode_answer(answer.body, ServerVersion, "GET /version")

    async def resource(self, gvk: GVK) -> Resource:
        """The resource of a kind, from cached discovery. Raises ``NoSuchKind``."""
        return self.discovery.known(gvk) or await self.discovery.resource(gvk)

    async def call(
        self,
        verb: str,
        gvk: GVK,
        namespace: str | None,
        name: str | None,
        subresource: str | None = None,
        *,
        body: bytes | None = None,
        query: Query | None = None,
        content_type: str = JSON,
        timeout: float | None = None,
        priority: int = LIVE,
        guard: WriteGuard | None = None,
        headers: HeaderSource | None = None,
    ) -> tuple[Response, str]:
        """A request for an object, its subresource, or the collection if ``name`` is empty; the answer, and the path that was used.

        If the server does not know the path, the kind may be served elsewhere by now (its CRD was made anew): discovery is read
        again, and the request sent once more if that is so. The first had no effect.
        """
        resource = await self.resource(gvk)
        for last in (False, True):
            path = resource.path(namespace, name, subresource)
            try:
                answer = await self.request(
                    verb,
                    path,
                    body=body,
                    query=query,
                    content_type=content_type,
                    timeout=timeout,
                    priority=priority,
                    guard=guard,
                    headers=headers,
                )
            except KubeError as error:
                moved = await self.discovery.reread(resource) if unserved(error) and not last else None
                if moved is None:
                    raise
                resource = moved
            else:
                return answer, path
        raise AssertionError("unreachable")

    async def get(
        self, gvk: GVK, namespace: str, name: str, *, subresource: str | None = None, timeout: float | None = None
    ) -> bytes:
        return (await self.call("GET", gvk, namespace, name, subresource, timeout=timeout))[0].body

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
        return (await self.call("POST", gvk, namespace, name, subresource, body=body, query=query))[0].body

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
        return (await self.call("PUT", gvk, namespace, name, subresource, body=body, query=query))[0].body

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
        call = self.call("PATCH", gvk, namespace, name, subresource, body=body, query=query, content_type=content_type)
        return (await call)[0].body

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
        return (await self.call("DELETE", gvk, namespace, name, body=msgspec.json.encode(options)))[0].body

    async def identity(self, *, timeout: float | None = None, priority: int = LIVE) -> str:
        """The uid of namespace ``kube-system``, which identifies the cluster (law 7); empty if it cannot be read.

        It is read from the server's storage, so that its answer also says that the server as a whole is well.
        """
        path = "/api/v1/namespaces/kube-system"
        try:
            body = (await self.request("GET", path, timeout=timeout, priority=priority)).body
        except ApiError as error:
            if error.status in (403, 404):
                return ""
            raise
        return decode_answer(body, _Identified, f"GET {path}").metadata.uid
