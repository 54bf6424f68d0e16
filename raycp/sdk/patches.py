"""JSON merge patches (RFC 7386): the smallest one that leads from one object to another; and what a JSON patch (RFC 6902)
expects of the object that it is for."""

from collections.abc import Mapping
from typing import Any


def merge_diff(old: Mapping[str, Any], new: Mapping[str, Any], *, replace: bool = False) -> dict[str, Any]:
    """The merge patch that turns ``old`` into ``new``; empty where they do not differ.

    Keys that ``new`` lacks stay, or with ``replace`` are removed (null). None in ``new`` removes a key. Lists are replaced whole.
    """
    diff: dict[str, Any] = {}
    for key, value in new.items():
        before = old.get(key)
        if value is None:
            if key in old and before is not None:
                diff[key] = None
        elif isinstance(value, Mapping) and isinstance(before, Mapping):
            inner = merge_diff(before, value, replace=replace)
            if inner:
                diff[key] = inner
        elif before != value or isinstance(before, bool) != isinstance(value, bool):
            # a dict in place of nothing may hold None for keys that aren't there: RFC 7386 drops them
            diff[key] = value
    if replace:
        for key in old:
            if key not in new:
                diff[key] = None
    return diff


def expect(path: str, value: Any) -> dict[str, Any]:
    """That ``path`` has this value; None: that it has none, as kube-apiserver's library understands it (evanphx/json-patch)."""
    return {"op": "test", "path": path, "value": value}


def same_spec(obj: Mapping[str, Any]) -> list[dict[str, Any]]:
    """That it is still this object, and of this generation; its status and metadata may have changed."""
    return [expect("/metadata/uid", obj["metadata"]["uid"]), expect("/metadata/generation", obj["metadata"].get("generation"))]
