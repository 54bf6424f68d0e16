"""A task whose object or children are too large to reconcile: an error of its key with a Warning Event on its object."""

import logging

import msgspec

from raycp.base.clock import Clock
from raycp.base.tasks import Done, Outcome, Task
from raycp.sdk.backend import Backend
from raycp.sdk.event_recorder import event_for

log = logging.getLogger(__name__)

RETRY = 300.0
"""Seconds after which it is looked at again; a change of the object, or of a child, does so at once."""

REASON = "TooLarge"
"""Of the Event, and the class of the error."""


class TaskTooLarge(Exception):
    """Object and children are more than a reconcile is given."""


def refuse(task: Task, why: str, backend: Backend, clock: Clock) -> Done:
    """The acknowledgement of a task that is not run. Call on the user loop."""
    error = f"too large to reconcile: {why}"
    log.warning("%s: %s", task.key, error)
    try:
        obj = msgspec.json.decode(task.raw or b"")
        event = event_for(
            obj, "Warning", REASON, error, "Reconcile", f"raycp.io/{task.key.controller}", task.shard, clock.wall()
        )
        backend.event(task, task.key.cluster, msgspec.json.encode(event))
    except Exception:
        log.exception("no Event could be made about %s", task.key)
    return Done(task.id, task.key, Outcome.RETRY, 0.0, retry_after=RETRY, error=error, error_class=REASON, too_large=True)
