"""All flight recordings of a fleet as one list of records, ordered by time.

Each living process is asked for its own, which it completes first. Recordings of dead processes, and of living ones that do not
answer, come through another process on their node. What could not be had is said, and no reason to show nothing.
"""

import asyncio
import io
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from raycp.metrics.recorder import FlightRecord, Origin, RecordingInfo, SegmentReader
from raycp.protocol.control import RecordingContent, RecordingShelf, RecordingsOf
from raycp.protocol.members import Member
from raycp.protocol.substrate import MemberDied, MemberFailed, MemberUnavailable, Substrate

LISTED_WITHIN = 10.0
READ_WITHIN = 60.0
"""Deadlines in seconds: of an answer, and of a recording, which may be some megabytes."""

Wanted = Callable[[FlightRecord], bool]
"""Whether a record fits the question."""

AT_ONCE = 8
"""Recordings that are fetched at the same time."""


class MergedRecord(NamedTuple):
    """A record and the process that made it."""

    record: FlightRecord
    origin: Origin


class RecordingReport(NamedTuple):
    """One recording: whose it is, whether that process lives, how many records fitted the question, and what is wrong with it."""

    name: str
    origin: Origin | None
    living: bool
    records: int
    problem: str


class Flight(NamedTuple):
    """The answer: records by time, the recordings that they come from, and what could not be had."""

    records: list[MergedRecord]
    recordings: list[RecordingReport]
    problems: list[str]


class _Shelf(NamedTuple):
    """What a member has answered, and where it can be asked again."""

    member: Member
    substrate: Substrate
    shelf: RecordingShelf


class FlightRecordings:
    """Of one fleet, over its revisions."""

    def __init__(self, revisions: Iterable[Substrate]) -> None:
        self._revisions = list(revisions)

    async def collect(self, since: float, wanted: Wanted) -> Flight:
        """Records since ``since`` (Unix seconds) that are ``wanted``. Raises ``MemberUnavailable`` where Ray does not answer."""
        problems: list[str] = []
        shelves = await self._shelves(problems)
        problems += [f"{each.member} records nothing: {each.shelf.problem}" for each in shelves if each.shelf.problem]
        problems += await self._deserted({shelf.shelf.node for shelf in shelves})
        slots = asyncio.Semaphore(AT_ONCE)

        async def fetch(shelf: _Shelf, info: RecordingInfo) -> tuple[list[MergedRecord], RecordingReport]:
            async with slots:
                return await self._read(shelf, info, since, wanted)

        found = await asyncio.gather(*(fetch(shelf, info) for shelf, info in _chosen(shelves) if info.modified >= since))
        records = sorted((each for rows, _ in found for each in rows), key=lambda each: each.record.at)
        return Flight(records, [report for _, report in found], problems)

    async def _shelves(self, problems: list[str]) -> list[_Shelf]:
        members = {member: revision for revision in self._revisions for member in await revision.members()}

        async def ask(member: Member, substrate: Substrate) -> _Shelf | None:
            try:
                return _Shelf(member, substrate, await substrate.ask(member, RecordingsOf(), timeout=LISTED_WITHIN))
            except (MemberDied, MemberUnavailable, MemberFailed) as error:
                problems.append(f"{error}: its recording is read through another process of its node, as far as it is written")
                return None

        return [shelf for shelf in await asyncio.gather(*(ask(*each) for each in members.items())) if shelf is not None]

    async def _deserted(self, asked: set[str]) -> list[str]:
        """The nodes on which nobody can be asked."""
        nodes = await self._revisions[0].nodes() if self._revisions else []
        return [
            f"node {node.identity[:12]} ({node.address}) has no process of this fleet that answers: its recordings were not read"
            for node in nodes
            if node.identity not in asked
        ]

    async def _read(
        self, shelf: _Shelf, info: RecordingInfo, since: float, wanted: Wanted
    ) -> tuple[list[MergedRecord], RecordingReport]:
        question = RecordingContent(info.name, since)
        try:
            parts = await shelf.substrate.ask(shelf.member, question, timeout=READ_WITHIN)
        except (MemberDied, MemberUnavailable, MemberFailed) as error:
            return [], RecordingReport(info.name, None, info.living, 0, str(error))
        rows, origin, problems = await asyncio.to_thread(_records, parts, since, wanted)
        return rows, RecordingReport(info.name, origin, info.living, len(rows), "; ".join(problems))


def _chosen(shelves: list[_Shelf]) -> Iterator[tuple[_Shelf, RecordingInfo]]:
    """Each recording once: through its own process where that has answered, else through the first that has it."""
    seen: set[str] = set()
    for own in (True, False):
        for shelf in shelves:
            for info in shelf.shelf.recordings:
                if info.name not in seen and (info.name == shelf.shelf.own or not own):
                    seen.add(info.name)
                    yield shelf, info


def _records(parts: list[bytes], since: float, wanted: Wanted) -> tuple[list[MergedRecord], Origin | None, list[str]]:
    rows: list[MergedRecord] = []
    origin: Origin | None = None
    problems = []
    for part in parts:
        reader = SegmentReader(io.BytesIO(part))
        for record in reader:
            if record.at >= since and reader.origin is not None and wanted(record):
                rows.append(MergedRecord(record, reader.origin))
        origin = origin or reader.origin
        if reader.problem:
            problems.append(reader.problem)
    return rows, origin, problems
