"""OpenAPI documents: the v3 index and one document per group version, and v2 in one piece.

Schemas are those of the ``kubernetes-validate`` package, converted to OpenAPI, and those of the CRDs. Paths have what
kubectl reads: an operation's kind, and the parameters ``fieldValidation`` and ``dryRun`` of PATCH. Documents are built at
the first request and cached as bytes.
"""

import hashlib
from collections.abc import Iterable
from typing import Any

import msgspec

from raycp.embedded import openapi_crds
from raycp.embedded.resources import ResourceInfo
from raycp.embedded.strategy.schemas import definition, definition_name

_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_PATCHES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
_VERBS = {
    "get": ("get", "read"),
    "list": ("get", "list"),
    "create": ("post", "create"),
    "update": ("put", "replace"),
    "patch": ("patch", "patch"),
    "delete": ("delete", "delete"),
    "deletecollection": ("delete", "deleteCollection"),
}
_ACTIONS = {"get": "get", "list": "list", "create": "post", "update": "put", "patch": "patch", "delete": "delete"}


class OpenApi:
    """The documents of a fixed set of resources; create a new ``OpenApi`` when the set changes."""

    def __init__(self, infos: Iterable[ResourceInfo]) -> None:
        self._groups: dict[str, list[ResourceInfo]] = {}
        for info in infos:
            self._groups.setdefault(group_path(info), []).append(info)
        self._documents: dict[str, bytes] = {}
        self._v2 = b""

    def index(self) -> dict[str, Any]:
        """The index at ``/openapi/v3``."""
        found = {}
        for name, infos in sorted(self._groups.items()):
            kinds = sorted(f"{i.kind}:{_crd_mark(i)}" for i in infos)
            mark = hashlib.sha256("\n".join(kinds).encode()).hexdigest().upper()
            found[name] = {"serverRelativeURL": f"/openapi/v3/{name}?hash={mark}"}
        return {"paths": found}

    def document(self, name: str) -> bytes | None:
        """The document of ``apis/apps/v1`` or ``api/v1``; None for an unknown group version."""
        found = self._documents.get(name)
        if found is None:
            infos = self._groups.get(name)
            if infos is None:
                return None
            found = self._documents[name] = msgspec.json.encode(_document(infos))
        return found

    def v2(self) -> bytes:
        """All resources in Swagger 2.0, as JSON."""
        if not self._v2:
            schemas: dict[str, Any] = {}
            paths: dict[str, Any] = {}
            for infos in self._groups.values():
                made = _document(infos, v2=True)
                paths.update(made["paths"])
                schemas.update(made["components"]["schemas"])
            text = msgspec.json.encode(
                {
                    "swagger": "2.0",
                    "info": _INFO,
                    "paths": {path: _paths_v2(item) for path, item in paths.items()},
                    "definitions": schemas,
                }
            )
            self._v2 = text.replace(b"#/components/schemas/", b"#/definitions/")
        return self._v2


_INFO = {"title": "Kubernetes", "version": "v1.36.2"}


def group_path(info: ResourceInfo) -> str:
    """``api/v1`` or ``apis/apps/v1``."""
    return f"apis/{info.group}/{info.version}" if info.group else f"api/{info.version}"


def _crd_mark(info: ResourceInfo) -> str:
    if info.crd is None:
        return ""
    meta = info.crd.get("metadata", {})
    return f"{meta.get('uid')}/{meta.get('resourceVersion')}/{meta.get('generation')}"


def _document(infos: list[ResourceInfo], v2: bool = False) -> dict[str, Any]:
    schemas: dict[str, Any] = {}
    paths: dict[str, Any] = {}
    for info in infos:
        name = _schema_name(info, schemas, v2)
        if name:
            _add_paths(info, name, paths)
    for name in ("Status", "DeleteOptions"):
        _take(_META + name, schemas, v2)
    return {"openapi": "3.0.0", "info": _INFO, "paths": paths, "components": {"schemas": schemas}}


def _schema_name(info: ResourceInfo, schemas: dict[str, Any], v2: bool) -> str:
    """Add the schemas of a resource's kind and list. Returns the kind's name."""
    if info.crd is None:
        for kind in (info.kind, info.list_kind):
            name = definition_name(info.group, info.version, kind)
            if name is not None:
                _take(name, schemas, v2)
        return definition_name(info.group, info.version, info.kind) or ""
    schemas.update(openapi_crds.custom_schemas(info, _POINTER, v2))
    for name in (openapi_crds.OBJECT_META, openapi_crds.LIST_META):
        _take(name, schemas, v2)
    return openapi_crds.schema_name(info)


_POINTER = "#/components/schemas/"


_SWAGGER = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"type": "string", "format": "int-or-string"},
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": "string"},
}
"""what Swagger has no form for, as kube-openapi's ``openAPIV2`` types have it"""


def _take(name: str, schemas: dict[str, Any], v2: bool) -> None:
    """Add a definition, and all definitions that it refers to, in OpenAPI's form."""
    if name in schemas:
        return
    schemas[name] = {}
    wanted: list[str] = []
    schemas[name] = _SWAGGER[name] if v2 and name in _SWAGGER else _open(definition(name), wanted, v2)
    for other in wanted:
        _take(other, schemas, v2)


def _open(schema: Any, wanted: list[str], v2: bool) -> Any:
    if type(schema) is list:
        return [_open(one, wanted, v2) for one in schema]
    if type(schema) is not dict:
        return schema
    made: dict[str, Any] = {}
    for key, one in schema.items():
        if key == "$ref" and type(one) is str:
            other = one.rsplit("/", 1)[1]
            wanted.append(other)
            made["$ref"] = _POINTER + other
        elif key == "type" and type(one) is list:
            made["type"] = next((t for t in one if t != "null"), "string")
        elif key == "properties":
            made["properties"] = {name: _open(inner, wanted, v2) for name, inner in one.items()}
        elif key not in ("$schema", "$id"):
            made[key] = _open(one, wanted, v2)
    if "$ref" in made and len(made) > 1 and not v2:  # siblings of a reference are lost in OpenAPI 3.0: wrap it
        made["allOf"] = [{"$ref": made.pop("$ref")}]
    return made


def _parameter(name: str, where: str = "query", kind: str = "string") -> dict[str, Any]:
    made: dict[str, Any] = {"name": name, "in": where, "schema": {"type": kind, "uniqueItems": True}}
    if where == "path":
        made["required"] = True
    return made


_WRITES = [_parameter(name) for name in ("dryRun", "fieldManager", "fieldValidation")]
_PARAMETERS = {
    "create": _WRITES,
    "update": _WRITES,
    "patch": [*_WRITES, _parameter("force", kind="boolean")],
    "delete": [_parameter("dryRun"), _parameter("gracePeriodSeconds", kind="integer"), _parameter("propagationPolicy")],
    "list": [
        *(_parameter(name) for name in ("continue", "fieldSelector", "labelSelector", "resourceVersion")),
        _parameter("limit", kind="integer"),
        _parameter("watch", kind="boolean"),
    ],
}


def _add_paths(info: ResourceInfo, schema: str, paths: dict[str, Any]) -> None:
    base = f"/{group_path(info)}"
    places = [f"{base}/namespaces/{{namespace}}/{info.plural}", f"{base}/{info.plural}"]
    if not info.namespaced:
        places = places[1:]
    for place in places:
        verbs = ("list", "create", "deletecollection") if place is places[0] else ("list",)
        _item(info, schema, place, [v for v in verbs if v in info.verbs], paths)
    single = f"{places[0]}/{{name}}"
    _item(info, schema, single, [v for v in ("get", "update", "patch", "delete") if v in info.verbs], paths)
    if "status" in info.subresource_table:
        _item(info, schema, f"{single}/status", ["get", "update", "patch"], paths)


def _item(info: ResourceInfo, schema: str, place: str, verbs: list[str], paths: dict[str, Any]) -> None:
    if not verbs:
        return
    item: dict[str, Any] = {}
    for verb in verbs:
        method, word = _VERBS[verb]
        operation: dict[str, Any] = {
            "operationId": f"{word}{info.group.title().replace('.', '')}{info.version.title()}{info.kind}"
            + ("Status" if place.endswith("/status") else ""),
            "tags": [f"{info.group or 'core'}_{info.version}"],
            "x-kubernetes-action": _ACTIONS.get(verb, verb),
            "x-kubernetes-group-version-kind": {"group": info.group, "kind": info.kind, "version": info.version},
            "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": {"$ref": _POINTER + schema}}}}},
        }
        if verb in _PARAMETERS:  # an empty list would not survive client-go's parser
            operation["parameters"] = _PARAMETERS[verb]
        if verb in ("create", "update"):
            operation["requestBody"] = {"content": {"*/*": {"schema": {"$ref": _POINTER + schema}}}, "required": True}
        elif verb == "patch":
            body = {"type": "object", "description": "Patch"}
            kinds = [kind for kind in _PATCHES if info.crd is None or "strategic" not in kind]
            operation["requestBody"] = {"content": {kind: {"schema": body} for kind in kinds}, "required": True}
        item[method] = operation
    item["parameters"] = [_parameter(name, "path") for name in ("name", "namespace") if f"{{{name}}}" in place] + [
        _parameter("pretty")
    ]
    paths[place] = item


def _paths_v2(item: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for method, operation in item.items():
        if method == "parameters":
            made[method] = [_parameter_v2(one) for one in operation]
            continue
        schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
        kept = {key: one for key, one in operation.items() if key not in ("requestBody", "responses", "parameters")}
        kept["parameters"] = [_parameter_v2(one) for one in operation.get("parameters", ())]
        body = operation.get("requestBody")
        if body:
            own = next(iter(body["content"].values()))["schema"]
            kept["parameters"].append({"name": "body", "in": "body", "required": True, "schema": own})
            kept["consumes"] = list(body["content"])
        kept["produces"] = ["application/json", "application/yaml"]
        kept["responses"] = {"200": {"description": "OK", "schema": schema}}
        made[method] = kept
    return made


def _parameter_v2(parameter: dict[str, Any]) -> dict[str, Any]:
    made = {key: one for key, one in parameter.items() if key != "schema"}
    return {**made, **parameter["schema"]}
