"""``ClusterRoom``: the free room of a cluster while decisions are made: who was given which nodes, exactly undone.

A summary tells nodes apart by their free room only, so that nodes with equal room are exchangeable; a node that something was given
of is remembered by itself.

Of nodes with equal room, the one that was touched first is used first: what is given depends on what is there, not on what was
tried before. What fits depends on nothing but the multiset of free room that is not kept. ``ClusterRoom.content`` is the sum of a
hash of each of its elements: equal again as soon as what was tried is undone, in whatever order, so that what was counted before
counts again.
"""

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from weakref import WeakValueDictionary
from zlib import crc32

from raycp.base.quantities import UNBOUNDED
from raycp.scheduling.capacity import CapacitySummary, NodeGroup
from raycp.scheduling.labels import TolerationSpec

Vector = tuple[int, ...]

_KNOWN = 64
"""Contents of a cluster whose answers are remembered."""


class PodShape:
    """What all Pods of a job need of a node. Equal shapes are one object (``PodShape.of``)."""

    __slots__ = ("__weakref__", "node_selector", "requests", "tolerations")
    _known: "WeakValueDictionary[object, PodShape]" = WeakValueDictionary()

    def __init__(
        self, requests: Mapping[str, int], node_selector: Mapping[str, str], tolerations: tuple[TolerationSpec, ...]
    ) -> None:
        self.requests, self.node_selector, self.tolerations = dict(requests), dict(node_selector), tolerations

    @classmethod
    def of(
        cls, requests: Mapping[str, int], node_selector: Mapping[str, str], tolerations: tuple[TolerationSpec, ...]
    ) -> "PodShape":
        """The one with these."""
        key = (frozenset(requests.items()), frozenset(node_selector.items()), tolerations)
        found = cls._known.get(key)
        if found is None:
            found = cls._known[key] = cls(requests, node_selector, tolerations)
        return found


class _Group:
    """Nodes of one shape. ``fresh``: untouched ones by free room; ``nodes``: the others; ``touched``: their numbers by free room,
    in order, those that are kept left out."""

    __slots__ = ("fresh", "group", "names", "nodes", "salt", "touched")

    def __init__(self, group: NodeGroup, salt: int) -> None:
        self.group, self.salt = group, salt
        self.names = tuple(group.allocatable)
        self.fresh: Counter[Vector] = Counter()
        for each in group.bins:
            self.fresh[tuple(each.free.get(name, 0) for name in self.names)] += each.nodes
        self.nodes: list[GrantedNode] = []
        self.touched: dict[Vector, list[int]] = {}

    def mark(self, free: Vector) -> int:
        """What a node with this much room adds to the content. Squared, since hashes of tuples that differ in one number nearly add
        up as the numbers do."""
        mark = hash((self.salt, free))
        return mark * mark


class GrantedNode:
    """A node that something was given of. ``mark``: of ``free``."""

    __slots__ = ("free", "home", "kept", "mark", "number")

    def __init__(self, home: _Group, free: Vector) -> None:
        self.home, self.free, self.mark, self.number = home, free, home.mark(free), len(home.nodes)
        self.kept = False
        home.nodes.append(self)
        self.show()

    def show(self) -> None:
        """It may be given out."""
        peers = self.home.touched.get(self.free)
        if peers is None:
            self.home.touched[self.free] = [self.number]
        else:
            insort(peers, self.number)

    def hide(self) -> None:
        """It may not."""
        peers = self.home.touched[self.free]
        if len(peers) == 1:
            del self.home.touched[self.free]
        else:
            del peers[bisect_left(peers, self.number)]


Need = tuple[tuple[int, int], ...]
Grant = list[tuple[GrantedNode, Need, int]]
"""What a job was given: nodes, and how many Pods of it on each."""


class ClusterRoom:
    """One cluster. Grants are by any key, one for each. ``changed`` is called with the difference in ``content`` when its room has
    changed."""

    def __init__(self, summary: CapacitySummary, changed: Callable[[int], None] = lambda by: None) -> None:
        self.summary = summary
        self.content = 0
        self._on_change = changed
        self._unknown = frozenset(summary.unknown_labels)
        salt = crc32(summary.cluster.encode()) << 16
        self._groups = [_Group(group, salt + at) for at, group in enumerate(summary.groups)]
        self._needs: dict[tuple[int, PodShape], Need | None] = {}
        self._answers: dict[PodShape, int] = {}
        """What ``room`` answers with the present content."""
        self._known = {0: self._answers}
        """Likewise, by content."""
        self._told = 0
        self._grants: dict[str, Grant] = {}
        for number, pods in enumerate(summary.pending):
            self.grant(f"pending/{number}", PodShape.of(pods.requests, {}, ()), pods.count)

    def room(self, shape: PodShape) -> int:
        """How many more such Pods fit."""
        found = self._answers.get(shape)
        if found is None:
            found = self._answers[shape] = self.count(shape)
        return found

    def count(self, shape: PodShape) -> int:
        """The same, counted anew."""
        total = 0
        for at, home in enumerate(self._groups):
            need = self._need(at, home, shape)
            if need is not None:
                for free, peers in home.touched.items():
                    total += _fit(free, need) * len(peers)
                for free, nodes in home.fresh.items():
                    if nodes:
                        total += _fit(free, need) * nodes
        return total

    def _places(self, shape: PodShape) -> Iterable[tuple[int, int, _Group, Vector, bool, Need]]:
        """(Pods a node takes, number of such nodes, group, free room, whether touched, need)."""
        for at, home in enumerate(self._groups):
            need = self._need(at, home, shape)
            if need is None:
                continue
            for free, peers in home.touched.items():
                if fit := _fit(free, need):
                    yield fit, len(peers), home, free, True, need
            for free, nodes in home.fresh.items():
                if nodes and (fit := _fit(free, need)):
                    yield fit, nodes, home, free, False, need

    def _need(self, at: int, home: _Group, shape: PodShape) -> Need | None:
        key = (at, shape)
        if key not in self._needs:
            wanted = {name: amount for name, amount in shape.requests.items() if amount > 0}
            fits = home.group.takes(shape.node_selector, shape.tolerations, self._unknown) and wanted.keys() <= set(home.names)
            self._needs[key] = tuple((home.names.index(name), amount) for name, amount in wanted.items()) if fits else None
        return self._needs[key]

    def grant(self, key: str, shape: PodShape, count: int) -> int:
        """Give ``count`` Pods room, on the nodes that take fewest of them first; returns how many got it. Adds to an earlier
        grant."""
        granted = 0
        given = self._grants.setdefault(key, [])
        for fit, nodes, home, free, touched, need in sorted(self._places(shape), key=_order):
            for _ in range(nodes):
                if granted >= count:
                    break
                pods = min(fit, count - granted)
                if touched:
                    node = home.nodes[home.touched[free][0]]
                else:
                    home.fresh[free] -= 1
                    node = GrantedNode(home, free)
                self._shift(node, need, -pods)
                given.append((node, need, pods))
                granted += pods
        if granted:
            self._changed()
        if not given:
            del self._grants[key]
        return granted

    def granted(self, key: str) -> int:
        """How many Pods have room under this key."""
        return sum(pods for _, _, pods in self._grants.get(key, ()))

    def shrink(self, key: str, count: int) -> None:
        """Leave room for ``count`` Pods of a grant."""
        given = self._grants.get(key, [])
        over = self.granted(key) - count
        while given and over > 0:
            node, need, pods = given.pop()
            back = min(pods, over)
            self._shift(node, need, back)
            if pods > back:
                given.append((node, need, pods - back))
            over -= back
        if not given:
            self._grants.pop(key, None)
        self._changed()

    def revoke(self, key: str) -> Grant | None:
        """Take back what was given. The answer is for ``restore``."""
        grant = self._grants.pop(key, None)
        if grant is not None:
            for node, need, pods in grant:
                self._shift(node, need, pods)
            self._changed()
        return grant

    def nodes_of(self, key: str) -> list[GrantedNode]:
        """The nodes of a grant."""
        return [node for node, _, _ in self._grants.get(key, ())]

    def keep(self, nodes: Iterable[GrantedNode], *, kept: bool) -> None:
        """Nodes of this cluster that nothing more is given of, or that are free again for all."""
        for node in nodes:
            if node.kept != kept:
                node.kept = kept
                if kept:
                    node.hide()
                    self.content -= node.mark
                else:
                    node.show()
                    self.content += node.mark
        self._changed()

    def _shift(self, node: GrantedNode, need: Need, times: int) -> None:
        """Add ``times`` Pods' need to what is free of it."""
        free = list(node.free)
        for at, amount in need:
            free[at] += times * amount
        new = tuple(free)
        mark = node.home.mark(new)
        if node.kept:
            node.free = new
        else:
            node.hide()
            node.free = new
            node.show()
            self.content += mark - node.mark
        node.mark = mark

    def _changed(self) -> None:
        content = self.content
        if content != self._told:
            by, self._told = content - self._told, content
            answers = self._known.get(content)
            if answers is None:
                if len(self._known) >= _KNOWN:
                    self._known.clear()
                answers = self._known[content] = {}
            self._answers = answers
            self._on_change(by)

    def restore(self, key: str, grant: Grant) -> None:
        """Give the same nodes again; what was given since then must have been taken back."""
        for node, need, pods in grant:
            self._shift(node, need, -pods)
        self._grants[key] = grant
        self._changed()


def _order(place: tuple[int, int, _Group, Vector, bool, Need]) -> tuple[int, bool, int, Vector]:
    fit, _, home, free, touched, _ = place
    return fit, not touched, home.salt, free


def _fit(free: Vector, need: Need) -> int:
    least = UNBOUNDED
    for at, amount in need:
        times = free[at] // amount
        if times < least:
            least = times
            if least <= 0:
                return 0
    return least
