"""What the web face asks the observer for. The observer's actor implements ``View``; the web face knows nothing of
Ray.
"""

from typing import Any, Protocol

import msgspec

Json = dict[str, Any]


class Check(msgspec.Struct, frozen=True):
    """One condition of health or readiness, with the reason when it does not hold.

    ``required=False``: told, but does not hold readiness back (a cluster that is down, after ``syncDeadline``).
    """

    name: str
    ok: bool
    reason: str = ""
    required: bool = True


class View(Protocol):
    """The observer's knowledge, as plain JSON-able values.

    ``status()`` has the keys ``fleet, generation, now (Unix seconds), leader {epoch, incarnation, lock, node, since,
    alive},
    ready, switches``. List items of the other calls:

    - clusters: ``name, role, reachable, breaker, synced, objects, lag_seconds, shard, version, labels``;
    - shards: ``name, term, generation, node, state, clusters, standby, memory_bytes, permit_left_seconds``;
    - workers: ``name, tier, node, slots, active, state, memory_bytes``;
    - lanes: ``tier, depth, delayed, in_work, oldest_ready_seconds, per_second, share``;
    - slo: what ``raycp.slo`` reports per objective (``docs/slo.md``).
    """

    async def metrics(self) -> bytes:
        """The merged page, Prometheus text."""
        ...

    async def healthy(self) -> list[Check]:
        """Is the observer itself in order, and does it hear from its actors?"""
        ...

    async def ready(self) -> list[Check]:
        """Is the fleet ready: every informer synced, a leader known, slots to work with?"""
        ...

    async def status(self) -> Json: ...

    async def clusters(self) -> list[Json]: ...

    async def shards(self) -> list[Json]: ...

    async def workers(self) -> list[Json]: ...

    async def lanes(self) -> list[Json]: ...

    async def slo(self) -> list[Json]: ...

    async def timeline(self, cluster: str, kind: str, namespace: str, name: str) -> Json | None:
        """The last changes of one object, or None when nothing is known of it."""
        ...
