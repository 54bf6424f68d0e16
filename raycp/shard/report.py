"""A shard's report: its clusters and lanes, and the timeline of an object."""

from collections.abc import Iterator

import msgspec

from raycp.base.keys import GVK, RequestKey
from raycp.base.selections import mapping
from raycp.base.text import clean
from raycp.config import TIERS
from raycp.protocol.frames import ClusterState
from raycp.protocol.report import ClusterReport, LaneReport, Report
from raycp.shard.caches import Caches
from raycp.shard.convictions import Convictions
from raycp.shard.guard import ClusterGuard
from raycp.shard.ledger import Ledger
from raycp.shard.routes import Routes


class ShardReporter:
    """Describes one shard at the moment of the call."""

    def __init__(
        self,
        routes: Routes,
        caches: Caches,
        ledger: Ledger,
        guard: ClusterGuard,
        convictions: Convictions,
    ) -> None:
        self._routes = routes
        self._caches = caches
        self._ledger = ledger
        self._guard = guard
        self._convictions = convictions

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
            row.reason, row.version = clean(row.reason), clean(row.version)  # servers' words
            rows.append(row)
        return rows

    def fill(self, report: Report) -> None:
        """Put clusters, caches, lanes, suspects and failures into a report."""
        report.clusters = self.clusters()
        report.cached_bytes = self.cached_bytes()
        report.lanes = self.lanes()
        report.busy = sum(lane.in_flight for lane in report.lanes)
        self._convictions.fill(report)
        self._ledger.notes.failures.fill(report, self._convictions.name_of, self._ledger.queue.snapshot)

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
        return [
            ClusterState(
                row.name,
                watched.plan.role,
                watched.plan.labels,
                row.reachable,
                row.synced,
                row.reason,
                row.breaker,
                watched.skew(),
                watched.voided,
            )
            for row, watched in zip(self.clusters(), self._caches, strict=True)
        ]

    def timeline(self, cluster: str, kind: str, namespace: str, name: str) -> dict[str, object] | None:
        """For ``raycp why``: per controller, the last steps and where the key is now."""
        rows = []
        for controller, key in self._keys(cluster, kind, "" if namespace == "-" else namespace, name):
            steps = self._ledger.timelines.of(key)
            why = self._ledger.queue.why(key)
            if steps or why is not None:
                rows.append(
                    {
                        "controller": controller,
                        "queue": msgspec.to_builtins(why) if why is not None else None,
                        "suspicion": self._convictions.suspicion(key),
                        "steps": [{"at": step.at, "what": step.what, **step.detail} for step in steps],
                    }
                )
        return {"cluster": cluster, "kind": kind, "namespace": namespace, "name": name, "controllers": rows} if rows else None

    def _keys(self, cluster: str, kind: str, namespace: str, name: str) -> Iterator[tuple[str, RequestKey]]:
        """The keys of an object, as they are called: of the controllers of its kind, and of those that map it to others."""
        for controller in self._routes.controllers.values():
            if kind in (controller.kind, GVK.parse(controller.kind).kind):
                yield controller.name, RequestKey(controller.name, cluster, namespace, name)
            for number, watch in enumerate(controller.watches):
                if not watch.field and kind in (watch.kind, GVK.parse(watch.kind).kind):
                    label = f"{controller.name} (its map function)"
                    yield label, mapping(controller.name, cluster, number, namespace, name)
