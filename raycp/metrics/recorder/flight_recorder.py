"""``FlightRecorder``: packs records into a buffer, and has a thread write it.

Guarantees:

1. ``note`` and ``step`` do no I/O, raise nothing for what they are given, and may be called from any thread: the buffer grows and
   shrinks by single calls of C code, between which CPython switches threads, never inside.
2. After the death of the process all is readable that was noted ``FLUSH_EVERY`` seconds before it; an urgent record sooner.
3. Memory is bounded: where the disk takes nothing, records are dropped and counted, and the count is recorded.
4. Every text that others wrote passes ``scrub``.

A thread, and not the actor's loop: what a process did before its loop stood still is what one wants to know.
"""

import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from raycp.base.clock import Clock
from raycp.base.keys import RequestKey
from raycp.metrics.recorder.log_files import LogFiles
from raycp.metrics.recorder.record_format import MOST_RAW, PACK_TIME, SHAPES, TIME
from raycp.metrics.recorder.scrubber import scrub, scrubbed
from raycp.metrics.recorder.segments import SegmentFiles

log = logging.getLogger(__name__)

FLUSH_EVERY = 0.2
"""Seconds between two writes."""

APART = 0.01
"""Seconds between two writes at least, however many records are urgent."""

FULL = 256 * 1024
"""Bytes in the buffer that are written at once."""

MOST_BUFFERED = MOST_RAW // 2
"""Bytes in the buffer beyond which records are dropped."""

_OTHERS_TEXTS: Mapping[str, Sequence[int]] = {
    what: places
    for what, names in SHAPES.items()
    if (places := [place for place, name in enumerate(names) if name in ("error", "waiting")])
}
"""Where a step carries what is not raycp's own words (of ``why``: the fleet file's), by its place in ``SHAPES``."""

_pack = msgspec.msgpack.Encoder().encode
_ext = msgspec.msgpack.Ext


class FlightRecorder:
    """One per process; ``on`` is false without ``segments``: then nothing is kept."""

    def __init__(self, clock: Clock, segments: SegmentFiles | None = None, lines: LogFiles | None = None) -> None:
        self.lines = lines
        """The log beside the recording, written by the same thread."""
        self.on = segments is not None
        self.stem = segments.stem if segments is not None else ""
        """The name of its files, without their endings."""
        self._clock = clock
        self._segments = segments
        self._buffer = bytearray()
        self._noted = 0
        self._lost = 0
        self._failing = ""
        self._writing = threading.Lock()
        self._wake = threading.Event()
        self._stopped = threading.Event()

    def note(self, what: str, subject: RequestKey | str = "", /, *, urgent: bool = False, **fields: Any) -> None:
        """Keep a record, stamped now. ``urgent``: write it at once. Texts in ``fields`` are scrubbed."""
        if self.on:
            self._add(self._clock.wall(), what, subject, scrubbed(fields))
            if urgent:
                self._write_soon()

    def step(self, at: float, what: str, key: RequestKey, fields: tuple[Any, ...] | dict[str, Any]) -> None:
        """Keep a step of a key; ``at`` in Unix seconds; ``fields`` as ``SHAPES`` has them, or a map, whose texts are scrubbed."""
        if isinstance(fields, dict):
            self._add(at, what, key, scrubbed(fields))
            return
        for place in _OTHERS_TEXTS.get(what, ()):
            if fields[place]:
                fields = (*fields[:place], scrub(fields[place]), *fields[place + 1 :])
                self._write_soon()
        self._add(at, what, key, fields)

    def _add(self, at: float, what: str, subject: RequestKey | str, fields: object) -> None:
        buffer = self._buffer
        if len(buffer) > MOST_BUFFERED:
            self._lost += 1
            return
        buffer += _pack((_ext(TIME, PACK_TIME(at)), what, subject or None, fields))
        self._noted += 1
        if len(buffer) > FULL:
            self._write_soon()

    def _write_soon(self) -> None:
        if not self._wake.is_set():
            self._wake.set()

    # writing

    def start(self) -> None:
        """Start the thread that writes."""
        if self.on:
            threading.Thread(target=self._run, name="flight recorder", daemon=True).start()

    def flush(self) -> None:
        """Write what is buffered, now. A failure is logged once, and what could not be written is counted."""
        with self._writing:
            if self._segments is None:
                return
            records, noted = bytes(self._buffer), self._noted
            # Records that are added from here on stay in the buffer: its front is removed, and the buffer never replaced.
            del self._buffer[: len(records)]
            self._noted -= noted
            failing = self._failing
            try:
                if self.lines is not None and self.lines.flush():
                    failing = ""
                if records:
                    self._segments.append(records)
                    failing = ""
            except OSError as error:
                self._lost += noted
                failing = error.strerror or str(error)
        self._report(failing)

    def _report(self, failing: str) -> None:
        """The disk begins to fail, or works again."""
        before, self._failing = self._failing, failing
        if failing and not before:
            log.warning("the flight recorder can't write: %s; records are dropped until it can", failing)
        if not failing and self._lost:
            lost, self._lost = self._lost, 0
            self.note("records_lost", records=lost, why=before)

    def stop(self) -> None:
        """Write the rest and close the file; nothing is recorded from now on."""
        self.flush()
        self.cut()

    def cut(self) -> None:
        """Close the file without writing the rest, as the death of the process would."""
        self.on = False
        self._stopped.set()
        self._wake.set()
        with self._writing:
            if self._segments is not None:
                self._segments.close()
                self._segments = None
            if self.lines is not None:
                self.lines.close()

    def _run(self) -> None:
        while not self._stopped.wait(APART):
            self._wake.wait(FLUSH_EVERY)
            self._wake.clear()
            try:
                self.flush()
            except Exception:
                log.exception("the flight recorder failed; it continues in a second")
                self._stopped.wait(1.0)
