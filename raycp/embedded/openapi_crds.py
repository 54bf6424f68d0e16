"""The published schemas of custom resources, in OpenAPI v3 and in what Swagger 2.0 has of it.

Follows ``apiextensions-apiserver/pkg/controller/openapi``: ``builder.buildKubeNative`` and ``v2.ToStructuralOpenAPIV2``.
Swagger has less since kubectl, for which it is published, reads it: what it can't express is left open.
"""

from typing import Any

from raycp.embedded.resources import ResourceInfo
from raycp.embedded.strategy.schema_nodes import EMBEDDED, KEEP, Schema
from raycp.embedded.strategy.schemas import definition

_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
OBJECT_META, LIST_META = _META + "ObjectMeta", _META + "ListMeta"
_CONVENTIONS = "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md"
_METADATA = f"Standard object's metadata. More info: {_CONVENTIONS}#metadata"
_JUNCTORS = ("allOf", "oneOf", "anyOf", "not")


def schema_name(info: ResourceInfo) -> str:
    """``com.example.v1.Thing``."""
    return f"{'.'.join(reversed(info.group.split('.')))}.{info.version}.{info.kind}"


def custom_schemas(info: ResourceInfo, pointer: str, v2: bool) -> dict[str, Schema]:
    """The schemas of a custom kind and of its list, by name. ``pointer`` is put before the name that a reference names."""
    name = schema_name(info)
    gvk = {"group": info.group, "version": info.version, "kind": info.kind}
    extensions: dict[str, Any] = {}
    version = _version(info)
    fields = [{"fieldPath": str(each["jsonPath"]).removeprefix(".")} for each in version.get("selectableFields") or ()]
    if fields:
        extensions["x-kubernetes-selectable-fields"] = fields
    of_kind = {"x-kubernetes-group-version-kind": [gvk], **extensions}
    of_list = {"x-kubernetes-group-version-kind": [{**gvk, "kind": info.list_kind}], **extensions}
    return {
        name: {**_kind(info, (version.get("schema") or {}).get("openAPIV3Schema"), pointer, v2), **of_kind},
        f"{name}List": {
            "description": f"{info.list_kind} is a list of {info.kind}",
            "type": "object",
            "required": ["items"],
            "properties": {
                **_type_meta(),
                "items": {
                    "description": f"List of {info.plural}. More info: {_CONVENTIONS}",
                    "type": "array",
                    "items": {"$ref": pointer + name},
                },
                "metadata": _described(f"Standard list metadata. More info: {_CONVENTIONS}#types-kinds", pointer + LIST_META, v2),
            },
            **of_list,
        },
    }


def _version(info: ResourceInfo) -> dict[str, Any]:
    assert info.crd is not None
    found: dict[str, Any] = next(v for v in info.crd["spec"]["versions"] if v["name"] == info.version)
    return found


def _kind(info: ResourceInfo, schema: Schema | None, pointer: str, v2: bool) -> Schema:
    assert info.crd is not None
    keeps = bool(schema and schema.get(KEEP)) or bool(info.crd["spec"].get("preserveUnknownFields"))
    if not schema or (v2 and keeps):
        return {"type": "object"}  # with properties, kubectl would refuse all others
    made = _node(schema, pointer, v2)
    made["properties"] = {
        **made.get("properties", {}),
        **_type_meta(),
        "metadata": _described(_METADATA, pointer + OBJECT_META, v2),
    }
    return made


def _described(text: str, ref: str, v2: bool) -> Schema:
    """A reference with a description. OpenAPI 3.0 loses what stands beside a reference: it is wrapped, as in kube-openapi."""
    return {"description": text, "$ref": ref} if v2 else {"description": text, "allOf": [{"$ref": ref}]}


def _type_meta() -> dict[str, Schema]:
    properties = definition(_META + "DeleteOptions")["properties"]
    return {key: {"type": "string", "description": str(properties[key].get("description", ""))} for key in ("apiVersion", "kind")}


def _node(schema: Schema, pointer: str, v2: bool) -> Schema:
    """One node and those below it. A copy: nothing of a stored CRD is changed."""
    made = {key: one for key, one in schema.items() if one is not None}
    if v2:
        _without_v3(made)
    properties = made.get("properties")
    if properties is not None:
        made["properties"] = {key: _node(one, pointer, v2) for key, one in properties.items()}
    for key in ("items", "additionalProperties"):
        if isinstance(made.get(key), dict):
            made[key] = _node(made[key], pointer, v2)
    if made.get(EMBEDDED) and not (v2 and made.get(KEEP)):
        made["properties"] = {
            **(made.get("properties") or {}),
            **_type_meta(),
            "metadata": _described(_METADATA, pointer + OBJECT_META, v2),
        }
        required = list(made.get("required") or ())
        made["required"] = required + [key for key in ("kind", "apiVersion") if key not in required]
    return made


def _without_v3(made: Schema) -> None:
    """``ToStructuralOpenAPIV2`` of one node."""
    for key in _JUNCTORS:
        made.pop(key, None)
    nullable = bool(made.pop("nullable", False))
    if nullable or made.get(KEEP):
        made.pop("items", None)
        made.pop("properties", None)
    if nullable or (made.get("type") == "array" and "items" not in made) or (made.get(KEEP) and made.get("type") == "object"):
        made.pop("type", None)
    nulls = {key for key, one in (made.get("properties") or {}).items() if one.get("nullable")}
    extra = made.get("additionalProperties")
    required = [key for key in made.get("required") or () if key not in nulls]
    if required and not (isinstance(extra, dict) and extra.get("nullable")):
        made["required"] = required
    else:
        made.pop("required", None)
