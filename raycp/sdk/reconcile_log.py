"""The log of one reconcile: ``ctx.log``."""

import logging
from typing import Any

from raycp.base.tasks import Task


class ReconcileLog(logging.LoggerAdapter[logging.Logger]):
    """Adds the reconcile's fields to each record, beside the caller's own ``extra``."""

    def process(self, msg: Any, kwargs: Any) -> tuple[Any, Any]:
        """See ``logging.LoggerAdapter.process``."""
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs


def reconcile_log(controller: str, task: Task) -> ReconcileLog:
    """A logger whose records carry controller, cluster, key (``namespace/name``), attempt, tier and reason."""
    key = task.key
    fields = {
        "controller": controller,
        "cluster": key.cluster,
        "key": f"{key.namespace}/{key.name}" if key.namespace else key.name,
        "attempt": task.attempt,
        "tier": task.tier,
        "reason": task.reason,
    }
    return ReconcileLog(logging.getLogger(f"raycp.controller.{controller}"), fields)
