"""Protobuf bodies to the dicts that JSON bodies give: kubectl and client-go send built-in kinds in this form.

A table line has a message and its fields in the order of their numbers; ``4:x`` jumps to a number, ``@T`` is a message
whose fields JSON inlines into the enclosing one. Types come from the kinds' shapes, so that a table has names only.
Source: the ``generated.proto`` files of k8s.io/api and k8s.io/apimachinery.
"""

import base64
import binascii
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

from raycp.embedded.errors import bad_request, unsupported_media_type
from raycp.embedded.strategy import shapes
from raycp.embedded.strategy.shapes import Shape, builtin_shape

MAGIC = b"k8s\x00"
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
Fields = dict[int, str]


@lru_cache(maxsize=1)
def _messages() -> dict[str, Fields]:
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
        if wire == _VARINT:
            value, at = _varint(data, at)
        elif wire == _BYTES:
            size, at = _varint(data, at)
            value = data[at : at + size]
            at += size
        elif wire in (_FIXED64, _FIXED32):
            size = 8 if wire == _FIXED64 else 4
            value = data[at : at + size]
            at += size
        else:
            raise _Broken(f"proto: illegal wireType {wire}")
        if at > end or number == 0:
            raise _Broken("unexpected EOF")
        yield number, wire, value


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def decode_protobuf(body: bytes, group: str, version: str, kind: str) -> dict[str, Any]:
    """The object in an envelope (``k8s\\0`` and a runtime.Unknown). Raises 400, and 415 for kinds without a table."""
    shape = builtin_shape(group, version, kind)
    if shape is None or _key(shape) not in _messages():
        raise unsupported_media_type(("application/json", "application/yaml"))
    if not body.startswith(MAGIC):
        raise bad_request(f"provided data does not appear to be a protobuf message, expected prefix {list(MAGIC)}")
    obj: dict[str, Any] = {}
    raw = b""
    try:
        for number, _, value in _fields(body[4:]):
            if number == 1:
                for part, _, text in _fields(value):
                    obj["apiVersion" if part == 1 else "kind"] = text.decode()
            elif number == 2:
                raw = value
        found = _message(raw, shape, _key(shape))
    except (_Broken, UnicodeDecodeError, AttributeError, TypeError, binascii.Error, msgspec.DecodeError) as error:
        raise bad_request(f"{kind} cannot be decoded: proto: {error}") from None
    return {**{key: one for key, one in obj.items() if one}, **found}


def _key(shape: Shape) -> str:
    return ".".join(shape.definition.split(".")[-3:])


def _message(data: bytes, shape: Shape, key: str) -> dict[str, Any]:
    numbers = _messages().get(key)
    if numbers is None:
        raise _Broken(f"{key} is not known")
    made: dict[str, Any] = {}
    for number, wire, value in _fields(data):
        name = numbers.get(number)
        if name is None:
            continue
        if name[0] == "@":
            made.update(_message(value, shape, name[1:]))
            continue
        field = shape.fields.get(name)
        if field is None:
            continue
        if field.kind == shapes.LIST:
            items = made.setdefault(name, [])
            assert field.item is not None
            if wire == _BYTES and field.item.kind in (shapes.INT32, shapes.INT64, shapes.BOOL):
                items.extend(_packed(value))
            else:
                items.append(_value(value, field.item))
        elif field.kind == shapes.MAP:
            assert field.item is not None
            entry_key, entry = _entry(value, field.item)
            made.setdefault(name, {})[entry_key] = entry
        else:
            made[name] = _value(value, field)
    return made


def _packed(data: bytes) -> Iterator[int]:
    at = 0
    while at < len(data):
        value, at = _varint(data, at)
        yield _signed(value)


def _entry(data: bytes, item: Shape) -> tuple[str, Any]:
    key, raw = "", b""
    for number, _, value in _fields(data):
        if number == 1:
            key = value.decode()
        else:
            raw = value
    if item.kind == shapes.LIST:  # ExtraValue: a message that wraps repeated strings
        return key, [value.decode() for number, _, value in _fields(raw) if number == 1]
    return key, _value(raw, item)


def _value(value: Any, shape: Shape) -> Any:
    kind = shape.kind
    if kind == shapes.STRING:
        return value.decode()
    if kind in (shapes.INT32, shapes.INT64):
        return _signed(value)
    if kind == shapes.BOOL:
        return bool(value)
    if kind == shapes.OBJECT:
        return _message(value, shape, _key(shape))
    if kind == shapes.BYTES:
        return base64.b64encode(value).decode()
    if kind in (shapes.TIME, shapes.MICROTIME):
        return _time(value, kind == shapes.MICROTIME)
    if kind == shapes.QUANTITY:
        return next((text.decode() for number, _, text in _fields(value) if number == 1), "0")
    if kind == shapes.INTSTR:
        return _int_or_string(value)
    if kind == shapes.ANY:  # FieldsV1 and RawExtension hold JSON
        raw = next((text for number, _, text in _fields(value) if number == 1), b"null")
        return msgspec.json.decode(raw)
    raise _Broken(f"{kind} has no protobuf form")


def _time(data: bytes, micro: bool) -> str | None:
    seconds = nanos = 0
    for number, _, value in _fields(data):
        if number == 1:
            seconds = _signed(value)
        elif number == 2:
            nanos = _signed(value)
    if not data or seconds == -62135596800:
        return None
    moment = datetime.fromtimestamp(seconds, UTC)
    text = f"{moment:%Y-%m-%dT%H:%M:%S}"
    return f"{text}.{nanos // 1000:06d}Z" if micro else f"{text}Z"


def _int_or_string(data: bytes) -> int | str:
    kind, number_value, text = 0, 0, ""
    for number, _, value in _fields(data):
        if number == 1:
            kind = value
        elif number == 2:
            number_value = _signed(value)
        elif number == 3:
            text = value.decode()
    return text if kind == 1 else number_value
