"""``QueueReport``: writes the queues' status to the hub, once a second at most, where it has changed."""

import logging
from typing import Any, Protocol

import msgspec

from raycp.base.clock import Clock
from raycp.kube.errors import KubeError
from raycp.scheduler.answers import usage_rows
from raycp.scheduler.core import FleetScheduler
from raycp.scheduling.queues import QueueStatus
from raycp.sdk import conditions

log = logging.getLogger(__name__)


class QueueStore(Protocol):
    """Writes to ``Queue`` objects."""

    @property
    def writable(self) -> bool: ...

    async def patch_queue(self, name: str, body: bytes) -> None:
        """One fenced merge patch of a queue's status. Raises ``KubeError``."""
        ...


class QueueReport:
    """One scheduler's. A write that fails is repeated with the next step: the status is for people, and no decision reads it."""

    def __init__(self, scheduler: FleetScheduler, store: QueueStore, clock: Clock) -> None:
        self._scheduler = scheduler
        self._store = store
        self._clock = clock
        self._written: dict[str, dict[str, Any]] = {}
        self._since: dict[str, tuple[str, str]] = {}

    async def step(self) -> None:
        """Write what has changed."""
        if not (self._scheduler.ready and self._store.writable):
            self._written.clear()
            return
        for status in self._scheduler.queue_status():
            if not status.name:  # of jobs without a queue: no object
                continue
            shown = self._shown(status)
            if self._written.get(status.name) == shown:
                continue
            try:
                await self._store.patch_queue(status.name, msgspec.json.encode({"status": shown}))
            except KubeError as error:
                log.debug("the status of queue %s is not written: %s", status.name, error)
                continue
            self._written[status.name] = shown
        self._written = {name: shown for name, shown in self._written.items() if name in self._scheduler.queues.specs}

    def _shown(self, status: QueueStatus) -> dict[str, Any]:
        return {
            "pending": status.pending,
            "admitted": status.admitted,
            "share": round(status.share, 4),
            "usage": usage_rows(status),
            "conditions": [self._active(status.name)],
        }

    def _active(self, name: str) -> dict[str, Any]:
        queues = self._scheduler.queues
        spec, problem = queues.specs.get(name), queues.problems.get(name, "")
        held = spec is not None and spec.stop == "Hold"
        reason = "Invalid" if problem else "Held" if held else "Ready"
        at, before = self._since.get(name, ("", ""))
        if before != reason:
            at = conditions.time_text(self._clock.wall())
            self._since[name] = (at, reason)
        return {
            "type": "Active",
            "status": "True" if reason == "Ready" else "False",
            "reason": reason,
            "message": problem or ("stopPolicy is Hold" if held else "jobs are admitted"),
            "lastTransitionTime": at,
        }
