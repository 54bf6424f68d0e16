"""Objects to sets of paths by a kind's shape: the paths of an object, and the changes between two (structured-merge-diff v6).

- a struct's field is represented by its leaves; an entry of a map or an item of an associative list is a path itself;
- atomic lists, maps and structs are one leaf;
- an empty map or list is a leaf.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from raycp.base.text_cache import cached_by_text
from raycp.embedded.managed.fieldset import MEMBER, Fields
from raycp.embedded.strategy import shapes
from raycp.embedded.strategy.convert import zero
from raycp.embedded.strategy.shapes import Shape

_encode = msgspec.json.Encoder(order="sorted").encode
_KEY_DEFAULTS = {"protocol": "TCP"}
"""defaults of associative keys that the shipped schemas lack"""
_UNTYPED = Shape(shapes.MAP)
_UNTYPED.item = Shape(shapes.ANY)


def deduced(shape: Shape, value: Any) -> Shape:
    """The shape of a value: without a schema a granular map or an atom, depending on the value."""
    if shape.kind == shapes.ANY and type(value) is dict and not shape.atomic:
        return _UNTYPED
    return shape


@cached_by_text(8192)
def _key_element(names: tuple[str, ...], values: tuple[Any, ...]) -> str:
    return "k:" + _encode(dict(zip(names, values, strict=True))).decode()


@cached_by_text(8192)
def _value_element(kind: str, value: Any) -> str:
    return "v:" + _encode(value).decode()


def element(shape: Shape, item: Any) -> str | None:
    """The path element of an item of an associative list; None if it has no usable key."""
    if shape.list_type == "set":
        return _value_element(type(item).__name__, item) if type(item) in (str, int, bool, float) else None
    if type(item) is not dict:
        return None
    found = []
    present = False
    for name in shape.list_keys:
        value = item.get(name)
        if value is None:
            value = key_default(shape, name)
        else:
            present = True
        if value is not None and type(value) not in (str, int, bool, float):
            return None
        found.append(value)
    if not present and not any(value is not None for value in found):
        return None
    if None in found:
        pairs = [(n, v) for n, v in zip(shape.list_keys, found, strict=True) if v is not None]
        return _key_element(tuple(n for n, _ in pairs), tuple(v for _, v in pairs))
    return _key_element(shape.list_keys, tuple(found))


def key_default(shape: Shape, name: str) -> Any:
    """The default of an associative key."""
    item = shape.item
    if item is not None and name in item.fields:
        default = item.fields[name].schema.get("default")
        if default is not None:
            return default
    return _KEY_DEFAULTS.get(name)


def is_leaf_list(shape: Shape) -> bool:
    return shape.list_type == "atomic"


def field_set(shape: Shape, value: Any) -> Fields:
    """``ToFieldSet`` below ``value``: what an applied configuration names. A leaf gives ``MEMBER``."""
    shape = deduced(shape, value)
    kind = shape.kind
    if type(value) is dict and kind in (shapes.OBJECT, shapes.MAP) and not shape.atomic:
        made: Fields = {}
        fields = shape.fields
        for key, one in value.items():
            declared = fields.get(key)
            inner = declared if declared is not None else shape.item
            below = field_set(inner, one) if inner is not None else MEMBER
            if below:
                if declared is None and "." not in below and not _is_leaf(inner, one):
                    below = {".": {}, **below}
                made[f"f:{key}"] = below
            elif one is None or one == {} or _is_leaf(inner, one) or declared is None:
                made[f"f:{key}"] = MEMBER
        return made
    if type(value) is list and kind == shapes.LIST and not is_leaf_list(shape):
        made = {}
        assert shape.item is not None
        for one in value:
            name = element(shape, one)
            if name is None:
                continue
            below = field_set(shape.item, one) if type(one) is dict else MEMBER
            made[name] = {".": {}, **below} if below else MEMBER
        return made
    return MEMBER


def _is_leaf(shape: Shape | None, value: Any) -> bool:
    if shape is None:
        return True
    shape = deduced(shape, value)
    if type(value) is dict and shape.kind in (shapes.OBJECT, shapes.MAP):
        return shape.atomic
    if type(value) is list and shape.kind == shapes.LIST:
        return is_leaf_list(shape)
    return True


Adder = Callable[[Any], Fields]


def created_set(shape: Shape, obj: dict[str, Any]) -> Fields:
    """The paths of a new object that differ from an empty one of its kind (whose structs by value are there)."""
    return _over_zero(shape)(obj)


def added_set(shape: Shape, value: Any) -> Fields:
    """The set of an added value: all of its paths, with ``.`` at each level."""
    return _adder(shape)(value)


def _over_zero(shape: Shape) -> Adder:
    found: Adder | None = shape.programs.get("created")
    if found is None:
        found = shape.programs["created"] = _compile_over_zero(shape)
    return found


def _compile_over_zero(shape: Shape) -> Adder:
    plan: dict[str, tuple[str, Any, bool, Adder]] = {}

    def compiled(name: str) -> tuple[str, Any, bool, Adder] | None:
        """Of a field that is met for the first time, since shapes may be cyclic."""
        field = shape.fields.get(name)
        if field is None:
            return None
        there = shape.presence.get(name) == "P"
        struct = there and field.kind == shapes.OBJECT and not field.atomic
        add = _over_zero(field) if struct else _adder(field)
        made = plan[name] = (f"f:{name}", zero(field) if there else _ABSENT, struct, add)
        return made

    def walk(value: Any) -> Fields:
        made: Fields = {}
        for key, one in value.items():
            how = plan.get(key) or compiled(key)
            if how is None:
                made[f"f:{key}"] = MEMBER
                continue
            path, unset, struct, add = how
            if unset is _ABSENT:
                made[path] = MEMBER if add is _leaf else add(one)
            elif one != unset:
                below = MEMBER if add is _leaf else add(one)
                if "." in below:  # the old value was a null list or map
                    below = {k: v for k, v in below.items() if k != "."}
                elif not below and struct:
                    continue
                made[path] = below
        return made

    return _leaf if shape.atomic else walk


def _leaf(value: Any) -> Fields:
    return MEMBER


class _Absent:
    """A value that equals no other."""


_ABSENT = _Absent()


def _adder(shape: Shape) -> Adder:
    found: Adder | None = shape.programs.get("added")
    if found is None:
        found = shape.programs["added"] = _compile_adder(shape)
    return found


def _compile_adder(shape: Shape) -> Adder:
    kind = shape.kind
    if kind in shapes.SCALARS or shape.atomic:
        return _leaf
    if kind == shapes.ANY:
        return lambda value: _add_map(value, _adder(shape)) if type(value) is dict else MEMBER
    if kind == shapes.LIST:
        return _leaf if is_leaf_list(shape) else _list_adder(shape)
    if kind == shapes.MAP:
        item = shape.item
        assert item is not None
        if item.kind in shapes.SCALARS:
            return lambda value: {".": {}, **{f"f:{key}": MEMBER for key in value}} if value else MEMBER
        return lambda value: _add_map(value, _adder(item))
    plan: dict[str, tuple[str, Adder]] = {}

    def compiled(name: str) -> tuple[str, Adder]:
        """Of a field that is met for the first time, since shapes may be cyclic."""
        field = shape.fields.get(name, shape.item)
        made = f"f:{name}", _leaf if field is None else _adder(field)
        if name in shape.fields:
            plan[name] = made
        return made

    def walk(value: Any) -> Fields:
        if not value or type(value) is not dict:
            return MEMBER
        made: Fields = {".": {}}
        for key, one in value.items():
            path, add = plan.get(key) or compiled(key)
            made[path] = MEMBER if add is _leaf else add(one)
        return made

    return walk


def _add_map(value: dict[str, Any], add: Adder) -> Fields:
    if not value:
        return MEMBER
    made: Fields = {".": {}}
    for key, one in value.items():
        made[f"f:{key}"] = add(one)
    return made


def _list_adder(shape: Shape) -> Adder:
    assert shape.item is not None
    add = _adder(shape.item)

    def walk(value: Any) -> Fields:
        if not value:
            return MEMBER
        made: Fields = {".": {}}
        for one in value:
            name = element(shape, one)
            if name is not None:
                made[name] = MEMBER if add is _leaf else add(one)
        return made

    return walk


def compare(shape: Shape, old: dict[str, Any], new: dict[str, Any]) -> tuple[Fields, Fields]:
    """``(added or modified, removed)`` paths between two objects."""
    changed: Fields = {}
    removed: Fields = {}
    _compare_maps(shape, old, new, changed, removed)
    return changed, removed


def _compare_maps(shape: Shape, old: dict[str, Any], new: dict[str, Any], changed: Fields, removed: Fields) -> None:
    fields, item = shape.fields, shape.item
    for key, after in new.items():
        inner = fields.get(key, item)
        if key in old:
            before = old[key]
            if before is not after and before != after:
                _compare(inner, f"f:{key}", before, after, changed, removed)
        else:
            changed[f"f:{key}"] = added_set(inner, after) if inner is not None else MEMBER
    for key, before in old.items():
        if key not in new:
            inner = fields.get(key, item)
            removed[f"f:{key}"] = added_set(inner, before) if inner is not None else MEMBER


def _compare(shape: Shape | None, name: str, before: Any, after: Any, changed: Fields, removed: Fields) -> None:
    """Compare two values that exist and differ."""
    if shape is None:
        changed[name] = MEMBER
        return
    if shape.kind == shapes.ANY:
        shape = deduced(shape, after if type(after) is dict else before)
    kind = shape.kind
    mapping = kind in (shapes.OBJECT, shapes.MAP)
    if shape.atomic or not (mapping or kind == shapes.LIST) or (kind == shapes.LIST and is_leaf_list(shape)):
        changed[name] = MEMBER
        return
    if not before and not after:
        changed[name] = MEMBER
        return
    more: Fields = {}
    less: Fields = {}
    if mapping and isinstance(before, dict | None) and isinstance(after, dict | None):
        _compare_maps(shape, before or {}, after or {}, more, less)
    elif not mapping and isinstance(before, list | None) and isinstance(after, list | None):
        _compare_lists(shape, before or [], after or [], more, less)
    else:  # the JSON type changed: only possible without a schema
        more = MEMBER
        changed[name] = MEMBER
    if more:
        changed[name] = more
    if less:
        removed[name] = less


def _compare_lists(shape: Shape, old: list[Any], new: list[Any], changed: Fields, removed: Fields) -> None:
    assert shape.item is not None
    before = {element(shape, one): one for one in old}
    after = {element(shape, one): one for one in new}
    for name, one in after.items():
        if name is None:
            continue
        if name not in before:
            changed[name] = added_set(shape.item, one)
        elif before[name] != one:
            _compare(shape.item, name, before[name], one, changed, removed)
    for name, one in before.items():
        if name is not None and name not in after:
            removed[name] = added_set(shape.item, one)
