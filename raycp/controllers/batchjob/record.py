"""``JobRecord``: what a job's status remembers, as sets and numbers, read from a status and written back to one."""

from dataclasses import dataclass, field
from typing import Any

from raycp.controllers.batchjob import indexes
from raycp.controllers.batchjob.standing import Standing
from raycp.sdk import conditions


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
    """``attempts`` holds the next attempt of unfinished indexes, ``assigned`` the clusters in which they run."""

    completed: set[int] = field(default_factory=set)
    failed_indexes: set[int] = field(default_factory=set)
    attempts: dict[int, int] = field(default_factory=dict)
    index_failures: dict[int, int] = field(default_factory=dict)
    assigned: dict[int, str] = field(default_factory=dict)
    clusters: dict[str, Tally] = field(default_factory=dict)
    failed: int = 0
    failures_in_a_row: int = 0
    backoff_until: float = 0.0
    start: float | None = None
    completion: float | None = None
    conditions: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def read(cls, status: dict[str, Any]) -> "JobRecord":
        """Read a status; a new job's is empty."""
        backoff = status.get("backoff") or {}
        record = cls(
            completed=indexes.parse(status.get("completedIndexes") or ""),
            failed_indexes=indexes.parse(status.get("failedIndexes") or ""),
            attempts={int(index): n for index, n in (status.get("attempts") or {}).items()},
            index_failures={int(index): n for index, n in (status.get("indexFailures") or {}).items()},
            failed=status.get("failed") or 0,
            failures_in_a_row=backoff.get("failures") or 0,
            backoff_until=conditions.parse_time(backoff.get("until")) or 0.0,
            start=conditions.parse_time(status.get("startTime")),
            completion=conditions.parse_time(status.get("completionTime")),
            conditions=[dict(condition) for condition in status.get("conditions") or ()],
        )
        for entry in status.get("clusters") or ():
            name = entry["name"]
            record.clusters[name] = Tally(
                entry.get("succeeded") or 0, entry.get("failed") or 0, entry.get("active") or 0, entry.get("ready") or 0
            )
            record.clusters[name].standing = Standing.read(entry)
            for index in indexes.parse(entry.get("assigned") or ""):
                record.assigned[index] = name
        return record

    def tally(self, cluster: str) -> Tally:
        """The cluster's part; created where it has none."""
        return self.clusters.setdefault(cluster, Tally())

    def true(self, condition: str) -> bool:
        """Whether the condition is True."""
        return conditions.is_true(self.conditions, condition)

    def write(self, generation: int | None, terminating: int, phase: str) -> dict[str, Any]:
        """As a status. Times are whole seconds, as in ``metav1.Time``; empty parts are left out."""
        where: dict[str, list[int]] = {}
        for index, cluster in self.assigned.items():
            where.setdefault(cluster, []).append(index)
        entries = []
        for name, tally in sorted(self.clusters.items()):
            entry: dict[str, Any] = {
                "name": name,
                "assigned": indexes.show(where.get(name, ())),
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
            "completedIndexes": indexes.show(self.completed),
            "failedIndexes": indexes.show(self.failed_indexes),
            "attempts": {str(index): n for index, n in sorted(self.attempts.items()) if n},
            "indexFailures": {str(index): n for index, n in sorted(self.index_failures.items()) if n},
            "clusters": entries,
            "phase": phase,
            "conditions": self.conditions,
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
        return {key: value for key, value in status.items() if value not in ("", {})}
