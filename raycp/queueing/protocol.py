"""What a shard needs of a queue, so that another one can take the place of ``WorkQueue`` (``raycp bench`` brings one)."""

from collections.abc import Callable, Iterable
from random import Random
from typing import Protocol

from raycp.base.clock import Clock
from raycp.base.keys import RequestKey
from raycp.classify.verdict import Priority, Reason
from raycp.queueing.answers import Depth, Saved, TierDelay, Why
from raycp.queueing.entry import Item
from raycp.queueing.events import QueueEvents
from raycp.queueing.policy import QueuePolicy


class Queue(Protocol):
    """A queue of reconcile requests that keeps laws 1 and 2. ``WorkQueue`` documents each method; one event loop owns a queue.

    ``on_due_changed`` is called when the time of ``next_due`` has moved forward.
    """

    on_due_changed: Callable[[], None] | None

    @property
    def policy(self) -> QueuePolicy: ...

    @property
    def ready(self) -> int: ...

    def add(
        self,
        key: RequestKey,
        *,
        tier: str,
        priority: int = Priority.LIVE,
        delay: float = 0.0,
        reason: str = "",
        real: bool = True,
    ) -> bool: ...

    def next_due(self) -> float: ...

    def promote(self) -> int: ...

    def pull(self, worker: str, n: int, *, prefer: str | None = None, slots: int | None = None) -> list[Item]: ...

    def pull_held(self, worker: str, key: RequestKey, why: str) -> Item | None: ...

    def running(self, worker: str | None = None) -> list[tuple[str, RequestKey, int]]: ...

    def done(self, worker: str, key: RequestKey, *, id: int | None = None) -> bool: ...

    def retry(
        self,
        worker: str,
        key: RequestKey,
        *,
        id: int | None = None,
        retry_after: float | None = None,
        reason: str = "error",
        error: str = "",
    ) -> float | None: ...

    def requeue(
        self,
        worker: str,
        key: RequestKey,
        after: float,
        *,
        id: int | None = None,
        tier: str | None = None,
        priority: int = Priority.POLL,
        reason: str = Reason.POLL,
    ) -> bool: ...

    def interrupted(self, worker: str, key: RequestKey, *, id: int | None = None, reason: str = Reason.INTERRUPTED) -> bool: ...

    def forget_worker(self, worker: str) -> list[RequestKey]: ...

    def hold(self, key: RequestKey, why: str = "held", timeout: float | None = None) -> None: ...

    def release(self, key: RequestKey, why: str | None = None) -> bool: ...

    def held_due(self, key: RequestKey) -> float: ...

    def remove(self, key: RequestKey) -> bool: ...

    def remove_cluster(self, cluster: str) -> list[RequestKey]: ...

    def admit_cluster(self, cluster: str) -> None: ...

    def remove_controller(self, controller: str) -> int: ...

    def limit_cluster(self, cluster: str, in_flight: int | None, why: str = "") -> None: ...

    def blocked_clusters(self) -> dict[str, str]: ...

    def set_policy(self, policy: QueuePolicy) -> None: ...

    def retier(self, tier_of: Callable[[RequestKey], str | None]) -> int: ...

    def forgive(self, controller: str) -> list[RequestKey]: ...

    def snapshot(self, keys: Iterable[RequestKey] | None = None) -> list[Saved]: ...

    def restore(self, saved: Iterable[Saved], hold_running: str | None = None) -> None: ...

    def depths(self) -> list[Depth]: ...

    def oldest_ready(self) -> dict[str, float]: ...

    def delays(self) -> list[TierDelay]: ...

    def why(self, key: RequestKey) -> Why | None: ...


QueueFactory = Callable[[QueuePolicy, Clock, QueueEvents | None, Random | None], Queue]
"""Makes a shard's queue. ``RAYCP_QUEUE=module:factory`` in the environment of the fleet's actors names another one."""
