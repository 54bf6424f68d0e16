"""Bytes to ``Obj``: objects stay raw JSON, only ``metadata`` is decoded, ``managedFields`` are cut out on the way in.

A typed list (``PodList``) leaves ``apiVersion`` and ``kind`` out of its items; they are put back, so that an object
has the same form whether a list, a watch or a write brought it.
"""

import functools
import re
from datetime import datetime
from hashlib import blake2b
from sys import intern

import msgspec

from raycp.base.objects import Meta, Obj
from raycp.kube.errors import Status


class ListMeta(msgspec.Struct, rename="camel"):
    """``metadata`` of a list. ``continue_`` is the token of the next page."""

    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")
    remaining_item_count: int = 0

    @property
    def rv(self) -> int:
        return int(self.resource_version or 0)


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
    """One object. ``head`` (``"apiVersion":"v1","kind":"Pod",``) is put in where the object does not name its kind.

    Raises ``msgspec.MsgspecError`` for what is no Kubernetes object.
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
    return Obj(meta, raw, int(found.resource_version or 0), digest(meta, raw), changed_at)


def decode_list(raw: bytes) -> tuple[ListMeta, list[Obj]]:
    """A whole list, or one page of it."""
    meta, items, head = split_list(raw)
    return meta, [decode_object(item, head=head) for item in items]


def split_list(raw: bytes) -> tuple[ListMeta, list[bytes], bytes]:
    """The list's metadata, its items' bytes, and the ``head`` to decode them with; lets a caller decode in slices."""
    found = _list.decode(raw)
    kind = found.kind.removesuffix("List")
    head = f'"apiVersion":"{found.api_version}","kind":"{kind}",'.encode() if kind and found.api_version else b""
    return found.metadata, [bytes(item) for item in found.items or ()], head


def decode_watch_line(line: bytes) -> tuple[str, Obj | Status]:
    """``ADDED``, ``MODIFIED``, ``DELETED`` or ``BOOKMARK`` with an ``Obj``, or ``ERROR`` with a ``Status``."""
    event = _watch.decode(line)
    if event.type == "ERROR":
        return event.type, _status.decode(event.object)
    return event.type, decode_object(bytes(event.object))


def digest(meta: Meta, raw: bytes) -> int:
    """The *version* (design, section 5): 64 bits over what users change.

    That is uid, labels, annotations, finalizers, deletionTimestamp, and the generation; where the kind has none,
    everything but ``status`` and metadata. The uid is in it, so that a recreated object is never taken for its
    predecessor.
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

    The quick way cuts at the place where key and value stand together; JSON escapes quotes within strings, so the
    pattern can't be text. Where another such key comes first (a template that carries managedFields), or white space,
    the exact way.
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
    """The newest time at which somebody wrote the object itself, by another subresource (scale) too; a write of the status counts
    only where nothing else tells a time, since law 9's clock is that of users' changes."""
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
    """RFC 3339 as the API server writes it (``2026-01-02T03:04:05Z``, fractions too) to Unix seconds; 0 for none or
    nonsense.
    """
    if not text:
        return 0.0
    try:
        return _time.decode(b'"' + text.encode() + b'"').timestamp()
    except (msgspec.MsgspecError, ValueError, OverflowError):
        return 0.0
