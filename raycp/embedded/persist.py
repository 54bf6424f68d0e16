"""State that survives a restart: a log of commits, compacted to a snapshot.

1. A commit is written before anybody can see it, and refused if it can't be written whole: nothing unwritten is visible to readers
   or watchers, and what was acknowledged is in the log.
2. Written means: handed to the kernel. A process that is killed loses nothing; a machine that crashes may lose the commits that its
   kernel had not brought to the disk yet (about 30 s of them with Linux's defaults). Snapshots, certificates and tokens are synced.
3. What is left of a record that could not be written is cut off, and if that fails too, skipped when the log is read: it hides
   no other record.
"""

import contextlib
import errno
import fcntl
import logging
from pathlib import Path

import msgspec

from raycp.embedded.appender import Appender, DiskFile, OpenLog
from raycp.embedded.errors import StatusError
from raycp.embedded.files import sync_directory
from raycp.embedded.records import MARK, read_records, record
from raycp.embedded.store import ObjectStore, StoreChange, StoredObject, Table

log = logging.getLogger(__name__)

_SNAPSHOT_FROM = 64 * 1024 * 1024
"""bytes of log from which on a snapshot replaces it, if it has four times the bytes of the last one"""


class UnusableDirectory(Exception):
    """The directory can't hold the state: another process has it, or it holds something else. Says what to do."""


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
    """The log of one cluster in its directory, which is its own. ``load`` first, then ``follow``, then ``close``."""

    def __init__(self, directory: Path, opened: OpenLog = DiskFile) -> None:
        """Raises ``UnusableDirectory``, ``OSError``."""
        directory.mkdir(parents=True, exist_ok=True)
        self._path = directory / "objects.log"
        self._opened = opened
        self._log: Appender | None = None
        self._size = 0
        """bytes of the log before it is followed"""
        self._compact_at = _SNAPSHOT_FROM
        self._refused = 0
        self._lock = open(directory / "lock", "w")  # noqa: SIM115  (held until ``close``)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            why = f"{directory} is in use by another cluster"
            raise UnusableDirectory(f"{why}: end it, or choose another dataDir") from None

    def load(self, store: ObjectStore) -> None:
        """Fill an empty store. Raises ``UnusableDirectory``, ``OSError``."""
        data = self._path.read_bytes() if self._path.exists() else b""
        kept, found = 0, False
        for _, body in read_records(data):
            self._replay(store, _decode(body))
            kept += len(record(body))
            found = True
        if not found and data.strip(b"\0") and not data.startswith(MARK[: len(data)]):
            why = f"{self._path} is no log of this release of raycp"
            raise UnusableDirectory(f"{why}: start it with the release that wrote it, or choose another dataDir")
        self._size = len(data)
        if kept < len(data):
            log.warning("%s: %d bytes of records that were not written whole are skipped", self._path, len(data) - kept)
        store.base = store.revision
        for table in store.tables.values():
            table.floor = table.last_rv = store.revision
        if kept < len(data) or len(data) > _SNAPSHOT_FROM:
            self._snapshot(store)

    def follow(self, store: ObjectStore) -> None:
        """Log every later commit before it is made. Raises ``OSError``."""
        self._log = Appender(self._opened(self._path), self._size)
        store.write_ahead = lambda table, change: self._write(store, table, change)

    def close(self, store: ObjectStore) -> None:
        """Stop logging, after a snapshot, and let others use the directory."""
        if self._log is not None:
            store.write_ahead = None
            self._log.close()
            self._log = None
            self._snapshot(store)
        self._lock.close()

    @staticmethod
    def _replay(store: ObjectStore, entry: _Entry) -> None:
        store.revision = max(store.revision, entry.rv)
        if not entry.plural:
            return
        table = store.table(entry.group, entry.plural)
        if entry.raw is None:
            known = table.get(entry.ns, entry.name)
            if known is not None:
                table.forget(known)
        else:
            table.restore(StoredObject(entry.ns, entry.name, entry.uid, entry.rv, entry.raw))

    def _write(self, store: ObjectStore, table: Table, change: StoreChange) -> None:
        """Raises ``StatusError`` 500, as with an etcd that can't write."""
        of = change.record
        raw = None if change.type == "DELETED" else of.raw
        try:
            self._to_append(store).append(record(_encode(_Entry(change.rv, *table.key, of.ns, of.name, of.uid, raw))))
        except OSError as error:
            self._refused += 1
            if self._refused & (self._refused - 1) == 0:  # each time that there are twice as many
                log.error("%s: %d writes were refused until now: %s", self._path, self._refused, error)
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            why = "mvcc: database space exceeded" if full else f"the log cannot be written: {error.strerror}"
            raise StatusError(500, "", f"etcdserver: {why}") from error

    def _to_append(self, store: ObjectStore) -> Appender:
        """The log, after a snapshot if it has grown. Raises ``OSError``."""
        if self._log is not None and self._log.size > self._compact_at:
            self._size = self._log.size
            if self._snapshot(store):
                self._log.close()
                self._log = None
        if self._log is None:
            self._log = Appender(self._opened(self._path), self._size)
        return self._log

    def _snapshot(self, store: ObjectStore) -> bool:
        """Replace the log by the existing objects, and whether that was done: if there is no room, it stays as it is."""
        partial = self._path.with_suffix(".new")
        try:
            partial.unlink(missing_ok=True)
            size = self._write_snapshot(store, partial)
            partial.replace(self._path)
        except OSError as error:
            log.warning("%s: no snapshot replaces it: %s", self._path, error)
            self._compact_at = max(_SNAPSHOT_FROM, self._size + self._size // 4)
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            return False
        with contextlib.suppress(OSError):
            sync_directory(self._path.parent)
        self._size, self._compact_at = size, max(_SNAPSHOT_FROM, 4 * size)
        return True

    def _write_snapshot(self, store: ObjectStore, partial: Path) -> int:
        """Its size. Raises ``OSError``."""
        to = Appender(self._opened(partial))
        try:
            # the revision itself: the last commit may have been a deletion
            pieces = [record(_encode(_Entry(store.revision, "", "", "", "", "", None)))]
            for key, table in store.tables.items():
                pieces += [record(_encode(_Entry(one.rv, *key, one.ns, one.name, one.uid, one.raw))) for one in table.records("")]
                to.append(b"".join(pieces))
                pieces = []
            to.sync()
        finally:
            to.close()
        return to.size
