"""The ``fieldPath`` of a rule: a path of fields in the value, ``.a.b['c']`` (``ValidFieldPath`` of apiextensions-apiserver)."""

import re
from typing import Any

_STEP = re.compile(r"\.([^.\[\]]+)|\['((?:[^'\\]|\\.)*)'\]")
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "'": "'", "\\": "\\"}


def field_path(path: str, schema: dict[str, Any]) -> str | None:
    """The path as errors write it, if it names a field that the schema has."""
    at, shown = 0, ""
    while at < len(path):
        found = _STEP.match(path, at)
        if found is None:
            return None
        at = found.end()
        name = found[1] if found[1] is not None else re.sub(r"\\(.)", lambda one: _ESCAPES.get(one[1], one[1]), found[2])
        properties, others = schema.get("properties"), schema.get("additionalProperties")
        if properties:
            if name not in properties:
                return None
            schema, shown = properties[name], f"{shown}.{name}"
        elif isinstance(others, dict):
            schema, shown = others, f"{shown}[{name}]"
        else:
            return None
    return shown
