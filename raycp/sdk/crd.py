"""``crd_for``: a CustomResourceDefinition from pydantic models.

The API server wants a *structural schema* (Kubernetes docs, "Specifying a structural schema"): every ``$ref`` written
out, ``anyOf`` with null as ``nullable``, no ``additionalProperties: false``, no numeric ``exclusiveMinimum``. What
pydantic expresses differently is translated; what has no structural schema is a ``SchemaError`` that names the field.

``cel("self.a <= self.b", "a message")`` in ``Field(json_schema_extra=...)`` or ``model_config`` adds a validation rule;
``free_form()`` makes a field keep unknown properties.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel

_KEPT = (
    "description",
    "format",
    "pattern",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "uniqueItems",
    "minProperties",
    "maxProperties",
    "multipleOf",
)


class SchemaError(ValueError):
    """A model that has no structural schema. ``path`` is the field."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path or 'the model'}: {problem}")
        self.path = path


def cel(rule: str, message: str) -> dict[str, Any]:
    """A CEL validation rule, for ``json_schema_extra``. Combine several with ``rules``."""
    return rules((rule, message))


def rules(*pairs: tuple[str, str]) -> dict[str, Any]:
    """Several CEL rules, as (rule, message)."""
    return {"x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in pairs]}


def free_form() -> dict[str, Any]:
    """An object whose unknown fields are kept, for ``json_schema_extra``."""
    return {"x-kubernetes-preserve-unknown-fields": True}


def column(name: str, path: str, type: str = "string", *, priority: int = 0, description: str = "") -> dict[str, Any]:
    """A printer column of ``kubectl get``; ``priority=1`` shows it with ``-o wide`` only."""
    found: dict[str, Any] = {"name": name, "type": type, "jsonPath": path}
    if priority:
        found["priority"] = priority
    if description:
        found["description"] = description
    return found


def crd_for(
    spec: type[BaseModel],
    status: type[BaseModel] | None = None,
    *,
    group: str,
    version: str,
    kind: str,
    plural: str | None = None,
    scope: Literal["Namespaced", "Cluster"] = "Namespaced",
    short_names: Sequence[str] = (),
    categories: Sequence[str] = (),
    columns: Sequence[Mapping[str, Any]] = (),
    scale: tuple[str, str] | tuple[str, str, str] | None = None,
    description: str = "",
    root_rules: Sequence[tuple[str, str]] = (),
) -> dict[str, Any]:
    """The CRD (``apiextensions.k8s.io/v1``) of a kind with these models.

    ``status`` switches the status subresource on. ``scale`` is (specReplicasPath, statusReplicasPath[,
    labelSelectorPath]). ``root_rules`` are CEL rules over the whole object. Raises ``SchemaError``.
    """
    properties = {"spec": structural(spec, "spec")}
    if status is not None:
        properties["status"] = _without_defaults(structural(status, "status"))
    schema: dict[str, Any] = {
        "type": "object",
        "description": description or (spec.__doc__ or kind).strip().split("\n\n")[0],
        "properties": {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}},
    }
    schema["properties"].update(properties)
    if any(field.is_required() for field in spec.model_fields.values()):
        schema["required"] = ["spec"]
    if root_rules:
        schema |= rules(*root_rules)
    subresources: dict[str, Any] = {}
    if status is not None:
        subresources["status"] = {}
    if scale is not None:
        subresources["scale"] = {"specReplicasPath": scale[0], "statusReplicasPath": scale[1]}
        if len(scale) == 3:
            subresources["scale"]["labelSelectorPath"] = scale[2]
    plural = plural or _plural(kind.lower())
    names: dict[str, Any] = {
        "kind": kind,
        "listKind": f"{kind}List",
        "plural": plural,
        "singular": kind.lower(),
    }
    if short_names:
        names["shortNames"] = list(short_names)
    if categories:
        names["categories"] = list(categories)
    served: dict[str, Any] = {"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    if subresources:
        served["subresources"] = subresources
    if columns:
        served["additionalPrinterColumns"] = [dict(entry) for entry in columns]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {"group": group, "scope": scope, "names": names, "versions": [served]},
    }


def structural(model: type[BaseModel], path: str = "") -> dict[str, Any]:
    """The structural schema of a model. Raises ``SchemaError``."""
    schema = model.model_json_schema(by_alias=True, mode="validation")
    return _convert(schema, schema.get("$defs", {}), path, ())


def _convert(schema: Mapping[str, Any], defs: Mapping[str, Any], path: str, open_refs: tuple[str, ...]) -> dict[str, Any]:
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        if name in open_refs:
            raise SchemaError(path, f"{name} contains itself; structural schemas have no recursion")
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        return _convert({**defs[name], **beside}, defs, path, (*open_refs, name))
    if len(schema.get("allOf", ())) == 1:
        beside = {key: value for key, value in schema.items() if key != "allOf"}
        return _convert({**schema["allOf"][0], **beside}, defs, path, open_refs)
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return _union(schema, union, defs, path, open_refs)
    found: dict[str, Any] = {key: schema[key] for key in _KEPT if key in schema}
    found |= {key: value for key, value in schema.items() if key.startswith("x-kubernetes-")}
    _bounds(schema, found)
    if schema.get("default") is not None:
        found["default"] = schema["default"]
    if "const" in schema:
        found["enum"] = [schema["const"]]
    if "enum" in schema:
        found["enum"] = list(schema["enum"])
    kind = schema.get("type")
    if kind is None:
        if found.get("x-kubernetes-int-or-string") or found.get("x-kubernetes-preserve-unknown-fields"):
            return found
        values = found.get("enum")
        if not values:
            return {**found, "x-kubernetes-preserve-unknown-fields": True}
        kind = "string" if all(isinstance(value, str) for value in values) else None
        if kind is None:
            raise SchemaError(path, "an enumeration of anything but strings needs one type")
    found["type"] = kind
    if kind == "object":
        _object(schema, found, defs, path, open_refs)
    elif kind == "array":
        items = schema.get("items")
        if not isinstance(items, Mapping) or not items:
            raise SchemaError(path, "a list needs the type of its items")
        found["items"] = _convert(items, defs, f"{path}[]", open_refs)
    return found


def _object(
    schema: Mapping[str, Any], found: dict[str, Any], defs: Mapping[str, Any], path: str, open_refs: tuple[str, ...]
) -> None:
    if schema.get("properties"):
        found["properties"] = {
            name: _convert(inner, defs, f"{path}.{name}" if path else name, open_refs)
            for name, inner in schema["properties"].items()
        }
        if schema.get("required"):
            found["required"] = list(schema["required"])
        if schema.get("additionalProperties") is True:
            found["x-kubernetes-preserve-unknown-fields"] = True
        return
    inner = schema.get("additionalProperties")
    if isinstance(inner, Mapping) and inner:
        found["additionalProperties"] = _convert(inner, defs, f"{path}.*", open_refs)
    elif inner is not False:
        found["x-kubernetes-preserve-unknown-fields"] = True


def _union(schema: Mapping[str, Any], union: str, defs: Mapping[str, Any], path: str, open_refs: tuple[str, ...]) -> dict[str, Any]:
    choices = [choice for choice in schema[union] if choice.get("type") != "null"]
    beside = {key: value for key, value in schema.items() if key != union}
    nullable = len(choices) < len(schema[union])
    if {choice.get("type") for choice in choices} == {"integer", "string"} and len(choices) == 2:
        found = _convert({**beside, "x-kubernetes-int-or-string": True}, defs, path, open_refs)
    elif len(choices) == 1:
        found = _convert({**choices[0], **beside}, defs, path, open_refs)
    else:
        raise SchemaError(path, "a choice between several types has no structural schema; use a model with optional parts")
    return {**found, "nullable": True} if nullable else found


def _bounds(schema: Mapping[str, Any], found: dict[str, Any]) -> None:
    """OpenAPI 3.0 has ``exclusiveMinimum`` as a flag beside ``minimum``; for whole numbers the bound moves by one."""
    for bound, exclusive, step in (("minimum", "exclusiveMinimum", 1), ("maximum", "exclusiveMaximum", -1)):
        if bound in schema:
            found[bound] = schema[bound]
        elif exclusive in schema:
            if schema.get("type") == "integer":
                found[bound] = schema[exclusive] + step
            else:
                found[bound], found[exclusive] = schema[exclusive], True


def _without_defaults(schema: Any) -> Any:
    """A status says what was observed: a default that the API server fills in was not."""
    if isinstance(schema, dict):
        return {
            key: {name: _without_defaults(inner) for name, inner in value.items()}
            if key == "properties"
            else _without_defaults(value)
            for key, value in schema.items()
            if key != "default"
        }
    return schema


def _plural(singular: str) -> str:
    if singular.endswith(("s", "x", "z", "ch", "sh")):
        return f"{singular}es"
    if singular.endswith("y") and singular[-2:-1] not in "aeiou":
        return f"{singular[:-1]}ies"
    return f"{singular}s"
