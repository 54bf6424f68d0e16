"""``Displaced``: jobs that run and can't have all of their Pods where they were admitted: a cluster is drained, has got a taint,
refuses them or finds no node for them.

1. What is beyond a limit is placed elsewhere, by the job's own rules, as far as there is room: the total stays what it was. What
   finds no place stays in the record, and is tried again whenever something becomes free.
2. Of a job all of whose Pods have to be together, and of a gang of which nothing runs yet, all move, or none.
3. A job of which nothing runs, and for which there is no other place, is evicted: its quota is free, and it waits until a cluster
   that refused it may be tried again, each time longer.
"""

from collections.abc import Iterator, Mapping

import msgspec
from msgspec.structs import replace

from raycp.scheduling.admissions import AdmissionRecord, MoveKind
from raycp.scheduling.eviction import evicting, refused_until
from raycp.scheduling.lines import JobEntry
from raycp.scheduling.state import AdmissionState


class Displacement(msgspec.Struct, frozen=True):
    """What a job says of where it runs. ``limits``: the most Pods in a cluster that can't have as many as were admitted there.
    ``idle``: none of its Pods has a node. ``retry_at``: when a cluster that refuses it may be tried again, Unix seconds."""

    limits: Mapping[str, int] = {}
    idle: bool = False
    retry_at: float = 0.0


class Displaced:
    """All such jobs. ``settled``: nothing can be decided for them until something changes."""

    def __init__(self, state: AdmissionState) -> None:
        self.settled = True
        self._state = state
        self._asked: dict[str, tuple[JobEntry, Displacement]] = {}

    def ask(self, entry: JobEntry, asked: Displacement) -> None:
        """What the job says now."""
        known = self._asked.get(entry.uid)
        if not asked.limits:
            self._asked.pop(entry.uid, None)
        elif known is None or known[1] != asked or known[0] is not entry:
            self._asked[entry.uid] = (entry, asked)
            self.settled = False

    def decided(self, now: float) -> Iterator[tuple[JobEntry, MoveKind, AdmissionRecord]]:
        """One decision after the other; each is to be in force before the next is asked for."""
        if self.settled:
            return
        for uid in sorted(self._asked, key=lambda each: self._asked[each][0].rank):
            entry, asked = self._asked[uid]
            if self._state.running.get(uid) is not entry or entry.record.state != "Admitted":
                del self._asked[uid]
            elif entry.stays_until <= now and (found := self._decide(entry, asked, now)) is not None:
                self._asked[uid] = (entry, replace(asked, idle=False))  # of what moves, the job has yet to say whether it runs
                yield entry, *found
        self.settled = True

    def _decide(self, entry: JobEntry, asked: Displacement, now: float) -> tuple[MoveKind, AdmissionRecord] | None:
        record = entry.record
        over = {name: count - asked.limits.get(name, count) for name, count in record.clusters.items()}
        over = {name: count for name, count in over.items() if count > 0}
        if not over:
            return None
        clusters = self._moved(entry, over, idle=asked.idle)
        if clusters is not None:
            return "Move", replace(record, clusters=clusters)
        if not asked.idle:
            return None
        job = entry.demand
        words = "; ".join(dict.fromkeys(job.refused[name] for name in sorted(over) if name in job.refused))
        message = (
            f"none of its Pods runs in {', '.join(sorted(over))}, and no other cluster takes them{f': {words}' if words else ''}"
        )
        return "Evict", evicting(record, "ClustersRefuse", message, refused_until(record.requeues, asked.retry_at, now))

    def _moved(self, entry: JobEntry, over: Mapping[str, int], *, idle: bool) -> dict[str, int] | None:
        """Its clusters, when as many of ``over`` as possible run elsewhere; None where none can."""
        state, job, record = self._state, entry.demand, entry.record
        left = {name: count - over.get(name, 0) for name, count in record.clusters.items()}
        left = {name: count for name, count in left.items() if count}
        moving = sum(over.values())
        shape = state.shape(job, record.node_selector)
        assigned, unplaced = state.assign(job, shape, moving, existing=left)
        together = job.rules.topology != "Any" or job.rules.strategy == "Single"
        gang = idle and bool(job.min_available)  # nothing of it runs: with a part of it nothing is won
        if unplaced and (together or gang):
            if not left or not together:
                return None
            with state.what_if() as undo:  # not only what has to leave: all of it
                state.lift(entry, undo)
                assigned, unplaced = state.assign(job, shape, moving + sum(left.values()))
            return None if unplaced else assigned
        for name, count in assigned.items():
            left[name] = left.get(name, 0) + count
        for name, count in over.items():
            if stays := min(unplaced, count):
                left[name] = left.get(name, 0) + stays
                unplaced -= stays
        return None if left == record.clusters else left


def after_loss(state: AdmissionState, entry: JobEntry, name: str) -> tuple[MoveKind, AdmissionRecord]:
    """What becomes of a job whose Pods in cluster ``name`` are given up: a gang with too few left goes whole, another is placed
    elsewhere as far as there is room."""
    record, lost = entry.record, entry.record.clusters[name]
    left = {cluster: count for cluster, count in record.clusters.items() if cluster != name}
    if not left or sum(left.values()) < entry.demand.min_available:
        message = f"cluster {name} is lost, with {lost} of {lost + sum(left.values())} Pods"
        return "Evict", evicting(record, "ClusterUnreachable", message, None)
    shape = state.shape(entry.demand, record.node_selector)
    assigned, _ = state.assign(entry.demand, shape, lost, existing=left, without=name)
    for cluster, count in assigned.items():
        left[cluster] = left.get(cluster, 0) + count
    return "Move", replace(record, clusters=left)
