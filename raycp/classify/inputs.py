"""The inputs of a reconcile's decision, and what makes a key due when one of them changes (law 13).

| input | declared by | a change is noticed by |
|---|---|---|
| ``OBJECT`` | the controller's kind and selectors | the watch of that kind; a list after an interruption |
| ``DELETION`` | nothing: every object's own deletion counts | the same, the controller's own deletion included |
| ``CHILD`` | ``owns=`` | the watch of the child's kind, in the owner's cluster or in members |
| ``WATCHED`` | ``watches=`` | the watch of that kind, in the key's cluster or on the hub; then an index or a map function |
| ``REACHABILITY`` | ``reachability=``, and what a reconcile has found unusable | the cluster's shard |
| ``FLEET`` | ``config:``, the fleet's clusters with labels, the keys for owner marks | a new plan, compared with the one before |
| | ``credentials:`` | the same; only for keys that fail or have given up |
| ``CODE`` | the module's source | a new plan; only for keys that fail or have given up |
| ``TIME`` | ``Result(requeue_after=...)``, ``resync``, backoff | the queue's timer |

Each input has its reasons (``REASONS``), which are what metrics, ``raycp why`` and ``ctx.request.reason`` show. A reconcile that
reads anything else decides by something that nobody wakes it for.
"""

from collections.abc import Mapping
from enum import StrEnum

from raycp.classify.verdict import Reason


class Input(StrEnum):
    """See the module."""

    OBJECT = "object"
    DELETION = "deletion"
    CHILD = "child"
    WATCHED = "watched"
    REACHABILITY = "reachability"
    FLEET = "fleet"
    CODE = "code"
    TIME = "time"


REASONS: Mapping[Input, frozenset[Reason]] = {
    Input.OBJECT: frozenset({Reason.CREATE, Reason.UPDATE, Reason.STATUS, Reason.AWAY, Reason.BACKLOG, Reason.EXISTING}),
    Input.DELETION: frozenset({Reason.DELETE, Reason.AWAY}),
    Input.CHILD: frozenset({Reason.OWNED, Reason.OWNED_AWAY, Reason.BACKLOG}),
    Input.WATCHED: frozenset({Reason.WATCHED}),
    Input.REACHABILITY: frozenset({Reason.CLUSTER}),
    Input.FLEET: frozenset({Reason.FLEET, Reason.CLUSTER}),
    Input.CODE: frozenset({Reason.CODE}),
    Input.TIME: frozenset({Reason.POLL, Reason.RESYNC, Reason.RETRY}),
}
"""Input -> the reasons with which its changes make keys due."""

NO_INPUT = frozenset({Reason.OWN_WRITE, Reason.UNCHANGED, Reason.INTERRUPTED, Reason.WORKER_LOST, Reason.REQUESTED})
"""Reasons of keys that are not enqueued, whose reconcile was cut off, or that a person asked for although no input has changed."""
