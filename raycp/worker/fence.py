"""``WriteFence``: permit, epoch and term of a write, checked immediately before it is sent (law 6e)."""

import logging
import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import NoReturn, Protocol

from raycp.base.tasks import Task, change_of
from raycp.kube import Fenced, WriteGuard, WriteStamp
from raycp.metrics import Metrics, ReconcileMetrics
from raycp.protocol.plan import Plan

log = logging.getLogger(__name__)


CHANGE_HEADER = "X-Raycp-Change"
"""The id of the change that a write comes from (``change_of``); absent where the object is gone."""


class WritePermits(Protocol):
    """The worker's permit, as the fence needs it; readable from the user loop."""

    epoch: int

    @property
    def terms(self) -> Mapping[str, int]:
        """The newest term known of each shard."""
        ...

    def left(self) -> float:
        """Seconds that remain of the permit."""
        ...


class VoidHandouts:
    """Hand-outs that a shard has revoked and this worker says not to have: if a reconcile of one runs nevertheless, it may not
    write, since the key is handed out again (law 1). Written on the actor's loop, read on the user loop."""

    MOST = 10_000

    def __init__(self) -> None:
        self._ids: OrderedDict[tuple[str, int], None] = OrderedDict()

    def add(self, shard: str, identity: int) -> None:
        """This hand-out may write no more."""
        self._ids[shard, identity] = None
        while len(self._ids) > self.MOST:
            self._ids.popitem(last=False)

    def __contains__(self, task: Task) -> bool:
        return bool(self._ids) and (task.shard, task.id) in self._ids


class WriteFence:
    """One per worker. Lives on the user loop."""

    def __init__(self, permits: WritePermits, metrics: Metrics, void: VoidHandouts) -> None:
        self._void = void
        self._permits = permits
        self._refused = ReconcileMetrics(metrics).refused_writes
        self._headers: dict[tuple[int, str, int], dict[str, str]] = {}

    def guard(self, task: Task, cluster: str) -> WriteGuard:
        """A check for one write of ``task`` to ``cluster``: returns the write's headers and time limit. Raises ``Fenced``."""
        key = (task.epoch, task.shard, task.term)
        headers = self._headers.get(key)
        if headers is None:
            headers = {"X-Raycp-Epoch": str(task.epoch), "X-Raycp-Shard": task.shard, "X-Raycp-Term": str(task.term)}
            self._headers[key] = headers
        permits = self._permits

        def stamp() -> WriteStamp:
            left = permits.left()
            if left <= 0:
                self._refuse(cluster, "permit", "the permit to write has ended")
            if task.epoch < permits.epoch:
                self._refuse(cluster, "epoch", f"epoch {task.epoch} has ended, this is epoch {permits.epoch}")
            if task in self._void:
                self._refuse(cluster, "hand-out", "the hand-out was revoked, and its key is handed out again")
            newest = permits.terms.get(task.shard, 0)
            if task.term < newest:
                self._refuse(cluster, "term", f"term {task.term} of shard {task.shard} has ended, this is term {newest}")
            change = change_of(task)
            return WriteStamp({**headers, CHANGE_HEADER: change} if change else headers, None if left == math.inf else left)

        return stamp

    def update(self, plan: Plan) -> None:
        """Count from 0 for the clusters of ``plan``, so that the first refusal is an increase."""
        for cluster in plan.clusters:
            for reason in ("permit", "epoch", "term"):
                self._refused.labels(cluster.name, reason)

    def _refuse(self, cluster: str, reason: str, message: str) -> NoReturn:
        self._refused.labels(cluster, reason).inc()
        log.warning("a write to cluster %s was refused: %s", cluster, message)
        raise Fenced(message)
