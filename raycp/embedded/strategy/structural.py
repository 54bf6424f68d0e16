"""Structural schemas of CRDs: conversion to shapes, pruning and defaulting of written objects.

Sources: the Kubernetes documentation of structural schemas and ``apiextensions-apiserver/pkg/apiserver/schema``.
"""

from typing import Any

from raycp.embedded.strategy import shapes
from raycp.embedded.strategy.convert import DecodeStats, Mismatch, converter, unknown_fields
from raycp.embedded.strategy.schema_nodes import EMBEDDED, INT_OR_STRING, KEEP, Schema
from raycp.embedded.strategy.shapes import Shape


def shape_of(schema: Schema, name: str = "") -> Shape:
    """Convert a schema to a shape, for field management."""
    if schema.get(INT_OR_STRING):
        return _with(Shape(shapes.INTSTR), schema)
    kind = schema.get("type", "")
    if kind == "array":
        shape = Shape(shapes.LIST)
        shape.item = shape_of(schema.get("items") or {})
        shape.list_type = schema.get("x-kubernetes-list-type", "atomic")
        shape.list_keys = tuple(schema.get("x-kubernetes-list-map-keys") or ())
        return _with(shape, schema)
    extra = schema.get("additionalProperties")
    properties = schema.get("properties") or {}
    if kind == "object" or properties:
        if isinstance(extra, dict) and not properties:
            shape = Shape(shapes.MAP)
            shape.item = shape_of(extra)
        else:
            shape = Shape(shapes.OBJECT, name)
            shape.fields = {key: shape_of(one) for key, one in properties.items()}
            shape.presence = dict.fromkeys(shape.fields, "p")
            if schema.get(KEEP) or extra is True:
                shape.open = True
                shape.item = Shape(shapes.ANY)
            if schema.get(EMBEDDED):
                shape.fields.setdefault("metadata", shapes.object_meta())
                for key in ("apiVersion", "kind"):
                    shape.fields.setdefault(key, Shape(shapes.STRING))
        shape.atomic = schema.get("x-kubernetes-map-type") == "atomic"
        return _with(shape, schema)
    return _with(Shape({"integer": shapes.INT64}.get(kind, kind) or shapes.ANY), schema)


def _with(shape: Shape, schema: Schema) -> Shape:
    shape.schema = schema
    return shape


def prune(schema: Schema, value: Any, path: str, dropped: list[str], root: bool = False) -> None:
    """Drop fields that the schema does not specify, in place; ``dropped`` collects their paths.

    Nulls that a field may not have and that no default replaces are dropped as well, without mention. The metadata of an embedded
    object gets Go's types, as that of the root has; raises ``Mismatch`` where it can't.
    """
    if type(value) is list:
        items = schema.get("items")
        if items:
            for index, one in enumerate(value):
                prune(items, one, f"{path}[{index}]", dropped)
        return
    if type(value) is not dict:
        return
    properties = schema.get("properties") or {}
    extra = schema.get("additionalProperties")
    keep = schema.get(KEEP) or extra is True
    meta = root or schema.get(EMBEDDED)
    for key in list(value):
        here = f"{path}.{key}" if path else key
        if meta and key in ("apiVersion", "kind", "metadata"):
            if key == "metadata" and not root:
                _coerce(value[key], here, dropped)
            continue
        inner = properties.get(key) or (extra if isinstance(extra, dict) else None)
        if inner is not None:
            if value[key] is None and not inner.get("nullable") and "default" not in inner:
                del value[key]
            else:
                prune(inner, value[key], here, dropped)
        elif key not in properties and not keep:
            dropped.append(here)
            del value[key]


def _coerce(meta: Any, path: str, dropped: list[str]) -> None:
    if type(meta) is dict:
        dropped += unknown_fields(shapes.object_meta(), meta, path)
    try:
        converter(shapes.object_meta())(meta, DecodeStats())
    except Mismatch as error:
        error.path.append(path)
        raise


def deep_copy(value: Any) -> Any:
    """A copy that shares nothing."""
    if type(value) is dict:
        return {key: deep_copy(one) for key, one in value.items()}
    if type(value) is list:
        return [deep_copy(one) for one in value]
    return value


def has_defaults(schema: Schema) -> bool:
    """Whether the schema or a node below it has a default."""
    if "default" in schema:
        return True
    extra = schema.get("additionalProperties")
    return (
        any(has_defaults(one) for one in (schema.get("properties") or {}).values())
        or (isinstance(extra, dict) and has_defaults(extra))
        or has_defaults(schema.get("items") or {})
        if schema
        else False
    )


def default(schema: Schema, value: Any) -> None:
    """Fill in defaults, in place. A null that is not allowed counts as missing."""
    if type(value) is dict:
        properties = schema.get("properties") or {}
        for key, one in properties.items():
            if "default" in one and (key not in value or (value[key] is None and not one.get("nullable"))):
                value[key] = deep_copy(one["default"])
            if key in value:
                default(one, value[key])
        extra = schema.get("additionalProperties")
        if isinstance(extra, dict):
            for key, inner in value.items():
                if key not in properties:
                    if inner is None and "default" in extra and not extra.get("nullable"):
                        value[key] = inner = deep_copy(extra["default"])
                    default(extra, inner)
    elif type(value) is list:
        items = schema.get("items")
        if items:
            for index, inner in enumerate(value):
                if inner is None and "default" in items and not items.get("nullable"):
                    value[index] = inner = deep_copy(items["default"])
                default(items, inner)
