"""Patches of stages and nodes on decoded objects: JSON merge, and strategic merge of Pod and Node status."""

from collections.abc import Mapping
from typing import Any

MERGE_KEYS = {"conditions": "type", "addresses": "type", "podIPs": "ip", "hostIPs": "ip"}
"""patchMergeKey of the lists in PodStatus and NodeStatus; other lists are replaced"""


def merge(target: Any, patch: Any, keys: Mapping[str, str]) -> Any:
    """RFC 7386 on ``target``, which may be changed; lists named in ``keys`` merge by that key of their items."""
    if not isinstance(patch, dict):
        return patch
    if not isinstance(target, dict):
        target = {}
    for name, value in patch.items():
        if value is None:
            target.pop(name, None)
        elif isinstance(value, list) and name in keys:
            target[name] = _merge_list(target.get(name) or [], value, keys[name], keys)
        elif isinstance(value, dict):
            target[name] = merge(target.get(name), value, keys)
        else:
            target[name] = value
    return target


def _merge_list(target: list[Any], patch: list[Any], key: str, keys: Mapping[str, str]) -> list[Any]:
    at = {item.get(key): i for i, item in enumerate(target)}
    result = list(target)
    for item in patch:
        if item.get(key) in at:
            result[at[item[key]]] = merge(result[at[item[key]]], item, keys)
        else:
            result.append({name: value for name, value in item.items() if value is not None})
    return result
