"""``AdmissionState``: what runs, what it holds, and what would be if some of it did not."""

from bisect import insort
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from raycp.base.quantities import UNBOUNDED, added
from raycp.scheduling.admissions import AdmissionRecord
from raycp.scheduling.capacity import CapacitySummary
from raycp.scheduling.demand import JobDemand
from raycp.scheduling.filters import allowed, refusal
from raycp.scheduling.lines import JobEntry
from raycp.scheduling.model import Candidate, Demand, PlacementDecision, Rules
from raycp.scheduling.place import place
from raycp.scheduling.quota import QuotaLedger
from raycp.scheduling.rooms import ClusterRoom, Grant, PodShape

Undo = list[tuple[JobEntry, dict[str, Grant]]]


_LOG_LIMIT = 20_000
_RULES_KNOWN = 20_000


def _simple(rules: Rules) -> bool:
    """All Pods have a place if the clusters together have room for them."""
    limited = rules.spread or rules.max_clusters is not None or rules.max_per_cluster is not None
    return not (limited or rules.affinities or rules.topology != "Any" or rules.strategy == "Single")


def _end_key(entry: JobEntry) -> tuple[bool, float, float, str]:
    end = entry.ends_by()
    return end is None, end or 0.0, entry.record.admitted_at, entry.uid


class _Total:
    """The room for one shape in all clusters, and how far in the log of changes it has been brought up to date."""

    __slots__ = ("by_cluster", "read", "sum")

    def __init__(self) -> None:
        self.sum = self.read = 0
        self.by_cluster: dict[str, int] = {}


class AdmissionState:
    """Rooms and ledger together."""

    def __init__(self) -> None:
        self.ledger = QuotaLedger()
        self.candidates: dict[str, Candidate] = {}
        self.rooms: dict[str, ClusterRoom] = {}
        """Of clusters whose capacity is known."""
        self.running: dict[str, JobEntry] = {}
        """Admitted, or being evicted: they hold quota and room."""
        self.by_queue: defaultdict[str, dict[str, JobEntry]] = defaultdict(dict)
        """The same, by the queue that they are charged to."""
        self.leaving: dict[str, JobEntry] = {}
        """Those of them that are being evicted."""
        self._ends: list[tuple[bool, float, float, str]] = []
        self._residents: defaultdict[str, dict[str, JobEntry]] = defaultdict(dict)
        """Those of them, by cluster and uid."""
        self._log: list[str] = []
        """Clusters whose room has changed, in order."""
        self._totals: dict[PodShape, _Total] = {}
        self._eligible: dict[int, tuple[Rules, tuple[str, ...]]] = {}

    def shape(self, job: JobDemand, node_selector: Mapping[str, str]) -> PodShape:
        """What its Pods need of a node, in a flavor with these labels."""
        return PodShape.of(job.per_pod, {**job.node_selector, **node_selector}, job.tolerations)

    def set_candidate(self, cluster: Candidate) -> None:
        """It is there, or has changed."""
        self.candidates[cluster.name] = cluster
        self._totals.clear()
        self._eligible.clear()

    def remove_candidate(self, name: str) -> None:
        """It has left the fleet."""
        self.candidates.pop(name, None)
        self._totals.clear()
        self._eligible.clear()

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

    def change(self, entry: JobEntry, demand: JobDemand) -> None:
        """Another demand of a job that runs; what it holds stays."""
        self._ends.remove(_end_key(entry))
        entry.demand = demand
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
        self.rooms.pop(cluster, None)
        if summary is not None:
            self.rooms[cluster] = ClusterRoom(summary, partial(self._log.append, cluster))
            for entry in sorted(self._residents[cluster].values(), key=lambda each: (each.record.admitted_at, each.uid)):
                self.occupy(entry, cluster, now)
        self._totals.clear()
        total: dict[str, int] = {}
        for room in self.rooms.values():
            total = added(total, room.summary.allocatable())
        self.ledger.set_fleet(total)

    # what fits

    def free(self, shape: PodShape) -> int:
        """How many more such Pods fit in all clusters that answer; ``UNBOUNDED`` or more where one's capacity is not known."""
        if len(self._log) > _LOG_LIMIT:
            self._log.clear()
            self._totals.clear()
        total = self._totals.get(shape)
        if total is None:
            total = self._totals[shape] = _Total()
            names: Iterable[str] = self.candidates
        else:
            names = set(self._log[total.read :])
        for name in names:
            candidate = self.candidates.get(name)
            if candidate is not None and candidate.reachable and not candidate.refusal:
                room = self.rooms.get(name)
                new = UNBOUNDED if room is None else room.room(shape)
                total.sum += new - total.by_cluster.get(name, 0)
                total.by_cluster[name] = new
        total.read = len(self._log)
        return total.sum

    def eligible(self, rules: Rules) -> tuple[str, ...]:
        """Clusters that these rules do not exclude, and that answer."""
        found = self._eligible.get(id(rules))
        if found is None:
            if len(self._eligible) > _RULES_KNOWN:
                self._eligible.clear()
            names = (name for name, each in self.candidates.items() if refusal(each, rules) is None and allowed(each, rules))
            found = self._eligible[id(rules)] = (rules, tuple(names))  # the rules live as long as their id is known
        return found[1]

    def fits(self, job: JobDemand, shape: PodShape, count: int, now: float) -> bool:
        """Whether ``place`` would find a place for ``count`` Pods; most often found without it."""
        names = self.eligible(job.rules)
        free = self.free(shape)
        if free >= count and len(names) < len(self.candidates):
            free = sum(self.rooms[name].room(shape) if name in self.rooms else UNBOUNDED for name in names)
        if free < count:
            return False
        return (_simple(job.rules) and not job.refused) or self.place(job, shape, count, now).unplaced == 0

    def place(
        self,
        job: JobDemand,
        shape: PodShape,
        count: int,
        now: float,
        *,
        existing: Mapping[str, int] | None = None,
        without: str = "",
        explain: bool = False,
    ) -> PlacementDecision:
        """Where ``count`` Pods go; in no case to the cluster ``without``. With ``explain`` every cluster gets its verdict."""
        # a full cluster still counts as a domain, and as the one in which the job's other Pods are
        every = explain or job.rules.spread or existing
        fleet = [
            Candidate(
                name,
                each.labels,
                each.reachable,
                each.reason,
                self.rooms[name].room(shape) if name in self.rooms else each.free_pods,
                each.refusal or job.refused.get(name, ""),
                each.taints,
            )
            for name, each in self.candidates.items()
            if name != without and (every or name not in self.rooms or self.rooms[name].room(shape))
        ]
        return place(Demand(job.uid, count, job.rules, existing or {}), fleet, now)

    # what if

    def lift(self, entry: JobEntry, undo: Undo) -> None:
        """As if it did not run; ``undo`` remembers how it was."""
        record = entry.record
        grants = {}
        for name in record.clusters:
            room = self.rooms.get(name)
            grant = room.revoke(entry.uid) if room is not None else None
            if grant is not None:
                grants[name] = grant
        self.ledger.charge(record.queue, record.flavor, entry.amounts, -1)
        undo.append((entry, grants))

    def lower(self, entry: JobEntry, grants: dict[str, Grant]) -> None:
        """The reverse of ``lift``."""
        self.ledger.charge(entry.record.queue, entry.record.flavor, entry.amounts)
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
