"""``WriteFence``: permit, epoch and term of a write, checked immediately before it is sent (law 6e)."""

import logging
import math
from collections.abc import Mapping
from typing import NoReturn, Protocol

from raycp.base.tasks import Task
from raycp.kube import Fenced, WriteGuard, WriteStamp
from raycp.metrics import Metrics, ReconcileMetrics
from raycp.protocol.plan import Plan

log = logging.getLogger(__name__)


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


class WriteFence:
    """One per worker. Lives on the user loop."""

    def __init__(self, permits: WritePermits, metrics: Metrics) -> None:
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
            newest = permits.terms.get(task.shard, 0)
            if task.term < newest:
                self._refuse(cluster, "term", f"term {task.term} of shard {task.shard} has ended, this is term {newest}")
            return WriteStamp(headers, None if left == math.inf else left)

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
