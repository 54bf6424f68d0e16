"""Bytes to ``Obj``: objects stay raw JSON, only ``metadata`` is decoded, and ``managedFields`` are cut out.

A typed list (``PodList``) omits ``apiVersion`` and ``kind`` from its items; they are restored, so that an object has the same
form whether it came from a list, a watch or a write.
"""

import functools
import re
from collections.abc import Sequence
from datetime import datetime
from hashlib import blake2b
from sys import intern

import msgspec

from raycp.base.objects import Meta, Obj, version_number
from raycp.kube.errors import Status


class ListMeta(msgspec.Struct, rename="camel"):
    """``metadata`` of a list. ``continue_`` is the token of the next page."""

    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")

    @property
    def rv(self) -> int:
        return version_number(self.resource_version)


class _WireMeta(Meta, gc=False):
    managed_fields: msgspec.Raw = msgspec.Raw()


class _Wire(msgspec.Struct, rename="camel", gc=False):
    metadata: _WireMeta
    kind: str = ""


class _List(msgspec.Struct, rename="camel"):
    metadata: ListMeta = msgspec.field(default_factory=ListMeta)
    items: list[msgspec.Raw] | None = None
    kind: str = ""
    api_version: str = ""


class _WatchEvent(msgspec.Struct, gc=False):
    type: str
    object: msgspec.Raw


class _Managed(msgspec.Struct, gc=False):
    time: str = ""
    subresource: str = ""


_wire = msgspec.json.Decoder(_Wire)
_list = msgspec.json.Decoder(_List)
_watch = msgspec.json.Decoder(_WatchEvent)
_status = msgspec.json.Decoder(Status)
_managed = msgspec.json.Decoder(list[_Managed])
_time = msgspec.json.Decoder(datetime)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_sorted = msgspec.json.Encoder(order="deterministic")
_plain = msgspec.json.Encoder()
_KEY = b'"managedFields":'
_KEY_WITH_SPACE = re.compile(rb'"managedFields"\s*:')
_NOT_USERS = frozenset({"apiVersion", "kind", "metadata", "status"})


def decode_object(raw: bytes, *, head: bytes = b"") -> Obj:
    """One object. ``head`` (``"apiVersion":"v1","kind":"Pod",``) is inserted if the object does not name its kind.

    Raises ``msgspec.MsgspecError`` for anything but a Kubernetes object.
    """
    wire = _wire.decode(raw)
    found = wire.metadata
    changed_at = 0.0
    if found.managed_fields:
        managed = bytes(found.managed_fields)
        changed_at = _changed_at(managed)
        raw = _cut(raw, managed)
    if head and not wire.kind:
        raw = b"{" + head + raw[raw.index(b"{") + 1 :]
    meta = Meta(
        found.name,
        intern(found.namespace),
        found.uid,
        found.resource_version,
        found.generation,
        found.creation_timestamp,
        found.deletion_timestamp,
        found.labels,
        found.annotations,
        found.finalizers,
        found.owner_references,
    )
    return Obj(meta, raw, version_number(found.resource_version), digest(meta, raw), changed_at)


def split_list(raw: bytes) -> tuple[ListMeta, list[bytes], bytes]:
    """A list, or one page of it: its metadata, the bytes of its items, and the ``head`` that ``decode_object`` needs for them."""
    found = _list.decode(raw)
    kind = found.kind.removesuffix("List")
    head = f'"apiVersion":"{found.api_version}","kind":"{kind}",'.encode() if kind and found.api_version else b""
    return found.metadata, [bytes(item) for item in found.items or ()], head


def decode_watch_line(line: bytes) -> tuple[str, Obj | Status]:
    """``ADDED``, ``MODIFIED``, ``DELETED`` or ``BOOKMARK`` with an ``Obj``, or ``ERROR`` with a ``Status``.

    Raises ``msgspec.MsgspecError`` for anything but a line of a watch.
    """
    event = _watch.decode(line)
    if event.type == "ERROR":
        return event.type, _status.decode(event.object)
    return event.type, decode_object(bytes(event.object))


def decode_watch_lines(lines: Sequence[bytes], request: str = "") -> tuple[list[tuple[str, Obj]], Exception | None]:
    """The events of some lines, up to the first line that ends the watch: an ERROR, given as the ``ApiError`` of ``request``, or
    one that cannot be decoded, given as the error that says so.
    """
    changes: list[tuple[str, Obj]] = []
    try:
        for line in lines:
            kind, obj = decode_watch_line(line)
            if isinstance(obj, Status):
                return changes, obj.to_error(request)
            changes.append((kind, obj))
    except (msgspec.MsgspecError, ValueError) as error:
        return changes, error
    return changes, None


def digest(meta: Meta, raw: bytes) -> int:
    """The *version* (docs/head-of-line.md): a 64-bit digest of what users change.

    It covers labels, annotations, finalizers, deletionTimestamp and the generation; for a kind without generation, everything but
    ``status`` and metadata instead. It covers the uid, so that a recreated object is never mistaken for its predecessor.
    """
    hasher = blake2b(
        _sorted.encode((meta.uid, meta.generation, meta.labels, meta.annotations, meta.finalizers, meta.deletion_timestamp)),
        digest_size=8,
    )
    if not meta.generation:
        fields = _fields.decode(raw)
        for name in sorted(fields.keys() - _NOT_USERS):
            hasher.update(name.encode())
            hasher.update(fields[name])
    return int.from_bytes(hasher.digest(), "big", signed=True)


def _cut(raw: bytes, managed: bytes) -> bytes:
    """``raw`` without ``metadata.managedFields``, whose value is ``managed``.

    The fast path cuts where the key is followed by the value. JSON escapes quotes within strings, so the pattern never matches
    text. If another such key comes first (a template with managedFields), or white space, the object is decoded and encoded
    again.
    """
    start = raw.find(_KEY)
    if start < 0 or not raw.startswith(managed, start + len(_KEY)):
        if start < 0 and not _KEY_WITH_SPACE.search(raw):
            return raw
        fields = _fields.decode(raw)
        meta = _fields.decode(fields["metadata"])
        del meta["managedFields"]
        fields["metadata"] = msgspec.Raw(_plain.encode(meta))
        return _plain.encode(fields)
    end = start + len(_KEY) + len(managed)
    if raw[end : end + 1] == b",":
        end += 1
    elif raw[start - 1 : start] == b",":
        start -= 1
    return raw[:start] + raw[end:]


def _changed_at(managed: bytes) -> float:
    """The newest time of a write to the object itself or by another subresource (scale).

    A status write counts only if there is no other, since the clock of law 9 measures users' changes.
    """
    newest = newest_of_status = ""
    try:
        for entry in _managed.decode(managed):
            if entry.subresource == "status":
                newest_of_status = max(newest_of_status, entry.time)
            else:
                newest = max(newest, entry.time)
    except msgspec.MsgspecError:
        return 0.0
    return parse_time(newest or newest_of_status)


@functools.lru_cache(4096)
def parse_time(text: str | None) -> float:
    """RFC 3339 as the API server writes it (``2026-01-02T03:04:05Z``, with or without a fraction) to Unix seconds; 0 for anything
    else.
    """
    if not text:
        return 0.0
    try:
        return _time.decode(b'"' + text.encode() + b'"').timestamp()
    except (msgspec.MsgspecError, ValueError, OverflowError):
        return 0.0
