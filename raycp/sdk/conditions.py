"""Conditions after ``metav1.Condition`` (Kubernetes API conventions, "Typical status properties").

The rules: one entry per type; ``lastTransitionTime`` changes only when ``status`` does; ``reason`` is CamelCase and
never empty; ``observedGeneration`` names the generation of the spec that was observed.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

_TYPE = re.compile(r"([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_REASON = re.compile(r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?")
_MESSAGE_LIMIT = 32768
_EARLIEST = datetime(1, 1, 1, tzinfo=UTC).timestamp()
_LATEST = datetime(9999, 12, 31, tzinfo=UTC).timestamp()

Condition = dict[str, Any]


def set(
    conditions: list[Condition],
    type: str,
    status: bool | str | None,
    reason: str,
    message: str = "",
    *,
    now: float,
    observed_generation: int | None = None,
) -> bool:
    """Set condition ``type`` in ``conditions`` (changed in place); returns whether anything changed.

    ``status``: True, False, or None for ``"Unknown"``. ``now`` is Unix time in seconds. Raises ``ValueError`` for a
    type or reason that the API server would refuse.
    """
    if not _TYPE.fullmatch(type) or len(type) > 316:
        raise ValueError(f"condition type {type!r} is not a qualified name")
    if not is_reason(reason):
        raise ValueError(f"reason {reason!r} of condition {type} is not CamelCase")
    text = status if isinstance(status, str) else {True: "True", False: "False", None: "Unknown"}[status]
    if text not in ("True", "False", "Unknown"):
        raise ValueError(f"status {status!r} of condition {type} is none of True, False, Unknown")
    new: Condition = {"type": type, "status": text, "reason": reason, "message": message[:_MESSAGE_LIMIT]}
    if observed_generation is not None:
        new["observedGeneration"] = observed_generation
    for at, old in enumerate(conditions):
        if old.get("type") == type:
            same = old.get("status") == text and old.get("lastTransitionTime")
            new["lastTransitionTime"] = old["lastTransitionTime"] if same else time_text(now)
            if new == old:
                return False
            conditions[at] = new
            return True
    new["lastTransitionTime"] = time_text(now)
    conditions.append(new)
    return True


def get(conditions: Sequence[Condition] | None, type: str) -> Condition | None:
    """The condition of this type; None where there is none."""
    return next((condition for condition in conditions or () if condition.get("type") == type), None)


def is_true(conditions: Sequence[Condition] | None, type: str) -> bool:
    """Whether the condition is there and True."""
    found = get(conditions, type)
    return found is not None and found.get("status") == "True"


def remove(conditions: list[Condition], type: str) -> bool:
    """Remove the condition; returns whether it was there."""
    kept = [condition for condition in conditions if condition.get("type") != type]
    changed = len(kept) != len(conditions)
    conditions[:] = kept
    return changed


def time_text(wall: float) -> str:
    """``metav1.Time`` (RFC 3339, whole seconds, UTC) of a Unix time in seconds."""
    return datetime.fromtimestamp(int(wall), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: Any) -> float | None:
    """Unix seconds of a ``metav1.Time`` or ``MicroTime``; None for none, or for what is not one that ``time_text`` can write."""
    if not text or not isinstance(text, str):
        return None
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError):
        return None
    return found if _EARLIEST <= found < _LATEST else None


def is_reason(reason: Any) -> bool:
    """Whether the API server takes it as a condition's ``reason``."""
    return isinstance(reason, str) and len(reason) <= 1024 and _REASON.fullmatch(reason) is not None


def readable(found: Any) -> list[Condition]:
    """The conditions of a stored status that can be read as such, each type once. Of those that somebody has damaged, a reason
    that is none becomes ``Unknown`` and a text or time that is none is left out, so that ``set`` can change every one."""
    read: dict[str, Condition] = {}
    for entry in found if isinstance(found, list) else ():
        if not isinstance(entry, dict) or entry.get("status") not in ("True", "False", "Unknown"):
            continue
        type = entry.get("type")
        if not isinstance(type, str) or not _TYPE.fullmatch(type) or type in read:
            continue
        kept = dict(entry)
        kept["reason"] = entry["reason"] if is_reason(entry.get("reason")) else "Unknown"
        kept["message"] = entry["message"] if isinstance(entry.get("message"), str) else ""
        if parse_time(entry.get("lastTransitionTime")) is None:
            kept.pop("lastTransitionTime", None)
        read[type] = kept
    return list(read.values())
