"""The store: objects as JSON bytes, one revision counter, a bounded history that watches and old lists are served from.

Rules:

1. Every commit takes the next revision of one counter, shared by all resources; it is the object's ``resourceVersion``.
2. A commit and the calls of all subscribers are one step: no reader sees a state without the events that led to it. What persists
   commits comes first, and may refuse one.
3. ``Table.at(revision)`` returns the state at any revision that the history still covers.
4. History is bounded by count per table and by bytes over all. Dropped history raises the table's ``floor``; a read
   below the floor raises ``Compacted`` and never skips a change.

Single-threaded: everything happens on the server's event loop.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec

SNAPSHOTS = 4
"""earlier states of a table that are kept: the pages of a large list are cut from one"""
FIRST_REVISION = 100
"""The revision of a new store; a real server's bootstrap writes about as many objects before it serves."""


class Compacted(Exception):
    """The requested revision is older than the history."""


class TableKey(NamedTuple):
    """The name of a table: storage group and plural. Versions of one resource share a table."""

    group: str
    plural: str


class _Labels(msgspec.Struct, frozen=True):
    labels: dict[str, str] | None = None


class _LabelsOnly(msgspec.Struct):
    metadata: _Labels = _Labels()


_decode_labels = msgspec.json.Decoder(_LabelsOnly).decode
_NO_LABELS: dict[str, str] = {}


class StoredObject:
    """One object at one revision: ``raw`` is its JSON in the storage version; kind, apiVersion, metadata come first."""

    __slots__ = ("_labels", "name", "ns", "raw", "rv", "uid")

    def __init__(self, ns: str, name: str, uid: str, rv: int, raw: bytes) -> None:
        self.ns = ns
        self.name = name
        self.uid = uid
        self.rv = rv
        self.raw = raw
        self._labels: dict[str, str] | None = None

    @property
    def labels(self) -> dict[str, str]:
        """The object's labels, decoded at the first call."""
        found = self._labels
        if found is None:
            found = self._labels = _decode_labels(self.raw).metadata.labels or _NO_LABELS
        return found

    def decode(self) -> dict[str, Any]:
        """The object as a fresh dict that the caller may change."""
        decoded: dict[str, Any] = msgspec.json.decode(self.raw)
        return decoded


def with_revision(raw: bytes, old: int, new: int) -> bytes:
    """``raw`` with another ``metadata.resourceVersion``.

    Metadata comes first in ``raw`` and quotes inside strings are escaped, so that the first match is the right one.
    """
    return raw.replace(b'"resourceVersion":"%d"' % old, b'"resourceVersion":"%d"' % new, 1)


class StoreChange:
    """One commit: ``type`` is ADDED, MODIFIED, DELETED; ``record`` the new state (for DELETED the last, at ``rv``)."""

    __slots__ = ("prev", "record", "rv", "type")

    def __init__(self, type_: str, rv: int, record: StoredObject, prev: StoredObject | None) -> None:
        self.type = type_
        self.rv = rv
        self.record = record
        self.prev = prev


Subscriber = Callable[[StoreChange], None]


class Bucket:
    """The objects of one namespace by name, and their sorted names, which a list brings up to date."""

    __slots__ = ("_dirty", "_order", "records")

    def __init__(self) -> None:
        self.records: dict[str, StoredObject] = {}
        self._order: list[str] = []
        self._dirty = False

    def put(self, record: StoredObject) -> None:
        if record.name not in self.records:
            self._dirty = True
        self.records[record.name] = record

    def drop(self, name: str) -> None:
        del self.records[name]
        self._dirty = True

    def names(self) -> list[str]:
        """The names, sorted. The result is shared: don't change it."""
        if self._dirty:
            self._order = sorted(self.records)
            self._dirty = False
        return self._order


class Table:
    """All objects of one resource, their history, and the subscribers."""

    def __init__(self, key: TableKey, floor: int, limit: int) -> None:
        self.key = key
        self.floor = floor
        self.limit = limit
        self.buckets: dict[str, Bucket] = {}
        self.history: deque[StoreChange] = deque()
        self.superseded = 0
        self.count = 0
        self.last_rv = floor
        self._snapshots: dict[tuple[str, int], list[StoredObject]] = {}
        self._subscribers: dict[str, list[Subscriber]] = {}

    def get(self, ns: str, name: str) -> StoredObject | None:
        bucket = self.buckets.get(ns)
        return bucket.records.get(name) if bucket is not None else None

    def namespaces(self) -> list[str]:
        """Namespaces that hold objects, in key order (as etcd sorts ``ns/name``)."""
        return sorted((ns for ns, b in self.buckets.items() if b.records), key=lambda ns: ns + "/")

    def records(self, ns: str) -> list[StoredObject]:
        """All objects of ``ns``, or of all namespaces if it is empty, in key order."""
        if ns:
            bucket = self.buckets.get(ns)
            return list(map(bucket.records.__getitem__, bucket.names())) if bucket is not None else []
        found: list[StoredObject] = []
        for each in self.namespaces():
            bucket = self.buckets[each]
            found.extend(map(bucket.records.__getitem__, bucket.names()))
        return found

    def at(self, ns: str, revision: int) -> list[StoredObject]:
        """As ``records``, at an earlier revision (rule 3). The result is shared: don't change it. Raises ``Compacted``."""
        if revision < self.floor:
            raise Compacted
        if revision >= self.last_rv:
            return self.records(ns)
        kept = self._snapshots
        found = kept.pop((ns, revision), None)
        if found is None:
            found = self._earlier(ns, revision)
            while len(kept) >= SNAPSHOTS:
                del kept[next(iter(kept))]
        kept[ns, revision] = found
        return found

    def _earlier(self, ns: str, revision: int) -> list[StoredObject]:
        state = {(r.ns, r.name): r for r in self.records(ns)}
        for change in reversed(self.history):
            if change.rv <= revision:
                break
            record = change.record
            if ns and record.ns != ns:
                continue
            if change.prev is None:
                state.pop((record.ns, record.name), None)
            else:
                state[(record.ns, record.name)] = change.prev
        return [state[key] for key in sorted(state, key=lambda key: (key[0] + "/", key[1]))]

    def since(self, revision: int) -> list[StoreChange]:
        """The changes after ``revision``, oldest first. Raises ``Compacted``."""
        if revision < self.floor:
            raise Compacted
        if revision >= self.last_rv:
            return []
        history = list(self.history)
        return history[bisect_right(history, revision, key=lambda change: change.rv) :]

    def subscribe(self, ns: str, subscriber: Subscriber) -> Callable[[], None]:
        """Call ``subscriber`` with every later change of ``ns``, or of all if it is empty. Returns the unsubscriber."""
        group = self._subscribers.setdefault(ns, [])
        group.append(subscriber)

        def unsubscribe() -> None:
            if subscriber in group:
                group.remove(subscriber)
                if not group and self._subscribers.get(ns) is group:
                    del self._subscribers[ns]

        return unsubscribe

    def listeners(self, ns: str) -> Iterator[Subscriber]:
        """The subscribers to a change in ``ns``."""
        subscribers = self._subscribers
        if subscribers:
            everywhere = subscribers.get("")
            if everywhere:
                yield from tuple(everywhere)
            if ns:
                local = subscribers.get(ns)
                if local:
                    yield from tuple(local)

    def restore(self, record: StoredObject) -> None:
        """Insert an object, or its new state, without calling subscribers."""
        bucket = self.buckets.get(record.ns)
        if bucket is None:
            bucket = self.buckets[record.ns] = Bucket()
        if record.name not in bucket.records:
            self.count += 1
        bucket.put(record)

    def forget(self, record: StoredObject) -> None:
        """Remove an object without calling subscribers."""
        bucket = self.buckets[record.ns]
        bucket.drop(record.name)
        if not bucket.records:
            del self.buckets[record.ns]
        self.count -= 1

    def trim(self, keep: int) -> int:
        """Drop the oldest changes beyond ``keep``. Returns the freed bytes."""
        freed = 0
        history = self.history
        while len(history) > keep:
            change = history.popleft()
            self.floor = change.rv
            if change.prev is not None:
                freed += len(change.prev.raw)
        self.superseded -= freed
        self.forget_snapshots()
        return freed

    def forget_snapshots(self) -> None:
        """Drop those below the floor, since they hold what the history has dropped."""
        for key in [key for key in self._snapshots if key[1] < self.floor]:
            del self._snapshots[key]


class ObjectStore:
    """All tables of one cluster. ``write_ahead`` receives every change before it is made; what it raises refuses the change."""

    def __init__(self, history: int = 20_000, history_bytes: int = 96 << 20, revision: int = FIRST_REVISION) -> None:
        self.revision = revision
        self.base = revision
        self.history = history
        self.history_bytes = history_bytes
        self.superseded = 0
        self.tables: dict[TableKey, Table] = {}
        self.write_ahead: Callable[[Table, StoreChange], None] | None = None

    def table(self, group: str, plural: str) -> Table:
        """The table of that name, created at the first call."""
        key = TableKey(group, plural)
        found = self.tables.get(key)
        if found is None:
            found = self.tables[key] = Table(key, self.base, self.history)
        return found

    def put(self, table: Table, ns: str, name: str, uid: str, raw: bytes) -> StoreChange:
        """Commit ``raw``, which carries ``revision + 1`` as its resourceVersion, as the object's new state."""
        prev = table.get(ns, name)
        record = StoredObject(ns, name, uid, self.revision + 1, raw)
        change = StoreChange("ADDED" if prev is None else "MODIFIED", record.rv, record, prev)
        if self.write_ahead is not None:
            self.write_ahead(table, change)
        table.restore(record)
        return self._commit(table, change)

    def delete(self, table: Table, record: StoredObject, raw: bytes | None = None) -> StoreChange:
        """Remove the object. ``raw``, which carries ``revision + 1``, is its last state if that differs from the stored one."""
        rv = self.revision + 1
        last = raw if raw is not None else with_revision(record.raw, record.rv, rv)
        change = StoreChange("DELETED", rv, StoredObject(record.ns, record.name, record.uid, rv, last), record)
        if self.write_ahead is not None:
            self.write_ahead(table, change)
        table.forget(record)
        return self._commit(table, change)

    def drop_table(self, group: str, plural: str) -> None:
        """Remove the table of a resource that is no longer served."""
        table = self.tables.pop(TableKey(group, plural), None)
        if table is not None:
            self.superseded -= table.superseded

    def compact(self, revision: int | None = None) -> None:
        """Drop the history up to ``revision`` (all of it by default): older watches and lists get 410."""
        upto = self.revision if revision is None else min(revision, self.revision)
        for table in self.tables.values():
            keep = sum(1 for change in table.history if change.rv > upto)
            self.superseded -= table.trim(keep)
            table.floor = max(table.floor, upto)
            table.forget_snapshots()
            table.last_rv = max(table.last_rv, table.floor)
        self.base = max(self.base, upto)

    def _commit(self, table: Table, change: StoreChange) -> StoreChange:
        self.revision = table.last_rv = change.rv
        table.history.append(change)
        if change.prev is not None:
            size = len(change.prev.raw)
            table.superseded += size
            self.superseded += size
        if len(table.history) > table.limit:
            self.superseded -= table.trim(table.limit - table.limit // 16)
        if self.superseded > self.history_bytes:
            largest = max(self.tables.values(), key=lambda t: t.superseded)
            self.superseded -= largest.trim(len(largest.history) * 7 // 8)
        for subscriber in table.listeners(change.record.ns):
            subscriber(change)
        return change
