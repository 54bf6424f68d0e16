"""What the observer's pages and readiness say, out of the fleet's status and the merged metrics (see ``raycp.observer.View``)."""

from typing import Any

from raycp.metrics import Merger
from raycp.observer.view import Check

Rows = list[dict[str, Any]]


def leading_checks(status: dict[str, Any], passed: bool) -> list[Check]:
    """Whether a fleet that leads is ready. ``passed``: the deadline for clusters to be synced."""
    checks = [Check("leader", status.get("leader", {}).get("epoch", 0) > 0, "the hub has not recorded a leader yet")]
    for cluster in status.get("clusters", []):
        checks.append(Check(f"cluster-{cluster['name']}", cluster["synced"], cluster["reason"], required=not passed))
    slots = sum(worker["slots"] for worker in status.get("workers", []) if worker["ready"])
    checks.append(Check("workers", slots > 0, "no worker is ready"))
    return [_plain(check) for check in checks]


def standing_checks(status: dict[str, Any], hub: str, passed: bool) -> list[Check]:
    """Of a fleet that stands by: whether it may lead. A cluster that is down is excused in time, the hub never."""
    checks = [
        Check(f"cluster-{row['name']}", row["synced"], row["reason"], required=not passed or row["name"] == hub)
        for row in status.get("clusters", [])
    ]
    checks.append(Check("standbys", not status["reasons"], "; ".join(status["reasons"][:5])))
    return [_plain(check) for check in checks]


def _plain(check: Check) -> Check:
    """No reason where it holds."""
    return Check(check.name, check.ok, "" if check.ok else check.reason, check.required)


def cluster_rows(status: dict[str, Any]) -> Rows:
    """See ``View.clusters``."""
    return [{**cluster, "lag_seconds": cluster["lagSeconds"]} for cluster in status.get("clusters", [])]


def shard_rows(status: dict[str, Any], merger: Merger) -> Rows:
    """See ``View.shards``."""
    return [
        {
            **shard,
            "name": shard["shard"],
            "standby": shard["standbys"],
            "memory_bytes": _memory(merger, "shard", shard["shard"]),
            "permit_left_seconds": None,
        }
        for shard in status.get("shards", [])
    ]


def worker_rows(status: dict[str, Any], merger: Merger) -> Rows:
    """See ``View.workers``."""
    return [
        {
            **worker,
            "name": worker["worker"],
            "active": worker["busy"],
            "memory_bytes": _memory(merger, "worker", worker["worker"]),
        }
        for worker in status.get("workers", [])
    ]


def _memory(merger: Merger, role: str, place: str) -> float:
    wanted = {"role": role, "name": place}
    return sum(values[0] for labels, values in merger.rows("raycp_process_resident_memory_bytes") if labels == wanted)


class Lanes:
    """Lanes with their rates: what was added to each tier since it was last asked for, a second ago at least."""

    def __init__(self) -> None:
        self._rates: dict[str, tuple[float, float, float]] = {}

    def rows(self, status: dict[str, Any], merger: Merger, now: float) -> Rows:
        """See ``View.lanes``."""
        rows = []
        for lane in status.get("lanes", []):
            tier = lane["tier"]
            total = sum(
                values[-2] if len(values) > 1 else values[0]
                for labels, values in merger.rows("workqueue_adds_total")
                if labels.get("tier") == tier
            )
            then, before, rate = self._rates.get(tier, (now, total, 0.0))
            if now - then >= 1.0:
                rate = max(0.0, (total - before) / (now - then))
                self._rates[tier] = (now, total, rate)
            elif tier not in self._rates:
                self._rates[tier] = (now, total, 0.0)
            rows.append(
                {
                    "tier": tier,
                    "depth": lane["ready"],
                    "delayed": lane["delayed"],
                    "in_work": lane["inFlight"],
                    "oldest_ready_seconds": lane["oldestSeconds"],
                    "per_second": round(rate, 2),
                    "share": lane.get("share"),
                }
            )
        return rows
