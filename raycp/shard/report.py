"""A shard's report: its clusters, lanes and gauges, and the timeline of an object."""

import msgspec

from raycp.base.clock import Clock
from raycp.base.keys import RequestKey
from raycp.config import TIERS
from raycp.metrics import ReflectorMetrics
from raycp.protocol.frames import ClusterState
from raycp.protocol.report import ClusterReport, LaneReport, Report
from raycp.queueing.events import QueueMetrics
from raycp.shard.caches import Caches
from raycp.shard.guard import ClusterGuard
from raycp.shard.ledger import Ledger
from raycp.shard.routes import Routes


class ShardReporter:
    """Describes one shard at the moment of the call."""

    def __init__(
        self,
        clock: Clock,
        routes: Routes,
        caches: Caches,
        ledger: Ledger,
        guard: ClusterGuard,
        counts: ReflectorMetrics,
        queue_metrics: QueueMetrics,
    ) -> None:
        self._clock = clock
        self._routes = routes
        self._caches = caches
        self._ledger = ledger
        self._guard = guard
        self._counts = counts
        self._queue_metrics = queue_metrics

    def clusters(self) -> list[ClusterReport]:
        """A row for each, with its breaker."""
        rows = []
        for watched in self._caches:
            row = ClusterReport(watched.name)
            watched.fill(row)
            state, reason = self._guard.state_of(row.name)
            if state != "closed":
                row.breaker = state
                row.reason = "; ".join(part for part in (row.reason, reason) if part)
                row.reachable = row.reachable and state == "throttled"
            rows.append(row)
        return rows

    def fill(self, report: Report) -> None:
        """Put clusters, caches and lanes into a report."""
        report.clusters = self.clusters()
        report.cached_bytes = self.cached_bytes()
        report.lanes = self.lanes()
        report.busy = sum(lane.in_flight for lane in report.lanes)

    def cached_bytes(self) -> int:
        """Memory of all caches, in bytes."""
        return sum(i.store.memory_bytes for watched in self._caches for i in watched.informers.values())

    def lanes(self) -> list[LaneReport]:
        """A row for each tier."""
        lanes: dict[str, LaneReport] = {tier: LaneReport(tier) for tier in TIERS}
        for depth in self._ledger.queue.depths():
            lane = lanes.setdefault(depth.tier, LaneReport(depth.tier))
            lane.ready += depth.ready
            lane.delayed += depth.delayed
            lane.in_flight += depth.running
            lane.oldest = max(lane.oldest, depth.oldest)
        for each in self._ledger.queue.delays():
            lanes.setdefault(each.tier, LaneReport(each.tier)).delay = each.p99
        return list(lanes.values())

    def states(self) -> list[ClusterState]:
        """The clusters' states, as workers receive them."""
        plans = [watched.plan for watched in self._caches]
        return [
            ClusterState(row.name, plan.role, plan.labels, row.reachable, row.synced, row.reason, row.breaker)
            for row, plan in zip(self.clusters(), plans, strict=True)
        ]

    def set_gauges(self) -> None:
        self._queue_metrics.publish(self._ledger.queue)
        now = self._clock.now()
        for watched in self._caches:
            if folded := watched.budget.take_folded():
                self._counts.folded.labels(watched.name).inc(folded)
            for kind, informer in watched.informers.items():
                labels = (watched.name, str(kind))
                self._counts.synced.labels(*labels).set(1.0 if informer.synced else 0.0)
                self._counts.objects.labels(*labels).set(len(informer.store))
                self._counts.bytes.labels(*labels).set(informer.store.memory_bytes)
                if informer.reflector is not None:
                    self._counts.watch_lag.labels(*labels).set(max(0.0, now - informer.reflector.status().last_contact))
                    self._counts.refused.labels(*labels).set(1.0 if informer.refused else 0.0)
                    self._counts.unreadable.labels(*labels).set(informer.reflector.unreadable.count)

    def timeline(self, cluster: str, kind: str, namespace: str, name: str) -> dict[str, object] | None:
        """For ``raycp why``: per controller, the last steps and where the key is now."""
        rows = []
        for controller, gvk in self._routes.kind_of.items():
            if kind not in (str(gvk), gvk.kind):
                continue
            key = RequestKey(controller, cluster, "" if namespace == "-" else namespace, name)
            steps = [step for _, found in self._ledger.timelines.of(*key[1:], {controller}) for step in found]
            why = self._ledger.queue.why(key)
            if steps or why is not None:
                rows.append(
                    {
                        "controller": controller,
                        "queue": msgspec.to_builtins(why) if why is not None else None,
                        "steps": [{"at": step.at, "what": step.what, **step.detail} for step in steps],
                    }
                )
        return {"cluster": cluster, "kind": kind, "namespace": namespace, "name": name, "controllers": rows} if rows else None
