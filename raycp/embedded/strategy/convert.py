"""Convert decoded JSON to what Go's typed decoder and encoder would produce, in place.

A converter takes a value and a ``DecodeStats``, drops nulls, zeros and unknown fields, writes scalars in canonical form and
adds the fields that Go always encodes (``omission``). A value of the wrong type raises ``Mismatch``; its path is built
while the exception propagates, so that valid objects build no paths. What a value shares with a ``known`` one, which is
converted already, stays as it is: a patch costs what it changes of a large object.
"""

from typing import Any, Protocol

from raycp.embedded.strategy import shapes
from raycp.embedded.strategy.scalars import (
    Malformed,
    canonical_base64,
    canonical_quantity,
    canonical_time,
)
from raycp.embedded.strategy.shapes import Shape

_JSON_NAMES = {str: "string", bool: "bool", int: "number", float: "number", dict: "object", list: "array"}


class DecodeStats:
    """Statistics of one conversion: the number of keys (to detect duplicates), if it is asked for, and whether a field was
    unknown."""

    __slots__ = ("counts", "keys", "unknown")

    def __init__(self, counts: bool = True) -> None:
        self.counts = counts
        self.keys = 0
        self.unknown = False


class Converter(Protocol):
    """Converts a value of one shape. ``known``: a converted value of the same shape."""

    def __call__(self, value: Any, seen: DecodeStats, known: Any = None) -> Any: ...


class Mismatch(Exception):
    """A value does not fit its field. ``path`` starts at the innermost part."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
        self.path: list[str | int] = []


def path_text(path: list[str | int]) -> str:
    """``["spec", "containers", 0]`` -> ``spec.containers[0]``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def json_name(value: Any) -> str:
    """The name of a JSON value's type in Go's errors."""
    return _JSON_NAMES.get(type(value), "null")


def _expected(value: Any, wanted: str) -> Mismatch:
    return Mismatch(f"cannot unmarshal {json_name(value)} into Go value of type {wanted}")


def converter(shape: Shape) -> Converter:
    """The converter of a shape, compiled on first use."""
    found: Converter | None = shape.programs.get("convert")
    if found is None:
        made = _compile(shape)
        found = shape.programs["convert"] = made
    return found


def _compile(shape: Shape) -> Converter:
    if shape.kind == shapes.OBJECT:
        return _object(shape)
    if shape.kind == shapes.MAP:
        return _map(shape)
    if shape.kind == shapes.LIST:
        return _list(shape)
    return _ALTERNATIVES.get(shape.name) or _SCALARS[shape.kind]


def zero(shape: Shape) -> Any:
    """The value of an unset field that Go always encodes."""
    if shape.kind == shapes.OBJECT:
        return {name: zero(shape.fields[name]) for name, how in shape.presence.items() if how == "P"}
    return _ZEROS.get(shape.kind)


_ZEROS: dict[str, Any] = {
    shapes.STRING: "",
    shapes.BOOL: False,
    shapes.INT32: 0,
    shapes.INT64: 0,
    shapes.NUMBER: 0,
    shapes.QUANTITY: "0",
    shapes.INTSTR: 0,
}


def _object(shape: Shape) -> Converter:
    # field -> (type that needs no conversion, converter, whether an empty value is kept)
    plan: dict[str, tuple[type | None, Converter, bool]] = {}
    take = plan.get
    always = [(name, field) for name, field in shape.fields.items() if shape.presence.get(name) == "P"]

    def compiled(key: str) -> tuple[type | None, Converter, bool] | None:
        """Of a field that is met for the first time: shapes may be cyclic, and most fields are never used."""
        field = shape.fields.get(key)
        if field is None:
            return None
        made = plan[key] = (_PLAIN.get(field.kind), converter(field), shape.presence.get(key, "p") != "o")
        return made

    is_open = shape.open
    name = shape.name
    zeros = tuple((key, field if field.kind == shapes.OBJECT else None, zero_scalar(field)) for key, field in always)

    def convert(value: Any, seen: DecodeStats, known: Any = None) -> Any:
        if type(value) is not dict:
            raise _expected(value, name)
        seen.keys += len(value)
        before = known if type(known) is dict else None
        drop: list[str] | None = None
        for key, one in value.items():
            how = take(key) or compiled(key)
            if how is None:
                if is_open:
                    continue
                seen.unknown = True
            elif type(one) is how[0]:
                if one or how[2]:
                    continue
            elif one is not None:
                was = None if before is None else before.get(key)
                if one is was:
                    continue
                try:
                    new = how[1](one, seen, was)
                except Mismatch as error:
                    error.path.append(key)
                    raise
                if new or how[2]:
                    if new is not one:
                        value[key] = new
                    continue
            if drop is None:
                drop = []
            drop.append(key)
        if drop is not None:
            for key in drop:
                del value[key]
        for key, field, nothing in zeros:
            if key not in value:
                value[key] = nothing if field is None else zero(field)
        return value

    return convert


def zero_scalar(shape: Shape) -> Any:
    """The ``zero`` of a shape other than an object, whose zero must be a new dict each time."""
    return None if shape.kind == shapes.OBJECT else zero(shape)


def _map(shape: Shape) -> Converter:
    assert shape.item is not None
    item = shape.item
    plain = _PLAIN.get(item.kind)
    wanted = f"map[string]{item.kind}"
    inner = converter(item)

    def convert(value: Any, seen: DecodeStats, known: Any = None) -> Any:
        if type(value) is not dict:
            raise _expected(value, wanted)
        seen.keys += len(value)
        for key, one in value.items():
            if type(one) is plain:
                continue
            if one is None:
                value[key] = "" if item.kind == shapes.BYTES else zero(item)  # bytes come back from storage as none, not as null
                continue
            try:
                value[key] = inner(one, seen)
            except Mismatch as error:
                error.path.append(key)
                raise
        return value

    return convert


def _list(shape: Shape) -> Converter:
    assert shape.item is not None
    item = shape.item
    plain = _PLAIN.get(item.kind)
    wanted = f"[]{item.name or item.kind}"
    inner = converter(item)

    def convert(value: Any, seen: DecodeStats, known: Any = None) -> Any:
        if type(value) is not list:
            raise _expected(value, wanted)
        for index, one in enumerate(value):
            if type(one) is plain:
                continue
            if one is None:
                value[index] = zero(item)
                continue
            try:
                value[index] = inner(one, seen)
            except Mismatch as error:
                error.path.append(index)
                raise
        return value

    return convert


def _string(value: Any, seen: DecodeStats, known: Any = None) -> Any:
    if type(value) is not str:
        raise _expected(value, "string")
    return value


def _bool(value: Any, seen: DecodeStats, known: Any = None) -> Any:
    if type(value) is not bool:
        raise _expected(value, "bool")
    return value


def _integer(bits: int) -> Converter:
    name, limit = f"int{bits}", 1 << bits - 1

    def convert(value: Any, seen: DecodeStats, known: Any = None) -> Any:
        if type(value) is not int:
            if type(value) is float:
                raise Mismatch(f"cannot unmarshal number {value!r} into Go value of type {name}")
            raise _expected(value, name)
        if not -limit <= value < limit:
            raise Mismatch(f"cannot unmarshal number {value} into Go value of type {name}")
        return value

    return convert


def _number(value: Any, seen: DecodeStats, known: Any = None) -> Any:
    if type(value) is not int and type(value) is not float:
        raise _expected(value, "float64")
    return value


def _text(value: Any, wanted: str) -> str:
    if type(value) is not str:
        raise _expected(value, wanted)
    return value


def _bytes(value: Any, seen: DecodeStats, known: Any = None) -> Any:
    try:
        return canonical_base64(_text(value, "[]uint8"))
    except Malformed as error:
        raise Mismatch(str(error)) from None


def _time(value: Any, seen: DecodeStats, known: Any = None) -> Any:
    try:
        return canonical_time(_text(value, "v1.Time"))
    except Malformed as error:
        raise Mismatch(str(error)) from None


def _microtime(value: Any, seen: DecodeStats, known: Any = None) -> Any:
    try:
        return canonical_time(_text(value, "v1.MicroTime"), micro=True)
    except Malformed as error:
        raise Mismatch(str(error)) from None


def _quantity(value: Any, seen: DecodeStats, known: Any = None) -> Any:
    if type(value) is int or type(value) is float:
        value = str(value)
    try:
        return canonical_quantity(_text(value, "resource.Quantity").strip())
    except Malformed as error:
        raise Mismatch(str(error)) from None


def _intstr(value: Any, seen: DecodeStats, known: Any = None) -> Any:
    if type(value) is str:
        return value
    if type(value) is int and -0x80000000 <= value <= 0x7FFFFFFF:
        return value
    raise _expected(value, "intstr.IntOrString")


def _any(value: Any, seen: DecodeStats, known: Any = None) -> Any:
    if seen.counts:
        seen.keys += count_keys(value)
    return value


def _schema_or(other: str, wanted: str) -> Converter:
    """Of a schema within a schema, in whose place a ``bool``, a list of ``schemas`` or one of ``strings`` may stand. Their own
    decoders in Go drop unknown fields without a word."""

    def convert(value: Any, seen: DecodeStats, known: Any = None) -> Any:
        if type(value) is dict:
            return converter(shapes.schema_props())(value, seen, known)
        if type(value) is bool and other == "bool":
            return value
        if type(value) is list and other != "bool":
            inner = _string if other == "strings" else converter(shapes.schema_props())
            return [inner(one, seen) for one in value]
        raise Mismatch(wanted)

    return convert


def count_keys(value: Any) -> int:
    """The number of keys of all objects in a value."""
    if type(value) is dict:
        return len(value) + sum(map(count_keys, value.values()))
    if type(value) is list:
        return sum(map(count_keys, value))
    return 0


_PLAIN: dict[str, type] = {shapes.STRING: str, shapes.BOOL: bool}
_SCALARS: dict[str, Converter] = {
    shapes.STRING: _string,
    shapes.BOOL: _bool,
    shapes.INT32: _integer(32),
    shapes.INT64: _integer(64),
    shapes.NUMBER: _number,
    shapes.BYTES: _bytes,
    shapes.TIME: _time,
    shapes.MICROTIME: _microtime,
    shapes.QUANTITY: _quantity,
    shapes.INTSTR: _intstr,
    shapes.ANY: _any,
}

_ALTERNATIVES: dict[str, Converter] = {
    "JSONSchemaPropsOrBool": _schema_or("bool", "boolean or JSON schema expected"),
    "JSONSchemaPropsOrArray": _schema_or("schemas", "JSON schema or array of them expected"),
    "JSONSchemaPropsOrStringArray": _schema_or("strings", "JSON schema or array of strings expected"),
}


def unknown_fields(shape: Shape, value: Any, path: str = "") -> list[str]:
    """The paths of all fields that the shape does not know. ``value`` is as decoded, before conversion."""
    found: list[str] = []
    if shape.kind == shapes.OBJECT and type(value) is dict:
        for key, one in value.items():
            here = f"{path}.{key}" if path else key
            field = shape.fields.get(key)
            if field is not None:
                found += unknown_fields(field, one, here)
            elif not shape.open:
                found.append(here)
    elif shape.kind == shapes.MAP and type(value) is dict and shape.item is not None:
        for key, one in value.items():
            found += unknown_fields(shape.item, one, f"{path}.{key}" if path else key)
    elif shape.kind == shapes.LIST and type(value) is list and shape.item is not None:
        for index, one in enumerate(value):
            found += unknown_fields(shape.item, one, f"{path}[{index}]")
    return found
