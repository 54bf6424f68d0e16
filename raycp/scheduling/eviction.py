"""When a job is evicted, and how long it waits then (Kueue's ``waitForPodsReady.requeuingStrategy``)."""

import heapq
from collections.abc import Iterator
from datetime import UTC, datetime

from msgspec.structs import replace

from raycp.scheduling.admissions import AdmissionRecord
from raycp.scheduling.demand import JobDemand
from raycp.scheduling.lines import JobEntry

BACKOFF = 60.0
"""Seconds that a gang waits after its first eviction for too few Pods; doubled with each."""

LONGEST = 3600.0
"""The longest such wait."""


def backed_off(requeues: int, now: float) -> float:
    """When a job that was evicted ``requeues`` times before may be tried again."""
    return now + min(LONGEST, BACKOFF * 2.0 ** min(requeues, 20))


REFUSED = 10.0
"""Seconds that a job waits at least, of which nothing ran because clusters refused its Pods; doubled with each."""

REFUSED_LONGEST = 300.0
"""The longest such wait, unless all of the clusters are to be tried later."""


def refused_until(requeues: int, retry_at: float, now: float) -> float:
    """When a job that was evicted ``requeues`` times before may be tried again, of whose clusters one may from ``retry_at`` on."""
    return max(retry_at, now + min(REFUSED_LONGEST, REFUSED * 2.0 ** min(requeues, 20)))


def evicting(record: AdmissionRecord, reason: str, message: str, not_before: float | None) -> AdmissionRecord:
    """The record of a job whose Pods are to go. ``not_before``: it is tried again no earlier; None: as soon as they are gone."""
    if not_before is None:
        return replace(record, state="Evicting", reason=reason, message=message, not_before=0.0)
    return replace(record, state="Evicting", reason=reason, message=message, not_before=not_before, requeues=record.requeues + 1)


def preempted(record: AdmissionRecord, queue: str, by: JobDemand) -> AdmissionRecord:
    """Of a job that makes way for ``by``, which waits in ``queue``."""
    reason = "InClusterQueue" if record.queue == queue else "InCohortReclamation"
    return evicting(record, reason, f"preempted by {by.key} (priority {by.priority})", None)


def broken(entry: JobEntry, now: float) -> tuple[str, str] | None:
    """(reason, message) why a gang has to go: it has had too few Pods for too long."""
    job = entry.demand
    if entry.record.state != "Admitted" or not job.min_available or entry.stays_until > now:
        return None
    if entry.recover_by is not None and entry.recover_by <= now:
        return "GangBroken", f"fewer than {job.min_available} Pods run"
    if not entry.ready and entry.ready_by is not None and entry.ready_by <= now:
        return "PodsReadyTimeout", f"{job.min_available} Pods did not run within {job.ready_timeout or 0:g} s"
    return None


def backoff_message(record: AdmissionRecord) -> str:
    """Why a job waits that is not tried again yet, and until when."""
    if record.reason == "Backoff":
        return record.message  # as an earlier scheduler has told it
    until = datetime.fromtimestamp(record.not_before, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"{record.reason}: {record.message}; it is tried again at {until}"


class Timers:
    """Jobs that have to be looked at at some time."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, str]] = []

    def at(self, time: float, uid: str) -> None:
        """Look at the job then."""
        heapq.heappush(self._heap, (time, uid))

    def due(self, now: float) -> Iterator[str]:
        """Those whose time has come; each is told once."""
        while self._heap and self._heap[0][0] <= now:
            yield heapq.heappop(self._heap)[1]

    def first(self) -> float | None:
        """The next time."""
        return self._heap[0][0] if self._heap else None
