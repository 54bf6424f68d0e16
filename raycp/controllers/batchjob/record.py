"""``JobRecord``: what a job's status remembers, as sets and numbers, read from a status and written back to one."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

from raycp.controllers.batchjob.cluster_record import ASSIGNED_LIMIT, Standing
from raycp.controllers.batchjob.indexes import IndexSet
from raycp.sdk import conditions

T = TypeVar("T")
_HIGHEST = 2**31 - 1
_INDEX = re.compile("[0-9]{1,10}", re.ASCII)
_SINGLE = 10_000
"""Indexes of which a number each is kept by itself. Of more, those with the same number are written together, ``"0-29999": 1``:
an API server takes no object of more than 1.5 MiB, and a job that it does not take could not go on."""

_STANDARD = ("FailureTarget", "SuccessCriteriaMet", "Suspended", "Failed", "Complete")
"""Conditions of ``batch/v1``; the others are raycp's own."""


@dataclass(slots=True)
class Tally:
    """One cluster's part. An unreachable cluster keeps the last known numbers."""

    succeeded: int = 0
    failed: int = 0
    active: int = 0
    ready: int = 0
    reachable: bool = True
    message: str = ""
    standing: Standing = field(default_factory=Standing)


@dataclass(slots=True)
class JobRecord:
    """``attempts`` holds the next attempt of unfinished indexes, ``assigned`` the clusters in which they run. ``waits``: with
    ``backoffLimitPerIndex``, until when an index waits, in Unix seconds."""

    completed: IndexSet = field(default_factory=IndexSet)
    failed_indexes: IndexSet = field(default_factory=IndexSet)
    attempts: dict[int, int] = field(default_factory=dict)
    index_failures: dict[int, int] = field(default_factory=dict)
    index_ignored: dict[int, int] = field(default_factory=dict)
    waits: dict[int, float] = field(default_factory=dict)
    assigned: dict[int, str] = field(default_factory=dict)
    clusters: dict[str, Tally] = field(default_factory=dict)
    failed: int = 0
    failures_in_a_row: int = 0
    backoff_until: float = 0.0
    start: float | None = None
    completion: float | None = None
    conditions: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def read(cls, status: Mapping[str, Any]) -> "JobRecord":
        """Read a status; a new job's is empty. Never raises: what can't be read is left out."""
        backoff = status.get("backoff") or {}
        record = cls(
            completed=IndexSet.read(status.get("completedSlots") or status.get("completedIndexes") or "", _HIGHEST),
            failed_indexes=IndexSet.read(status.get("failedIndexes") or "", _HIGHEST),
            attempts=_numbers(status.get("attempts")),
            index_failures=_numbers(status.get("indexFailures")),
            index_ignored=_numbers(status.get("indexIgnoredFailures")),
            waits=_times(status.get("indexBackoff")),
            failed=_count(status.get("failed")),
            failures_in_a_row=_count(backoff.get("failures")),
            backoff_until=conditions.parse_time(backoff.get("until")) or 0.0,
            start=conditions.parse_time(status.get("startTime")),
            completion=conditions.parse_time(status.get("completionTime")),
            conditions=[
                {key: value for key, value in condition.items() if key != "lastProbeTime"}
                for condition in conditions.readable(status.get("conditions"))
            ],
        )
        left = ASSIGNED_LIMIT
        for entry in status.get("clusters") or ():
            name = entry["name"]
            succeeded, failed, active, ready = (_count(entry.get(part)) for part in ("succeeded", "failed", "active", "ready"))
            record.clusters[name] = Tally(succeeded, failed, active, ready)
            record.clusters[name].standing = Standing.read(entry)
            for index in IndexSet.read(entry.get("assigned") or "", _HIGHEST):
                if left <= 0:
                    break
                record.assigned[index] = name
                left -= 1
        return record

    def tally(self, cluster: str) -> Tally:
        """The cluster's part; created where it has none."""
        return self.clusters.setdefault(cluster, Tally())

    def true(self, condition: str) -> bool:
        """Whether the condition is True."""
        return conditions.is_true(self.conditions, condition)

    @property
    def ended_at(self) -> float | None:
        """When it became complete or failed, Unix time; None while it is neither, or where that is not known."""
        over = next((kind for kind in ("Complete", "Failed") if self.true(kind)), None)
        found = conditions.get(self.conditions, over) if over is not None else None
        return conditions.parse_time(found.get("lastTransitionTime")) if found is not None else None

    def write(self, generation: int | None, terminating: int, phase: str, *, indexed: bool, limited: bool) -> dict[str, Any]:
        """As a status. Times are whole seconds, as in ``metav1.Time``; empty parts are left out. ``limited``: the job has
        ``backoffLimitPerIndex``. The standard conditions come first, in the order in which they were set."""
        where: dict[str, list[int]] = {}
        for index, cluster in self.assigned.items():
            where.setdefault(cluster, []).append(index)
        entries = []
        for name, tally in sorted(self.clusters.items()):
            entry: dict[str, Any] = {
                "name": name,
                "assigned": str(IndexSet(where.get(name, ()))),
                "active": tally.active,
                "ready": tally.ready,
                "succeeded": tally.succeeded,
                "failed": tally.failed,
                "reachable": tally.reachable,
            }
            if tally.message:
                entry["message"] = tally.message
            entry |= tally.standing.write()
            entries.append(entry)
        status: dict[str, Any] = {
            "active": sum(tally.active for tally in self.clusters.values()),
            "ready": sum(tally.ready for tally in self.clusters.values()),
            "terminating": terminating,
            "succeeded": len(self.completed),
            "failed": self.failed,
            "completedIndexes" if indexed else "completedSlots": str(self.completed),
            "attempts": _texts(self.attempts),
            "indexFailures": _texts(self.index_failures),
            "indexIgnoredFailures": _texts(self.index_ignored),
            "indexBackoff": _joined({index: conditions.time_text(at + 0.999) for index, at in self.waits.items()}),
            "clusters": entries,
            "phase": phase,
            "conditions": self._shown_conditions(),
        }
        if self.failures_in_a_row:
            status["backoff"] = {
                "failures": self.failures_in_a_row,
                "until": conditions.time_text(self.backoff_until + 0.999),
            }
        if self.start is not None:
            status["startTime"] = conditions.time_text(self.start)
        if self.completion is not None:
            status["completionTime"] = conditions.time_text(self.completion)
        if generation is not None:
            status["observedGeneration"] = generation
        status = {key: value for key, value in status.items() if value not in ("", {})}
        if limited:
            status["failedIndexes"] = str(self.failed_indexes)
        # An end is counted in the one status write that takes it in, so that no Pod ever waits here to be counted.
        status["uncountedTerminatedPods"] = {}
        return status

    def _shown_conditions(self) -> list[dict[str, Any]]:
        standard = [condition for condition in self.conditions if condition.get("type") in _STANDARD]
        own = [condition for condition in self.conditions if condition.get("type") not in _STANDARD]
        return [condition | {"lastProbeTime": condition.get("lastTransitionTime")} for condition in standard] + own


def _count(found: Any) -> int:
    """A number of Pods; what a status can't have been written with is as near to it as such a number can be."""
    return min(max(found, 0), _HIGHEST) if isinstance(found, int) else 0


def _numbers(found: Mapping[str, Any] | None) -> dict[int, int]:
    return {index: _count(n) for index, n in _each(found)}


def _times(found: Mapping[str, Any] | None) -> dict[int, float]:
    read = {index: conditions.parse_time(at) for index, at in _each(found)}
    return {index: at for index, at in read.items() if at is not None}


def _each(found: Mapping[str, Any] | None) -> Iterator[tuple[int, Any]]:
    left = ASSIGNED_LIMIT
    for key, value in (found or {}).items():
        if _INDEX.fullmatch(key):
            yield int(key), value
            continue
        for index in islice(IndexSet.read(key, _HIGHEST), left):
            left -= 1
            yield index, value


def _texts(numbers: Mapping[int, int]) -> dict[str, int]:
    return _joined({index: n for index, n in numbers.items() if n})


def _joined(values: Mapping[int, T]) -> dict[str, T]:
    """By index, or by sets of indexes with the same value."""
    if len(values) <= _SINGLE:
        return {str(index): value for index, value in sorted(values.items())}
    alike: dict[T, list[int]] = {}
    for index, value in values.items():
        alike.setdefault(value, []).append(index)
    return {str(IndexSet(indexes)): value for value, indexes in alike.items()}
