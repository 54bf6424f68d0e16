"""Objects to protobuf, for clients that accept nothing else: the envelope of an answer, and the frame of a watch's event.

A writer appends one field to a buffer; those of an object are compiled from its shape at the first use. Fields that JSON
leaves out are left out here too, where Go writes their zero values: both decode to the same.
"""

import base64
import struct
from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec

from raycp.embedded.errors import StatusError
from raycp.embedded.strategy import shapes
from raycp.embedded.strategy.protobuf import BYTES, FIXED64, MAGIC, VARINT, message_fields, messages
from raycp.embedded.strategy.shapes import OBJECT, Shape, builtin_shape, list_meta, object_meta, schema_props

FieldWriter = Callable[[Any, bytearray], None]
Payload = Callable[[Any], bytes]


def encode_protobuf(obj: dict[str, Any]) -> bytes:
    """``obj`` in its envelope. Raises ``StatusError`` 406 for a kind without protobuf, which custom resources are."""
    api_version, kind = obj.get("apiVersion") or "", obj.get("kind") or ""
    raw = _payload(_shape(api_version, kind))(obj)
    type_meta = _bytes(1, api_version.encode()) + _bytes(2, kind.encode())
    return MAGIC + _bytes(1, type_meta) + _bytes(2, raw) + _bytes(3, b"") + _bytes(4, b"")


def encode_event(type_: str, obj: dict[str, Any]) -> bytes:
    """One event of a watch, with its length in front. Raises as ``encode_protobuf``."""
    event = _bytes(1, type_.encode()) + _bytes(2, _bytes(1, encode_protobuf(obj)))
    return struct.pack(">I", len(event)) + event


def _shape(api_version: str, kind: str) -> Shape:
    group, _, version = api_version.rpartition("/")
    shape = _metadata_only(kind) if group == "meta.k8s.io" else builtin_shape(group, version, kind)
    if shape is None or message_fields(shape) is None:
        # errNotMarshalable in apimachinery's protobuf serializer
        type_ = "*unstructured.UnstructuredList" if kind.endswith("List") else "*unstructured.Unstructured"
        raise StatusError(
            406,
            "NotAcceptable",
            f"object {type_} does not implement the protobuf marshalling interface and cannot be encoded to a protobuf message",
        )
    return shape


def _metadata_only(kind: str) -> Shape | None:
    """``PartialObjectMetadata`` and its list, which the published schemas lack."""
    found = _METADATA_ONLY.get(kind)
    if found is None and kind in ("PartialObjectMetadata", "PartialObjectMetadataList"):
        one = Shape(OBJECT, "PartialObjectMetadata")
        one.definition = "meta.v1.PartialObjectMetadata"
        one.fields = {"metadata": object_meta()}
        many = Shape(OBJECT, "PartialObjectMetadataList")
        many.definition = "meta.v1.PartialObjectMetadataList"
        items = Shape(shapes.LIST)
        items.item = one
        many.fields = {"metadata": list_meta(), "items": items}
        _METADATA_ONLY.update(PartialObjectMetadata=one, PartialObjectMetadataList=many)
        found = _METADATA_ONLY[kind]
    return found


_METADATA_ONLY: dict[str, Shape] = {}


# ---- the wire


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    made.append(value)
    return bytes(made)


def _tag(number: int, wire: int) -> bytes:
    return _varint(number << 3 | wire)


def _bytes(number: int, data: bytes) -> bytes:
    return _tag(number, BYTES) + _varint(len(data)) + data


# ---- shapes


def _payload(shape: Shape) -> Payload:
    """The encoding of a value without tag and length; compiled on first use."""
    if shape.kind != OBJECT:
        return _SCALARS[shape.kind] if shape.kind != shapes.ANY else _choice(shape.name)
    found: Payload | None = shape.programs.get("protobuf")
    if found is None:
        writers = _writers(shape, message_fields(shape) or {})

        def encode(obj: dict[str, Any]) -> bytes:
            made = bytearray()
            for write in writers:
                write(obj, made)
            return bytes(made)

        found = shape.programs["protobuf"] = encode
    return found


def _writers(shape: Shape, numbers: dict[int, str]) -> list[FieldWriter]:
    """What writes each field of an object, in the order of their numbers."""
    made: list[FieldWriter] = []
    for number in sorted(numbers):
        name = numbers[number]
        if name[0] == "@":
            made.append(_inlined(number, _writers(shape, messages()[name[1:]])))
        elif name in shape.fields:
            made.append(_named(name, _field(number, shape.fields[name])))
    return made


def _named(name: str, write: FieldWriter) -> FieldWriter:
    def write_field(obj: dict[str, Any], out: bytearray) -> None:
        value = obj.get(name)
        if value is not None:
            write(value, out)

    return write_field


def _inlined(number: int, writers: list[FieldWriter]) -> FieldWriter:
    tag = _tag(number, BYTES)

    def write(obj: dict[str, Any], out: bytearray) -> None:
        inner = bytearray()
        for each in writers:
            each(obj, inner)
        out += tag + _varint(len(inner)) + inner

    return write


def _field(number: int, shape: Shape) -> FieldWriter:
    if shape.kind == shapes.LIST:
        assert shape.item is not None
        each = _field(number, shape.item)

        def write_all(values: list[Any], out: bytearray) -> None:
            for one in values:
                each(one, out)

        return write_all
    if shape.kind == shapes.MAP:
        return _map(number, shape)
    wire = _WIRES.get(shape.kind, BYTES)
    tag = _tag(number, wire)

    def write(value: Any, out: bytearray) -> None:
        data = _payload(shape)(value)  # here, since shapes are cyclic
        out += tag + _varint(len(data)) + data if wire == BYTES else tag + data

    return write


def _map(number: int, shape: Shape) -> FieldWriter:
    assert shape.item is not None
    item = shape.item
    # ExtraValue, a list within a map, is a message that wraps it
    inner = _field(1, item) if item.kind == shapes.LIST else _field(2, item)
    wraps = item.kind == shapes.LIST
    tag = _tag(number, BYTES)

    def write(values: dict[str, Any], out: bytearray) -> None:
        for key in sorted(values):
            value = bytearray()
            if values[key] is not None:
                inner(values[key], value)
            entry = _bytes(1, key.encode()) + (_bytes(2, bytes(value)) if wraps else bytes(value))
            out += tag + _varint(len(entry)) + entry

    return write


def _time(text: str) -> bytes:
    moment = datetime.fromisoformat(text)
    seconds = int(moment.replace(microsecond=0).timestamp())
    return _tag(1, VARINT) + _varint(seconds) + _tag(2, VARINT) + _varint(moment.microsecond * 1000)


def _int_or_string(value: int | str) -> bytes:
    text = isinstance(value, str)
    parts = (_tag(1, VARINT), _varint(int(text)), _tag(2, VARINT), _varint(0 if text else int(value)))
    return b"".join(parts) + _bytes(3, str(value).encode() if text else b"")


def _json(value: Any) -> bytes:
    return _bytes(1, msgspec.json.encode(value))


def _schema(number: int, value: Any) -> bytes:
    return _bytes(number, _payload(schema_props())(value))


def _or_bool(value: Any) -> bytes:
    allows = _tag(1, VARINT) + _varint(int(value is not False))
    return allows if isinstance(value, bool) else allows + _schema(2, value)


def _or_array(value: Any) -> bytes:
    return b"".join(_schema(2, one) for one in value) if isinstance(value, list) else _schema(1, value)


def _or_strings(value: Any) -> bytes:
    return b"".join(_bytes(2, one.encode()) for one in value) if isinstance(value, list) else _schema(1, value)


def _choice(name: str) -> Payload:
    return {
        "JSONSchemaPropsOrBool": _or_bool,
        "JSONSchemaPropsOrArray": _or_array,
        "JSONSchemaPropsOrStringArray": _or_strings,
        "CustomResourceSubresourceStatus": lambda value: b"",
    }.get(name, _json)


_SCALARS: dict[str, Payload] = {
    shapes.STRING: str.encode,
    shapes.BOOL: lambda value: _varint(int(value)),
    shapes.INT32: _varint,
    shapes.INT64: _varint,
    shapes.NUMBER: lambda value: struct.pack("<d", value),
    shapes.BYTES: base64.b64decode,
    shapes.TIME: _time,
    shapes.MICROTIME: _time,
    shapes.QUANTITY: lambda value: _bytes(1, value.encode()),
    shapes.INTSTR: _int_or_string,
}
_WIRES = {
    shapes.BOOL: VARINT,
    shapes.INT32: VARINT,
    shapes.INT64: VARINT,
    shapes.NUMBER: FIXED64,
}
