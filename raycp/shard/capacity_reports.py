"""``CapacityReports``: watches the capacity of this shard's members while the scheduler wants to know it, and tells its changes.

A member whose nodes the fleet file declares (``capacity``) is not watched: that is what it has.
"""

from collections.abc import Callable

from raycp.base.clock import Clock
from raycp.base.loops import Loops
from raycp.base.quantities import parse_resources
from raycp.config.clusters import ClusterSpec
from raycp.protocol.plan import Plan
from raycp.scheduler.capacity_watch import CapacityWatch, encode_summary
from raycp.scheduling.capacity import CapacitySummary, DeclaredNodes, declared_capacity
from raycp.scheduling.labels import taints_of
from raycp.shard.caches import Caches
from raycp.shard.report import ShardReporter

EVERY = 0.25
"""Seconds between two reports of one member at least."""

COSTS_AT_MOST = 0.05
"""Share of the loop's time that the summaries of one member may take."""

WANTED_FOR = 20.0
"""Seconds that a request lasts."""

Tell = Callable[[str, bytes, bool, str], None]
"""(member, summary or nothing, whether it is reachable, why it is not or is not known)."""


class CapacityReports:
    """One shard's."""

    def __init__(self, caches: Caches, reporter: ShardReporter, clock: Clock, loops: Loops, tell: Tell) -> None:
        self._caches = caches
        self._reporter = reporter
        self._clock = clock
        self._loops = loops
        self._tell = tell
        self._plan: Plan | None = None
        self._until = float("-inf")
        self._by = ""
        self._watches: dict[str, CapacityWatch] = {}
        self._changed: set[str] = set()
        self._not_before: dict[str, float] = {}
        self._told: dict[str, tuple[bytes, bool, str]] = {}

    def update(self, plan: Plan) -> None:
        """Take over ``plan``."""
        self._plan = plan

    def wanted(self, by: str) -> None:
        """The scheduler ``by`` wants to know."""
        self._until = self._clock.now() + WANTED_FOR
        if by != self._by:
            self._by, self._told = by, {}

    @property
    def active(self) -> bool:
        """Whether anybody wants to know."""
        return self._clock.now() < self._until

    @property
    def watched(self) -> list[str]:
        """Members whose nodes and Pods are watched."""
        return sorted(self._watches)

    def step(self) -> None:
        """Begin or end watches, and tell what has changed since the last step."""
        plan = self._plan
        if plan is None or not self.active:
            self.stop()
            return
        members = {spec.name: spec for spec in members_of(plan) if spec.name in self._caches}
        for name in [name for name in self._watches if name not in members or members[name].capacity]:
            self._watches.pop(name).stop()
        for state in self._reporter.states():
            if state.name in members:
                self._member(members[state.name], state.reachable, state.reason)

    def stop(self) -> None:
        """Watch nothing."""
        for watch in self._watches.values():
            watch.stop()
        self._watches.clear()
        self._changed.clear()
        self._told.clear()

    def _member(self, spec: ClusterSpec, reachable: bool, reason: str) -> None:
        name = spec.name
        told = self._told.get(name)
        if spec.capacity:
            summary, unknown = encode_summary(declared(spec)), ""
        elif spec.embedded is not None and not spec.embedded.nodes:
            summary, unknown = b"", ""  # Pods run there without a node, and without a limit
        else:
            watch = self._watches.get(name)
            watched = self._caches.cluster(name)
            if watched is None:
                return
            if watch is None:
                watch = CapacityWatch(name, self._clock, self._loops, watched.memory, lambda: self._changed.add(name))
                self._watches[name] = watch
            if watched.client is not None and watch.client is not watched.client:
                watch.start(watched.client)
                self._changed.add(name)
            began = self._clock.now()
            if (name in self._changed and began >= self._not_before.get(name, began)) or told is None:
                known = watch.summary
                summary = encode_summary(known) if known is not None else b""
                self._changed.discard(name)
                self._not_before[name] = began + (self._clock.now() - began) / COSTS_AT_MOST
            else:
                summary = told[0]
            unknown = watch.reason
            if not summary and not unknown and reachable:
                return  # it is being listed: nothing is placed there before it is known what it has
        news = (summary, reachable, reason or unknown)
        if news != told:
            self._told[name] = news
            self._tell(name, *news)


def members_of(plan: Plan) -> list[ClusterSpec]:
    """The clusters that run jobs: the members; in a fleet of one cluster, that one."""
    clusters = plan.fleet.doc.spec.clusters
    return [spec for spec in clusters if spec.role == "member"] or list(clusters)


def declared(spec: ClusterSpec) -> CapacitySummary:
    """What the fleet file says that a member has."""
    groups = [
        DeclaredNodes(
            each.nodes,
            parse_resources(each.allocatable),
            dict(each.labels),
            taints_of(each.taints),
        )
        for each in spec.capacity
    ]
    return declared_capacity(spec.name, groups)
