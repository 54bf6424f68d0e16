"""``QuotaLedger``: who uses how much of which quota, and how much more each queue may use.

Within a cohort, for a flavor and a resource (the rules of Kueue's resource nodes, for one level of cohorts):

1. a queue keeps ``nominal - lending_limit`` to itself; the rest of its nominal quota is the cohort's;
2. what a queue uses beyond what it keeps, it uses of the cohort's; all queues together at most what is the cohort's;
3. a queue uses at most ``nominal + borrowing_limit``.

Fair sharing is DRF (Ghodsi et al., 2011): the next job is one of the queue whose weighted dominant share is least. Shares are
compared
by what is borrowed first (of what the cohort lends, as Kueue's fair sharing does), since nominal quota is owned; then by all that
is
used, of what the fleet has.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping

from raycp.scheduling.queues import FlavorQuotas, FlavorResource, QueueSpec, ResourceUsage

UNLIMITED = FlavorQuotas("", ())
"""The flavor of a queue without quotas."""

Share = tuple[float, float]


class QuotaLedger:
    """The queues, and what is charged to them."""

    def __init__(self) -> None:
        self.queues: dict[str, QueueSpec] = {}
        self.fleet: dict[str, int] = {}
        """What the fleet has of each resource."""
        self._used: defaultdict[tuple[str, str, str], int] = defaultdict(int)
        self._quota: dict[tuple[str, str, str], FlavorResource] = {}
        self._cohort: dict[str, str] = {}
        self._namespaces: dict[str, str] = {}
        self._lent: defaultdict[tuple[str, str, str], int] = defaultdict(int)
        """By cohort: what is the cohort's."""
        self._taken: defaultdict[tuple[str, str, str], int] = defaultdict(int)
        """By cohort: what is used of it."""
        self._kept: defaultdict[tuple[str, str, str], int] = defaultdict(int)
        """Of what is used: what is only kept for a job that waits."""
        self._total: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
        """By queue and resource, over its flavors."""
        self._shares: dict[str, Share] = {}
        self.set_queues(())

    def set_queues(self, queues: Iterable[QueueSpec]) -> None:
        """Exchange the queues; what is charged stays."""
        self.queues = {"": QueueSpec("")} | {queue.name: queue for queue in queues}
        self._quota.clear()
        self._lent.clear()
        self._taken.clear()
        self._shares.clear()
        self._cohort = {name: queue.cohort or f"/{name}" for name, queue in self.queues.items()}
        self._namespaces = {each: name for name, queue in sorted(self.queues.items(), reverse=True) for each in queue.namespaces}
        for name, queue in self.queues.items():
            for flavor in queue.flavors:
                for resource in flavor.resources:
                    self._quota[name, flavor.name, resource.name] = resource
                    self._lent[self._cohort[name], flavor.name, resource.name] += _lendable(resource)
        for key in list(self._used):
            self._take(key, self._beyond(key))

    def set_fleet(self, allocatable: Mapping[str, int]) -> None:
        """What the fleet has."""
        self.fleet = dict(allocatable)
        self._shares.clear()

    def queue_of(self, namespace: str) -> str:
        """The queue of the jobs of a namespace that name none: the first, by name, that lists it; "" if none does."""
        return self._namespaces.get(namespace, "")

    def flavors(self, queue: str) -> tuple[FlavorQuotas, ...]:
        """The queue's flavors in order."""
        return self.queues[queue].flavors or (UNLIMITED,)

    def charge(self, queue: str, flavor: str, amounts: Mapping[str, int], sign: int = 1) -> None:
        """Add to (or, with -1, take off) what it uses."""
        self._shares.pop(queue, None)
        total = self._total[queue]
        for resource, amount in amounts.items():
            total[resource] += sign * amount
            self._add((queue, flavor, resource), sign * amount)

    def keep(self, queue: str, flavor: str, amounts: Mapping[str, int], sign: int = 1) -> None:
        """Nobody may use this, as if it were used; it counts in no share."""
        for resource, amount in amounts.items():
            key = (queue, flavor, resource)
            self._kept[key] += sign * amount
            if not self._kept[key]:
                del self._kept[key]
            self._add(key, sign * amount)

    def _add(self, key: tuple[str, str, str], amount: int) -> None:
        before = self._beyond(key)
        self._used[key] += amount
        self._take(key, self._beyond(key) - before)
        if not self._used[key]:
            del self._used[key]

    def _real(self, key: tuple[str, str, str]) -> int:
        return self._used.get(key, 0) - self._kept.get(key, 0)

    def _beyond(self, key: tuple[str, str, str]) -> int:
        quota = self._quota.get(key)
        return 0 if quota is None else max(0, self._used.get(key, 0) - (quota.nominal - _lendable(quota)))

    def _take(self, key: tuple[str, str, str], amount: int) -> None:
        if key in self._quota:
            self._taken[self._cohort[key[0]], key[1], key[2]] += amount

    def available(self, queue: str, flavor: str, resource: str) -> int | None:
        """How much more it may use now (negative where it is over its quota); None: not limited."""
        quota = self._quota.get((queue, flavor, resource))
        if quota is None:
            return None
        used = self._used.get((queue, flavor, resource), 0)
        key = (self._cohort[queue], flavor, resource)
        kept = quota.nominal - _lendable(quota)
        room = max(0, kept - used) + self._lent[key] - self._taken[key]
        if quota.borrowing_limit is not None:
            room = min(room, quota.nominal + quota.borrowing_limit - used)
        return room

    def ceiling(self, queue: str, flavor: str, resource: str) -> int | None:
        """The most that it may ever use, if nobody else uses anything; None: not limited."""
        quota = self._quota.get((queue, flavor, resource))
        if quota is None:
            return None
        most = quota.nominal - _lendable(quota) + self._lent[self._cohort[queue], flavor, resource]
        return most if quota.borrowing_limit is None else min(most, quota.nominal + quota.borrowing_limit)

    def pods(self, queue: str, flavor: str, per_pod: Mapping[str, int], wanted: int) -> tuple[int, str]:
        """How many of ``wanted`` Pods its quota allows now, and the resource that sets the limit (empty if none does)."""
        allowed, short = wanted, ""
        for resource, amount in per_pod.items():
            room = self.available(queue, flavor, resource) if amount else None
            if room is not None and room // amount < allowed:
                allowed, short = max(0, room // amount), resource
        return allowed, short

    def own_pods(self, queue: str, flavor: str, per_pod: Mapping[str, int], wanted: int) -> int:
        """How many of ``wanted`` Pods its own nominal quota has room for."""
        allowed = wanted
        for resource, amount in per_pod.items():
            quota = self._quota.get((queue, flavor, resource))
            if quota is not None and amount:
                allowed = min(allowed, (quota.nominal - self._real((queue, flavor, resource))) // amount)
        return max(0, allowed)

    def borrows(self, queue: str, flavor: str, resources: Iterable[str]) -> bool:
        """Whether it uses more than its own of one of them."""
        for resource in resources:
            quota = self._quota.get((queue, flavor, resource))
            if quota is not None and self._real((queue, flavor, resource)) > quota.nominal:
                return True
        return False

    def same_cohort(self, queue: str, other: str) -> bool:
        """Whether they lend to each other."""
        return queue in self._cohort and self._cohort[queue] == self._cohort.get(other)

    def share(self, queue: str) -> Share:
        """(borrowed, used): dominant shares divided by the weight; the least is next."""
        found = self._shares.get(queue)
        if found is None:
            found = self._shares[queue] = self._share(queue)
        return found

    def _share(self, queue: str) -> Share:
        borrowed: defaultdict[str, int] = defaultdict(int)
        lent: defaultdict[str, int] = defaultdict(int)
        spec = self.queues[queue]
        cohort = self._cohort.get(queue, "")
        for flavor in spec.flavors:
            for resource in flavor.resources:
                used = self._real((queue, flavor.name, resource.name))
                borrowed[resource.name] += max(0, used - resource.nominal)
                lent[resource.name] += self._lent[cohort, flavor.name, resource.name]
        over = max((amount / lent[name] for name, amount in borrowed.items() if amount and lent[name]), default=0.0)
        used_share = max(
            (amount / self.fleet[name] for name, amount in self._total[queue].items() if self.fleet.get(name)), default=0.0
        )
        if spec.weight <= 0:
            return (math.inf if over else 0.0), math.inf
        return over / spec.weight, used_share / spec.weight

    def usage(self, queue: str) -> tuple[ResourceUsage, ...]:
        """For people, by flavor and resource."""
        return tuple(
            ResourceUsage(flavor.name, each.name, each.nominal, used, max(0, used - each.nominal))
            for flavor in self.queues[queue].flavors
            for each in flavor.resources
            for used in [self._real((queue, flavor.name, each.name))]
        )

    def excess(self) -> list[tuple[str, str, str]]:
        """(queue or cohort, flavor, resource) of which more is used than there is: only after quota was taken away."""
        over = [key for key, amount in self._taken.items() if amount > self._lent[key]]
        for key, quota in self._quota.items():
            if quota.borrowing_limit is not None and self._used.get(key, 0) > quota.nominal + quota.borrowing_limit:
                over.append(key)
        return over


def _lendable(quota: FlavorResource) -> int:
    return quota.nominal if quota.lending_limit is None else min(quota.nominal, quota.lending_limit)
