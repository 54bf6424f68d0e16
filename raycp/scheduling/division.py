"""How many Pods each cluster gets, the clusters and their order being decided."""

import heapq
from collections import Counter

from raycp.scheduling.domains import domain_of
from raycp.scheduling.model import Candidate, Demand


def fill(job: Demand, order: list[Candidate], room: dict[str, int]) -> dict[str, int]:
    """New Pods by cluster, in the order in which to fill them; at most ``room`` each."""
    together = job.rules.strategy in ("Pack", "Single")
    if together and not job.rules.spread:
        return _packed(job, order, room)
    return _one_by_one(job, order, room, together=together)


def _started_first(job: Demand, order: list[Candidate]) -> list[Candidate]:
    return [c for c in order if job.existing.get(c.name)] + [c for c in order if not job.existing.get(c.name)]


def _packed(job: Demand, order: list[Candidate], room: dict[str, int]) -> dict[str, int]:
    counts: dict[str, int] = {}
    left = job.count
    for candidate in _started_first(job, order):
        counts[candidate.name] = min(left, room[candidate.name])
        left -= counts[candidate.name]
    return counts


class _Skew:
    """One spread constraint while Pods are given out."""

    def __init__(self, order: list[Candidate], topology: str, max_skew: int, existing: dict[str, int]) -> None:
        self.max_skew = max_skew
        self.domain = {each.name: domain_of(each, topology) or "" for each in order}  # type: ignore[arg-type]
        self.counts = Counter(dict.fromkeys(self.domain.values(), 0))
        for name, domain in self.domain.items():
            self.counts[domain] += existing.get(name, 0)
        self.levels = Counter(self.counts.values())
        self.least = min(self.levels, default=0)

    def allows(self, name: str) -> bool:
        return self.counts[self.domain[name]] - self.least < self.max_skew

    def add(self, name: str) -> bool:
        """Whether that lets others go on."""
        domain = self.domain[name]
        before = self.counts[domain]
        self.counts[domain] += 1
        self.levels[before] -= 1
        self.levels[before + 1] += 1
        if before == self.least and not self.levels[before]:
            self.least += 1
            return True
        return False


def _one_by_one(job: Demand, order: list[Candidate], room: dict[str, int], *, together: bool) -> dict[str, int]:
    """One Pod after the other to the cluster that is first by load; the heap keeps that at O(n log clusters)."""
    rules = job.rules
    counts = {candidate.name: 0 for candidate in order}
    existing = dict(job.existing)
    skews = [_Skew(order, each.topology, each.max_skew, existing) for each in rules.spread]
    if together:
        order = _started_first(job, order)
    shares = {each.name: float(rules.weights.get(each.name, 1)) for each in order}
    if rules.strategy == "Weighted":
        for each in order:
            shares[each.name] *= max(1, room[each.name] if each.free_pods is None else each.free_pods)

    def load(name: str) -> float:
        return 0.0 if together else (existing.get(name, 0) + counts[name] + 1) / shares[name]

    heap = [(load(candidate.name), at, candidate.name) for at, candidate in enumerate(order) if room[candidate.name] > 0]
    heapq.heapify(heap)
    parked: list[tuple[float, int, str]] = []
    left = job.count
    while left and heap:
        entry = heapq.heappop(heap)
        _, at, name = entry
        if not all(skew.allows(name) for skew in skews):
            parked.append(entry)
            continue
        counts[name] += 1
        left -= 1
        if counts[name] < room[name]:
            heapq.heappush(heap, (load(name), at, name))
        if [True for skew in skews if skew.add(name)]:
            for entry in parked:
                heapq.heappush(heap, entry)
            parked.clear()
    return counts
