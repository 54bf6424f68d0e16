"""The rows of the status page's tables and of the JSON API's lists (see ``raycp.observer.View``)."""

from typing import Any

import msgspec

from raycp.metrics import Merger
from raycp.observer.view import Json
from raycp.protocol.status import FleetStatus


def cluster_rows(status: FleetStatus) -> list[Json]:
    """See ``View.clusters``."""
    return [{**_row(cluster), "lag_seconds": cluster.lag_seconds} for cluster in status.clusters]


def shard_rows(status: FleetStatus, merger: Merger) -> list[Json]:
    """See ``View.shards``."""
    memory = _memory(merger, "shard")
    return [
        {
            **_row(shard),
            "name": shard.shard,
            "standby": shard.standbys,
            "memory_bytes": memory.get(shard.shard, 0),
            "permit_left_seconds": None,
        }
        for shard in status.shards
    ]


def worker_rows(status: FleetStatus, merger: Merger) -> list[Json]:
    """See ``View.workers``."""
    memory = _memory(merger, "worker")
    return [
        {
            **_row(worker),
            "name": worker.worker,
            "active": worker.busy,
            "memory_bytes": memory.get(worker.worker, 0),
        }
        for worker in status.workers
    ]


def _row(struct: msgspec.Struct) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(struct)
    return found


def _memory(merger: Merger, role: str) -> dict[str, float]:
    """Resident bytes of each place of a role."""
    rows = merger.rows("raycp_process_resident_memory_bytes")
    return {labels["name"]: values[0] for labels, values in rows if labels["role"] == role}


class LaneRates:
    """The lanes with the rate at which items become ready: per tier, over at least the last second between two calls."""

    def __init__(self) -> None:
        self._rates: dict[str, tuple[float, float, float]] = {}
        """When the total was taken last, the total, and the rate before that."""

    def rows(self, status: FleetStatus, merger: Merger, now: float) -> list[Json]:
        """See ``View.lanes``."""
        rows = []
        for lane in status.lanes:
            total = sum(
                values[-2] if len(values) > 1 else values[0]
                for labels, values in merger.rows("workqueue_adds_total")
                if labels.get("tier") == lane.tier
            )
            then, before, rate = self._rates.setdefault(lane.tier, (now, total, 0.0))
            if now - then >= 1.0:
                rate = max(0.0, (total - before) / (now - then))
                self._rates[lane.tier] = (now, total, rate)
            rows.append(
                {
                    "tier": lane.tier,
                    "depth": lane.ready,
                    "delayed": lane.delayed,
                    "in_work": lane.in_flight,
                    "oldest_ready_seconds": lane.oldest_seconds,
                    "per_second": round(rate, 2),
                    "share": lane.share,
                }
            )
        return rows
