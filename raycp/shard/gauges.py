"""A shard's gauges: what is read anew before each snapshot of its metrics."""

from raycp.base.clock import Clock
from raycp.metrics import ApiMetrics, FleetMetrics, Metrics, ReflectorMetrics
from raycp.protocol.members import Role
from raycp.queueing.events import QueueMetrics
from raycp.shard.caches import Caches
from raycp.shard.identity import ShardIdentity
from raycp.shard.ledger import Ledger
from raycp.shard.report import ShardReporter
from raycp.slo import SloTracker


class ShardGauges:
    """Of one shard's primary or standby. ``queue`` counts the shard's queue.

    A standby's caches are its own, so their gauges name its role. What is true of a cluster (reachable) or a shard (its term), the
    primary alone says.
    """

    def __init__(
        self,
        metrics: Metrics,
        clock: Clock,
        identity: ShardIdentity,
        caches: Caches,
        ledger: Ledger,
        tracker: SloTracker,
        reporter: ShardReporter,
        queue: QueueMetrics,
    ) -> None:
        self._metrics = metrics
        self._clock = clock
        self._identity = identity
        self._caches = caches
        self._reporter = reporter
        self._informers = ReflectorMetrics(metrics)
        self._api = ApiMetrics(metrics)
        self._term = FleetMetrics(metrics).term
        self._queue = queue
        metrics.before_snapshot(self._set_informers)
        metrics.before_snapshot(self._set_clusters)
        metrics.before_snapshot(lambda: queue.publish(ledger.queue))
        metrics.before_snapshot(tracker.count)
        metrics.before_snapshot(lambda: tracker.show_overdue(ledger.clocks.overdue))

    def drop_cluster(self, cluster: str) -> None:
        """The cluster has left the fleet: it leaves no series behind. (Where it moves to another shard, what was counted of it here
        is still true.)"""
        self._queue.drop(cluster)
        self._metrics.drop("cluster", cluster)

    def _set_informers(self) -> None:
        role = Role.SHARD if self._identity.term else Role.STANDBY
        found = {(cluster, str(kind), role.value): informer for cluster, kind, informer in self._caches.informers()}
        contact = {key: informer.last_contact for key, informer in found.items()}
        now = self._clock.now()
        self._informers.synced.replace({key: float(informer.synced) for key, informer in found.items()})
        self._informers.objects.replace({key: len(informer.store) for key, informer in found.items()})
        self._informers.bytes.replace({key: informer.store.memory_bytes for key, informer in found.items()})
        self._informers.refused.replace({key: float(informer.refused) for key, informer in found.items()})
        self._informers.unreadable.replace({key: informer.unreadable for key, informer in found.items()})
        self._informers.watch_lag.replace({key: max(0.0, now - at) for key, at in contact.items() if at is not None})

    def _set_clusters(self) -> None:
        self._api.in_flight.replace({(watched.name,): watched.in_flight for watched in self._caches})
        for watched in self._caches:
            self._informers.folded.labels(watched.name).inc(watched.budget.take_folded())
        term = self._identity.term
        rows = self._reporter.clusters() if term else []
        self._api.reachable.replace({(row.name,): float(row.reachable) for row in rows})
        self._term.replace({(self._identity.shard,): term} if term else {})
