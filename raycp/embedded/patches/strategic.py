"""Strategic merge patch: lists merge by key; directives replace, delete, retain or order.

Follows ``k8s.io/apimachinery/pkg/util/strategicpatch``: ``$patch``, ``$retainKeys``, ``$deleteFromPrimitiveList/x``,
``$setElementOrder/x``. Merge keys and strategies come from the kind's shape.
"""

from collections import deque
from typing import Any

import msgspec

from raycp.embedded.strategy import shapes
from raycp.embedded.strategy.shapes import Shape

_DIRECTIVE, _RETAIN = "$patch", "$retainKeys"
_DELETE_FROM, _ORDER = "$deleteFromPrimitiveList/", "$setElementOrder/"


class MalformedStrategicPatch(Exception):
    """The patch can't be read: 400."""


def apply(document: dict[str, Any], patch: dict[str, Any], shape: Shape) -> dict[str, Any]:
    """A new document that shares the parts that the patch does not name. Raises ``MalformedStrategicPatch``."""
    return _merge_map(document, patch, shape)


def _merge_map(original: dict[str, Any], patch: dict[str, Any], shape: Shape | None) -> dict[str, Any]:
    directive = patch.get(_DIRECTIVE)
    if directive is not None:
        if directive == "replace":
            return {key: one for key, one in patch.items() if key != _DIRECTIVE}
        if directive == "delete":
            return {}
        if directive != "merge":
            raise MalformedStrategicPatch(f"unknown patch type found: {directive}")
    made = dict(original)
    retain = patch.get(_RETAIN)
    if retain is not None:
        if type(retain) is not list or not all(type(key) is str for key in retain):
            raise MalformedStrategicPatch("invalid patch format of retainKeys")
        kept = set(retain)
        if any(key not in kept for key in patch if not key.startswith("$")):
            raise MalformedStrategicPatch("The retainKeys directive must contain all keys of the patch")
        made = {key: one for key, one in made.items() if key in kept}
    for key, one in patch.items():
        if key in (_DIRECTIVE, _RETAIN):
            continue
        if key.startswith(_DELETE_FROM):
            field = key[len(_DELETE_FROM) :]
            if type(one) is not list:
                raise MalformedStrategicPatch("invalid patch format of primitive list")
            if type(made.get(field)) is list:
                dropped = set(map(_comparable, one))
                made[field] = [item for item in made[field] if _comparable(item) not in dropped]
            continue
        if key.startswith(_ORDER):
            continue
        inner = _child(shape, key)
        if one is None:
            made.pop(key, None)
        elif type(one) is dict:
            before = made.get(key)
            replace = inner is not None and "replace" in inner.patch_strategy.split(",")
            if type(before) is dict and not replace:
                made[key] = _merge_map(before, one, inner)
            else:
                made[key] = _clean(one)
        elif type(one) is list:
            made[key] = _merge_list(made.get(key), one, patch.get(_ORDER + key), inner)
        else:
            made[key] = one
    for key, order in patch.items():
        if key.startswith(_ORDER) and key[len(_ORDER) :] not in patch:
            field = key[len(_ORDER) :]
            if type(order) is not list:
                raise MalformedStrategicPatch("invalid patch format of setElementOrder list")
            inner = _child(shape, field)
            if type(made.get(field)) is list and inner is not None:
                made[field] = _ordered(made[field], made[field], order, inner.merge_key)
    return made


def _child(shape: Shape | None, key: str) -> Shape | None:
    if shape is None:
        return None
    found = shape.fields.get(key)
    return found if found is not None else shape.item if shape.kind == shapes.MAP else None


def _clean(value: Any) -> Any:
    """A patch value as a new value, without directives and nulls of maps."""
    if type(value) is dict:
        if value.get(_DIRECTIVE) == "delete":
            return {}
        return {
            key: _clean(one)
            for key, one in value.items()
            if one is not None and key not in (_DIRECTIVE, _RETAIN) and not key.startswith((_DELETE_FROM, _ORDER))
        }
    if type(value) is list:
        return [_clean(one) for one in value if not (type(one) is dict and one.get(_DIRECTIVE) == "delete")]
    return value


def _merge_list(before: Any, patch: list[Any], order: Any, shape: Shape | None) -> list[Any]:
    merging = shape is not None and "merge" in shape.patch_strategy.split(",")
    if not merging or shape is None:
        return [_clean(one) for one in patch]
    old: list[Any] = before if type(before) is list else []
    if order is not None and type(order) is not list:
        raise MalformedStrategicPatch("invalid patch format of setElementOrder list")
    if not shape.merge_key:
        made = list(old)
        there = set(map(_comparable, old))
        for one in patch:
            if _comparable(one) not in there:
                there.add(_comparable(one))
                made.append(one)
        return _ordered(made, old, order, "") if order is not None else made
    return _merge_by_key(old, patch, order, shape, shape.merge_key)


def _merge_by_key(old: list[Any], patch: list[Any], order: list[Any] | None, shape: Shape, key: str) -> list[Any]:
    wanted: list[dict[str, Any]] = []
    deleted: list[Any] = []
    replace = False
    for one in patch:
        if type(one) is not dict:
            raise MalformedStrategicPatch("invalid patch: expected objects in a list that merges by key")
        directive = one.get(_DIRECTIVE)
        if directive == "replace":
            replace = True
            if key in one:
                wanted.append({name: value for name, value in one.items() if name != _DIRECTIVE})
        elif directive == "delete":
            if key not in one:
                raise MalformedStrategicPatch(f"delete patch type with no merge key defined: map does not contain key {key}")
            deleted.append(one[key])
        elif directive not in (None, "merge"):
            raise MalformedStrategicPatch(f"unknown patch type found: {directive}")
        else:
            wanted.append(one)
    if replace:
        return [_clean(one) for one in wanted]
    gone = set(map(_comparable, deleted))
    made = [one for one in old if not (type(one) is dict and _comparable(one.get(key)) in gone)]
    places: dict[Any, int] = {}
    for index, there in enumerate(made):
        if type(there) is dict:
            places.setdefault(_comparable(there.get(key)), index)
    for one in wanted:
        if key not in one:
            raise MalformedStrategicPatch(f"map: {one} does not contain declared merge key: {key}")
        place = places.setdefault(_comparable(one[key]), len(made))
        if place < len(made):
            made[place] = _merge_map(made[place], one, shape.item)
        else:
            made.append(_clean(one))
    return _ordered(made, old, order, key) if order is not None else made


def _ordered(items: list[Any], server: list[Any], order: list[Any], key: str) -> list[Any]:
    """Sort the items named by ``order``; items that it does not name keep their place before their successors."""

    def identity(one: Any) -> Any:
        return _comparable(one.get(key) if key and type(one) is dict else one)

    wanted: dict[Any, int] = {}
    for index, one in enumerate(order):
        wanted.setdefault(identity(one), index)
    place = {identity(one): index for index, one in enumerate(server)}
    listed = deque(sorted((one for one in items if identity(one) in wanted), key=lambda one: wanted[identity(one)]))
    others = deque(one for one in items if identity(one) not in wanted)
    made: list[Any] = []
    while listed and others:
        left, right = identity(listed[0]), identity(others[0])
        first = others if left in place and right in place and place[right] < place[left] else listed
        made.append(first.popleft())
    return [*made, *listed, *others]


def _comparable(value: Any) -> Any:
    """Equal for equal values, and usable as a key."""
    return msgspec.json.encode(value, order="sorted") if type(value) in (dict, list) else value
