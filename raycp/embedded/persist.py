"""State that survives a restart: a log of commits, compacted to a snapshot at start.

Every commit is written to the kernel before its answer is sent: a killed process loses nothing, a killed machine may
lose the last seconds. A torn last record (a crash in the middle of a write) is dropped.
"""

import os
from pathlib import Path

import msgspec

from raycp.embedded.store import ObjectStore, StoreChange, StoredObject, Table

_SNAPSHOT_FROM = 64 * 1024 * 1024
"""bytes of log after which the next start writes a snapshot"""


class _Entry(msgspec.Struct, array_like=True):
    rv: int
    group: str
    plural: str
    ns: str
    name: str
    uid: str
    raw: bytes | None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Entry).decode


class Journal:
    """The log of one cluster in its directory. ``load`` first, then ``follow``."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._path = directory / "objects.log"
        self._file = -1

    def load(self, store: ObjectStore) -> None:
        """Fill an empty store, and rewrite the log to the existing objects if it has grown."""
        if not self._path.exists():
            return
        data = self._path.read_bytes()
        at = 0
        while at + 4 <= len(data):
            size = int.from_bytes(data[at : at + 4], "big")
            if at + 4 + size > len(data):
                break
            self._replay(store, _decode(data[at + 4 : at + 4 + size]))
            at += 4 + size
        store.base = store.revision
        for table in store.tables.values():
            table.floor = table.last_rv = store.revision
        if at < len(data) or at > _SNAPSHOT_FROM:
            self._rewrite(store)

    def follow(self, store: ObjectStore) -> None:
        """Log every later commit."""
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        store.on_commit = self._write

    def close(self, store: ObjectStore) -> None:
        """Stop logging, after rewriting the log to the existing objects."""
        if self._file >= 0:
            store.on_commit = None
            os.close(self._file)
            self._file = -1
            self._rewrite(store)

    @staticmethod
    def _replay(store: ObjectStore, entry: _Entry) -> None:
        store.revision = max(store.revision, entry.rv)
        if not entry.plural:
            return
        table = store.table(entry.group, entry.plural)
        if entry.raw is None:
            record = table.get(entry.ns, entry.name)
            if record is not None:
                table.forget(record)
        else:
            table.restore(StoredObject(entry.ns, entry.name, entry.uid, entry.rv, entry.raw))

    def _write(self, table: Table, change: StoreChange) -> None:
        record = change.record
        raw = None if change.type == "DELETED" else record.raw
        os.write(self._file, _framed(_Entry(change.rv, *table.key, record.ns, record.name, record.uid, raw)))

    def _rewrite(self, store: ObjectStore) -> None:
        temporary = self._path.with_suffix(".new")
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            for key, table in store.tables.items():
                for record in table.records(""):
                    file.write(_framed(_Entry(record.rv, *key, record.ns, record.name, record.uid, record.raw)))
            # the revision itself: the last commit may have been a deletion
            file.write(_framed(_Entry(store.revision, "", "", "", "", "", None)))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)


def _framed(entry: _Entry) -> bytes:
    body = _encode(entry)
    return len(body).to_bytes(4, "big") + body
