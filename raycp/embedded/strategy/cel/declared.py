"""What the schema of a value says of it to CEL: its type, its fields, and how large it may be.

As ``SchemaDeclType`` of ``apiserver/pkg/cel/common/schemas.go``: a value of unknown size is as large as a request may be.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from raycp.embedded.strategy.cel.types import (
    BOOL,
    BYTES,
    DOUBLE,
    DURATION,
    DYN,
    INT,
    STRING,
    TIMESTAMP,
    Type,
    list_of,
    map_of,
)

Schema = dict[str, Any]
MAX_REQUEST = 3 * 1024 * 1024
"""bytes (``MaxRequestSizeBytes``)"""
_SIZES = {"duration": (3, 32), "date": (12, 12), "date-time": (21, 32)}
"""the fewest and the most bytes of a formatted string"""
_FORMATTED = {"duration": DURATION, "date": TIMESTAMP, "date-time": TIMESTAMP}


@dataclass(frozen=True)
class Declared:
    """A declared value. ``items``: of a list, or the values of a map. ``smallest``: bytes of the smallest one as JSON."""

    type: Type
    smallest: int
    most: int = 0
    """the largest size() of a value"""
    fields: "dict[str, Declared]" = field(default_factory=dict)
    items: "Declared | None" = None

    def named(self, name: str) -> "Declared":
        """With names for the types of objects: the path to them, below ``name``."""
        if self.type.name == "object":
            inner = {key: one.named(f"{name}.{key}") for key, one in self.fields.items()}
            return replace(self, type=Type(name), fields=inner)
        if self.items is None:
            return self
        items = self.items.named(f"{name}.@{'idx' if self.type.name == 'list' else 'elem'}")
        return replace(self, items=items, type=Type(self.type.name, (*self.type.of[:-1], items.type)))

    def objects(self) -> "dict[str, dict[str, Type]]":
        """The types of the fields of each object type within."""
        found: dict[str, dict[str, Type]] = {}
        if self.fields or (self.items is None and self.type.name not in _PLAIN):
            found[self.type.name] = {key: one.type for key, one in self.fields.items()}
        for one in (*self.fields.values(), *([self.items] if self.items is not None else [])):
            found.update(one.objects())
        return found

    def at(self, path: tuple[str, ...]) -> "Declared | None":
        """What is at a path of fields, ``@items`` and ``@values``; nothing if that is not declared."""
        found: Declared | None = self
        for name in path:
            if found is None:
                return None
            if name == "@keys":
                found = _KEY if found.type.name == "map" else None
            else:
                found = found.items if name in ("@items", "@values") else found.fields.get(name)
        return found


_PLAIN = {"bool", "bytes", "double", "duration", "dyn", "int", "string", "timestamp"}
_KEY = Declared(STRING, 2)


def declare(schema: Schema, root: bool = False) -> Declared | None:
    """What a structural schema declares; nothing if CEL cannot see the value. ``root``: of a resource, which has metadata."""
    if schema.get("x-kubernetes-int-or-string"):
        limit = schema.get("maxLength")
        return Declared(DYN, 1, MAX_REQUEST - 2 if limit is None else max(0, limit) * 4)
    kind = schema.get("type")
    if kind == "array":
        return _list(schema)
    if kind == "object" or root:
        return _map(schema) if isinstance(schema.get("additionalProperties"), dict) else _object(schema, root)
    if kind == "string":
        return _string(schema)
    plain = {"boolean": Declared(BOOL, 4), "number": Declared(DOUBLE, 1), "integer": Declared(INT, 1)}
    return plain.get(str(kind))


def _inner(schema: Any) -> Declared | None:
    return declare(schema, bool(schema.get("x-kubernetes-embedded-resource"))) if isinstance(schema, dict) else None


def _list(schema: Schema) -> Declared | None:
    items = _inner(schema.get("items"))
    if items is None:
        return None
    limit = schema.get("maxItems")
    most = (MAX_REQUEST - 2) // (items.smallest + 1) if limit is None else max(0, limit)
    return Declared(list_of(items.type), 2, most, items=items)


def _map(schema: Schema) -> Declared | None:
    values = _inner(schema["additionalProperties"])
    if values is None:
        return None
    limit = schema.get("maxProperties")
    most = (MAX_REQUEST - 2) // (values.smallest + 6) if limit is None else max(0, limit)
    return Declared(map_of(STRING, values.type), 2, most, items=values)


def _has_object_meta(properties: Schema) -> bool:
    """Whether all that CEL sees of a resource beside its own fields is declared, bounds included: then that holds
    (``WithTypeAndObjectMeta`` in apiextensions-apiserver)."""
    meta = properties.get("metadata") or {}
    texts = [properties.get("apiVersion"), properties.get("kind")]
    texts += [(meta.get("properties") or {}).get(name) for name in ("name", "generateName")]
    return meta.get("type") == "object" and all(isinstance(text, dict) and text.get("type") == "string" for text in texts)


def _object(schema: Schema, root: bool) -> Declared:
    properties = dict(schema.get("properties") or {})
    if root and not _has_object_meta(properties):
        text = {"type": "string"}
        properties.update(apiVersion=text, kind=text)
        properties["metadata"] = {"type": "object", "properties": {"name": text, "generateName": text}}
    fields: dict[str, Declared] = {}
    smallest = 2
    for name, one in properties.items():
        inner = _inner(one)
        if inner is None:
            continue
        fields[name] = inner
        if name in (schema.get("required") or ()) and one.get("default") is None:
            smallest += len(name) + inner.smallest + 4
    return Declared(Type("object"), smallest, fields=fields)


def _string(schema: Schema) -> Declared:
    form, limit = schema.get("format"), schema.get("maxLength")
    if form in _FORMATTED:
        return Declared(_FORMATTED[form], *_SIZES[form])
    if form == "byte":
        return Declared(BYTES, 2, MAX_REQUEST - 2 if limit is None else max(0, limit))
    if limit is not None:
        return Declared(STRING, 2, max(0, limit) * 4)
    if schema.get("enum"):
        return Declared(STRING, 2, max((len(one) for one in schema["enum"] if isinstance(one, str)), default=0))
    return Declared(STRING, 2, MAX_REQUEST - 2)
