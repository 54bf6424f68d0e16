"""``Admission``: which job runs next, and where. A state machine without input and output."""

from collections.abc import Iterable
from typing import Literal

from raycp.scheduling.admissions import AdmissionDecision, AdmissionRecord, JobExplanation
from raycp.scheduling.capacity import CapacitySummary
from raycp.scheduling.demand import JobDemand
from raycp.scheduling.model import Candidate
from raycp.scheduling.queues import QueueSpec, QueueStatus

JobOutcome = Literal["Complete", "Failed", "Deleted"]


class Admission:
    """The state: queues, clusters, jobs that wait and jobs that run. Events change it; ``decide`` answers.

    A decision is in force as soon as it is returned. If it can't be written, ``withdraw`` takes it back. Times are Unix seconds,
    from one clock; an event is never refused for being late or told twice.
    """

    def set_queues(self, queues: Iterable[QueueSpec], now: float) -> None:
        """These are the queues now. Jobs of a queue that is gone wait; those that run stay and are charged to nobody."""

    def set_cluster(self, cluster: Candidate, capacity: CapacitySummary | None, now: float) -> None:
        """A cluster has joined or changed. ``capacity`` None: not known, no limit. An unreachable one gets no new Pods."""

    def remove_cluster(self, name: str, now: float) -> None:
        """The cluster has left the fleet."""

    def submit(self, job: JobDemand, record: AdmissionRecord | None, now: float) -> None:
        """A job is there, or has changed. ``record``: its ``status.admission``, from which a new scheduler rebuilds its state;
        ignored
        for a job that is known."""

    def finish(self, uid: str, outcome: JobOutcome, now: float) -> None:
        """A job has ended or is deleted: its quota and room are free."""

    def pods(self, uid: str, running: int, now: float) -> None:
        """``running`` Pods of an admitted job run. A gang that had enough and has too few is evicted."""

    def cluster_lost(self, name: str, now: float) -> None:
        """The Pods of a cluster are given up: gangs with too few left are evicted, others move."""

    def evicted(self, uid: str, now: float) -> None:
        """The Pods of an evicted or preempted job are gone: quota and room are free, the job waits again, where it stood before."""

    def withdraw(self, uid: str, now: float) -> None:
        """The last decision on the job could not be written, and is void."""

    def decide(self, now: float, limit: int = 100) -> list[AdmissionDecision]:
        """At most ``limit`` decisions, the most urgent first. Fewer: nothing more can be decided until an event, or
        ``next_wake``."""
        return []

    def next_wake(self, now: float) -> float | None:
        """When to call ``decide`` even without an event: the end of a backoff, a timeout, or a reservation."""
        return None

    def explain(self, uid: str, now: float) -> JobExplanation | None:
        """Why the job waits, or where it runs; None if it is not known."""
        return None

    def queue_status(self) -> list[QueueStatus]:
        """All queues, by name."""
        return []
