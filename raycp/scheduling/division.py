"""How many Pods each cluster gets, the clusters and their order being decided."""

import heapq
from collections import Counter

from raycp.scheduling.domains import domain_of
from raycp.scheduling.model import Candidate, Demand, SpreadConstraint


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


_ASTRAY = 1 << 40
"""How far a cluster without domain is from any skew."""


class _Skew:
    """One spread constraint while Pods are given out."""

    def __init__(self, order: list[Candidate], constraint: SpreadConstraint, existing: dict[str, int]) -> None:
        self.max_skew, self.soft = constraint.max_skew, constraint.soft
        domains = {each.name: domain_of(each, constraint.topology) for each in order}
        self.domain = {name: domain for name, domain in domains.items() if domain is not None}
        self.counts = Counter(dict.fromkeys(self.domain.values(), 0))
        for name, domain in self.domain.items():
            self.counts[domain] += existing.get(name, 0)
        self.levels = Counter(self.counts.values())
        self.least = min(self.levels, default=0)

    def beyond(self, name: str) -> int:
        """By how much one more Pod there would exceed the skew; 0 where it would not."""
        domain = self.domain.get(name)
        return _ASTRAY if domain is None else max(0, self.counts[domain] + 1 - self.least - self.max_skew)

    def add(self, name: str) -> bool:
        """Whether that lets others go on."""
        domain = self.domain.get(name)
        if domain is None:
            return False
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
    skews = [_Skew(order, each, existing) for each in rules.spread]
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
    left, least = job.count, None
    while left:
        if heap:
            entry = heapq.heappop(heap)
        elif (least := _least_wrong(parked, skews)) is not None:
            parked.remove(entry := least)
        else:
            break
        _, at, name = entry
        if entry is not least and any(skew.beyond(name) for skew in skews):
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


def _least_wrong(parked: list[tuple[float, int, str]], skews: list[_Skew]) -> tuple[float, int, str] | None:
    """Of clusters that a soft constraint alone closes, the one where another Pod breaks these least; None where there is none."""
    hard, soft = [each for each in skews if not each.soft], [each for each in skews if each.soft]
    open_ones = [entry for entry in parked if not any(skew.beyond(entry[2]) for skew in hard)] if soft else []
    return min(open_ones, key=lambda entry: (sum(skew.beyond(entry[2]) for skew in soft), entry), default=None)
