"""The schema of a resource's objects in one piece: of a built-in kind with all references resolved, of a CRD with full metadata."""

from functools import cache
from typing import Any

from raycp.embedded.resources import ResourceInfo
from raycp.embedded.strategy.schemas import definition, definition_name

Schema = dict[str, Any]
_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
_ANY: Schema = {"x-kubernetes-int-or-string": True}
"""of any type: an int-or-string, a value without a type, and what refers to itself"""


def resource_schema(info: ResourceInfo) -> Schema | None:
    """The schema, which is shared: don't change it. None for a kind without one."""
    if info.crd is None:
        name = definition_name(info.group, info.version, info.kind)
        return _expanded(name) if name is not None else None
    version = next(v for v in info.crd["spec"]["versions"] if v["name"] == info.version)
    schema: Schema = (version.get("schema") or {}).get("openAPIV3Schema") or {}
    text = {"type": "string"}
    own = {"apiVersion": text, "kind": text, "metadata": _expanded(_META)}
    return {**schema, "properties": {**(schema.get("properties") or {}), **own}}


_open: set[str] = set()
"""the definitions that are being expanded"""


@cache
def _expanded(name: str) -> Schema:
    if name == _QUANTITY:
        return {"type": "string"}
    _open.add(name)
    try:
        return _resolved(definition(name))
    finally:
        _open.discard(name)


def _resolved(schema: Schema) -> Schema:
    ref = schema.get("$ref")
    if ref is not None:
        name = ref.rpartition("/")[2]
        return _ANY if name in _open else _expanded(name)
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), None)
    if kind is None and "properties" not in schema:
        return _ANY
    found: Schema = {"type": kind or "object"}
    for key in ("format", "required", "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-map-type"):
        if key in schema:
            found[key] = schema[key]
    if "properties" in schema:
        found["properties"] = {key: _resolved(one) for key, one in schema["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            found[key] = _resolved(schema[key])
    return found
