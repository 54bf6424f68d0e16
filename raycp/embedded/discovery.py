"""Discovery in its three forms (legacy lists, per group version, aggregated), ``/version``, and OpenAPI by name."""

import hashlib
from typing import Any
from urllib.parse import unquote

import msgspec

from raycp.embedded.forms import ACCEPTED
from raycp.embedded.httpio import HttpResponse
from raycp.embedded.registry import Registry, ServedResource
from raycp.embedded.resources import GROUP_PRIORITY, ResourceInfo

VERSION = {
    "major": "1",
    "minor": "36",
    "emulationMajor": "1",
    "emulationMinor": "36",
    "minCompatibilityMajor": "1",
    "minCompatibilityMinor": "35",
    "gitVersion": "v1.36.2+raycp",
    "gitCommit": "0000000000000000000000000000000000000000",
    "gitTreeState": "clean",
    "buildDate": "2026-06-10T00:00:00Z",
    "goVersion": "go1.26.0",
    "compiler": "gc",
    "platform": "linux/amd64",
}
_V2 = "apidiscovery.k8s.io"
_OPENAPI_PROTOBUF = (
    "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
    "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
)
_NO_DEFINITIONS = b"\x0a\x032.0\x12\x10\x0a\x0aKubernetes\x12\x02v1"
"""``openapi.v2.Document`` of gnostic: ``swagger`` (1), and ``title`` and ``version`` of ``info`` (2)."""


class DiscoveryEndpoints:
    """Serves ``/api``, ``/apis``, ``/api/v1``, ``/apis/G``, ``/apis/G/V``, ``/version``, ``/openapi/...``, ``/``."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._cache: dict[str, bytes] = {}
        self._generation = -1
        self._openapi: Any = None
        self._tags: dict[str, bytes] = {}

    def handle(self, path: str, query: str, accept: str, host: str, known: str = "") -> HttpResponse | None:
        """The answer for a path; None for an unknown path. ``known`` is the request's ``If-None-Match``."""
        if self._generation != self._registry.generation:
            self._generation = self._registry.generation
            self._cache.clear()
            self._tags.clear()
            self._openapi = None
        parts = path.strip("/").split("/")
        match parts:
            case ["version"]:
                return _json(VERSION)
            case ["api"]:
                aggregated = _wants_aggregated(accept)
                if aggregated:
                    return self._aggregated("core", aggregated)
                address = {"clientCIDR": "0.0.0.0/0", "serverAddress": host}
                return _json({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [address]})
            case ["apis"]:
                aggregated = _wants_aggregated(accept)
                if aggregated:
                    return self._aggregated("named", aggregated)
                body = {"kind": "APIGroupList", "apiVersion": "v1", "groups": [self._group(g) for g in self._groups()]}
                return self._cached("/apis", body)
            case ["apis", group]:
                return self._cached(path, self._group(unquote(group))) if unquote(group) in self._groups() else None
            case ["api", version]:
                return self._resources("", version)
            case ["apis", group, version]:
                return self._resources(unquote(group), version)
            case ["openapi", "v3", *rest]:
                return self._tagged(path, self._openapi_v3("/".join(rest), query), known)
            case ["openapi", "v2"]:
                return self._tagged(path, self._openapi_v2(accept), known)
            case [""]:
                return self._root()
        return None

    def _groups(self) -> list[str]:
        """Named groups, built-in ones first in the server's order, then those of CRDs by name."""
        known = [g for g in self._registry.versions() if g]
        builtin = [g for g in GROUP_PRIORITY if g in known]
        return builtin + sorted(g for g in known if g not in GROUP_PRIORITY)

    def _group(self, group: str) -> dict[str, Any]:
        versions = [{"groupVersion": f"{group}/{v}", "version": v} for v in self._registry.versions()[group]]
        return {
            "kind": "APIGroup",
            "apiVersion": "v1",
            "name": group,
            "versions": versions,
            "preferredVersion": versions[0],
        }

    def _resources(self, group: str, version: str) -> HttpResponse | None:
        found = list(self._registry.of(group, version))
        if not found:
            return None
        described: list[dict[str, Any]] = []
        for resource in found:
            described += _described(resource.info)
        body = {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": f"{group}/{version}" if group else version,
            "resources": sorted(described, key=lambda each: str(each["name"])) if not found[0].info.crd else described,
        }
        return self._cached(f"{group}/{version}", body)

    def _aggregated(self, which: str, version: str) -> HttpResponse:
        groups = [""] if which == "core" else self._groups()
        versions = self._registry.versions()
        items = []
        for group in groups:
            entries = [
                {
                    "version": v,
                    "resources": [_aggregate(r) for r in self._registry.of(group, v)],
                    "freshness": "Current",
                }
                for v in versions[group]
            ]
            meta = {"name": group, "creationTimestamp": None} if group else {"creationTimestamp": None}
            items.append({"metadata": meta, "versions": entries})
        body = {
            "kind": "APIGroupDiscoveryList",
            "apiVersion": f"{_V2}/{version}",
            "metadata": {},
            "items": items,
        }
        kind = f"application/json;g={_V2};v={version};as=APIGroupDiscoveryList"
        return self._cached(f"aggregated {which} {version}", body, kind)

    def _cached(self, key: str, body: dict[str, Any], kind: str = "application/json") -> HttpResponse:
        raw = self._cache.get(key)
        if raw is None:
            raw = self._cache[key] = msgspec.json.encode(body)
        return HttpResponse(200, raw, kind)

    # ---- OpenAPI

    def _documents(self) -> Any:
        if self._openapi is None:
            from raycp.embedded.openapi import OpenApi  # on demand: it loads the schemas of all kinds

            self._openapi = OpenApi([r.info for r in self._registry.resources.values()])
        return self._openapi

    def _openapi_v3(self, name: str, query: str) -> HttpResponse | None:
        documents = self._documents()
        if not name:
            return _json(documents.index())
        raw = documents.document(name)
        return HttpResponse(200, raw) if raw is not None else None

    def _openapi_v2(self, accept: str) -> HttpResponse | None:
        documents = self._documents()
        if "application/json" in accept or not accept or "*/*" in accept:
            return HttpResponse(200, documents.v2())
        if any(kind in accept for kind in _OPENAPI_PROTOBUF):
            return HttpResponse(200, _NO_DEFINITIONS, _OPENAPI_PROTOBUF[-1])
        return HttpResponse(406, b"only application/json is served at /openapi/v2", "text/plain; charset=utf-8")

    def _tagged(self, path: str, found: HttpResponse | None, known: str) -> HttpResponse | None:
        """The document with its ETag, or 304 where the client has it already, as kube-openapi's handlers answer."""
        if found is None or found.status != 200:
            return found
        key = f"{path} {found.content_type}"
        tag = self._tags.get(key)
        if tag is None:
            tag = self._tags[key] = b'"%b"' % hashlib.sha512(found.body).hexdigest().upper().encode()
        headers = b"ETag: %b\r\nVary: Accept\r\n" % tag
        held = {each.strip().removeprefix("W/") for each in known.split(",")}
        if tag.decode() in held or "*" in held:
            return HttpResponse(304, b"", found.content_type, headers)
        return HttpResponse(200, found.body, found.content_type, headers)

    def _root(self) -> HttpResponse:
        paths = ["/api", "/api/v1", "/apis"]
        for group in self._groups():
            paths.append(f"/apis/{group}")
            paths += [f"/apis/{group}/{v}" for v in self._registry.versions()[group]]
        paths += ["/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version"]
        return _json({"paths": paths})


def _json(body: dict[str, Any]) -> HttpResponse:
    return HttpResponse(200, msgspec.json.encode(body))


def _wants_aggregated(accept: str) -> str:
    """The version of aggregated discovery that Accept prefers over plain JSON, or an empty string."""
    for part in accept.split(","):
        pieces = [piece.strip() for piece in part.split(";")]
        if pieces[0] not in ("application/json", "*/*"):
            continue
        if f"g={_V2}" in pieces and "as=APIGroupDiscoveryList" in pieces:
            for version in ("v2", "v2beta1"):
                if f"v={version}" in pieces:
                    return version
            continue
        return ""
    return ""


def _described(info: ResourceInfo) -> list[dict[str, Any]]:
    main: dict[str, Any] = {
        "name": info.plural,
        "singularName": info.singular,
        "namespaced": info.namespaced,
        "kind": info.kind,
        "verbs": list(info.verbs),
    }
    if info.short_names:
        main["shortNames"] = list(info.short_names)
    if info.categories:
        main["categories"] = list(info.categories)
    stored = _stored_version(info)
    if stored and "get" in info.verbs and "watch" in info.verbs:
        main["storageVersionHash"] = _hash(info, stored)
    found = [main]
    for sub in info.subresource_table.values():
        entry: dict[str, Any] = {
            "name": f"{info.plural}/{sub.name}",
            "singularName": "",
            "namespaced": info.namespaced,
            "kind": sub.kind,
            "verbs": list(sub.verbs),
        }
        if sub.group or sub.version:
            entry["group"], entry["version"] = sub.group, sub.version
        found.append(entry)
    return found


def _stored_version(info: ResourceInfo) -> str:
    """The version that is stored, if it is served too, as the discovery controller of apiextensions-apiserver names it."""
    if info.crd is None:
        return info.version
    return next((str(v["name"]) for v in info.crd["spec"]["versions"] if v.get("storage") and v.get("served")), "")


def _hash(info: ResourceInfo, version: str) -> str:
    import base64

    digest = hashlib.sha256(f"{info.group}/{version}/{info.kind}".encode()).digest()
    return base64.b64encode(digest[:8]).decode()


def _aggregate(resource: ServedResource) -> dict[str, Any]:
    info = resource.info
    found: dict[str, Any] = {
        "resource": info.plural,
        "responseKind": {"group": info.group, "version": info.version, "kind": info.kind},
        "scope": "Namespaced" if info.namespaced else "Cluster",
        "singularResource": info.singular,
        "verbs": list(info.verbs),
    }
    if info.short_names:
        found["shortNames"] = list(info.short_names)
    if info.categories:
        found["categories"] = list(info.categories)
    if info.subresource_table:
        found["subresources"] = [
            {
                "subresource": sub.name,
                "responseKind": {
                    "group": sub.group or (info.group if not sub.version else sub.group),
                    "version": sub.version or info.version,
                    "kind": sub.kind,
                },
                "verbs": list(sub.verbs),
            }
            for sub in info.subresource_table.values()
        ]
    return found


__all__ = ["ACCEPTED", "VERSION", "DiscoveryEndpoints"]
