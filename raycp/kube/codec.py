"""Bytes to ``Obj``: objects stay raw JSON, only ``metadata`` is decoded, and ``managedFields`` are cut out.

A typed list (``PodList``) omits ``apiVersion`` and ``kind`` from its items; they are restored, so that an object has the same
form whether it came from a list, a watch or a write.

An object that cannot be decoded is an ``UnreadableObject``, and nothing else of its list or watch is lost with it (law 11).
"""

import functools
import re
from collections.abc import Sequence
from datetime import datetime
from hashlib import blake2b
from sys import intern
from typing import NamedTuple

import msgspec

from raycp.base.objects import LONGEST_NAME, Meta, Obj, version_number
from raycp.kube import salvage
from raycp.kube.answers import Status, decoded, problem_of
from raycp.kube.errors import BadAnswer, BadLine, UnreadableObject


class ListMeta(msgspec.Struct, rename="camel"):
    """``metadata`` of a list. ``continue_`` is the token of the next page."""

    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")

    @property
    def rv(self) -> int:
        """``resource_version`` as a number."""
        return version_number(self.resource_version)


class WatchBatch(NamedTuple):
    """Some lines of a watch: their events, the objects among them that cannot be read, and what ended it: an ERROR line, given as
    its ``ApiError``, or a ``BadLine``."""

    changes: list[tuple[str, Obj]]
    unreadable: list[UnreadableObject]
    failure: Exception | None


class _WireMeta(Meta, gc=False):
    managed_fields: msgspec.Raw = msgspec.Raw()


class _Wire(msgspec.Struct, rename="camel", gc=False):
    metadata: _WireMeta
    kind: str = ""


class _List(msgspec.Struct, rename="camel"):
    metadata: ListMeta
    items: list[msgspec.Raw] | None
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
_KINDS = frozenset({"ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"})
_NOT_USERS = frozenset({"apiVersion", "kind", "metadata", "status"})


def decode_object(raw: bytes, *, head: bytes = b"") -> Obj:
    """One object. ``head`` (``"apiVersion":"v1","kind":"Pod",``) is inserted if the object does not name its kind.

    Raises ``UnreadableObject`` for anything but a Kubernetes object.
    """
    try:
        return _decode(raw, head)
    except Exception as error:  # whatever a decoder raises: RecursionError, UnicodeError, OverflowError, ...
        raise UnreadableObject(salvage.metadata(raw), problem_of(error)) from None


def decode_objects(items: Sequence[bytes], head: bytes) -> tuple[list[Obj], list[UnreadableObject]]:
    """Some items of a list, and those among them that cannot be read."""
    found: list[Obj] = []
    unreadable: list[UnreadableObject] = []
    for item in items:
        try:
            found.append(_named(decode_object(item, head=head)))
        except UnreadableObject as error:
            unreadable.append(error)
    return found, unreadable


def _named(obj: Obj) -> Obj:
    if not obj.meta.name:
        raise UnreadableObject(None, "it has no name")
    return obj


def _decode(raw: bytes, head: bytes) -> Obj:
    wire = _wire.decode(raw)
    found = wire.metadata
    if len(found.name) > LONGEST_NAME or len(found.namespace) > LONGEST_NAME or len(found.uid) > LONGEST_NAME:
        raise ValueError(f"name, namespace and uid have at most {LONGEST_NAME} characters")
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


def split_list(raw: bytes, request: str = "list") -> tuple[ListMeta, list[bytes], bytes]:
    """A list, or one page of it: its metadata, the bytes of its items, and the ``head`` that ``decode_object`` needs for them.

    Raises ``BadAnswer`` for what is no list, one without a resourceVersion included: as an empty list it would delete the whole
    cache.
    """
    return decoded(lambda: _split(_list.decode(raw)), request)


def split_damaged_list(raw: bytes, request: str = "list") -> tuple[ListMeta, list[bytes], bytes]:
    """``split_list`` of a list with an item that cannot be parsed. Slow (some 10 MB a second): for a thread."""
    parts = salvage.members(raw) or {}
    items = salvage.elements(parts.get("items", b""))
    if items is None:
        raise BadAnswer(f"{request}: the answer is no list")
    rest = [b'"%b":%b' % (name.encode(), parts[name]) for name in ("metadata", "kind", "apiVersion") if name in parts]
    meta, _, head = split_list(b"{" + b",".join([b'"items":[]', *rest]) + b"}", request)
    return meta, items, head


def _split(found: _List) -> tuple[ListMeta, list[bytes], bytes]:
    if not found.metadata.resource_version:
        raise ValueError("a list without metadata.resourceVersion cannot be watched")
    kind = found.kind.removesuffix("List")
    head = f'"apiVersion":"{found.api_version}","kind":"{kind}",'.encode() if kind and found.api_version else b""
    return found.metadata, [bytes(item) for item in found.items or ()], head


def decode_watch_line(line: bytes) -> tuple[str, Obj | Status]:
    """``ADDED``, ``MODIFIED``, ``DELETED`` or ``BOOKMARK`` with an ``Obj``, or ``ERROR`` with a ``Status``.

    Raises ``UnreadableObject`` for an event whose object cannot be read, ``BadLine`` for what is no event.
    """
    try:
        event = _watch.decode(line)
    except Exception as error:
        parts = salvage.members(line) or {}
        kind, obj = parts.get("type", b"").strip(b'"').decode("latin-1"), parts.get("object", b"")
        if kind not in _KINDS or not obj:
            raise BadLine(f"a line of the watch cannot be read: {problem_of(error)}") from None
    else:
        kind, obj = event.type, bytes(event.object)
    if kind == "ERROR":
        try:
            return kind, _status.decode(obj)
        except Exception as error:
            raise BadLine(f"an ERROR line of the watch cannot be read: {problem_of(error)}") from None
    if kind not in _KINDS:
        raise BadLine(f"a line of the watch has type {kind[:40]!r}")
    try:
        found = decode_object(obj)
        return kind, found if kind == "BOOKMARK" else _named(found)
    except UnreadableObject as error:
        if kind == "DELETED" and error.meta is not None:
            return kind, _tombstone(error.meta)
        raise


def decode_watch_lines(lines: Sequence[bytes], request: str = "") -> WatchBatch:
    """The events of some lines, up to the first line that ends the watch."""
    changes: list[tuple[str, Obj]] = []
    unreadable: list[UnreadableObject] = []
    for line in lines:
        try:
            kind, obj = decode_watch_line(line)
        except UnreadableObject as error:
            unreadable.append(error)
        except BadLine as error:
            return WatchBatch(changes, unreadable, error)
        else:
            if isinstance(obj, Status):
                return WatchBatch(changes, unreadable, obj.to_error(request))
            changes.append((kind, obj))
    return WatchBatch(changes, unreadable, None)


def _tombstone(meta: Meta) -> Obj:
    """A deleted object of which only the metadata can be read: ``version`` is 0, since its content is unknown."""
    known = {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid, "resourceVersion": meta.resource_version}
    raw = _plain.encode({"metadata": {name: text for name, text in known.items() if text}})
    return Obj(meta, raw, version_number(meta.resource_version), 0)


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


_LONGEST_TIME = 64


def parse_time(text: str | None) -> float:
    """RFC 3339 as the API server writes it (``2026-01-02T03:04:05Z``, with or without a fraction) to Unix seconds; 0 for anything
    else.
    """
    return _seconds_of(text) if text and len(text) <= _LONGEST_TIME else 0.0  # what is longer is none, and no key of a cache


@functools.lru_cache(4096)
def _seconds_of(text: str) -> float:
    try:
        return _time.decode(b'"' + text.encode() + b'"').timestamp()
    except (msgspec.MsgspecError, ValueError, OverflowError):
        return 0.0
