"""``ClusterCapacity``: nodes and Pods of a cluster in, one by one as they change; a ``CapacitySummary`` out.

Costs O(1) per change, and for a summary O(nodes). Told twice, or in any order, an object counts once.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import TypeVar

import msgspec

from raycp.base.quantities import added
from raycp.scheduling.capacity import CapacitySummary, NodeGroup, PodCount, RoomBin
from raycp.scheduling.labels import TaintSpec

MAX_GROUPS = 64
"""Groups of a summary. A label key that would make more (``kubernetes.io/hostname``) is left out."""

MAX_SIZES = 16
"""Different ``allocatable`` of nodes, where a summary has too many groups: it is rounded down to that end. Machines of one kind
differ by some kilobytes of memory, and labels are worth more than those."""

FINEST, COARSEST = 8, 3
"""Leading binary digits that are kept: at first, and in the end."""

MAX_BINS = 32
"""Bins of a group: beyond it, free room is rounded down to a 16th of what is allocatable."""

MAX_POD_COUNTS = 64
"""Different Pods that ``pending`` tells apart; the rest are told as their average, rounded up."""

_GRAINS = 16
Frozen = tuple[tuple[str, int], ...]
K = TypeVar("K")


class NodeState(msgspec.Struct, frozen=True):
    """A node. ``takes_pods``: it is ready and not cordoned."""

    allocatable: dict[str, int]
    labels: dict[str, str] = {}
    taints: tuple[TaintSpec, ...] = ()
    takes_pods: bool = True


class PodState(msgspec.Struct, frozen=True):
    """A Pod that has not ended. ``node``: empty while it is pending. ``job``: the uid of the admitted job that it belongs to, which
    has its room by its record; else empty."""

    requests: dict[str, int]
    node: str = ""
    job: str = ""


class ClusterCapacity:
    """What is known of one cluster."""

    def __init__(self, cluster: str) -> None:
        self.cluster = cluster
        self._nodes: dict[str, NodeState] = {}
        self._pods: dict[str, tuple[Frozen, str, str]] = {}
        self._used: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._pending: Counter[Frozen] = Counter()
        self._alike: Counter[Frozen] = Counter()
        """Pods by what they request."""
        self._jobs: Counter[str] = Counter()
        self._shapes: dict[Frozen, Frozen] = {}
        """One tuple for all Pods that request the same."""

    def set_node(self, name: str, node: NodeState) -> None:
        """It is there, or has changed."""
        self._nodes[name] = node

    def remove_node(self, name: str) -> None:
        """It is gone; what is bound to it holds no room."""
        self._nodes.pop(name, None)

    def set_pod(self, uid: str, pod: PodState) -> None:
        """It is there, or has changed."""
        request = () if pod.job else tuple(sorted(pod.requests.items()))
        new = (self._shapes.setdefault(request, request), pod.node, pod.job)
        if self._pods.get(uid) != new:
            self.remove_pod(uid)
            self._pods[uid] = new
            self._count(new, 1)

    def remove_pod(self, uid: str) -> None:
        """It has ended, or is gone."""
        old = self._pods.pop(uid, None)
        if old is not None:
            self._count(old, -1)

    def _count(self, pod: tuple[Frozen, str, str], sign: int) -> None:
        request, node, job = pod
        if job:
            _shift(self._jobs, job, sign)
            return
        _shift(self._alike, request, sign)
        if not self._alike[request]:
            self._shapes.pop(request, None)
        if not node:
            _shift(self._pending, request, sign)
        else:
            used = self._used[node]
            for name, amount in request:
                _shift(used, name, sign * amount)
            if not used:
                del self._used[node]

    def summary(self) -> CapacitySummary:
        """The present state. A node on which more is used than it has counts as full."""
        sizes = self._sizes()
        left_out = self._labels_left_out(sizes)
        groups: dict[tuple[Frozen, tuple[tuple[str, str], ...], tuple[TaintSpec, ...]], tuple[list[int], Counter[Frozen]]] = {}
        for name, node in self._nodes.items():
            labels = tuple(sorted((k, v) for k, v in node.labels.items() if k not in left_out))
            allocatable = _size(node, sizes)
            count, free = groups.setdefault((allocatable, labels, node.taints), ([0], Counter()))
            count[0] += 1
            if node.takes_pods:
                used: Mapping[str, int] = self._used.get(name, {})
                free[tuple((r, max(0, amount - used.get(r, 0))) for r, amount in allocatable)] += 1
        return CapacitySummary(
            self.cluster,
            [
                NodeGroup(dict(allocatable), dict(labels), list(taints), count[0], _bins(allocatable, free))
                for (allocatable, labels, taints), (count, free) in sorted(groups.items(), key=repr)
            ],
            _pod_counts(self._pending),
            dict(self._jobs),
            sorted(left_out),
        )

    def _sizes(self) -> dict[Frozen, Frozen]:
        """What ``allocatable`` counts as, where not as it is."""
        if self._group_count({"kubernetes.io/hostname"}, {}) <= MAX_GROUPS:
            return {}
        exact = {_size(node, {}) for node in self._nodes.values()}
        sizes: dict[Frozen, Frozen] = {}
        for digits in range(FINEST, COARSEST - 1, -1):
            sizes = {size: tuple((name, _leading(amount, digits)) for name, amount in size) for size in exact}
            if len(set(sizes.values())) <= MAX_SIZES:
                break
        return sizes

    def _labels_left_out(self, sizes: Mapping[Frozen, Frozen]) -> set[str]:
        """Label keys, those of most values first, until the nodes make few enough groups."""
        values: defaultdict[str, set[str]] = defaultdict(set)
        for node in self._nodes.values():
            for key, value in node.labels.items():
                values[key].add(value)
        left_out = {"kubernetes.io/hostname"} & set(values)
        for key in sorted(values.keys() - left_out, key=lambda key: (-len(values[key]), key)):
            if len(values[key]) == 1 or self._group_count(left_out, sizes) <= MAX_GROUPS:
                break
            left_out.add(key)
        return left_out

    def _group_count(self, left_out: set[str], sizes: Mapping[Frozen, Frozen]) -> int:
        return len(
            {
                (
                    _size(node, sizes),
                    tuple(sorted((k, v) for k, v in node.labels.items() if k not in left_out)),
                    node.taints,
                )
                for node in self._nodes.values()
            }
        )


def _size(node: NodeState, sizes: Mapping[Frozen, Frozen]) -> Frozen:
    exact = tuple(sorted(node.allocatable.items()))
    return sizes.get(exact, exact)


def _leading(amount: int, digits: int) -> int:
    """Rounded down to so many binary digits."""
    rest = max(0, amount.bit_length() - digits)
    return amount >> rest << rest


def _shift(counter: Counter[K], key: K, by: int) -> None:
    counter[key] += by
    if not counter[key]:
        del counter[key]


def _bins(allocatable: Frozen, free: Counter[Frozen]) -> list[RoomBin]:
    if len(free) > MAX_BINS:
        whole = dict(allocatable)
        rounded: Counter[Frozen] = Counter()
        for room, nodes in free.items():
            rounded[tuple((name, _grain(amount, whole[name])) for name, amount in room)] += nodes
        free = rounded
    return [RoomBin(dict(room), nodes) for room, nodes in sorted(free.items())]


def _grain(amount: int, whole: int) -> int:
    """Rounded down to a 16th of ``whole``; whole units (devices) where that is less than one."""
    return amount if whole < _GRAINS else whole * (amount * _GRAINS // whole) // _GRAINS


def _pod_counts(pods: Mapping[Frozen, int]) -> list[PodCount]:
    ordered = sorted(pods.items(), key=lambda each: (-each[1], each[0]))
    counts = [PodCount(dict(request), count) for request, count in ordered[:MAX_POD_COUNTS]]
    rest = ordered[MAX_POD_COUNTS:]
    if rest:
        number = sum(count for _, count in rest)
        total: dict[str, int] = {}
        for request, count in rest:
            total = added(total, dict(request), count)
        counts.append(PodCount({name: -(-amount // number) for name, amount in total.items()}, number))
    return counts
