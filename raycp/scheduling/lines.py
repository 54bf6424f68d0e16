"""``QueueLine``: the jobs of one queue that wait, in order; ``JobEntry``: all that admission knows of a job."""

from bisect import bisect_left, insort
from collections.abc import Iterator

import msgspec

from raycp.scheduling.admissions import AdmissionRecord, WaitReason
from raycp.scheduling.demand import JobDemand

Rank = tuple[int, float, str]


class JobEntry:
    """A job and its state. ``previous``: the record before the last decision."""

    __slots__ = (
        "amounts",
        "demand",
        "kind",
        "line",
        "message",
        "previous",
        "ready",
        "ready_by",
        "reason",
        "record",
        "recover_by",
        "reserved_until",
        "seen",
    )

    def __init__(self, demand: JobDemand, record: AdmissionRecord) -> None:
        self.demand, self.record, self.previous = demand, record, record
        self.amounts: dict[str, int] = {}
        """What is charged to its queue."""
        self.line = ""
        """The queue that it waits in or is charged to."""
        self.kind = b""
        """What ``equals`` answers, once it has been asked."""
        self.ready = False
        """A gang that has had enough Pods."""
        self.ready_by: float | None = None
        """When one that has not had enough yet is evicted."""
        self.recover_by: float | None = None
        """When a gang with too few Pods is evicted."""
        self.reserved_until = 0.0
        """How long room is kept for Pods that nobody has seen."""
        self.seen: set[str] = set()
        """Clusters in which its Pods have been seen."""
        self.reason: WaitReason = "NotConsidered"
        self.message = ""

    @property
    def uid(self) -> str:
        """Its uid."""
        return self.demand.uid

    @property
    def rank(self) -> Rank:
        """Priority, then time: the least is next."""
        return -self.demand.priority, self.demand.created, self.demand.uid

    def equals(self) -> bytes:
        """Equal for jobs that fit wherever the other fits."""
        if not self.kind:
            job = self.demand
            parts = (job.requests, job.node_selector, job.tolerations, job.rules, job.needed, job.pods, job.refused)
            self.kind = msgspec.msgpack.encode(parts, order="sorted")
        return self.kind

    def ends_by(self) -> float | None:
        """When it is over at the latest; None if that is not known."""
        deadline = self.demand.active_deadline
        return None if deadline is None else self.record.admitted_at + deadline

    def wait(self, reason: WaitReason, message: str) -> None:
        """Why it waits."""
        self.reason, self.message = reason, message


class QueueLine:
    """Jobs of one queue that wait and may run."""

    def __init__(self) -> None:
        self._ranks: list[Rank] = []
        self._jobs: dict[str, JobEntry] = {}
        self.settled = False
        """Nothing in it can be decided until something changes."""

    def add(self, entry: JobEntry) -> None:
        """To its place."""
        if entry.uid not in self._jobs:
            self._jobs[entry.uid] = entry
            insort(self._ranks, entry.rank)
            self.settled = False

    def remove(self, entry: JobEntry) -> None:
        """If it is there."""
        if self._jobs.pop(entry.uid, None) is not None:
            del self._ranks[bisect_left(self._ranks, entry.rank)]
            self.settled = False

    def head_rank(self) -> Rank:
        """The rank of the next. Raises ``IndexError`` where there is none."""
        return self._ranks[0]

    def position(self, entry: JobEntry) -> int:
        """1 for the next; 0 if it is not here."""
        return bisect_left(self._ranks, entry.rank) + 1 if entry.uid in self._jobs else 0

    def first(self, count: int) -> Iterator[JobEntry]:
        """The next ones, in order."""
        for _, _, uid in self._ranks[:count]:
            yield self._jobs[uid]

    def __len__(self) -> int:
        return len(self._ranks)
