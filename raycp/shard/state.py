"""What the parts of a shard share: caches, queue, clocks, and the plan as lookup tables."""

import random
from collections.abc import Callable

from raycp.base.clock import Clock
from raycp.base.keys import GVK, RequestKey
from raycp.classify import TierRules
from raycp.config.tiers import TiersSpec
from raycp.member.limits import in_flight_limits
from raycp.metrics import Metrics, ReflectorMetrics, SliMetrics, WorkQueueMetrics
from raycp.protocol.plan import ControllerPlan, Plan
from raycp.queueing import QueueFactory, QueuePolicy
from raycp.queueing.events import QueueMetrics
from raycp.shard.caches import WatchedCluster
from raycp.shard.replication import TellingQueue
from raycp.shard.routes import Children, KindRoutes, children_of, routes_of
from raycp.shard.watermarks import Watermarks
from raycp.slo import Objectives, SliClocks, SloTracker, Timelines


class ShardState:
    """Plain attributes; one loop owns them. ``dispatch_soon`` asks the conductor to hand out at the end of this turn."""

    def __init__(self, shard: str, clock: Clock, rng: random.Random, queue: QueueFactory = TellingQueue) -> None:
        self.shard = shard
        self.clock = clock
        self.rng = rng
        self.metrics = Metrics()
        self.counts = ReflectorMetrics(self.metrics)
        self.queue_metrics = QueueMetrics(WorkQueueMetrics(self.metrics))
        self.queue = queue(QueuePolicy(), clock, self.queue_metrics, rng)
        self.clocks = SliClocks(clock)
        self.tracker = SloTracker(Objectives(), SliMetrics(self.metrics))
        self.timelines = Timelines(clock)
        self.rules = TierRules.compile(TiersSpec())
        self.labels: dict[str, dict[str, str]] = {}
        self.clusters: dict[str, WatchedCluster] = {}
        self.routes: dict[str, dict[GVK, KindRoutes]] = {}
        self.children: dict[tuple[str, str], list[Children]] = {}
        self.controllers: dict[str, ControllerPlan] = {}
        self.kinds: dict[str, GVK] = {}
        self.reconciled: dict[RequestKey, int] = {}
        self.marks = Watermarks()
        self.hub = ""
        self.records = ("", "")
        """Namespace and beginning of the names of the fleet's own records in the hub."""
        self.epoch = 0
        self.term = 0
        self.dispatch_soon: Callable[[], None] = lambda: None
        self.cluster_changed: Callable[[str], None] = lambda _: None

    def take(self, plan: Plan, member: str) -> None:
        """Make the lookup tables of ``plan``, and let queue and clocks work by it."""
        doc = plan.fleet.doc
        mine = next((shard for shard in plan.shards if shard.member == member), None)
        self.epoch = plan.epoch
        self.hub = plan.hub.name
        self.records = (doc.spec.state.namespace, f"raycp-{plan.fleet.name}-")
        self.term = mine.term if mine is not None else 0
        self.controllers = {controller.name: controller for controller in plan.fleet.controllers}
        self.kinds = {controller.name: GVK.parse(controller.kind) for controller in plan.fleet.controllers}
        self.labels = {cluster.name: cluster.labels for cluster in plan.clusters}
        self.rules = TierRules.compile(doc.spec.tiers, set(self.controllers))
        specs = {controller.name: doc.spec.controllers[controller.spec] for controller in plan.fleet.controllers}
        limits = in_flight_limits(plan, [cluster.name for cluster in plan.clusters if cluster.shard == self.shard])
        self.queue.set_policy(QueuePolicy.of(doc.spec.tiers, specs, limits, slots=doc.spec.workers.slots))
        objectives = Objectives.compile(doc.spec.slo)
        self.clocks.set_objectives(objectives)
        self.tracker.set_objectives(objectives)
        mine_clusters = [cluster.name for cluster in plan.clusters if cluster.shard == self.shard]
        self.routes = routes_of(plan, mine_clusters)
        self.children = children_of(plan, mine_clusters)
