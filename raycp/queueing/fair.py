"""Fairness within one priority of a lane: clusters take turns, in each cluster its namespaces, in each namespace its controllers.

Clusters and namespaces share slots by deficit round-robin (``ring``), the controllers of a namespace take simple turns. What
can't be served steps aside and costs nothing while it waits: a cluster at its limit leaves the ring of clusters, the keys of a
controller at its concurrency leave their namespace's turns. When a slot of theirs is free again they step back in.

Fair turns alone don't help a namespace whose key arrives while all slots are taken: it waits until a reconcile ends. So
``Headroom`` keeps a few slots free of namespaces that have a backlog, while others come and go without one.
"""

import math
from collections import OrderedDict, deque
from typing import Any, Generic, Protocol, TypeVar

from raycp.queueing.drr import MAX_DEBT, Ring, RingGate, RingMember

RECENT = 5.0
"""For how long a namespace that came and went is expected to come again, in seconds."""

_MOMENT = 0.001
"""Seconds after which something is over for certain."""

_OPEN = RingGate()
"""The gate of namespaces: none of them has a limit of its own."""


class Placed(Protocol):
    """What the tree needs of an entry. ``leaf``: where it is queued, or was when it was handed out."""

    id: int
    leaf: "Leaf[Any] | None"


E = TypeVar("E", bound=Placed)


class ClusterLoad(RingGate):
    """What is in flight in one cluster, over all lanes, and how much may be.

    ``override``: the limit that the shard set beside the policy's, and ``why``; ``paused``: the policy's is 0.
    """

    __slots__ = ("name", "override", "parked", "paused", "why")

    def __init__(self, name: str, limit: float) -> None:
        super().__init__(limit)
        self.name = name
        self.override: int | None = None
        self.paused = False
        self.why = ""
        self.parked: list[ClusterNode[Any]] = []

    def step_in(self) -> None:
        """There is room again: all its nodes return to their rings."""
        for node in self.parked:
            node.parked = False
            if node.ring.members:
                node.tree.ring.enter(node)
        self.parked.clear()


class ControllerLoad(RingGate):
    """What is in flight of one controller, over all lanes, and how much may be.

    In each cluster node, at least as many of the controller's leaves take turns as it has free slots, or all.
    """

    __slots__ = ("name", "parked")

    def __init__(self, name: str, limit: float) -> None:
        super().__init__(limit)
        self.name = name
        self.parked: dict[ClusterNode[Any], deque[Leaf[Any]]] = {}

    def step_in(self) -> None:
        """One slot is free again: one leaf of each cluster node returns."""
        for node in list(self.parked):
            self.step_in_at(node)

    def step_in_at(self, node: "ClusterNode[Any]") -> None:
        """One leaf of ``node`` returns."""
        leaves = self.parked.get(node)
        while leaves:
            leaf = leaves.popleft()
            leaf.parked = False
            if leaf.queue:
                leaf.enter()
                break
        if leaves is not None and not leaves:
            del self.parked[node]

    def all_in(self) -> None:
        """The limit was changed: every leaf returns."""
        while self.parked:
            self.step_in()


class Leaf(Generic[E]):
    """The keys of one controller in one namespace, in order of arrival."""

    __slots__ = ("controller", "in_ring", "parked", "queue", "space")

    def __init__(self, space: "Space[E]", controller: ControllerLoad) -> None:
        self.space = space
        self.controller = controller
        self.queue: OrderedDict[int, E] = OrderedDict()
        self.in_ring = False
        self.parked = False

    def enter(self) -> None:
        """Take turns again."""
        space = self.space
        if not self.in_ring:
            self.in_ring = True
            space.turns.append(self)
        space.node.ring.enter(space)
        space.node.tree.ring.enter(space.node)

    @property
    def full(self) -> RingGate | None:
        """The gate that keeps its keys from being served: its cluster's or its controller's; None if neither is full."""
        cluster, controller = self.space.node.gate, self.controller
        if cluster.in_flight >= cluster.limit:
            return cluster
        return controller if controller.in_flight >= controller.limit else None

    def discard(self, entry: E) -> None:
        """Withdraw ``entry`` from wherever it is in the queue."""
        entry.leaf = None
        space = self.space
        space.node.ring.discarded(space)
        space.node.tree.ring.discarded(space.node)
        self._removed(entry)

    def take(self, entry: E) -> None:
        """Serve ``entry`` outside of its turn: it is counted in flight now. Neither its cluster nor its controller is full."""
        space = self.space
        space.node.ring.taken(space)
        space.node.tree.ring.taken(space.node)
        space.node.gate.in_flight += 1
        self.controller.in_flight += 1
        self._removed(entry)

    def _removed(self, entry: E) -> None:
        del self.queue[entry.id]
        node = self.space.node
        if not self.queue and not self.parked and node in self.controller.parked:
            self.controller.step_in_at(node)

    def ended(self, cost: float) -> bool:
        """The reconcile of a key popped from here has ended; ``cost`` is what it took, in mean work times.

        Returns whether its cluster or controller was at its limit, so that more of its keys may be served now.
        """
        space, controller = self.space, self.controller
        node = space.node
        cluster = node.state
        was_full = cluster.in_flight >= cluster.limit or controller.in_flight >= controller.limit
        cluster.in_flight -= 1
        controller.in_flight -= 1
        if was_full:
            if cluster.parked and cluster.in_flight < cluster.limit:
                cluster.step_in()
            if controller.parked and controller.in_flight < controller.limit:
                controller.step_in()
        extra = min(cost, MAX_DEBT) - 1.0
        node.ring.ended(space, extra)
        node.tree.ring.ended(node, extra)
        return was_full


class Space(RingMember, Generic[E]):
    """One namespace of one cluster."""

    __slots__ = ("leaves", "node", "turns")

    def __init__(self, node: "ClusterNode[E]") -> None:
        super().__init__(_OPEN)
        self.node = node
        self.leaves: dict[str, Leaf[E]] = {}
        self.turns: list[Leaf[E]] = []  # mostly one: a deque would cost 600 bytes for each namespace


class ClusterNode(RingMember, Generic[E]):
    """One cluster in one tree."""

    __slots__ = ("ring", "spaces", "state", "tree")

    def __init__(self, tree: "FairTree[E]", state: ClusterLoad) -> None:
        super().__init__(state)
        self.tree = tree
        self.state = state
        self.spaces: dict[str, Space[E]] = {}
        self.ring: Ring[Space[E]] = Ring()

    def step_aside(self) -> None:
        self.state.parked.append(self)

    def prune(self) -> None:
        """Drop namespaces that have been quiet, so that a cluster's past ones don't pile up."""
        for name, space in list(self.spaces.items()):
            if not space.queued and not space.in_flight and not space.in_ring:
                del self.spaces[name]


class FairTree(Generic[E]):
    """The queue of one priority of a lane. Every operation is O(1), amortised over what was added."""

    __slots__ = ("nodes", "ring")

    def __init__(self) -> None:
        self.nodes: dict[str, ClusterNode[E]] = {}
        self.ring: Ring[ClusterNode[E]] = Ring()

    def push(self, entry: E, cluster: ClusterLoad, controller: ControllerLoad, namespace: str, front: bool) -> None:
        """Queue ``entry``; at the ``front`` of its own (cluster, namespace, controller) if it was interrupted there."""
        node = self.nodes.get(cluster.name)
        if node is None:
            node = self.nodes[cluster.name] = ClusterNode(self, cluster)
        space = node.spaces.get(namespace)
        if space is None:
            if len(node.spaces) > 2 * node.ring.active + 256:
                node.prune()
            space = node.spaces[namespace] = Space(node)
        leaf = space.leaves.get(controller.name)
        if leaf is None:
            leaf = space.leaves[controller.name] = Leaf(space, controller)
        leaf.queue[entry.id] = entry
        if front:
            leaf.queue.move_to_end(entry.id, last=False)
        entry.leaf = leaf
        servable = not leaf.parked
        if servable and not leaf.in_ring:
            leaf.in_ring = True
            space.turns.append(leaf)
        node.ring.added(space, servable)
        self.ring.added(node, servable)

    def pop(self, below: float = math.inf) -> E | None:
        """The next entry that may be served, now counted in flight; None if none may.

        ``below``: only of namespaces that hold fewer slots than this (see ``Headroom``).
        """
        clusters = self.ring
        while (node := clusters.turn(math.inf)) is not None:
            spaces = node.ring
            while (space := spaces.turn(below)) is not None:
                turns = space.turns
                while turns:
                    leaf = turns[0]
                    controller = leaf.controller
                    if not leaf.queue:
                        del turns[0]
                        leaf.in_ring = False
                        continue
                    if controller.in_flight >= controller.limit:
                        del turns[0]
                        leaf.in_ring = False
                        leaf.parked = True
                        controller.parked.setdefault(node, deque()).append(leaf)
                        continue
                    _, entry = leaf.queue.popitem(last=False)
                    if not leaf.queue:
                        del turns[0]
                        leaf.in_ring = False
                    elif len(turns) > 1:
                        turns.append(turns.pop(0))
                    spaces.served(space)
                    clusters.served(node)
                    node.state.in_flight += 1
                    controller.in_flight += 1
                    return entry
                spaces.drop()
            if spaces.members:
                clusters.skip()
            else:
                clusters.drop()
        return None


class Headroom:
    """Slots kept free for namespaces that come and go. ``light``: each of these with the time of its last end.

    Measured without it: ten slots full of one namespace's work of 50 ms, all begun together, p50 of the others 30 ms instead of 5.
    Where no namespace comes and goes, all slots are lent. Every operation is O(1), amortised.
    """

    __slots__ = ("lapses_at", "light")

    def __init__(self) -> None:
        self.light: OrderedDict[tuple[str, str], float] = OrderedDict()
        self.lapses_at = math.inf
        """When keys that were passed over for these namespaces may be served, if none of them comes again; infinity for none."""

    def ended(self, leaf: Leaf[Any], namespace: str, now: float) -> None:
        """A reconcile of a user's change has ended in ``leaf``."""
        space = leaf.space
        place = (space.node.state.name, namespace)
        if space.queued:
            self.light.pop(place, None)
        else:
            self.light[place] = now
            self.light.move_to_end(place)

    def below(self, spare: int, now: float) -> float:
        """How many slots a namespace may hold at most, plus one, to get one of the last ``spare`` slots."""
        light = self.light
        while light:
            place = next(iter(light))
            if now - light[place] <= RECENT:
                return spare
            del light[place]
        return math.inf

    def passed_over(self) -> bool:
        """A key may have been passed over. Returns whether ``lapses_at`` is set by that: time will let it go, and nothing else
        may (law 13)."""
        if not self.light or self.lapses_at != math.inf:
            return False
        self.lapses_at = self.light[next(reversed(self.light))] + RECENT + _MOMENT
        return True

    def promote(self, now: float) -> None:
        """It is ``now``: who was passed over until now is looked at again."""
        if self.lapses_at <= now:
            self.lapses_at = math.inf
