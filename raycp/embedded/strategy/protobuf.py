"""Protobuf bodies to the dicts that JSON bodies give: kubectl and client-go send built-in kinds in this form.

A table line has a message and its fields in the order of their numbers; ``4:x`` jumps to a number, ``@T`` is a message
whose fields JSON inlines into the enclosing one. Types come from the kinds' shapes, so that a table has names only.
``protobuf_writer`` is the way back. Source: the ``generated.proto`` files of k8s.io/api, k8s.io/apimachinery,
k8s.io/apiextensions-apiserver and k8s.io/kube-aggregator.
"""

import base64
import math
import struct
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

from raycp.embedded.errors import bad_request, unsupported_media_type
from raycp.embedded.strategy import shapes
from raycp.embedded.strategy.convert import DecodeStats, Mismatch, converter, zero
from raycp.embedded.strategy.depth import TOO_DEEP, too_deep
from raycp.embedded.strategy.shapes import Shape, builtin_shape, schema_props

MAGIC = b"k8s\x00"
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""wire types"""
UNSET_SECONDS = -62135596800
"""the seconds of Go's zero ``Time``"""
_LIST = {1: "metadata", 2: "items"}
Fields = dict[int, str]


@lru_cache(maxsize=1)
def messages() -> dict[str, Fields]:
    """The fields of each message by number, by name of the message (``apps.v1.Deployment``)."""
    from raycp.embedded.strategy import protobuf_core, protobuf_groups

    found: dict[str, Fields] = {}
    current: Fields = {}
    number = 0
    for table in (protobuf_core.TABLE, protobuf_groups.TABLE):
        for line in table.strip().splitlines():
            words = line.split()
            if not line.startswith(" "):
                current = found[words.pop(0)] = {}
                number = 0
            for word in words:
                jump, colon, name = word.partition(":")
                number = int(jump) if colon else number + 1
                current[number] = name if colon else word
    return found


def message_key(shape: Shape) -> str:
    """The name of an object's message in ``messages``."""
    return ".".join(shape.definition.split(".")[-3:])


def message_fields(shape: Shape) -> Fields | None:
    """The fields of an object by number. All lists of objects are one message, of no table."""
    found = messages().get(message_key(shape))
    if found is None and shape.definition.endswith("List") and shape.fields.keys() >= {"metadata", "items"}:
        return _LIST
    return found


class _Broken(Exception):
    """The bytes can't be decoded as a message of this kind."""


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise _Broken("unexpected EOF")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _fields(data: bytes) -> Iterator[tuple[int, int, Any]]:
    """``(number, wire type, value)`` of each field: an int, or bytes."""
    at, end = 0, len(data)
    while at < end:
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        value: Any
        if wire == VARINT:
            value, at = _varint(data, at)
        elif wire == BYTES:
            size, at = _varint(data, at)
            value = data[at : at + size]
            at += size
        elif wire in (FIXED64, FIXED32):
            size = 8 if wire == FIXED64 else 4
            value = data[at : at + size]
            at += size
        else:
            raise _Broken(f"illegal wireType {wire}")
        if at > end or number == 0:
            raise _Broken("unexpected EOF")
        yield number, wire, value


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def decode_protobuf(body: bytes, group: str, version: str, kind: str) -> dict[str, Any]:
    """The object in an envelope (``k8s\\0`` and a runtime.Unknown). Raises 400, and 415 for kinds without protobuf."""
    shape = builtin_shape(group, version, kind)
    if shape is None or message_fields(shape) is None:
        raise unsupported_media_type(("application/json", "application/yaml"))
    if not body.startswith(MAGIC):
        raise bad_request(f"provided data does not appear to be a protobuf message, expected prefix {list(MAGIC)}")
    obj: dict[str, Any] = {}
    raw = b""
    try:
        for number, wire, value in _fields(body[4:]):
            if number == 1:
                for part, inner, text in _fields(_of(value, wire, BYTES, "TypeMeta")):
                    obj["apiVersion" if part == 1 else "kind"] = _of(text, inner, BYTES, "TypeMeta").decode()
            elif number == 2:
                raw = _of(value, wire, BYTES, "Raw")
        found = _message(raw, shape)
    except Mismatch as error:
        raise bad_request(f"{kind} cannot be decoded: proto: {error.message}") from None
    except (_Broken, UnicodeDecodeError, msgspec.DecodeError, OverflowError) as error:
        raise bad_request(f"{kind} cannot be decoded: proto: {error}") from None
    except RecursionError:
        raise bad_request(f"{kind} cannot be decoded: proto: {TOO_DEEP}") from None
    if too_deep(found):
        raise bad_request(f"{kind} cannot be decoded: proto: {TOO_DEEP}")
    return {**{key: one for key, one in obj.items() if one}, **found}


def _of(value: Any, wire: int, wanted: int, name: str) -> Any:
    """``value`` if it came in the wire type of its field."""
    if wire != wanted:
        raise _Broken(f"wrong wireType = {wire} for field {name}")
    return value


def _message(data: bytes, shape: Shape, inlined: str = "") -> dict[str, Any]:
    """The object in ``data``; with ``inlined``, the part of it that is that message."""
    numbers = messages()[inlined] if inlined else message_fields(shape)
    if numbers is None:
        raise _Broken(f"{message_key(shape)} is not known")
    made: dict[str, Any] = {}
    for number, wire, value in _fields(data):
        name = numbers.get(number)
        if name is None:
            continue
        if name[0] == "@":
            made.update(_message(_of(value, wire, BYTES, name), shape, name[1:]))
            continue
        field = shape.fields.get(name)
        if field is None:
            continue
        if field.kind == shapes.LIST:
            items = made.setdefault(name, [])
            assert field.item is not None
            if wire == BYTES and field.item.kind in (shapes.INT32, shapes.INT64, shapes.BOOL):
                items.extend(_packed(value))
            else:
                items.append(_value(value, wire, field.item, name))
        elif field.kind == shapes.MAP:
            assert field.item is not None
            key, entry = _entry(_of(value, wire, BYTES, name), field.item, name)
            made.setdefault(name, {})[key] = entry
        else:
            made[name] = _value(value, wire, field, name)
    return made


def _packed(data: bytes) -> Iterator[int]:
    at = 0
    while at < len(data):
        value, at = _varint(data, at)
        yield _signed(value)


def _entry(data: bytes, item: Shape, name: str) -> tuple[str, Any]:
    key, entry = "", _ENTRIES[item.kind]() if item.kind in _ENTRIES else zero(item)
    for number, wire, value in _fields(data):
        if number == 1:
            key = _of(value, wire, BYTES, name).decode()
        elif item.kind == shapes.LIST:  # ExtraValue: a message that wraps repeated strings
            entry = _strings(_of(value, wire, BYTES, name), 1, name)
        else:
            entry = _value(value, wire, item, name)
    return key, entry


_ENTRIES: dict[str, Callable[[], Any]] = {shapes.LIST: list, shapes.BYTES: str}
"""the values of map entries that have none, other than the zeros of JSON"""


def _strings(data: bytes, wanted: int, name: str) -> list[str]:
    return [_of(value, wire, BYTES, name).decode() for number, wire, value in _fields(data) if number == wanted]


def _value(value: Any, wire: int, shape: Shape, name: str) -> Any:
    kind = shape.kind
    if kind in (shapes.INT32, shapes.INT64):
        return _signed(_of(value, wire, VARINT, name))
    if kind == shapes.BOOL:
        return bool(_of(value, wire, VARINT, name))
    if kind == shapes.NUMBER:
        number: float = struct.unpack("<d", _of(value, wire, FIXED64, name))[0]
        if not math.isfinite(number):
            raise _Broken(f"{name} is {number}, which JSON has no form for")
        return int(number) if number.is_integer() else number  # Go's JSON has no fraction either
    _of(value, wire, BYTES, name)
    if kind == shapes.STRING:
        return value.decode()
    if kind == shapes.OBJECT:
        return _message(value, shape)
    if kind == shapes.BYTES:
        return base64.b64encode(value).decode()
    if kind in (shapes.TIME, shapes.MICROTIME):
        return _time(value, kind == shapes.MICROTIME)
    if kind == shapes.QUANTITY:
        return next(iter(_strings(value, 1, name)), "0")
    if kind == shapes.INTSTR:
        return _int_or_string(value)
    if kind == shapes.ANY:
        return _any(value, shape.name)
    raise _Broken(f"{kind} has no protobuf form")


def _any(data: bytes, name: str) -> Any:
    """A value of any type: JSON as it is, or one of the choices in a CRD's schema."""
    parts: dict[int, list[Any]] = {}
    for number, _, value in _fields(data):
        parts.setdefault(number, []).append(value)
    match name:
        case "JSONSchemaPropsOrBool":
            return _schema(parts[2][-1]) if 2 in parts else bool(parts.get(1, [0])[-1])
        case "JSONSchemaPropsOrArray":
            return [_schema(one) for one in parts[2]] if 2 in parts else _schema(parts[1][-1]) if 1 in parts else None
        case "JSONSchemaPropsOrStringArray":
            return [_text(one) for one in parts[2]] if 2 in parts else _schema(parts[1][-1]) if 1 in parts else None
        case "CustomResourceSubresourceStatus":  # a message without fields
            return {}
    raw = parts.get(1, [b"null"])[-1]
    return msgspec.json.decode(_bytes(raw))


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise _Broken("wrong wireType = 0 for field Raw")
    return value


def _text(value: Any) -> str:
    return _bytes(value).decode()


def _schema(value: Any) -> Any:
    """A schema that stands where JSON also allows another type: such a field is not converted later on."""
    shape = schema_props()
    return converter(shape)(_message(_bytes(value), shape), DecodeStats())


def _time(data: bytes, micro: bool) -> str | None:
    seconds = nanos = 0
    for number, wire, value in _fields(data):
        if number == 1:
            seconds = _signed(_of(value, wire, VARINT, "Seconds"))
        elif number == 2:
            nanos = _signed(_of(value, wire, VARINT, "Nanos"))
    if not data or seconds == UNSET_SECONDS:
        return None
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OSError) as error:
        raise _Broken(f"{seconds} seconds are no time: {error}") from None
    text = f"{moment:%Y-%m-%dT%H:%M:%S}"
    return f"{text}.{nanos // 1000:06d}Z" if micro else f"{text}Z"


def _int_or_string(data: bytes) -> int | str:
    kind, number_value, text = 0, 0, ""
    for number, wire, value in _fields(data):
        if number == 1:
            kind = _of(value, wire, VARINT, "Type")
        elif number == 2:
            number_value = _signed(_of(value, wire, VARINT, "IntVal"))
        elif number == 3:
            text = _of(value, wire, BYTES, "StrVal").decode()
    return text if kind == 1 else number_value
