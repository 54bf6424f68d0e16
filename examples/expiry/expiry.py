"""Deletes ConfigMaps and Secrets when their time is up, in every cluster of the fleet.

The label ``expiry.example.com/enabled: "true"`` selects an object, the annotation ``expiry.example.com/after: 30m``
says how long it lives. A plain function: it runs in a thread, and its ``ctx`` blocks.

    PYTHONPATH=examples/expiry raycp run -c examples/expiry/fleet.yaml
"""

import re
from typing import Any

from raycp import Permanent, Result, SyncContext, conditions, controller

AFTER = "expiry.example.com/after"
ENABLED = {"expiry.example.com/enabled": "true"}
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def lifetime(text: str) -> float:
    """``"30m"`` in seconds."""
    found = re.fullmatch(r"(\d+)([smhd])", text)
    if found is None:
        raise Permanent(f"{AFTER} is {text!r}: write a whole number and s, m, h or d, such as 30m")
    return int(found[1]) * SECONDS[found[2]]


def expire(ctx: SyncContext, obj: dict[str, Any]) -> Result | None:
    """Delete ``obj`` if it is old enough; else come back when it is."""
    meta = obj["metadata"]
    after = (meta.get("annotations") or {}).get(AFTER)
    if after is None or meta.get("deletionTimestamp"):
        return None
    born = conditions.parse_time(meta["creationTimestamp"]) or ctx.now()
    left = born + lifetime(after) - ctx.now()
    if left > 0:
        return Result(requeue_after=left)
    ctx.event("Expired", f"it is older than {after}")
    ctx.delete(obj)
    return None


@controller("v1/ConfigMap", name="expire-configmaps", labels=ENABLED)
def expire_configmaps(ctx: SyncContext, obj: dict[str, Any]) -> Result | None:
    return expire(ctx, obj)


@controller("v1/Secret", name="expire-secrets", labels=ENABLED)
def expire_secrets(ctx: SyncContext, obj: dict[str, Any]) -> Result | None:
    return expire(ctx, obj)
