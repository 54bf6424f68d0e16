"""Which Pods make room for one of higher priority: kube-scheduler's default preemption. Pure.

As ``pkg/scheduler/framework/preemption`` and ``plugins/defaultpreemption``: on each node the fewest victims, those whose budget
allows no disruption spared where possible; then the node whose victims matter least.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from raycp.embedded.life.fit import Asks, PodObjectSpec, Room, obstacle


class RunningPod(NamedTuple):
    """A Pod on a node. ``start``: when it started or was created, as RFC 3339."""

    node: str
    asks: Asks
    uid: str
    ns: str
    name: str
    priority: int
    start: str


@dataclass(frozen=True)
class Preemption:
    """A node and the Pods to remove from it; ``violations`` of them break a budget."""

    node: str
    victims: tuple[RunningPod, ...]
    violations: int

    def rank(self) -> tuple[int, int, int, int]:
        """What is compared first to last, less being better; then later starts are."""
        priorities = [one.priority for one in self.victims]
        return self.violations, max(priorities), sum(one + 2**31 for one in priorities), len(priorities)

    def earliest(self) -> str:
        """The earliest start of the victims of the highest priority."""
        most = max(one.priority for one in self.victims)
        return min(one.start for one in self.victims if one.priority == most)


def candidate(
    room: Room, spec: PodObjectSpec, asks: Asks, placed: Iterable[RunningPod], breaks: Callable[[list[RunningPod]], list[bool]]
) -> Preemption | None:
    """The victims on one node, if removing Pods of lower priority helps at all. ``breaks``: of which of them a budget allows no
    disruption, if they go in this order."""
    lower = [one for one in placed if one.priority < spec.priority]
    for one in lower:
        room.free(one.asks)
    try:
        if not lower or obstacle(room, spec, asks) is not None:
            return None
        # the most important first: each stays if the Pod fits all the same
        lower.sort(key=lambda one: (-one.priority, one.start))
        broken = breaks(lower)
        ordered = [one for one, bad in zip(lower, broken, strict=True) if bad]
        violating = {one.uid for one in ordered}
        ordered += [one for one, bad in zip(lower, broken, strict=True) if not bad]
        victims: list[RunningPod] = []
        for one in ordered:
            room.take(one.asks)
            if obstacle(room, spec, asks) is not None:
                room.free(one.asks)
                victims.append(one)
        for one in victims:
            room.take(one.asks)
        lower = []
        if not victims:
            return None
        return Preemption(room.name, tuple(victims), sum(one.uid in violating for one in victims))
    finally:
        for one in lower:
            room.take(one.asks)


def best(candidates: Iterable[Preemption]) -> Preemption | None:
    """The node whose victims matter least; of equal ones, that whose victims started last."""
    found: Preemption | None = None
    for one in candidates:
        if found is None or one.rank() < found.rank() or (one.rank() == found.rank() and one.earliest() > found.earliest()):
            found = one
    return found
