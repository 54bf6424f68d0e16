"""``FailureEvents``: a Warning Event on the object of a reconcile that failed, for ``kubectl describe``.

Equal ones are a series with a count (``EventRecorder``). New ones are limited per process, since a controller that fails for all of
its objects must not spend the cluster's client budget on saying so; the others are in ``raycp errors``. None is made for what is no
fault of the controller's or its object's: a conflict, a cluster that can't be reached, a ``Retry`` that the author asked for.
"""

import logging
from collections import OrderedDict

import msgspec

from raycp.base.budgets import KeyedBudgets
from raycp.base.clock import Clock
from raycp.base.keys import GVK
from raycp.base.selections import selection_of
from raycp.base.tasks import Done, Outcome, Task
from raycp.kube.errors import BadAnswer, CircuitOpen, NoCredentials, Throttled, Unreachable
from raycp.metrics.recorder import scrub_error, split_place
from raycp.sdk.backend import Backend
from raycp.sdk.event_recorder import event_for
from raycp.sdk.results import Retry

log = logging.getLogger(__name__)

REASON = "ReconcileFailed"
GAVE_UP = "ReconcileGaveUp"
"""Reason where the controller gave up until the object changes (``Permanent``)."""

BURST = 50
PER_SECOND = 2.0
"""Objects that get their first Event; further counts of a series cost nothing here."""

KNOWN = 4096
"""Objects that are remembered as having one."""

_SILENT = frozenset(
    {"ApiError 409", *(each.__name__ for each in (Retry, Unreachable, BadAnswer, NoCredentials, CircuitOpen, Throttled))}
)


class _Meta(msgspec.Struct):
    name: str
    namespace: str = ""
    uid: str = ""
    resourceVersion: str = ""


class _Object(msgspec.Struct):
    metadata: _Meta


class FailureEvents:
    """One worker's. Call on the user loop."""

    def __init__(self, backend: Backend, clock: Clock) -> None:
        self._backend = backend
        self._clock = clock
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._budget: KeyedBudgets[None] = KeyedBudgets(BURST, PER_SECOND, 1)

    def ended(self, task: Task, done: Done, kind: GVK) -> None:
        """The reconcile of ``task`` has ended, and did not succeed. Never raises, never waits."""
        if done.outcome is Outcome.INTERRUPTED or done.error_class in _SILENT or task.raw is None:
            return
        try:
            self._record(task, done, kind, task.raw)
        except Exception:  # law 12: the acknowledgement matters more
            log.exception("no Event could be made about %s", task.key)

    def _record(self, task: Task, done: Done, kind: GVK, raw: bytes) -> None:
        if selection_of(task.key) is not None:
            return
        meta = msgspec.json.decode(raw, type=_Object).metadata
        if not self._admit((task.key.cluster, meta.uid or f"{meta.namespace}/{meta.name}")):
            return
        obj = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": msgspec.to_builtins(meta)}
        cause, place = split_place(scrub_error(done.error))
        note = f"controller {task.key.controller}: {cause}{f' ({place})' if place else ''}"
        reason = GAVE_UP if done.outcome is Outcome.PERMANENT else REASON
        now = self._clock.wall()
        event = event_for(obj, "Warning", reason, note, "Reconcile", f"raycp.io/{task.key.controller}", task.shard, now)
        self._backend.event(task, task.key.cluster, msgspec.json.encode(event))

    def _admit(self, about: tuple[str, str]) -> bool:
        if about not in self._known and not self._budget.take(None, self._clock.now()):
            return False
        self._known[about] = None
        self._known.move_to_end(about)
        while len(self._known) > KNOWN:
            self._known.popitem(last=False)
        return True
