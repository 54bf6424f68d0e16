"""``RemoteAdmission``: whether a request to a cluster of another shard than the key's may be sent (law 5).

A cluster that is known to fail, or whose client budget is used up, must not hold the worker's slots.
"""

import random
from typing import Protocol

from raycp.base.tasks import Task
from raycp.kube import CircuitOpen, Throttled
from raycp.member.clients import Clients
from raycp.protocol.frames import ClusterState

REMOTE_RETRY_MAX = 10.0
"""Longest pause, in seconds, before a key is retried that needs a cluster of another shard whose breaker is open."""


class KnowsStates(Protocol):
    """What the shards last reported of their clusters."""

    def state(self, cluster: str) -> ClusterState | None: ...


class RemoteAdmission:
    """One per worker. ``slots`` are the worker's; it lives on the user loop."""

    def __init__(self, clusters: KnowsStates, clients: Clients) -> None:
        self.slots = 0
        self._clusters = clusters
        self._clients = clients

    def check(self, task: Task, cluster: str) -> None:
        """Raises ``CircuitOpen`` or ``Throttled`` where the request may not be sent; the key is retried later."""
        state = self._clusters.state(cluster)
        if state is not None and state.breaker in ("open", "half-open"):
            wait = min(REMOTE_RETRY_MAX, 2.0 ** min(task.attempt - 1, 10)) * random.uniform(0.75, 1.25)
            raise CircuitOpen(cluster, state.reason.removeprefix("breaker open: "), wait)
        tokens = self._clients.token_pools.get(cluster)
        if tokens is not None and tokens.waiting > self.slots // 2:
            raise Throttled(cluster, 0.0)
