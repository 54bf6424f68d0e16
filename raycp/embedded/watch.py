"""Watches: the events of one resource as JSON lines or protobuf frames, encoded once per form and shared by all watches.

A ``Watch`` filters changes for one client and sends the encoded lines to its sink, one batch per turn of the event loop.
It is bounded: a client that does not read is disconnected, as by apiserver's watch cache.
"""

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import msgspec

from raycp.embedded.errors import StatusError, expired, too_large_version
from raycp.embedded.forms import Form, partial, table
from raycp.embedded.lists import selection
from raycp.embedded.options import ListOptions
from raycp.embedded.registry import ServedResource
from raycp.embedded.selectors import RecordPredicate
from raycp.embedded.store import Compacted, ObjectStore, StoreChange, StoredObject, with_revision

log = logging.getLogger(__name__)

BOOKMARK_PERIOD = 60.0
"""seconds between bookmarks, as apiserver's watch cache sends them"""
BOOKMARK_BEFORE_END = 2.0
SLICE = 256
"""initial objects sent in one turn of the event loop"""
MAX_BACKLOG = 10_000
"""events that are buffered for a client that does not read"""
MAX_BACKLOG_BYTES = 64 << 20
"""and their bytes: an event may have a megabyte and a half"""
PIECE = 1 << 20
"""bytes that are sent in one turn of the event loop, and before it is asked again whether the client reads"""


class Sink(Protocol):
    """The receiver of lines. ``send`` must not block; ``full``: the client does not keep up; ``end`` ends the stream."""

    def send(self, data: bytes) -> None: ...
    def full(self) -> bool: ...
    def end(self) -> None: ...


class FrameCache:
    """The encoded frame of the current change, by form: 100 watches cost one encoding."""

    def __init__(self) -> None:
        self._change: StoreChange | None = None
        self._lines: dict[Any, bytes] = {}

    def line(self, change: StoreChange, key: Any, make: Callable[[], bytes]) -> bytes:
        if change is not self._change:
            self._change = change
            self._lines = {}
        found = self._lines.get(key)
        if found is None:
            found = self._lines[key] = make()
        return found


def chunk(line: bytes) -> bytes:
    """One chunk of HTTP's chunked coding."""
    return b"%x\r\n%b\r\n" % (len(line), line)


class Watch:
    """One client's watch. ``start`` sends the initial events and subscribes; ``stop`` ends it."""

    def __init__(
        self,
        store: ObjectStore,
        frames: FrameCache,
        resource: ServedResource,
        ns: str,
        options: ListOptions,
        form: Form,
        include: str,
        wall: Callable[[], float],
        sink: Sink,
    ) -> None:
        self._store = store
        self._frames = frames
        self.resource = resource
        self._ns = ns
        self._options = options
        self._form = form
        self._include = include
        self._wall = wall
        self._sink = sink
        self._chosen: RecordPredicate | None = selection(resource, options.labels, options.fields)
        self._key = (resource.info.api_version, form.kind, form.version, form.protobuf, include)
        self._first: Iterator[StoredObject] | None = None
        """initial objects that are not sent yet; pending events follow them"""
        self._missed: deque[tuple[StoreChange, int]] = deque()
        """changes since the revision that the client has, which the store's history holds as well; behind them, with their bytes,
        those made until they are sent"""
        self._pending: deque[bytes] = deque()
        self._missed_bytes = self._pending_bytes = 0
        """what waits for the client and nobody else keeps"""
        self._after = 0
        self._unsubscribe: Callable[[], None] | None = None
        self._scheduled = False
        self._columns_sent = False
        self._timers: list[asyncio.TimerHandle] = []
        self._loop = asyncio.get_running_loop()
        self.paused = False
        """set by a fault: buffer events until it is false again"""
        self.ended = False

    def start(self, lifetime: float) -> None:
        """Catch up, then follow for ``lifetime`` seconds."""
        options, store, table_ = self._options, self._store, self.resource.table
        if options.initial_events and (options.rv or 0) > store.revision:  # what it asks for is not older than that
            self._error(too_large_version(options.rv or 0, store.revision))
            return
        if options.initial_events or (options.initial_events is None and not options.rv):
            self._first = iter(table_.records(self._ns))
            self._after = store.revision
            if options.initial_events and options.bookmarks:
                self._bookmark(initial_end=True)
        else:
            self._after = options.rv if options.rv is not None else store.revision
            if options.rv == 0:
                self._after = store.revision
            try:
                since = table_.since(self._after)
                self._missed.extend((change, 0) for change in since if not self._ns or change.record.ns == self._ns)
            except Compacted:
                self._error(expired(f"too old resource version: {self._after} ({table_.floor})"))
                return
        self._unsubscribe = table_.subscribe(self._ns, self._on_change)
        self._after = max(self._after, 0)
        self._timers.append(self._loop.call_later(lifetime, self.stop))
        if options.bookmarks:
            if lifetime > BOOKMARK_BEFORE_END:
                self._timers.append(self._loop.call_later(lifetime - BOOKMARK_BEFORE_END, self._bookmark))
            self._timers.append(self._loop.call_later(BOOKMARK_PERIOD, self._periodic))
        self._flush()

    def stop(self) -> None:
        """Send the pending events and end the stream cleanly."""
        if self.ended:
            return
        while (self._first is not None or self._missed or self._pending) and not self.paused and not self._sink.full():
            self._flush()
        if not self.ended:
            self.close()
            self._sink.end()

    def close(self) -> None:
        """Unsubscribe and drop all events; the stream is closed."""
        self.ended = True
        self._missed.clear()
        self._pending.clear()
        for timer in self._timers:
            timer.cancel()
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None

    def fail(self, error: StatusError) -> None:
        """Send an ERROR event and end."""
        if not self.ended:
            self._error(error)

    def resume(self) -> None:
        """Send the buffered events: the client reads again, or the fault has ended."""
        self._flush()

    # ---- events

    def _on_change(self, change: StoreChange) -> None:
        if change.rv <= self._after:
            return
        if self._missed:  # it comes after them
            size = len(change.record.raw)
            self._missed.append((change, size))
            self._missed_bytes += size
            self._held_more()
            return
        self._try_change(change)

    def _try_change(self, change: StoreChange) -> None:
        try:
            self._send_change(change)
        except Exception:  # a watch that fails must not fail the write that it is notified of
            log.exception("a watch ends: its event can't be frames")
            self._missed.clear()
            self._missed_bytes = 0
            self._loop.call_soon(self.stop)

    def _send_change(self, change: StoreChange) -> None:
        type_, record = change.type, change.record
        chosen = self._chosen
        if chosen is None:
            self._push(self._frames.line(change, (type_, self._key), lambda: self._frame(type_, record)))
            return
        is_in = type_ != "DELETED" and chosen(record)
        was_in = change.prev is not None and chosen(change.prev)
        if is_in:
            kind = "MODIFIED" if was_in else "ADDED"
            self._push(self._frames.line(change, (kind, self._key), lambda: self._frame(kind, record)))
        elif was_in:
            # an object that leaves the selection is sent in its last selected state, at the version that removed it
            last = record if type_ == "DELETED" else _left(change)
            key = ("DELETED", type_, self._key)
            self._push(self._frames.line(change, key, lambda: self._frame("DELETED", last)))

    def send_initial(self) -> None:
        """Send some of the initial objects. Sending all at once would block the event loop: 10 000 objects take 60 ms."""
        assert self._first is not None
        chosen = self._chosen
        frames: list[bytes] = []
        seen = size = 0
        try:
            for record in itertools.islice(self._first, SLICE):
                seen += 1
                if chosen is None or chosen(record):
                    frames.append(self._headed(self._frame("ADDED", record)))
                    size += len(frames[-1])
                    if size >= PIECE:
                        break
        except Exception:
            log.exception("a watch ends: what there is can't be frames")
            self._first = None
            self._pending.clear()  # a bookmark would end the initial events too early
            self._pending_bytes = 0
            self._loop.call_soon(self.stop)
            return
        if seen < SLICE and size < PIECE:
            self._first = None
        if frames:
            self._sink.send(b"".join(frames))

    def encode(self, type_: str, record: StoredObject) -> bytes:
        """One event in the watch's form."""
        form = self._form
        if not form.kind and not form.protobuf:
            return b'{"type":"%b","object":%b}\n' % (type_.encode(), self.resource.present(record))
        shown = self.resource.read(record)
        if form.kind == "Table":
            meta = {"resourceVersion": shown["metadata"].get("resourceVersion", "")}
            shown = table(self.resource, form, [shown], meta, self._include, self._wall())
        elif form.kind:
            shown = partial(shown, form.version)
        return self._event(type_, shown)

    def _event(self, type_: str, obj: dict[str, Any]) -> bytes:
        if self._form.protobuf:
            from raycp.embedded.strategy.protobuf_writer import encode_event  # on demand: most clients accept JSON

            return encode_event(type_, obj)
        return msgspec.json.encode({"type": type_, "object": obj}) + b"\n"

    def _frame(self, type_: str, record: StoredObject) -> bytes:
        return chunk(self.encode(type_, record))

    def _push(self, frame: bytes) -> None:
        self._queue(frame)
        self._held_more()

    def _queue(self, frame: bytes) -> None:
        self._pending.append(frame)
        self._pending_bytes += len(frame)

    def _held_more(self) -> None:
        too_much = len(self._pending) > MAX_BACKLOG or self._missed_bytes + self._pending_bytes > MAX_BACKLOG_BYTES
        if too_much and self._sink.full():
            self.stop()
        elif not self._scheduled and not self.paused:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _headed(self, frame: bytes) -> bytes:
        """Remove the column definitions: a Table watch sends them in its first event only."""
        if self._form.kind != "Table":
            return frame
        if not self._columns_sent:
            self._columns_sent = True
            return frame
        event = msgspec.json.decode(frame[frame.index(b"\n") + 1 : -2])
        if event["object"]["kind"] == "Table":
            event["object"]["columnDefinitions"] = None
        return chunk(msgspec.json.encode(event) + b"\n")

    def _flush(self) -> None:
        self._scheduled = False
        if self.paused or self.ended or self._sink.full():
            return
        if self._first is not None:
            self.send_initial()
        if self._first is not None:
            self._scheduled = True
            self._loop.call_soon(self._flush)
            return
        while self._missed and self._pending_bytes < PIECE and not self.ended:
            change, size = self._missed.popleft()
            self._missed_bytes -= size
            self._try_change(change)
        if self._pending and not self.ended:
            frames: list[bytes] = []
            size = 0
            while self._pending and size < PIECE:
                frames.append(self._pending.popleft())
                size += len(frames[-1])
            self._pending_bytes -= size
            # the first of all events has the columns of a Table, and initial events were sent before
            self._sink.send(b"".join(map(self._headed, frames) if self._form.kind == "Table" else frames))
        if (self._missed or self._pending) and not self._scheduled and not self.ended:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _periodic(self) -> None:
        self._bookmark()
        self._timers.append(self._loop.call_later(BOOKMARK_PERIOD, self._periodic))

    def _bookmark(self, initial_end: bool = False) -> None:
        if self._missed:
            return  # it would say that they have been sent
        info = self.resource.info
        meta: dict[str, Any] = {"resourceVersion": str(self._store.revision)}
        if initial_end:
            meta["annotations"] = {"k8s.io/initial-events-end": "true"}
        obj: dict[str, Any] = {"kind": info.kind, "apiVersion": info.api_version, "metadata": meta}
        if self._form.kind == "PartialObjectMetadata":
            obj = partial(obj, self._form.version)
        elif self._form.kind == "Table":
            include = "Metadata" if initial_end else self._include  # asTable of apiserver: the annotation is always sent
            obj = table(self.resource, self._form, [obj], {"resourceVersion": meta["resourceVersion"]}, include, self._wall())
        self._queue(chunk(self._event("BOOKMARK", obj)))
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _error(self, error: StatusError) -> None:
        self._queue(chunk(self._event("ERROR", error.status())))
        self.stop()


def _left(change: StoreChange) -> StoredObject:
    prev = change.prev
    assert prev is not None
    return StoredObject(prev.ns, prev.name, prev.uid, change.rv, with_revision(prev.raw, prev.rv, change.rv))
