"""What the HTTP server shows (``raycp.observer.View``), out of the fleet's status, the merged metrics and the service levels."""

import asyncio
from collections.abc import Callable, Collection
from typing import Any, Protocol

import msgspec

from raycp.base.clock import Clock
from raycp.metrics import Merger
from raycp.metrics.exposition import MetricsPage, metrics_page
from raycp.observer.activity import Activity
from raycp.observer.attention import attention
from raycp.observer.chronicle import Chronicle
from raycp.observer.job_pages import JobPages
from raycp.observer.status_feed import SILENT_AFTER, StatusFeed
from raycp.observer.tables import LaneRates, cluster_rows, shard_rows, worker_rows
from raycp.observer.view import Json
from raycp.protocol.fleet_verdict import FleetVerdict
from raycp.protocol.job_query import JobQuery
from raycp.protocol.plan import Plan
from raycp.protocol.status import ACCUSED, Check, LeaderStatus, readiness
from raycp.protocol.verdict import verdict


class ServiceLevels(Protocol):
    """The service levels (``raycp.slo.SloBook``)."""

    def report(self) -> list[dict[str, Any]]: ...


class TimelineSource(Protocol):
    """Answers of the shards (``raycp.observer.sources``)."""

    async def timeline(
        self, shard: str, cluster: str, kind: str, namespace: str, name: str, topic: str = "", jobs: JobQuery | None = None
    ) -> bytes | None: ...


class FleetView:
    """Implements ``View``. ``plan`` is the newest plan, None before the first."""

    def __init__(
        self,
        clock: Clock,
        feed: StatusFeed,
        merger: Merger,
        book: ServiceLevels,
        shards: TimelineSource,
        plan: Callable[[], Plan | None],
        chronicle: Chronicle,
    ) -> None:
        self._clock = clock
        self._feed = feed
        self._merger = merger
        self._book = book
        self._shards = shards
        self._plan = plan
        self._chronicle = chronicle
        self._rates = LaneRates()
        self._activity = Activity()
        self._complete_by = clock.now() + SILENT_AFTER
        self._page = asyncio.Lock()
        self._job_pages = JobPages(clock, self._ask_jobs)

    async def metrics(self, accept: str = "", accept_encoding: str = "", names: Collection[str] = ()) -> MetricsPage:
        """See ``View.metrics``. A large page costs a second of a processor: one at a time, and not on the loop."""
        async with self._page:
            return await asyncio.to_thread(metrics_page, self._merger.merged(), accept, accept_encoding, names)

    async def healthy(self) -> list[Check]:
        """See ``View.healthy``: silent members are shown, and are no fault of the observer's."""
        silent = ", ".join(str(known.member) for known in self._feed.silent())
        return [Check("observer", True), Check("members", not silent, f"silent: {silent}" if silent else "", required=False)]

    async def ready(self) -> list[Check]:
        """See ``View.ready``."""
        return list(readiness(self._feed.current()).checks)

    async def status(self) -> Json:
        """See ``View.status``."""
        status = self._feed.current()
        leader = status.leader or LeaderStatus()
        shown: Json = msgspec.to_builtins(status)
        shown["now"] = self._clock.wall()
        shown["verdict"] = msgspec.to_builtins(await self.verdict())
        shown["leader"] = msgspec.to_builtins(leader) | {
            "alive": leader.epoch > 0 and leader.silent_since is msgspec.UNSET,
            "node": leader.holder.split("/")[0],
        }
        return shown

    async def clusters(self) -> list[Json]:
        """See ``View.clusters``."""
        status = self._feed.current()
        self._sample()
        calls = self._activity.of_clusters(status, self._merger)
        return [row | lately for row, lately in zip(cluster_rows(status), calls, strict=True)]

    async def controllers(self) -> list[Json]:
        """See ``View.controllers``."""
        self._sample()
        return self._activity.controllers(self._feed.current(), self._merger, self._feed.failures()[0])

    async def shards(self) -> list[Json]:
        """See ``View.shards``."""
        return shard_rows(self._feed.current(), self._merger)

    async def workers(self) -> list[Json]:
        """See ``View.workers``."""
        return worker_rows(self._feed.current(), self._merger)

    async def lanes(self) -> list[Json]:
        """See ``View.lanes``."""
        return self._rates.rows(self._feed.current(), self._merger, self._clock.now())

    async def slo(self) -> list[Json]:
        """See ``View.slo``."""
        return self._book.report()

    async def errors(self) -> Json:
        """See ``View.errors``."""
        rows, failing = self._feed.failures()
        items = msgspec.to_builtins(sorted(rows, key=lambda row: (row.since, row.object)))
        problems = [problem for problem in self._feed.current().found if problem.code not in ACCUSED]
        return {"items": items, "failing": failing, "problems": msgspec.to_builtins(problems)}

    async def verdict(self) -> FleetVerdict:
        """See ``View.verdict``."""
        return verdict(self._feed.current(), *self._feed.failures(), self._clock.wall())

    async def attention(self) -> list[Json]:
        """See ``View.attention``."""
        rows = attention(self._feed.current(), self._feed.failures()[0], self._book.report())
        return [msgspec.to_builtins(row) for row in rows]

    async def history(self, instance: str, after: int, seq: int) -> Json:
        """See ``View.history``."""
        return self._chronicle.answer(instance, after, seq)

    async def changes(self) -> list[Json]:
        """See ``View.changes``."""
        return self._chronicle.changes()

    async def timeline(self, cluster: str, kind: str, namespace: str, name: str) -> Json | None:
        """See ``View.timeline``: the shard that watches the cluster answers."""
        return await self._ask(cluster, kind, namespace, name, "")

    async def explain(self, namespace: str, name: str) -> Json | None:
        """See ``View.explain``: the scheduler is in the hub's shard."""
        return await self._ask_scheduler("explain", namespace, name)

    async def queues(self) -> list[Json]:
        """See ``View.queues``."""
        return await self._rows("queues")

    async def jobs(self, query: JobQuery) -> Json | None:
        """See ``View.jobs``: the hub's shard has them."""
        return await self._job_pages.page(query)

    async def capacity(self) -> list[Json]:
        """See ``View.capacity``."""
        return await self._rows("capacity")

    async def _rows(self, topic: str) -> list[Json]:
        found = await self._ask_scheduler(topic, "", "")
        rows = found.get("items") if found is not None else None
        return rows if isinstance(rows, list) else []

    async def _ask_scheduler(self, topic: str, namespace: str, name: str) -> Json | None:
        plan = self._plan()
        return await self._ask(plan.hub.name, "", namespace, name, topic) if plan is not None else None

    async def _ask_jobs(self, query: JobQuery) -> Json | None:
        plan = self._plan()
        return await self._ask(plan.hub.name, "", "", "", "jobs", query) if plan is not None else None

    async def _ask(
        self, cluster: str, kind: str, namespace: str, name: str, topic: str, jobs: JobQuery | None = None
    ) -> Json | None:
        plan = self._plan()
        if plan is None or cluster not in {known.name for known in plan.clusters}:
            return None
        shard = plan.cluster(cluster).shard
        actor = next((known.member for known in plan.shards if known.shard == shard), "")
        answer = await self._shards.timeline(actor, cluster, kind, namespace, name, topic, jobs)
        found = msgspec.json.decode(answer) if answer is not None else None
        return found if isinstance(found, dict) else None

    def _sample(self) -> None:
        """While the members of a new observer report for the first time, what they had counted before is no rate."""
        if self._feed.complete() or self._clock.now() > self._complete_by:
            self._activity.sample(self._merger, self._clock.now())
