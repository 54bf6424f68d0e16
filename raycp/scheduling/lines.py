"""``QueueLine``: the jobs of one queue that wait, in order; ``JobEntry``: all that admission knows of a job."""

import math
from bisect import bisect_left, insort
from collections.abc import Iterator

import msgspec

from raycp.scheduling.admissions import AdmissionRecord, WaitReason
from raycp.scheduling.demand import JobDemand

Rank = tuple[int, float, str]
Group = tuple[bytes, float]
"""(kind, seconds it lasts at most)."""


class Misfit(msgspec.Struct, frozen=True):
    """A job can't run now, and why. ``hopeless``: nor could it with nothing else running."""

    reason: WaitReason
    message: str
    hopeless: bool = False


class JobEntry:
    """A job and its state. ``previous``: the record before the last decision."""

    __slots__ = (
        "_group",
        "amounts",
        "demand",
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
        "stays_until",
    )

    def __init__(self, demand: JobDemand, record: AdmissionRecord) -> None:
        self.demand, self.record, self.previous = demand, record, record
        self.amounts: dict[str, int] = {}
        """What is charged to its queue."""
        self.line = ""
        """The queue that it waits in or is charged to."""
        self._group: Group | None = None
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
        self.stays_until = 0.0
        """Nothing can be decided on it before, since the last decision could not be written."""
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

    @property
    def group(self) -> Group:
        """Jobs of one group can run whenever the other can, and last equally long."""
        if self._group is None:
            job = self.demand
            parts = (job.requests, job.node_selector, job.tolerations, job.rules, job.needed, job.pods, job.refused)
            lasts = math.inf if job.active_deadline is None else job.active_deadline
            self._group = msgspec.msgpack.encode(parts, order="sorted"), lasts
        return self._group

    @property
    def kind(self) -> bytes:
        """Equal for jobs that fit wherever the other fits."""
        return self.group[0]

    def change(self, demand: JobDemand) -> None:
        """Another demand. Not while it is in a line."""
        self.demand, self._group = demand, None

    def ends_by(self) -> float | None:
        """When it is over at the latest; None if that is not known."""
        deadline = self.demand.active_deadline
        return None if deadline is None else self.record.admitted_at + deadline

    def wait(self, reason: WaitReason, message: str) -> None:
        """Why it waits."""
        self.reason, self.message = reason, message


class QueueLine:
    """Jobs of one queue that wait and may run.

    Jobs that are alike and last equally long are one group: while its first can't run, none of it can. ``heads`` are what is to be
    tried, in order, without the kinds that are ``hopeless``.
    """

    def __init__(self) -> None:
        self._ranks: list[Rank] = []
        self._jobs: dict[str, JobEntry] = {}
        self._groups: dict[Group, list[Rank]] = {}
        self._heads: list[tuple[Rank, Group]] = []
        """The first of each group of which there is hope."""
        self.hopeless: dict[bytes, Misfit] = {}
        """Kinds that do not fit until nodes or quotas change."""
        self.settled = False
        """Nothing in it can be decided until something changes."""

    def add(self, entry: JobEntry) -> None:
        """To its place."""
        if entry.uid not in self._jobs:
            rank, group = entry.rank, entry.group
            self._jobs[entry.uid] = entry
            insort(self._ranks, rank)
            ranks = self._groups.setdefault(group, [])
            if not ranks or rank < ranks[0]:
                self._set_head(group, ranks[0] if ranks else None, rank)
            insort(ranks, rank)
            self.settled = False

    def remove(self, entry: JobEntry) -> None:
        """If it is there. What its group is made of must not have changed since it was added."""
        if self._jobs.pop(entry.uid, None) is not None:
            rank, group = entry.rank, entry.group
            del self._ranks[bisect_left(self._ranks, rank)]
            ranks = self._groups[group]
            at = bisect_left(ranks, rank)
            del ranks[at]
            if at == 0:
                self._set_head(group, rank, ranks[0] if ranks else None)
            if not ranks:
                del self._groups[group]
            self.settled = False

    def _set_head(self, group: Group, old: Rank | None, new: Rank | None) -> None:
        if group[0] in self.hopeless:
            return
        if old is not None:
            del self._heads[bisect_left(self._heads, (old, group))]
        if new is not None:
            insort(self._heads, (new, group))

    def give_up(self, kind: bytes, why: Misfit) -> None:
        """No job of this kind can run until nodes or quotas change."""
        self.hopeless[kind] = why
        self._heads = [each for each in self._heads if each[1][0] != kind]

    def hope(self) -> None:
        """Nodes or quotas have changed."""
        if self.hopeless:
            self.hopeless.clear()
            self._heads = sorted((ranks[0], group) for group, ranks in self._groups.items())

    def head_rank(self) -> Rank:
        """The rank of the next. Raises ``IndexError`` where there is none."""
        return self._ranks[0]

    def position(self, entry: JobEntry) -> int:
        """1 for the next; 0 if it is not here."""
        return bisect_left(self._ranks, entry.rank) + 1 if entry.uid in self._jobs else 0

    def first(self) -> JobEntry:
        """The next. Raises ``IndexError`` where there is none."""
        return self._jobs[self._ranks[0][2]]

    def heads(self) -> Iterator[JobEntry]:
        """The first of each group of which there is hope, in order, as it is now."""
        for rank, _ in list(self._heads):
            yield self._jobs[rank[2]]

    def __len__(self) -> int:
        return len(self._ranks)
