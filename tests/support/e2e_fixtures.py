"""CRDs with random names, as Kubernetes' e2e specs make them, and requests of apply."""

import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from e2e_driver import PROTOBUF, TYPED, E2eClient, Object, Refused, delete_options, unless, until

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
GROUP = "mygroup.example.com"
APPLY = {"Content-Type": "application/apply-patch+yaml", "Accept": TYPED["Accept"]}
ALLOW_ALL: Object = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
BASELINE = {f"pod-security.kubernetes.io/{mode}": "baseline" for mode in ("enforce", "warn", "audit")}
"""Labels of the namespaces of specs that run ordinary Pods."""

CRON_PATTERN = r"^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$"


@dataclass(frozen=True)
class CustomKind:
    """A CRD that is served. ``versions`` are in its order."""

    plural: str
    kind: str
    versions: tuple[str, ...]
    namespace: str = ""

    def api_version(self, version: str = "") -> str:
        return f"{GROUP}/{version or self.versions[0]}"

    def path(self, name: str = "", version: str = "") -> str:
        space = f"/namespaces/{self.namespace}" if self.namespace else ""
        return f"/apis/{self.api_version(version)}{space}/{self.plural}" + (f"/{name}" if name else "")

    def object(self, name: str, **fields: Any) -> Object:
        metadata = {"name": name, "namespace": self.namespace} if self.namespace else {"name": name}
        return {"apiVersion": self.api_version(), "kind": self.kind, "metadata": metadata, **fields}


def crd_object(schema: Object, versions: tuple[str, ...], namespaced: bool, status: bool = False) -> Object:
    """A CRD of the group of the fixtures, whose last version is stored."""
    singular = f"foo{uuid.uuid4().hex[:6]}a"
    made: list[Object] = []
    for version in versions:
        made.append({"name": version, "served": True, "storage": version == versions[-1], "schema": {"openAPIV3Schema": schema}})
        if status:
            made[-1]["subresources"] = {"status": {}}
    names = {"plural": singular + "s", "singular": singular, "kind": singular, "listKind": singular + "List"}
    scope = "Namespaced" if namespaced else "Cluster"
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{singular}s.{GROUP}"},
        "spec": {"group": GROUP, "versions": made, "names": names, "scope": scope},
    }


@asynccontextmanager
async def custom_kind(
    e2e: E2eClient, schema: Object, versions: tuple[str, ...] = ("v1beta1",), namespace: str = "", primed: bool = False
) -> AsyncIterator[CustomKind]:
    """A CRD from the moment at which discovery names it in each version until discovery does no more.

    ``primed`` makes an object of the first version, deletes it and expects that in a watch, as the fixtures do.
    """
    crd = crd_object(schema, versions, bool(namespace), status=len(versions) > 1)
    await e2e.typed("POST", CRDS, crd)
    made = CustomKind(crd["spec"]["names"]["plural"], crd["spec"]["names"]["kind"], versions, namespace)
    for version in versions:
        await until(lambda version=version: _discovered(e2e, made, version), f"discovery has {made.plural} in {version}")
    if primed:
        await _prime(e2e, made)
    yield made
    await e2e.typed("DELETE", f"{CRDS}/{crd['metadata']['name']}", delete_options("apiextensions.k8s.io/v1"))
    for version in versions:
        await until(lambda version=version: _gone(e2e, made, version), f"discovery has no {made.plural} in {version}")


async def _discovered(e2e: E2eClient, kind: CustomKind, version: str) -> bool:
    told = await unless(404, e2e.dynamic("GET", f"/apis/{GROUP}/{version}"))
    return told is not None and any(each["name"] == kind.plural for each in told["resources"])


async def _gone(e2e: E2eClient, kind: CustomKind, version: str) -> bool:
    return not await _discovered(e2e, kind, version)


async def _prime(e2e: E2eClient, kind: CustomKind) -> None:
    fields = {"alpha": "foo_123", "beta": 10, "gamma": "bar", "delta": "hello", "epsilon": "foobar", "spec": {}}
    made = await e2e.dynamic("POST", kind.path(), kind.object("setup-instance", **fields))
    await e2e.dynamic("DELETE", kind.path("setup-instance"), delete_options())
    since = made["metadata"]["resourceVersion"]
    async with e2e.watching(f"{kind.path()}?watch=1&resourceVersion={since}") as events:
        assert (await anext(events))["type"] == "DELETED"


async def send_bytes(e2e: E2eClient, method: str, path: str, body: bytes) -> Any:
    """A request as a typed client sends it whose body is bytes instead of an object: without a content type."""
    sent = {"Authorization": f"Bearer {e2e.cluster.token}", "Accept": TYPED["Accept"]}
    async with (
        aiohttp.ClientSession(skip_auto_headers=("Content-Type",)) as http,
        http.request(method, e2e.cluster.server + path, data=body, headers=sent, ssl=False) as answer,
    ):
        told = await answer.json()
        if answer.status >= 400:
            raise Refused(answer.status, told)
        return told


async def apply(e2e: E2eClient, path: str, body: str | Object, manager: str, *options: str, **headers: str) -> Any:
    """Server-side apply. ``body`` is YAML or an object, ``options`` are more of the query, such as ``force=true``."""
    data = body if isinstance(body, str) else json.dumps(body)
    query = "&".join((f"fieldManager={manager}", *options))
    status, media, told = await e2e.raw("PATCH", f"{path}?{query}", data.encode(), **{**APPLY, **headers})
    assert PROTOBUF not in media.get("Content-Type", ""), "this client reads JSON only"
    answer = json.loads(told)
    if status >= 400:
        raise Refused(status, answer)
    return answer


def ports_schema() -> Object:
    """The schema of a list of ports whose keys are the container's port and the protocol."""
    number, text = {"type": "integer", "format": "int32"}, {"type": "string"}
    fields = {"containerPort": number, "hostIP": text, "hostPort": number, "name": text, "protocol": text}
    return {
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["containerPort", "protocol"],
        "items": {"type": "object", "required": ["containerPort", "protocol"], "properties": fields},
    }


def cron_schema(preserve: bool = False, **properties: Object) -> Object:
    """A schema whose spec has a pattern, a list with keys and ``properties``."""
    spec: Object = {
        "type": "object",
        "properties": {"cronSpec": {"type": "string", "pattern": CRON_PATTERN}, "ports": ports_schema(), **properties},
    }
    if preserve:
        spec["x-kubernetes-preserve-unknown-fields"] = True
    return {"type": "object", "properties": {"spec": spec}}
