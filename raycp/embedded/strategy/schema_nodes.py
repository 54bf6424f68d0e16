"""What the passes over a structural schema share: extension keywords, paths, and pairs of old and new list items."""

from typing import Any

Schema = dict[str, Any]


class _NoOld:
    """The type of ``NO_OLD``."""


NO_OLD = _NoOld()
"""stands for the old value where there is none, since None is a value"""
KEEP = "x-kubernetes-preserve-unknown-fields"
INT_OR_STRING = "x-kubernetes-int-or-string"
EMBEDDED = "x-kubernetes-embedded-resource"
JSON_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}


def join(path: str, key: str) -> str:
    """The path of field ``key`` below ``path``."""
    return f"{path}.{key}" if path else key


def json_type(value: Any) -> str:
    """The JSON Schema type of a decoded value."""
    for name in ("object", "array", "string", "boolean", "integer", "number"):
        if type(value) in JSON_TYPES[name]:
            return name
    return "null"


def item_key(item: Any, keys: tuple[str, ...]) -> Any:
    """The values of a list item's map keys; None for an item that is no object."""
    return tuple(str(item.get(key)) for key in keys) if type(item) is dict else None


def by_key(old: Any, keys: tuple[str, ...]) -> dict[Any, Any]:
    """Items of an old list by ``item_key``."""
    return {item_key(one, keys): one for one in old} if type(old) is list else {}
