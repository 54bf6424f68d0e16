"""Values of a schema as CEL sees them: formatted strings as times, durations and bytes, numbers as doubles.

As ``UnstructuredToVal`` of ``apiserver/pkg/cel/common/valuesunstructured.go``.
"""

import base64
from collections.abc import Callable
from typing import Any

from raycp.embedded.strategy.cel.operators import CelError, Duration, Timestamp
from raycp.embedded.strategy.scalars import Malformed, parse_duration, unix_time

Schema = dict[str, Any]
Convert = Callable[[Any], Any]


def _text(parse: Convert) -> Convert:
    def convert(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return parse(value)
        except (Malformed, ValueError) as error:
            raise CelError(str(error)) from None

    return convert


_FORMATS: dict[str, Convert] = {
    "date-time": _text(lambda text: Timestamp(unix_time(text))),
    "date": _text(lambda text: Timestamp(unix_time(f"{text}T00:00:00Z"))),
    "duration": _text(lambda text: Duration(parse_duration(text))),
    "byte": _text(base64.b64decode),
}


def _double(value: Any) -> Any:
    return float(value) if type(value) is int else value


def _integer(value: Any) -> Any:
    return int(value) if type(value) is float and value.is_integer() else value


def value_converter(schema: Schema) -> Convert | None:
    """What makes CEL values of the schema's JSON values; nothing if they are the same."""
    if schema.get("x-kubernetes-int-or-string"):
        return None
    kind = schema.get("type")
    if kind == "string":
        return _FORMATS.get(str(schema.get("format")))
    if kind == "number":
        return _double
    if kind == "integer":
        return _integer
    if kind == "array" and isinstance(schema.get("items"), dict):
        item = _significant(schema["items"])
        return None if item is None else lambda value: [item(one) for one in value] if type(value) is list else value
    extra = schema.get("additionalProperties")
    others = _significant(extra) if isinstance(extra, dict) else None
    fields = {key: made for key, one in (schema.get("properties") or {}).items() if (made := _significant(one)) is not None}
    if others is None and not fields:
        return None

    def convert(value: Any) -> Any:
        if type(value) is not dict:
            return value
        found: dict[str, Any] = {}
        for key, one in value.items():
            change = fields.get(key, others)
            found[key] = one if change is None else change(one)
        return found

    return convert


def _significant(schema: Schema) -> Convert | None:
    """A whole number given as ``1.0`` is rare, and converted only where it is the value itself."""
    return None if schema.get("type") == "integer" else value_converter(schema)
