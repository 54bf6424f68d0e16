"""The logs of a fleet's processes on all nodes as one list of records, ordered by time.

One process per node is asked for what all of that node, the dead too, have logged; where it does not answer, the next one. What
can't be had is said, and no reason to show nothing.
"""

import asyncio
import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from raycp.member.node_logs import node_logs
from raycp.metrics.recorder import RecorderDir
from raycp.protocol.control import LogShelf, LogsOf, ProcessLog, RecordingsOf
from raycp.protocol.members import Member
from raycp.protocol.substrate import MemberDied, MemberFailed, MemberUnavailable, Substrate

ASKED_WITHIN = 5.0
READ_WITHIN = 30.0
"""Deadlines in seconds: of which node a process is on, and of a node's logs."""

LEVELS = ("debug", "info", "warning", "error", "critical")

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Which records are wanted; empty means any. ``level``: this one and worse. ``of``: fields that must be equal. ``controllers``:
    one of them."""

    level: str = ""
    of: tuple[tuple[str, str], ...] = ()
    controllers: frozenset[str] | None = None

    def texts(self) -> list[list[str]]:
        """What a line must contain, for ``LogsOf``: a line has no space that JSON does not ask for, but after a colon."""
        found = [[f'"{name}": {json.dumps(value)}'] for name, value in self.of]
        if self.level:
            found.append([f'"level": "{level}"' for level in self._levels()])
        if self.controllers is not None:
            found.append([f'"controller": {json.dumps(name)}' for name in sorted(self.controllers)])
        return found

    def fits(self, row: Row) -> bool:
        """Whether a record is wanted."""
        if self.level and row.get("level") not in self._levels():
            return False
        if self.controllers is not None and row.get("controller") not in self.controllers:
            return False
        return all(row.get(name, "") == value for name, value in self.of)

    def _levels(self) -> Collection[str]:
        return LEVELS[LEVELS.index(self.level) :]


class LogAnswer(NamedTuple):
    """Records by time, each with ``process``, ``pid`` and ``node``, and what could not be had. ``missed``: a node did not answer,
    whose records a later question may have."""

    rows: list[Row]
    problems: list[str]
    missed: bool = False


@dataclass(slots=True)
class FleetLogs:
    """Of one fleet, over its revisions."""

    revisions: list[Substrate]
    _nodes: dict[Member, str] = field(default_factory=dict)
    """Where members are, as far as they have said; a member never moves."""

    async def read(self, since: float, query: LogQuery) -> LogAnswer | None:
        """Records since ``since`` (Unix seconds); None where the fleet has no process. Raises ``MemberUnavailable`` where Ray
        does not answer."""
        members = {member: revision for revision in self.revisions for member in await revision.members()}
        if not members:
            return None
        problems: list[str] = []
        await asyncio.gather(*(self._locate(*each, problems) for each in members.items() if each[0] not in self._nodes))
        by_node: dict[str, list[Member]] = {}
        for member in members:
            if member in self._nodes:
                by_node.setdefault(self._nodes[member], []).append(member)
        question = LogsOf(since, query.texts())
        shelves = await asyncio.gather(*(self._ask(group, members, question, problems) for group in by_node.values()))
        nodes = await self.revisions[0].nodes() if self.revisions else []
        problems += [
            f"node {node.identity[:12]} ({node.address}) has no process of this fleet that answers: its logs were not read"
            for node in nodes
            if node.identity not in by_node
        ]
        found = [shelf for shelf in shelves if shelf is not None]
        problems += [f"node {shelf.host} keeps no logs: {shelf.problem}" for shelf in found if shelf.problem]
        answer = _merged(((log, shelf.host) for shelf in found for log in shelf.logs), query, problems)
        return answer._replace(missed=None in shelves)

    async def _locate(self, member: Member, substrate: Substrate, problems: list[str]) -> None:
        try:
            self._nodes[member] = (await substrate.ask(member, RecordingsOf(), timeout=ASKED_WITHIN)).node
        except (MemberDied, MemberUnavailable, MemberFailed) as error:
            problems.append(f"{error}: its log is read through another process of its node, as far as it is written")

    async def _ask(
        self, group: Iterable[Member], members: dict[Member, Substrate], question: LogsOf, problems: list[str]
    ) -> LogShelf | None:
        for member in group:
            try:
                return await members[member].ask(member, question, timeout=READ_WITHIN)
            except (MemberDied, MemberUnavailable, MemberFailed) as error:
                problem = str(error)
        problems.append(f"no process of a node gives its logs: {problem}")
        return None


def logs_here(directory: Path, since: float, query: LogQuery) -> LogAnswer:
    """What processes have left in a directory of recordings on this machine, for a fleet of which none lives. Reads the disk."""
    logs = node_logs(RecorderDir(directory), since, query.texts())
    return _merged(((log, "") for log in logs), query, [])


def _merged(logs: Iterable[tuple[ProcessLog, str]], query: LogQuery, problems: list[str]) -> LogAnswer:
    rows = []
    for log, host in logs:
        if log.cut:
            problems.append(f"{process_of(log)}: older lines than these were left out: ask for less with --since or --level")
        rows += [row for row in _rows(log, host) if query.fits(row)]
    return LogAnswer(sorted(rows, key=lambda row: str(row["ts"])), problems)


def _rows(log: ProcessLog, host: str) -> Iterator[Row]:
    place = {"process": process_of(log), "pid": _pid(log.name), **({"node": host} if host else {})}
    logged: set[str] = set()
    for line in log.lines.splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue  # torn: the process was killed as it wrote
        if isinstance(row, dict) and isinstance(row.get("ts"), str):
            if log.past:
                logged.add(json.dumps(row, sort_keys=True))
            yield {**row, **place}
    for row in log.past:  # a line that was written to the log meanwhile is in both
        if "offset" in row or json.dumps(row, sort_keys=True) not in logged:
            yield {**row, **place}


def process_of(log: ProcessLog) -> str:
    """``worker standard/0 g3``."""
    member = Member.parse(log.actor)
    return member.process if member is not None else log.actor


def _pid(name: str) -> int:
    pid = name.rsplit(".", 2)[1] if name.count(".") >= 2 else ""
    return int(pid) if pid.isdecimal() else 0
