"""What keeps a Pod from running, in the words of its kubelet or scheduler. They are kept in the job's status, and so no longer than
other errors: who may write a Pod's status in a member does not decide how large a job's is."""

from collections.abc import Mapping
from typing import Any

from raycp.base.text import clean
from raycp.sdk import conditions

UNSCHEDULED = "Unschedulable"
"""Reason of condition ``PodScheduled``: no node fits at the moment (``core/v1`` PodReasonUnschedulable)."""

_STARTING = frozenset({"", "ContainerCreating", "PodInitializing"})


def trouble_of(status: Mapping[str, Any]) -> tuple[str, str] | None:
    """(reason, message) of a Pod that waits for what may not come: ``Unschedulable``, ``CrashLoopBackOff``, ``ImagePullBackOff``,
    ``CreateContainerConfigError`` and the like; None for one that is on its way, or runs."""
    scheduled = conditions.get(status.get("conditions"), "PodScheduled")
    if scheduled is not None and scheduled.get("status") == "False" and scheduled.get("reason") == UNSCHEDULED:
        return UNSCHEDULED, clean(str(scheduled.get("message") or ""))
    for part in ("initContainerStatuses", "containerStatuses"):
        for container in status.get(part) or ():
            waiting = (container.get("state") or {}).get("waiting") or {}
            reason = str(waiting.get("reason") or "")
            if reason not in _STARTING:
                return clean(reason), clean(f"container {container.get('name')}: {waiting.get('message') or reason}")
    return None


def unschedulable_since(status: Mapping[str, Any], clock_ahead: float) -> float | None:
    """Since when its scheduler finds no node for it, Unix time by our clock; None where it has one, or none was looked for."""
    scheduled = conditions.get(status.get("conditions"), "PodScheduled")
    if scheduled is None or scheduled.get("status") != "False" or scheduled.get("reason") != UNSCHEDULED:
        return None
    since = conditions.parse_time(scheduled.get("lastTransitionTime"))
    return since - clock_ahead if since is not None else None
