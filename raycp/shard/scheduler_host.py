"""``SchedulerHost``: the scheduler beside the primary of the hub's shard, and what each shard does for it.

In the hub's shard it shows the scheduler queues, jobs and members, and asks the other shards for their members' capacity; in every
shard it answers such a request. A shard without the hub, a standby, and a fleet without queues have nothing running here but a look
at a flag four times a second.
"""

import secrets
from collections.abc import Awaitable
from typing import Any

import msgspec

from raycp.base.clock import Clock
from raycp.base.events import Event, EventType
from raycp.base.loop_names import LoopName
from raycp.base.loops import Loops
from raycp.base.text import message_of
from raycp.config.clusters import ClusterSpec
from raycp.protocol.frames import CapacityChanged, TimelineQuery
from raycp.protocol.job_query import JobQuery
from raycp.protocol.plan import Plan
from raycp.scheduler.answers import capacity_rows, explained, queue_rows
from raycp.scheduler.capacity_watch import decode_summary
from raycp.scheduler.core import FleetScheduler
from raycp.scheduler.job_list import JobList
from raycp.scheduler.queue_report import QueueReport
from raycp.scheduling import Candidate
from raycp.scheduling.capacity import CapacitySummary
from raycp.scheduling.labels import taints_of
from raycp.shard.caches import Caches
from raycp.shard.capacity_reports import EVERY, CapacityReports, members_of
from raycp.shard.events import EventHandler
from raycp.shard.hub_jobs import HubJobCache
from raycp.shard.report import ShardReporter
from raycp.shard.routes import JOBS, QUEUES, Routes
from raycp.shard.tasks import TaskMaker
from raycp.shard.wakes import WakeExchange

ASK_EVERY = 5.0
"""Seconds between two requests for capacity; they last longer (``WANTED_FOR``)."""


class SchedulerHost:
    """One shard's."""

    def __init__(
        self,
        hub: HubJobCache,
        routes: Routes,
        caches: Caches,
        events: EventHandler,
        tasks: TaskMaker,
        wakes: WakeExchange,
        reporter: ShardReporter,
        clock: Clock,
        loops: Loops,
    ) -> None:
        self._routes = routes
        self._caches = caches
        self._events = events
        self._tasks = tasks
        self._wakes = wakes
        self._clock = clock
        self._loops = loops
        self._by = secrets.token_hex(6)
        self._asked = float("-inf")
        self._plan: Plan | None = None
        self._hosts = self._running = self._hosted = self._paged = False
        self.hub = hub
        self.scheduler = FleetScheduler(self.hub, clock)
        self._jobs = JobList(self.hub, self.scheduler.queues.of, self.scheduler.waits, clock)
        self._report = QueueReport(self.scheduler, self.hub, clock)
        self._members: dict[str, tuple[ClusterSpec, dict[str, str]]] = {}
        self._told: dict[str, tuple[CapacitySummary | None, bool, str]] = {}
        self.reports = CapacityReports(caches, reporter, clock, loops, self._tell)
        wakes.capacity = self

    def update(self, plan: Plan) -> None:
        """Take over ``plan``, as a primary."""
        self._plan = plan
        self.reports.update(plan)
        hub = self._routes.hub
        self.hub.paused = jobs_paused(plan)
        self._hosts = hub in self._caches and any(kind == JOBS for kind in self._routes.kind_of.values())
        if not self._running:
            self._running = True
            self._loops.forever(self._step, LoopName.CAPACITY_REPORTS, every=EVERY)
        if not self._hosts:  # another shard's is the hub now: the scheduler's term ends
            self._events.observers, self._tasks.queue_of = {}, {}
            return
        if not self._hosted:
            self._hosted = True
            self._loops.supervise(self.scheduler.run, LoopName.SCHEDULER)
            self._loops.forever(self._report.step, LoopName.QUEUE_STATUS, every=1.0)
        self._events.observers = {(hub, JOBS): self._jobs_changed, (hub, QUEUES): self._queues_changed}
        self._tasks.queue_of = {name: self.scheduler.queue_of for name, kind in self._routes.kind_of.items() if kind == JOBS}
        self._show_members()
        self.refresh()

    def refresh(self) -> None:
        """A kind may be listed now."""
        if self._hosts and not self.scheduler.queues_listed and self.hub.queues_known:
            self._queues_changed([])

    def reply(self, query: TimelineQuery) -> bytes | Awaitable[bytes]:
        """The answer to a question of the observer, as JSON."""
        if query.topic == "jobs" and self._hosts:
            return self._page(query.jobs or JobQuery())
        return msgspec.json.encode(self.answer(query.topic, query.namespace, query.name))

    async def _page(self, query: JobQuery) -> bytes:
        self._paged = True
        return msgspec.json.encode(await self._jobs.answer(query))

    def answer(self, topic: str, namespace: str, name: str) -> dict[str, Any] | None:
        """What ``raycp explain`` and ``raycp queues`` show; None where there is nothing to show."""
        if not self._hosts:
            return None
        if topic == "queues":
            return {"items": queue_rows(self.scheduler)}
        if topic == "capacity":
            return {"items": capacity_rows(self.scheduler)}
        return explained(self.scheduler, namespace, name) if topic == "explain" else None

    # what the hub's cache shows

    def _queues_changed(self, events: list[Event]) -> None:
        if events and all(
            each.old is not None and each.new is not None and each.old.version == each.new.version for each in events
        ):
            return  # their status
        informer = self.hub.informer(QUEUES)
        if informer is not None and (informer.synced or informer.refused):
            self.scheduler.take_queues(informer.store)

    def _jobs_changed(self, events: list[Event]) -> None:
        self.scheduler.take_jobs([(event.obj, event.type is EventType.DELETED) for event in events])

    # members

    async def _step(self) -> None:
        self.refresh()
        if self._paged:
            self._paged = not self._jobs.expire()
        if self._hosts and self.scheduler.engaged:
            now = self._clock.now()
            if now - self._asked >= ASK_EVERY:
                self._asked = now
                self.wanted(self._by)
                self._wakes.want_capacity(self._by)
        self.reports.step()

    def wanted(self, by: str) -> None:
        """See ``CapacityPeer``."""
        self.reports.wanted(by)

    def told(self, change: CapacityChanged) -> None:
        """See ``CapacityPeer``."""
        self._told[change.cluster] = taken(change)
        self._show(change.cluster)

    def _tell(self, cluster: str, summary: bytes, reachable: bool, reason: str) -> None:
        """A member of this shard has changed."""
        if self._hosts:
            self.told(CapacityChanged(0, cluster, summary, reachable, reason))
        else:
            self._wakes.tell_capacity(cluster, summary, reachable, reason)

    def _show_members(self) -> None:
        """All of them, as the fleet file has them now."""
        assert self._plan is not None
        labels = {cluster.name: cluster.labels for cluster in self._plan.clusters}
        self._members = {spec.name: (spec, labels.get(spec.name, {})) for spec in members_of(self._plan)}
        for name in [name for name in self._told if name not in self._members]:
            del self._told[name]
            self.scheduler.remove_cluster(name)
        for name in self._members:
            self._show(name)

    def _show(self, name: str) -> None:
        """One of which nothing has been told yet gets no Pods."""
        known = self._members.get(name)
        if known is not None:
            summary, reachable, reason = self._told.get(name, (None, False, "its capacity is not known yet"))
            self.scheduler.set_cluster(candidate(*known, reachable, reason), summary, heard=name in self._told)


def jobs_paused(plan: Plan) -> bool:
    """Whether no job is reconciled: the hub is paused, or each controller of jobs is."""
    paused = plan.fleet.doc.spec.paused
    controllers = {each.name for each in plan.fleet.controllers if each.kind == str(JOBS)}
    return plan.fleet.doc.hub.name in paused.clusters or (bool(controllers) and controllers <= set(paused.controllers))


def taken(change: CapacityChanged) -> tuple[CapacitySummary | None, bool, str]:
    """What a shard says of a member: its room (None: no limit), whether it gets Pods, and why not. One whose room can't be read
    gets none: it would get any number."""
    if not change.summary:
        return None, change.reachable, change.reason
    try:
        return decode_summary(change.summary), change.reachable, change.reason
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        return None, False, f"what its shard says of its capacity can't be read: {message_of(error)}"


def candidate(spec: ClusterSpec, labels: dict[str, str], reachable: bool, reason: str) -> Candidate:
    """A member as placement sees it."""
    refusal = "it is drained" if spec.drain else "it is unschedulable" if spec.unschedulable else ""
    return Candidate(spec.name, labels, reachable, reason, refusal=refusal, taints=taints_of(spec.taints))
