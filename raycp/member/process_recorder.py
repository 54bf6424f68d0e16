"""``ProcessRecorder``: the flight recorder of an actor's process, and its answers to questions about the recordings of its node."""

import asyncio
import io
import logging
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

from raycp.base.clock import Clock
from raycp.member.node_logs import node_logs
from raycp.metrics.recorder import FlightRecorder, LogFiles, Origin, RecorderDir, SegmentFiles, SegmentReader
from raycp.metrics.recorder.record_text import line_of
from raycp.metrics.recorder.segments import file_name_of
from raycp.protocol.control import (
    Apply,
    Configure,
    ControlError,
    Dismiss,
    Down,
    Drain,
    ErrorCode,
    FollowPrimaries,
    FollowTo,
    Forget,
    HandOver,
    LogShelf,
    LogsOf,
    MakeDue,
    Prepare,
    Question,
    ReconcileNow,
    RecordingContent,
    RecordingShelf,
    RecordingsOf,
    RecordingTail,
    Release,
    Rest,
    Resume,
    SetDrain,
    SetPause,
    Stand,
    TakeLead,
    YieldTo,
)

log = logging.getLogger(__name__)

ABOUT_RECORDINGS = (RecordingsOf, RecordingContent, RecordingTail, LogsOf)
"""The questions that this answers, for the core."""

NOTED = (
    Apply, Configure, Dismiss, Down, Drain, FollowPrimaries, FollowTo, Forget, HandOver, MakeDue, Prepare, ReconcileNow, Release,
    Rest, Resume, SetDrain, SetPause, Stand, TakeLead, YieldTo,
)  # fmt: skip
"""Questions that are orders: each is recorded. The others only ask."""

LONGEST_TAIL = 100
"""Lines of an answer to ``RecordingTail``."""

LONGEST_LINE = 200
"""Characters of such a line."""


class ProcessRecorder:
    """One per process. Where the directory can't be used (full, read-only, another user's), nothing is recorded, and a warning says
    so: a fleet works without it. Old recordings are removed there and in ``others``: fleets that may never run again."""

    def __init__(self, clock: Clock, directory: Path, origin: Origin, others: Iterable[Path] = ()) -> None:
        self._clock = clock
        self._origin = origin
        self._directory = RecorderDir(directory)
        self._problem = ""
        try:
            self._directory.prepare()
            for each in {directory, *others}:
                RecorderDir(each).remove_old(clock.wall())
        except OSError as error:
            self._problem = f"{directory}: {error.strerror or error}"
            log.warning("no flight recorder: %s", self._problem)
            self.recorder = FlightRecorder(clock)
        else:
            segments = SegmentFiles(directory, origin)
            self.recorder = FlightRecorder(clock, segments, LogFiles(directory, segments.stem))
            self.recorder.note("process", urgent=True, actor=origin.actor, pid=origin.pid)

    async def ask(self, question: Question[Any], answer: Callable[[Question[Any]], Awaitable[Any]]) -> Any:
        """``answer(question)``; an order is recorded, with what came of it."""
        if not isinstance(question, NOTED):
            return await answer(question)
        note, name, begun = self.recorder.note, type(question).__name__, self._clock.now()
        note("order", urgent=True, order=name, **_facts(question))
        try:
            found = await answer(question)
        except Exception as error:
            code = error.code if isinstance(error, ControlError) else type(error).__name__
            note("refused", urgent=True, order=name, code=str(code), error=str(error), seconds=self._clock.now() - begun)
            raise
        note("done", urgent=True, order=name, seconds=self._clock.now() - begun)  # a drained process is killed next
        return found

    async def answer(self, question: Question[Any]) -> Any:
        """Answer one of ``ABOUT_RECORDINGS``, off the loop. Raises ``ControlError``."""
        return await asyncio.to_thread(self._answer, question)

    def _answer(self, question: Question[Any]) -> Any:
        directory = self._directory
        match question:
            case RecordingsOf():
                self.recorder.flush()
                found = directory.recordings()
                return RecordingShelf(self._origin.node, str(directory.path), self.recorder.stem, found, self._problem)
            case RecordingContent(name, since):
                try:
                    return directory.read(name, since)
                except (KeyError, OSError) as error:
                    raise ControlError(ErrorCode.NOT_FOUND, f"no recording {name} in {directory.path}") from error
            case LogsOf(since, wanted):
                self.recorder.flush()
                return LogShelf(self._origin.node, self._origin.host, node_logs(directory, since, wanted), self._problem)
            case RecordingTail(actor, count):
                return self._tail(actor, min(count, LONGEST_TAIL))
        raise TypeError(type(question).__name__)

    def _tail(self, actor: str, count: int) -> list[str]:
        for info in self._directory.recordings():
            if info.living or info.actor != file_name_of(actor):
                continue
            lines: list[str] = []
            for part in reversed(self._directory.read(info.name)):
                reader = SegmentReader(io.BytesIO(part))
                records = reader.tail(count - len(lines))
                if reader.origin is None or (reader.origin.actor, reader.origin.namespace) != (actor, self._origin.namespace):
                    break
                lines = [*(line_of(record)[:LONGEST_LINE] for record in records), *lines]
                if len(lines) >= count:
                    break
            if lines:
                return lines
        return []


def _facts(question: Question[Any]) -> dict[str, Any]:
    """What an order says, but for documents and plans, of which the number is kept."""
    fields = ((name, getattr(question, name)) for name in question.__struct_fields__)
    facts = {name: value for name, value in fields if isinstance(value, str | int | float | list)}
    match question:
        case Configure(plan):
            facts = {"plan": plan.version, "epoch": plan.epoch, "incarnation": plan.incarnation}
        case Apply(fleet) | Stand(fleet):
            facts |= {"generation": fleet.generation, "sequence": fleet.sequence}
    return facts
