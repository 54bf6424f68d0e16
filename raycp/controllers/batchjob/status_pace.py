"""How often a status is written that only says that more Pods are active, or how many are ready: that changes often, and is rarely
waited for."""

from collections.abc import Mapping, Sequence
from typing import Any

from raycp.controllers.batchjob.pods import JobPod

QUIET = 1.0
"""Seconds: such a status is written no more often than this, and no later after a change."""

_SOFT = frozenset({"active", "ready", "duration", "tier"})
_USUAL = frozenset({"AllReady", "NotAllReady"})
_SKEW = 2.0  # seconds that a member's clock may be ahead of what was measured; times beyond it are not trusted


def seconds_to_wait(old: Mapping[str, Any], new: Mapping[str, Any], pods: Sequence[JobPod], now: float) -> float | None:
    """How long the write of ``new`` waits; None where it is written now. It waits for what has changed just now, never for what
    had changed before: the changes of a large job that starts may go on for minutes."""
    if not soft_only(old, new):
        return None
    created = sum(_fresh(pod.created, now) for pod in pods if not pod.ended)
    turned = sum(_fresh(pod.ready_changed, now) for pod in pods if not pod.ended)
    if not created and not turned:
        return None
    more, ready = new["active"] - (old.get("active") or 0), new["ready"] - (old.get("ready") or 0)
    return QUIET if more <= created and abs(ready) <= turned else None


def _fresh(at: float, now: float) -> bool:
    return -_SKEW <= now - at < QUIET


def soft_only(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether two statuses differ in nothing else."""
    return bool(old) and old != new and _hard(old) == _hard(new) and (old.get("active") or 0) <= new["active"]


def _hard(status: Mapping[str, Any]) -> dict[str, Any]:
    hard = {key: value for key, value in status.items() if key not in _SOFT}
    if hard.get("phase") in ("Pending", "Running"):
        hard["phase"] = "Running"
    hard["clusters"] = [{k: v for k, v in entry.items() if k not in _SOFT} for entry in status.get("clusters") or ()]
    hard["conditions"] = [_known(c) for c in status.get("conditions") or ()]
    return hard


def _known(condition: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of ``PodsReady``, what keeps Pods from running."""
    if condition.get("type") != "PodsReady":
        return condition
    return {"type": "PodsReady", "trouble": condition.get("reason") if condition.get("reason") not in _USUAL else ""}
