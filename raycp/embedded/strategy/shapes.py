"""``Shape``: one node of a kind's schema, for decoding, patches and field management.

Built-in kinds get theirs from the JSON schemas, custom resources from their structural schema. Shapes are shared and
may be cyclic (JSONSchemaProps). Extensions (list types, merge keys) sit on the field's own shape.
"""

import threading
from typing import Any

from raycp.embedded.strategy.omission import presence
from raycp.embedded.strategy.schemas import definition, definition_name

OBJECT, MAP, LIST = "object", "map", "array"
STRING, BOOL, INT32, INT64, NUMBER = "string", "boolean", "int32", "int64", "number"
BYTES, TIME, MICROTIME, QUANTITY, INTSTR = "bytes", "time", "microtime", "quantity", "intstr"
ANY = "any"

SCALARS = frozenset({STRING, BOOL, INT32, INT64, NUMBER, BYTES, TIME, MICROTIME, QUANTITY, INTSTR})


class Shape:
    """A node. An ``OBJECT`` has ``fields``; a ``MAP`` (for its values) and a ``LIST`` have an ``item``."""

    __slots__ = (
        "always",
        "atomic",
        "definition",
        "fields",
        "item",
        "kind",
        "list_keys",
        "list_type",
        "merge_key",
        "name",
        "open",
        "patch_strategy",
        "presence",
        "programs",
        "schema",
    )

    def __init__(self, kind: str, name: str = "") -> None:
        self.kind = kind
        self.name = name
        self.definition = ""
        """the name of the JSON schema definition, for built-in kinds"""
        self.fields: dict[str, Shape] = {}
        self.presence: dict[str, str] = {}
        self.item: Shape | None = None
        self.atomic = False
        self.list_type = "atomic"
        """for a LIST: atomic, set or map"""
        self.list_keys: tuple[str, ...] = ()
        self.merge_key = ""
        self.patch_strategy = ""
        """strategic merge: comma separated ``merge``, ``replace``, ``retainKeys``"""
        self.open = False
        """an OBJECT that accepts undeclared fields"""
        self.schema: dict[str, Any] = {}
        """the source schema, for defaults of associative keys"""
        self.programs: dict[str, Any] = {}
        """closures compiled for this node, by purpose"""

    def variant(self) -> "Shape":
        """A copy that shares fields and items, for extensions of a field next to a ``$ref``."""
        copy = Shape(self.kind, self.name)
        copy.definition = self.definition
        copy.fields, copy.presence, copy.item = self.fields, self.presence, self.item
        copy.atomic, copy.open, copy.schema = self.atomic, self.open, self.schema
        copy.list_type, copy.list_keys = self.list_type, self.list_keys
        return copy

    def __repr__(self) -> str:
        return f"<Shape {self.kind} {self.name}>"


_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_EXT = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1."
_SPECIAL = {
    _META + "Time": TIME,
    _META + "MicroTime": MICROTIME,
    "io.k8s.apimachinery.pkg.api.resource.Quantity": QUANTITY,
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": INTSTR,
    _META + "FieldsV1": ANY,
    "io.k8s.apimachinery.pkg.runtime.RawExtension": ANY,
    _EXT + "JSON": ANY,
}
_PROPS = _EXT + "JSONSchemaProps"


def builtin_shape(group: str, version: str, kind: str) -> Shape | None:
    """The shape of a built-in kind; None for a kind without a schema."""
    name = definition_name(group, version, kind)
    return None if name is None else defined(name)


_SHAPES: dict[str, Shape] = {}
_UNFINISHED: dict[str, Shape] = {}
"""Shapes, some of which still lack fields: only who builds them sees them. Clusters of one process may run in several threads."""
_BUILDING = threading.RLock()


def defined(name: str) -> Shape:
    """The shape of a definition, built once with all definitions that it refers to."""
    found = _SHAPES.get(name)
    if found is not None:
        return found
    with _BUILDING:
        found = _SHAPES.get(name) or _UNFINISHED.get(name)
        if found is not None:
            return found
        outermost = not _UNFINISHED
        try:
            found = _built(name)
            if outermost:
                _SHAPES.update(_UNFINISHED)
        finally:
            if outermost:
                _UNFINISHED.clear()
    return found


def _built(name: str) -> Shape:
    special = _SPECIAL.get(name)
    if special is not None:
        found = _UNFINISHED[name] = Shape(special, name.rsplit(".", 1)[1])
        return found
    if name.startswith(_PROPS) and name != _PROPS:  # ...OrBool, ...OrArray, ...OrStringArray: decoded by value
        found = _UNFINISHED[name] = Shape(ANY, name.rsplit(".", 1)[1])
        return found
    schema = definition(name)
    found = _UNFINISHED[name] = Shape(OBJECT, name.rsplit(".", 1)[1])
    found.definition = name
    properties = schema.get("properties")
    if properties is None:
        found.kind = _plain_kind(schema)
        if found.kind == OBJECT:
            found.kind = ANY
        return found
    found.atomic = schema.get("x-kubernetes-map-type") == "atomic"
    required = frozenset(schema.get("required", ()))
    for field, own in properties.items():
        shape = _field(own)
        found.fields[field] = shape
        found.presence[field] = presence(name, field, _schema_type(shape), field in required)
    return found


def _schema_type(shape: Shape) -> str:
    if shape.kind in (LIST, MAP):
        return shape.kind
    return "string" if shape.kind in (STRING, BYTES) else "other"


def _type(schema: dict[str, Any]) -> str:
    found = schema.get("type", "")
    if isinstance(found, list):
        return next((t for t in found if t != "null"), "")
    return str(found)


def _plain_kind(schema: dict[str, Any]) -> str:
    kind, form = _type(schema), schema.get("format", "")
    if kind == "integer":
        return INT32 if form == "int32" else INT64
    if kind == "string":
        return {"byte": BYTES, "date-time": TIME}.get(form, STRING)
    if kind == "object":
        return OBJECT
    return kind if kind in (BOOL, NUMBER) else ANY


def _field(schema: dict[str, Any]) -> Shape:
    ref = schema.get("$ref")
    if ref is not None:
        shape = defined(ref.rsplit("/", 1)[1])
        if "x-kubernetes-patch-strategy" in schema or "x-kubernetes-map-type" in schema:
            shape = shape.variant()
            shape.atomic = shape.atomic or schema.get("x-kubernetes-map-type") == "atomic"
            shape.patch_strategy = schema.get("x-kubernetes-patch-strategy", "")
        return shape
    if "items" in schema:
        shape = Shape(LIST)
        shape.item = _field(schema["items"])
        shape.list_type = schema.get("x-kubernetes-list-type", "atomic")
        shape.list_keys = tuple(schema.get("x-kubernetes-list-map-keys", ()))
        shape.merge_key = schema.get("x-kubernetes-patch-merge-key", "")
        shape.patch_strategy = schema.get("x-kubernetes-patch-strategy", "")
        return shape
    if "additionalProperties" in schema:
        shape = Shape(MAP)
        shape.item = _field(schema["additionalProperties"])
        shape.atomic = schema.get("x-kubernetes-map-type") == "atomic"
        return shape
    kind = _plain_kind(schema)
    return Shape(ANY if kind == OBJECT else kind)


def object_meta() -> Shape:
    """The shape of every object's ``metadata``."""
    return defined(_META + "ObjectMeta")


def schema_props() -> Shape:
    """The shape of a schema in a CRD."""
    return defined(_PROPS)


def list_meta() -> Shape:
    """The shape of every list's ``metadata``."""
    return defined(_META + "ListMeta")
