"""Fairness within one priority of a lane: deficit round-robin over clusters, then namespaces, then controllers.

The unit of a deficit is the mean work time: who is served pays one, and what its work really took is settled at its
end. Beside its deficit, nobody takes more than an equal part of the slots in use here while others wait; so long work
in one namespace does not fill all slots before its first end is seen.

What can't be served steps aside and costs nothing while it waits: a cluster at its limit leaves the ring of clusters,
the keys of a controller at its cap leave the ring of their namespace. When a slot of theirs comes free they step back
in. (Source: Shreedhar and Varghese, Efficient Fair Queuing using Deficit Round Robin, 1995.)
"""

from collections import OrderedDict, deque

from raycp.queueing.entry import Entry

MAX_DEBT = 16.0
"""The most, in mean work times, that one overlong piece of work is held against its namespace and cluster."""


class ClusterState:
    """What is in flight in one cluster, over all lanes, and how much may be."""

    __slots__ = ("in_flight", "limit", "name", "override", "parked", "why")

    def __init__(self, name: str, limit: float) -> None:
        self.name = name
        self.in_flight = 0
        self.limit = limit
        self.override: int | None = None
        self.why = ""
        self.parked: list[ClusterNode] = []

    def step_in(self) -> None:
        """There is room again: all its nodes return to their rings."""
        for node in self.parked:
            node.parked = False
            node.enter()
        self.parked.clear()


class ControllerState:
    """What is in flight of one controller, over all lanes, and how much may be.

    Law: in each cluster node, at least as many of the controller's leaves are in the rings as it has free slots, or
    all.
    """

    __slots__ = ("cap", "in_flight", "name", "parked")

    def __init__(self, name: str, cap: float) -> None:
        self.name = name
        self.in_flight = 0
        self.cap = cap
        self.parked: dict[ClusterNode, deque[Leaf]] = {}

    def step_in(self) -> None:
        """One slot came free: one leaf of each cluster node returns to its ring."""
        for node in list(self.parked):
            self.step_in_at(node)

    def step_in_at(self, node: "ClusterNode") -> None:
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
        """The cap was changed: everything returns."""
        while self.parked:
            self.step_in()


class Leaf:
    """The keys of one controller in one namespace, in order of arrival."""

    __slots__ = ("controller", "in_ring", "parked", "queue", "space")

    def __init__(self, space: "Space", controller: ControllerState) -> None:
        self.space = space
        self.controller = controller
        self.queue: OrderedDict[int, Entry] = OrderedDict()
        self.in_ring = False
        self.parked = False

    def enter(self) -> None:
        if not self.in_ring:
            self.in_ring = True
            self.space.ring.append(self)
        space = self.space
        if not space.in_ring:
            space.in_ring = True
            space.node.ring.append(space)
        space.node.enter()


class Space:
    """One namespace of one cluster."""

    __slots__ = ("deficit", "in_flight", "in_ring", "leaves", "node", "queued", "ring")

    def __init__(self, node: "ClusterNode") -> None:
        self.node = node
        self.leaves: dict[str, Leaf] = {}
        self.ring: list[Leaf] = []  # mostly one: a deque would cost 600 bytes for each namespace
        self.queued = 0
        self.in_flight = 0
        self.deficit = 0.0
        self.in_ring = False


class ClusterNode:
    """One cluster in one tree. ``active``: its namespaces with anything queued or in flight."""

    __slots__ = ("active", "deficit", "in_flight", "in_ring", "parked", "queued", "ring", "spaces", "state", "tree")

    def __init__(self, tree: "FairTree", state: ClusterState) -> None:
        self.tree = tree
        self.state = state
        self.spaces: dict[str, Space] = {}
        self.ring: deque[Space] = deque()
        self.queued = 0
        self.in_flight = 0
        self.deficit = 0.0
        self.active = 0
        self.in_ring = False
        self.parked = False

    def enter(self) -> None:
        if not self.in_ring and not self.parked and self.ring:
            self.in_ring = True
            self.tree.ring.append(self)


class FairTree:
    """The queue of one priority of a lane. Every operation is O(1), amortised over what was added."""

    __slots__ = ("active", "in_flight", "nodes", "queued", "ring")

    def __init__(self) -> None:
        self.nodes: dict[str, ClusterNode] = {}
        self.ring: deque[ClusterNode] = deque()
        self.queued = 0
        self.in_flight = 0
        self.active = 0

    def push(self, entry: Entry, cluster: ClusterState, controller: ControllerState, namespace: str, front: bool = False) -> None:
        """Queue ``entry``, at the front of its own (cluster, namespace, controller) if it was interrupted there."""
        name = cluster.name
        node = self.nodes.get(name)
        if node is None:
            node = self.nodes[name] = ClusterNode(self, cluster)
        space = node.spaces.get(namespace)
        if space is None:
            if len(node.spaces) > 2 * node.active + 256:
                self._prune(node)
            space = node.spaces[namespace] = Space(node)
        leaf = space.leaves.get(controller.name)
        if leaf is None:
            leaf = space.leaves[controller.name] = Leaf(space, controller)
        leaf.queue[entry.id] = entry
        if front:
            leaf.queue.move_to_end(entry.id, last=False)
        entry.leaf = leaf
        if not space.queued and not space.in_flight:
            if not node.queued and not node.in_flight:
                self.active += 1
            node.active += 1
        space.queued += 1
        node.queued += 1
        self.queued += 1
        if not leaf.parked and not (leaf.in_ring and space.in_ring and node.in_ring):
            leaf.enter()

    def discard(self, entry: Entry) -> None:
        """Take ``entry`` out of the middle."""
        leaf = entry.leaf
        assert leaf is not None
        del leaf.queue[entry.id]
        entry.leaf = None
        space = leaf.space
        node = space.node
        space.queued -= 1
        node.queued -= 1
        self.queued -= 1
        self._maybe_idle(space, node)
        if not leaf.queue and not leaf.parked and node in leaf.controller.parked:
            leaf.controller.step_in_at(node)

    def pop(self, fewer_than: int | None = None) -> Entry | None:
        """The next entry that may be served, now counted in flight; None if none may.

        ``fewer_than``: only of namespaces that hold fewer slots than this (see ``headroom``).
        """
        ring = self.ring
        patience = len(ring)
        refused = 0
        while refused < len(ring):
            node = ring[0]
            if not node.queued:
                ring.popleft()
                node.in_ring = False
                node.deficit = min(node.deficit, 0.0)
                continue
            state = node.state
            if state.in_flight >= state.limit:
                ring.popleft()
                node.in_ring = False
                node.parked = True
                state.parked.append(node)
                continue
            if len(ring) > 1:
                if node.deficit <= 0.0:
                    node.deficit += 1.0
                    if node.deficit <= 0.0:
                        refused = 0
                        ring.rotate(-1)
                        continue
                if patience > 0 and node.in_flight * self.active > self.in_flight:
                    patience -= 1
                    ring.rotate(-1)
                    continue
            entry = self._pop_from(node, fewer_than)
            if entry is None and node.ring:
                refused += 1
                ring.rotate(-1)
                continue
            if entry is None:
                ring.popleft()
                node.in_ring = False
                continue
            node.deficit = max(node.deficit - 1.0, -MAX_DEBT)
            if node.deficit <= 0.0:
                ring.rotate(-1)
            node.queued -= 1
            node.in_flight += 1
            self.queued -= 1
            self.in_flight += 1
            return entry
        return None

    @staticmethod
    def _pop_from(node: ClusterNode, fewer_than: int | None) -> Entry | None:
        """None where nothing may be served: with an empty ring for now, else because all hold too many slots."""
        ring = node.ring
        patience = len(ring)
        refused = 0
        while refused < len(ring):
            space = ring[0]
            if not space.queued:
                ring.popleft()
                space.in_ring = False
                space.deficit = min(space.deficit, 0.0)
                continue
            if fewer_than is not None and space.in_flight >= fewer_than:
                refused += 1
                ring.rotate(-1)
                continue
            if len(ring) > 1:
                if space.deficit <= 0.0:
                    space.deficit += 1.0
                    if space.deficit <= 0.0:
                        refused = 0
                        ring.rotate(-1)
                        continue
                if patience > 0 and space.in_flight * node.active > node.in_flight:
                    patience -= 1
                    ring.rotate(-1)
                    continue
            leaves = space.ring
            while leaves:
                leaf = leaves[0]
                if not leaf.queue:
                    leaves.pop(0)
                    leaf.in_ring = False
                    continue
                controller = leaf.controller
                if controller.in_flight >= controller.cap:
                    leaves.pop(0)
                    leaf.in_ring = False
                    leaf.parked = True
                    controller.parked.setdefault(node, deque()).append(leaf)
                    continue
                _, entry = leaf.queue.popitem(last=False)
                if not leaf.queue:
                    leaves.pop(0)
                    leaf.in_ring = False
                elif len(leaves) > 1:
                    leaves.append(leaves.pop(0))
                space.deficit = max(space.deficit - 1.0, -MAX_DEBT)
                space.queued -= 1
                space.in_flight += 1
                if space.deficit <= 0.0:
                    ring.rotate(-1)
                return entry
            ring.popleft()
            space.in_ring = False
        return None

    def settle(self, leaf: Leaf, cost: float) -> None:
        """An entry popped from ``leaf`` has ended; ``cost`` is its work in mean work times."""
        space = leaf.space
        node = space.node
        extra = min(cost, MAX_DEBT) - 1.0
        space.deficit = min(max(space.deficit - extra, -MAX_DEBT), 1.0)
        node.deficit = min(max(node.deficit - extra, -MAX_DEBT), 1.0)
        space.in_flight -= 1
        node.in_flight -= 1
        self.in_flight -= 1
        self._maybe_idle(space, node)

    def _maybe_idle(self, space: Space, node: ClusterNode) -> None:
        if not space.queued and not space.in_flight:
            node.active -= 1
            space.deficit = 0.0
            if not node.queued and not node.in_flight:
                self.active -= 1
                node.deficit = 0.0

    @staticmethod
    def _prune(node: ClusterNode) -> None:
        """Forget namespaces that have been quiet, so that a cluster's past ones don't pile up."""
        for name, space in list(node.spaces.items()):
            if not space.queued and not space.in_flight and not space.in_ring:
                del node.spaces[name]
