"""``AdmissionState``: what runs, what it holds, and what would be if some of it did not."""

import math
from bisect import insort
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from msgspec.structs import replace

from raycp.base.quantities import UNBOUNDED, added
from raycp.scheduling.admissions import AdmissionRecord
from raycp.scheduling.capacity import CapacitySummary
from raycp.scheduling.demand import JobDemand
from raycp.scheduling.filters import refusal
from raycp.scheduling.lines import JobEntry
from raycp.scheduling.model import Candidate, Demand, PlacementDecision, Rules
from raycp.scheduling.place import assign, place
from raycp.scheduling.quota import QuotaLedger
from raycp.scheduling.rooms import ClusterRoom, Grant, PodShape

PATIENCE = 30.0
"""Seconds for which the end of Pods in an unreachable cluster is waited for before others make way."""

Undo = list[tuple[JobEntry, dict[str, Grant]]]


_LOG_LIMIT = 20_000
_RULES_KNOWN = 20_000
_TOTALS_KNOWN = 256


def _simple(rules: Rules) -> bool:
    """All Pods have a place if the clusters together have room for them."""
    limited = rules.spread or rules.max_clusters is not None or rules.max_per_cluster is not None
    return not (limited or rules.affinities or rules.topology != "Any" or rules.strategy == "Single")


def _end_key(entry: JobEntry) -> tuple[bool, float, float, str]:
    end = entry.ends_by()
    return end is None, end or 0.0, entry.record.admitted_at, entry.uid


class _Total:
    """The room for one shape in all clusters, and how far in the log of changes it has been brought up to date. ``known``: what it
    was, by the clusters' content."""

    __slots__ = ("by_cluster", "known", "read", "sum")

    def __init__(self) -> None:
        self.sum = self.read = 0
        self.by_cluster: dict[str, int] = {}
        self.known: dict[int, int] = {}


class AdmissionState:
    """Rooms and ledger together."""

    def __init__(self) -> None:
        self.ledger = QuotaLedger()
        self.candidates: dict[str, Candidate] = {}
        self.silent_since: dict[str, float] = {}
        """When those that are unreachable became so."""
        self.rooms: dict[str, ClusterRoom] = {}
        """Of clusters whose capacity is known."""
        self.running: dict[str, JobEntry] = {}
        """Admitted, or being evicted: they hold quota and room."""
        self.by_queue: defaultdict[str, dict[str, JobEntry]] = defaultdict(dict)
        """The same, by the queue that they are charged to."""
        self.leaving: dict[str, JobEntry] = {}
        """Those of them that are being evicted."""
        self._later: dict[str, Callable[[], None]] = {}
        """See ``later``."""
        self._ends: list[tuple[bool, float, float, str]] = []
        self._residents: defaultdict[str, dict[str, JobEntry]] = defaultdict(dict)
        """Those of them, by cluster and uid."""
        self._log: list[str] = []
        """Clusters whose room has changed, in order."""
        self._content = 0
        """Of all clusters: see ``rooms``."""
        self._totals: dict[PodShape, _Total] = {}
        self._fleet: dict[str, int] = {}
        """What all clusters have."""
        self._offers: dict[str, Candidate] = {}
        """Clusters with their free room for the shape that was asked for last."""
        self._eligible: dict[int, tuple[Rules, tuple[str, ...]]] = {}
        self._same: dict[tuple[str, ...], tuple[str, ...]] = {}
        """One tuple for all rules that exclude the same clusters."""

    def shape(self, job: JobDemand, node_selector: Mapping[str, str]) -> PodShape:
        """What its Pods need of a node, in a flavor with these labels."""
        return PodShape.of(job.per_pod, {**job.node_selector, **node_selector}, job.tolerations)

    def set_candidate(self, cluster: Candidate, now: float) -> bool:
        """It is there, or has changed. Whether it has become unreachable."""
        name = cluster.name
        silent = not cluster.reachable and name not in self.silent_since
        self.candidates[name] = cluster
        if cluster.reachable:
            self.silent_since.pop(name, None)
        elif silent:
            self.silent_since[name] = now
        self._outdated(name)
        return silent

    def remove_candidate(self, name: str) -> None:
        """It has left the fleet."""
        self.candidates.pop(name, None)
        self.silent_since.pop(name, None)
        self._outdated(name)

    def _outdated(self, cluster: str) -> None:
        """What was found with that cluster as it was."""
        self._offers.pop(cluster, None)
        self._totals.clear()
        self._eligible.clear()
        self._same.clear()

    # what runs

    def take(self, entry: JobEntry) -> None:
        """Charge what its record says, and give it room in its clusters."""
        record = entry.record
        self.running[entry.uid] = entry
        entry.amounts = {name: amount * sum(record.clusters.values()) for name, amount in entry.demand.per_pod.items()}
        self.by_queue[record.queue][entry.uid] = entry
        if record.state == "Evicting":
            self.leaving[entry.uid] = entry
        insort(self._ends, _end_key(entry))
        self.ledger.charge(record.queue, record.flavor, entry.amounts)
        for name in record.clusters:
            self._residents[name][entry.uid] = entry
            self.occupy(entry, name)

    def drop(self, entry: JobEntry) -> None:
        """Undo ``take``."""
        if self.running.pop(entry.uid, None) is not None:
            self.by_queue[entry.record.queue].pop(entry.uid, None)
            self.leaving.pop(entry.uid, None)
            self._ends.remove(_end_key(entry))
            self.ledger.charge(entry.record.queue, entry.record.flavor, entry.amounts, -1)
            for name in entry.record.clusters:
                self._residents[name].pop(entry.uid, None)
                if name in self.rooms:
                    self.rooms[name].revoke(entry.uid)

    def stranded(self, entry: JobEntry, by: float = math.inf) -> bool:
        """Whether it has Pods where nobody can end them at the moment, nor could since ``by``."""
        silent, clusters = self.silent_since, entry.record.clusters
        return any(count and name in silent and silent[name] <= by for name, count in clusters.items())

    def making_way(self, now: float) -> list[JobEntry]:
        """Those that are being evicted, and may be expected to be gone soon."""
        if not self.silent_since:
            return list(self.leaving.values())
        return [entry for entry in self.leaving.values() if not self.stranded(entry, now - PATIENCE)]

    def change(self, entry: JobEntry, demand: JobDemand) -> None:
        """Another demand of a job that runs; what it holds stays."""
        self._ends.remove(_end_key(entry))
        entry.change(demand)
        insort(self._ends, _end_key(entry))

    def by_end(self) -> list[JobEntry]:
        """What runs: first those whose end is known, by their end; then those that were admitted first."""
        return [self.running[uid] for *_, uid in self._ends]

    def occupy(self, entry: JobEntry, cluster: str, now: float | None = None) -> bool:
        """Room for its Pods: no summary counts them. From ``reserved_until`` on (if ``now`` is given), only where some have been
        seen. Returns whether room has become free."""
        room = self.rooms.get(cluster)
        if room is None:
            return False
        seen = room.summary.jobs.get(entry.uid, 0)
        if seen:
            entry.seen.add(cluster)
        kept = cluster in entry.seen or room.summary.declared or now is None or now < entry.reserved_until
        wanted = entry.record.clusters.get(cluster, 0) if kept else 0
        more = wanted - room.granted(entry.uid)
        if more > 0:
            room.grant(entry.uid, self.shape(entry.demand, entry.record.node_selector), more)
        elif more < 0:
            room.shrink(entry.uid, wanted)
        return more < 0

    def replace(self, entry: JobEntry, record: AdmissionRecord) -> None:
        """Another record of a job that runs, of the same queue and flavor: it keeps the nodes that it has."""
        old = entry.record
        entry.record = record
        for name in old.clusters.keys() | record.clusters.keys():
            if name in record.clusters:
                self._residents[name][entry.uid] = entry
            else:
                self._residents[name].pop(entry.uid, None)
            self.occupy(entry, name)
        self.ledger.charge(old.queue, old.flavor, entry.amounts, -1)
        entry.amounts = {name: amount * sum(record.clusters.values()) for name, amount in entry.demand.per_pod.items()}
        self.ledger.charge(record.queue, record.flavor, entry.amounts)
        if record.state == "Evicting":
            self.leaving[entry.uid] = entry
        else:
            self.leaving.pop(entry.uid, None)

    def set_capacity(self, cluster: str, summary: CapacitySummary | None, now: float) -> None:
        """Exchange a cluster's summary; what was decided keeps its room."""
        old = self.rooms.pop(cluster, None)
        if old is not None:
            self._content -= old.content
            self._fleet = added(self._fleet, old.summary.allocatable(), -1)
        if summary is not None:
            self._fleet = added(self._fleet, summary.allocatable())
            self.rooms[cluster] = ClusterRoom(summary, partial(self._changed, cluster))
            for entry in sorted(self._residents[cluster].values(), key=lambda each: (each.record.admitted_at, each.uid)):
                self.occupy(entry, cluster, now)
        self._totals.clear()
        self.ledger.set_fleet({name: amount for name, amount in self._fleet.items() if amount})

    def _changed(self, cluster: str, by: int) -> None:
        self._log.append(cluster)
        self._content += by

    # what fits

    def free(self, shape: PodShape) -> int:
        """How many more such Pods fit in all clusters that answer; ``UNBOUNDED`` or more where one's capacity is not known."""
        self.catch_up()
        if len(self._log) > _LOG_LIMIT:
            self._log.clear()
            self._totals.clear()
        total = self._totals.get(shape)
        if total is None:
            total = self._totals[shape] = _Total()
            answering = [name for name, each in self.candidates.items() if each.reachable and not each.refusal]
            total.by_cluster = {name: 0 if name in self.rooms else UNBOUNDED for name in answering}
            total.sum = sum(total.by_cluster.values())
            names: Iterable[str] = answering
        else:
            known = total.known.get(self._content)
            if known is not None:
                return known
            names = set(self._log[total.read :])
        by_cluster, rooms = total.by_cluster, self.rooms
        for name in names:
            before = by_cluster.get(name)
            if before is not None and (room := rooms.get(name)) is not None:
                new = room.room(shape)
                if new != before:
                    total.sum += new - before
                    by_cluster[name] = new
        total.read = len(self._log)
        if len(total.known) >= _TOTALS_KNOWN:
            total.known.clear()
        total.known[self._content] = total.sum
        return total.sum

    def eligible(self, rules: Rules) -> tuple[str, ...]:
        """Clusters that these rules do not exclude, and that answer; by name."""
        found = self._eligible.get(id(rules))
        if found is None:
            if len(self._eligible) > _RULES_KNOWN:
                self._eligible.clear()
                self._same.clear()
            names = tuple(name for name, each in sorted(self.candidates.items()) if refusal(each, rules) is None)
            # the rules live as long as their id is known
            found = self._eligible[id(rules)] = (rules, self._same.setdefault(names, names))
        return found[1]

    def fits(self, job: JobDemand, shape: PodShape, count: int) -> bool:
        """Whether ``assign`` would find a place for ``count`` Pods; most often found without it."""
        names = self.eligible(job.rules)
        free = self.free(shape)
        if free >= count and len(names) < len(self.candidates):
            free = sum(self.rooms[name].room(shape) if name in self.rooms else UNBOUNDED for name in names)
        if free < count:
            return False
        return (_simple(job.rules) and not job.refused) or self.assign(job, shape, count)[1] == 0

    def place(self, job: JobDemand, shape: PodShape, count: int, now: float, existing: Mapping[str, int]) -> PlacementDecision:
        """Where ``count`` Pods go, with the verdict on each cluster."""
        self.catch_up()
        fleet = [self._with_room(each, shape) for each in self.candidates.values()]
        if job.refused:
            fleet = [replace(each, refusal=each.refusal or job.refused.get(each.name, "")) for each in fleet]
        return place(Demand(job.uid, count, job.rules, existing), fleet, now)

    def assign(
        self, job: JobDemand, shape: PodShape, count: int, *, existing: Mapping[str, int] | None = None, without: str = ""
    ) -> tuple[dict[str, int], int]:
        """Where ``count`` Pods go, and how many find no place; in no case to the cluster ``without``."""
        self.catch_up()
        # a full cluster still counts as a domain, and as the one in which the job's other Pods are
        every = bool(job.rules.spread or existing)
        fitting = []
        for name in self.eligible(job.rules):
            room = self.rooms.get(name)
            if name != without and name not in job.refused and (every or room is None or room.room(shape)):
                fitting.append(self._with_room(self.candidates[name], shape))
        return assign(Demand(job.uid, count, job.rules, existing or {}), fitting)

    def _with_room(self, cluster: Candidate, shape: PodShape) -> Candidate:
        room = self.rooms.get(cluster.name)
        if room is None:
            return cluster
        free = room.room(shape)
        found = self._offers.get(cluster.name)
        if found is None or found.free_pods != free:
            found = self._offers[cluster.name] = replace(cluster, free_pods=free)
        return found

    # what if

    def later(self, what: str, do: Callable[[], None]) -> None:
        """Change rooms in this way when somebody looks at them, unless it is called off before (``called_off``): most questions are
        answered by quota alone."""
        self._later[what] = do

    def called_off(self, what: str) -> bool:
        """Whether that could still be prevented."""
        return self._later.pop(what, None) is not None

    def catch_up(self) -> None:
        """The rooms are as they should be."""
        while self._later:
            self._later.pop(next(iter(self._later)))()

    def lift(self, entry: JobEntry, undo: Undo) -> None:
        """As if it did not run; ``undo`` remembers how it was."""
        grants: dict[str, Grant] = {}
        self.ledger.charge(entry.record.queue, entry.record.flavor, entry.amounts, -1)
        self.later(entry.uid, partial(self._revoke, entry, grants))
        undo.append((entry, grants))

    def _revoke(self, entry: JobEntry, grants: dict[str, Grant]) -> None:
        for name in entry.record.clusters:
            room = self.rooms.get(name)
            grant = room.revoke(entry.uid) if room is not None else None
            if grant is not None:
                grants[name] = grant

    def lower(self, entry: JobEntry, grants: dict[str, Grant]) -> None:
        """The reverse of ``lift``."""
        self.ledger.charge(entry.record.queue, entry.record.flavor, entry.amounts)
        if not self.called_off(entry.uid):
            for name, grant in grants.items():
                self.rooms[name].restore(entry.uid, grant)

    @contextmanager
    def what_if(self) -> Iterator[Undo]:
        """What is lifted within is lowered at the end, in reverse order."""
        undo: Undo = []
        try:
            yield undo
        finally:
            while undo:
                self.lower(*undo.pop())
