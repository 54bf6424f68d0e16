"""JSON merge patches (RFC 7386): the smallest one that leads from one object to another."""

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
