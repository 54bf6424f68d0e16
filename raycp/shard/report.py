"""What a shard tells of itself: its clusters, its lanes, its gauges, and the timeline of an object."""

import msgspec

from raycp.base.clock import Clock
from raycp.base.keys import RequestKey
from raycp.config import TIERS
from raycp.protocol.frames import ClusterState
from raycp.protocol.report import ClusterReport, LaneReport
from raycp.shard.guard import ClusterGuard
from raycp.shard.state import ShardState


class ShardReporter:
    """Of one shard, as it is at the moment of the call."""

    def __init__(self, state: ShardState, isolation: ClusterGuard, clock: Clock) -> None:
        self._state = state
        self._isolation = isolation
        self._clock = clock

    def clusters(self) -> list[ClusterReport]:
        """A row for each, with its breaker."""
        rows = []
        for watched in self._state.clusters.values():
            row = ClusterReport(watched.name)
            watched.fill(row)
            state, reason = self._isolation.state_of(row.name)
            if state != "closed":
                row.breaker = state
                row.reason = "; ".join(part for part in (row.reason, reason) if part)
                row.reachable = row.reachable and state == "throttled"
            rows.append(row)
        return rows

    def cached_bytes(self) -> int:
        """Of all caches."""
        return sum(i.store.memory_bytes for watched in self._state.clusters.values() for i in watched.informers.values())

    def lanes(self) -> list[LaneReport]:
        """A row for each tier."""
        lanes: dict[str, LaneReport] = {tier: LaneReport(tier) for tier in TIERS}
        for depth in self._state.queue.depths():
            lane = lanes.setdefault(depth.tier, LaneReport(depth.tier))
            lane.ready += depth.ready
            lane.delayed += depth.delayed
            lane.in_flight += depth.running
            lane.oldest = max(lane.oldest, depth.oldest)
        for each in self._state.queue.delays():
            lanes.setdefault(each.tier, LaneReport(each.tier)).delay = each.p99
        return list(lanes.values())

    def states(self) -> list[ClusterState]:
        """What workers are told of the clusters."""
        plans = [watched.plan for watched in self._state.clusters.values()]
        return [
            ClusterState(row.name, plan.role, plan.labels, row.reachable, row.synced, row.reason, row.breaker)
            for row, plan in zip(self.clusters(), plans, strict=True)
        ]

    def set_gauges(self) -> None:
        self._state.queue_metrics.publish(self._state.queue)
        now = self._clock.now()
        for watched in self._state.clusters.values():
            for kind, informer in watched.informers.items():
                labels = (watched.name, str(kind))
                self._state.counts.synced.labels(*labels).set(1.0 if informer.synced else 0.0)
                self._state.counts.objects.labels(*labels).set(len(informer.store))
                self._state.counts.bytes.labels(*labels).set(informer.store.memory_bytes)
                if informer.reflector is not None:
                    self._state.counts.watch_lag.labels(*labels).set(max(0.0, now - informer.reflector.status().last_contact))

    def timeline(self, cluster: str, kind: str, namespace: str, name: str) -> dict[str, object] | None:
        """For ``raycp why``: per controller, the last steps and where the key is now."""
        rows = []
        for controller, gvk in self._state.kinds.items():
            if kind not in (str(gvk), gvk.kind):
                continue
            key = RequestKey(controller, cluster, "" if namespace == "-" else namespace, name)
            steps = [step for _, found in self._state.timelines.of(*key[1:], {controller}) for step in found]
            why = self._state.queue.why(key)
            if steps or why is not None:
                rows.append(
                    {
                        "controller": controller,
                        "queue": msgspec.to_builtins(why) if why is not None else None,
                        "steps": [{"at": step.at, "what": step.what, **step.detail} for step in steps],
                    }
                )
        return {"cluster": cluster, "kind": kind, "namespace": namespace, "name": name, "controllers": rows} if rows else None
