"""Lists: selection, revision and paging, and the bytes of the answer."""

import base64
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec

from raycp.embedded.errors import bad_request, expired, too_large_version
from raycp.embedded.options import ListOptions
from raycp.embedded.registry import ServedResource
from raycp.embedded.selectors import RecordPredicate, exact_name, field_predicate, parse_labels
from raycp.embedded.store import Compacted, StoredObject

TOO_OLD = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
    "the continue parameter, or use the continue token in this response to retrieve the remainder of the results. "
    "Continuing with the provided token results in an inconsistent list - objects that were created, modified, or "
    "deleted between the time the first chunk was returned and now may show up in the list."
)


class _Token(msgspec.Struct):
    v: str
    rv: int
    start: str


@dataclass(slots=True)
class Listed:
    """The records of a list. ``remaining`` is None if nothing remains, or if selectors make the count unknown."""

    records: list[StoredObject]
    revision: int
    token: str = ""
    remaining: int | None = None


def selection(resource: ServedResource, labels: str, fields: str) -> RecordPredicate | None:
    """The predicate of both selectors; None if they select everything. Raises ``StatusError`` 400."""
    by_label = parse_labels(labels)
    key = resource.table.key
    by_field = field_predicate(key.group, key.plural, resource.selectable, fields) if fields else None
    if by_label is None:
        return by_field
    if by_field is None:
        return lambda record: by_label(record.labels)
    return lambda record: by_label(record.labels) and by_field(record)


def encode_token(revision: int, ns: str, after: StoredObject) -> str:
    """The ``continue`` of apiserver's etcd3 storage: revision, and the key after the last one sent."""
    key = after.name if ns or not after.ns else f"{after.ns}/{after.name}"
    raw = msgspec.json.encode(_Token("meta.k8s.io/v1", revision, key + "\0"))
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode_token(token: str) -> _Token:
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        found = msgspec.json.decode(raw, type=_Token)
    except (ValueError, msgspec.MsgspecError) as error:
        raise bad_request(f"continue key is not valid: {error}") from None
    if found.v != "meta.k8s.io/v1" or not found.start:
        raise bad_request("continue key is not valid: server does not recognize this encoded version " + found.v)
    return found


def find(resource: ServedResource, ns: str, options: ListOptions, revision: int) -> Listed:
    """The records that a list selects. ``revision`` is the store's. Raises ``StatusError`` 400, 410, 504."""
    chosen = selection(resource, options.labels, options.fields)
    table = resource.table
    start = ""
    at = revision
    if options.token:
        token = _decode_token(options.token)
        start, at = token.start, token.rv if token.rv > 0 else revision
        if at > revision:  # of another server, or of this one before its state was lost
            raise too_large_version(at, revision)
    elif options.rv:
        if options.rv > revision:
            raise too_large_version(options.rv, revision)
        if options.match == "Exact" or (options.limit and not options.match):
            at = options.rv
    name = exact_name(options.fields)
    if name and at == revision and (ns or not resource.info.namespaced):
        record = table.get(ns, name)
        records = [record] if record is not None else []
    else:
        try:
            records = table.records(ns) if at == revision else table.at(ns, at)
        except Compacted:
            if not options.token:
                raise expired("The resourceVersion for the provided list is too old.") from None
            raise expired(TOO_OLD, _inconsistent(start)) from None
    if start:
        sort_key: Callable[[StoredObject], str] = (lambda r: r.name) if ns or not resource.info.namespaced else _full_key
        find_first = bisect_right if start.endswith("\0") else bisect_left
        records = records[find_first(records, start.rstrip("\0"), key=sort_key) :]
    if chosen is not None:
        records = [record for record in records if chosen(record)]
    # a list "at any version" comes from the watch cache, which has no paging
    if options.limit and len(records) > options.limit and not (options.rv == 0 and not options.token):
        page = records[: options.limit]
        remaining = len(records) - options.limit if chosen is None else None
        return Listed(page, at, encode_token(at, ns, page[-1]), remaining)
    return Listed(records, at)


def _full_key(record: StoredObject) -> str:
    return f"{record.ns}/{record.name}"


def _inconsistent(start: str) -> str:
    raw = msgspec.json.encode(_Token("meta.k8s.io/v1", -1, start))
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def list_meta(listed: Listed, custom: bool = False) -> bytes:
    """The JSON of the list's ``metadata``. Lists of custom resources always have ``continue``."""
    meta = b'{"resourceVersion":"%d"' % listed.revision
    if listed.token or custom:
        meta += b',"continue":"%s"' % listed.token.encode()
    if listed.remaining:
        meta += b',"remainingItemCount":%d' % listed.remaining
    return meta + b"}"


def list_body(resource: ServedResource, listed: Listed) -> bytes:
    """The whole answer. Typed lists leave ``kind`` and ``apiVersion`` out of their items, as Go's encoding does."""
    strip = resource.strip
    present = resource.present
    items: Iterable[bytes]
    if strip:
        # a memoryview joins without copying each item first
        items = [memoryview(present(record))[strip:] for record in listed.records]  # type: ignore[misc]
        body = b",{".join(items)
        if listed.records:
            body = b"{" + body
    else:
        body = b",".join([present(record) for record in listed.records])
    return b"".join((resource.list_head, list_meta(listed, not strip), b',"items":[', body, b"]}"))
