"""What the HTTP server asks for: ``View``. The server itself knows neither members nor Ray."""

from collections.abc import Collection
from typing import Any, Protocol

from raycp.metrics.exposition import MetricsPage
from raycp.protocol.fleet_verdict import FleetVerdict
from raycp.protocol.job_query import JobQuery
from raycp.protocol.status import Check

Json = dict[str, Any]


class View(Protocol):
    """The observer's knowledge, as plain JSON-able values.

    ``status()`` is ``raycp.protocol.status.FleetStatus`` as JSON, with ``now`` (Unix seconds), and with ``alive`` and ``node`` in
    ``leader``. List items of the other calls:

    - clusters: ``name, role, reachable, breaker, synced, objects, lag_seconds, shard, version, closed, paused, labels``, and of the
      requests of reconcilers to it ``requests_per_second, errors_per_second, p99_seconds, in_flight``;
    - controllers: ``name, kind, paused, clusters, objects, per_second, errors_per_second, p99_seconds, active, ready, failing``,
      the last of those that ``errors`` lists;
    - shards: ``name, term, generation, node, state, clusters, standby, memory_bytes, permit_left_seconds``;
    - workers: ``name, tier, node, slots, active, state, memory_bytes``;
    - lanes: ``tier, depth, delayed, in_work, oldest_ready_seconds, per_second, share``;
    - attention: ``urgency, what, cause, owner, cluster, controller, object, frame, since, attempts, nextTry``
      (``raycp.observer.attention.AttentionRow``);
    - slo: what ``raycp.slo`` reports per objective (``docs/slo.md``).

    Rates and ``p99_seconds`` are those of the last minute, or since someone began to ask; None before.
    """

    async def metrics(self, accept: str = "", accept_encoding: str = "", names: Collection[str] = ()) -> MetricsPage:
        """The metrics of all actors, as the scraper's headers ``Accept`` and ``Accept-Encoding`` ask for them; of the families
        ``names`` if there are any."""
        ...

    async def healthy(self) -> list[Check]:
        """Whether the observer itself works, and which members are silent."""
        ...

    async def ready(self) -> list[Check]:
        """Whether the fleet is ready (``raycp.protocol.status.readiness``)."""
        ...

    async def status(self) -> Json: ...

    async def clusters(self) -> list[Json]: ...

    async def controllers(self) -> list[Json]: ...

    async def shards(self) -> list[Json]: ...

    async def workers(self) -> list[Json]: ...

    async def lanes(self) -> list[Json]: ...

    async def slo(self) -> list[Json]: ...

    async def verdict(self) -> FleetVerdict:
        """The fleet's state in one sentence, as ``raycp status`` begins with it."""
        ...

    async def attention(self) -> list[Json]:
        """What is wrong, row by row."""
        ...

    async def errors(self) -> Json:
        """``items``: failing objects as ``raycp.protocol.report.FailureReport``, the oldest failure first; ``failing`` counts all,
        also those that are not listed; ``problems``: those of the status that are no single object's, as there."""
        ...

    async def history(self, instance: str, after: int, seq: int) -> Json:
        """The last hour, a point every ``stepSeconds``: ``fleet``, ``controllers`` and ``clusters`` by name, each with lists of
        points by metric (``raycp.observer.history.Metric``), null for a gap; ``last`` is the number of the newest, taken ``at``
        (Unix seconds). And ``changes``, numbered up to ``seq``.

        To the ``instance`` that an earlier answer came from: the ``points`` after number ``after`` only, and the changes after
        ``seq``. Any other instance gets all."""
        ...

    async def changes(self) -> list[Json]:
        """The newest changes as ``raycp.observer.changes.FleetChange``, the oldest first."""
        ...

    async def timeline(self, cluster: str, kind: str, namespace: str, name: str) -> Json | None:
        """The last changes of one object, or None when nothing is known of it."""
        ...

    async def explain(self, namespace: str, name: str) -> Json | None:
        """Where a job is in its queue, what it waits for, and the verdict on each cluster; None where the scheduler does not know
        it."""
        ...

    async def jobs(self, query: JobQuery) -> Json | None:
        """A page of the hub's jobs (``raycp.scheduler.job_list``): ``items``, of ``matching`` ones out of ``total``, with how many
        there are by ``phases`` and ``queues``. None where the hub's shard does not answer."""
        ...

    async def capacity(self) -> list[Json]:
        """What each member has for jobs, by groups of alike nodes (``raycp.scheduling.capacity.CapacitySummary``)."""
        ...

    async def queues(self) -> list[Json]:
        """The queues, by name: usage, jobs that wait and that are admitted, and the next one."""
        ...
