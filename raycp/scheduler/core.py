"""``Scheduler``: feeds ``Admission`` with queues, clusters and jobs, and has its decisions written.

One term of it begins with a list of the hub's jobs, read from the API server: what a predecessor has admitted is in their
``status.admission``, whatever this process has cached. From then on events keep it up to date. It ends with the permit; the next
begins anew. A decision counts as soon as it is made, and until it is certain that it was not written: quota is never promised
twice.

The loop sleeps until something that a decision reads has changed (law 13): a job, a queue, a cluster, or the time.
"""

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator
from typing import Any, Protocol

import msgspec

from raycp.base.clock import Clock
from raycp.base.objects import Obj
from raycp.base.tasks import UNKNOWN_QUEUE
from raycp.kube.errors import Fenced, KubeError
from raycp.scheduler.jobs import ScheduledJob, UnreadableJob, concerns
from raycp.scheduler.queue_table import QueueTable
from raycp.scheduler.writes import AdmissionWriter, JobStore, Written, meta_deleted
from raycp.scheduling import Candidate
from raycp.scheduling.admission import Admission
from raycp.scheduling.admissions import AdmissionDecision, AdmissionRecord, JobExplanation
from raycp.scheduling.capacity import CapacitySummary
from raycp.scheduling.demand import JobDemand
from raycp.scheduling.queues import QueueStatus

log = logging.getLogger(__name__)

AT_ONCE = 64
"""Decisions that one turn makes, and writes at a time."""

EXPLAINED = 16
"""Jobs that wait, and are told why, in one turn."""

SETTLE = 1.0
"""Seconds between a promotion and the list of the jobs: what a predecessor had sent before it died takes effect meanwhile, or never
(its writes carry a time limit)."""

IDLE = 1.0
"""Seconds until the loop looks again at its permit, and at some more jobs whether they still wait for what they were told."""

AGAIN = 5.0
"""Seconds until a job is considered again whose admission the API server has refused."""


class HubJobs(JobStore, Protocol):
    """The hub, as the scheduler sees it."""

    @property
    def writable(self) -> bool:
        """Whether this process may write at the moment: permit and term hold."""
        ...

    @property
    def succeeds(self) -> bool:
        """Whether another process may have been the scheduler before this one."""
        ...

    @property
    def listed(self) -> bool:
        """Whether jobs and queues are cached."""
        ...

    def all_cached(self) -> Iterable[Obj]:
        """All jobs, as they are cached."""
        ...

    def all_jobs(self) -> AsyncIterator[Obj]:
        """All jobs, as the API server has them now. Raises ``KubeError``."""
        ...

    def wake(self, obj: Obj) -> None:
        """The job is due."""
        ...

    async def priority_of(self, name: str) -> int | None:
        """The value of a PriorityClass; None where there is none. Raises ``KubeError``."""
        ...


class _Known(msgspec.Struct):
    """A job that takes part. ``told``: the reason that it was last told for waiting."""

    job: ScheduledJob
    record: AdmissionRecord | None = None
    told: str = ""


class Scheduler:
    """See the module. Inputs may come at any time; ``run`` never returns."""

    def __init__(self, hub: HubJobs, clock: Clock) -> None:
        self.queues = QueueTable()
        self.queues_listed = False
        """Whether ``queues`` are those of the hub."""
        self._hub = hub
        self._clock = clock
        self._writer = AdmissionWriter(hub, clock)
        self._admission = Admission()
        self._clusters: dict[str, tuple[Candidate, CapacitySummary | None]] = {}
        self._jobs: dict[str, _Known] = {}
        self._seen: dict[str, int] = {}
        self._unsure: set[tuple[str, str]] = set()
        """Jobs that were handed out while the queues were not known."""
        self._buffer: dict[str, tuple[Obj, bool]] | None = {}
        """Changes before and during the list of the jobs, the last of each; None while they are taken at once."""
        self._scanned = self._wanted = False
        self._writing: dict[str, asyncio.Task[None]] = {}
        self._again: dict[str, float] = {}
        self._untold: dict[str, None] = {}
        self._targets: set[tuple[str, str]] = set()
        """Jobs that others depend on: what has become of them matters, whether they have a queue or not."""
        self._priorities: dict[str, int] = {}
        self._round: Iterator[str] = iter(())
        self._rotated = 0.0
        self._woken = asyncio.Event()
        self._fenced = False

    # what the shard asks

    @property
    def engaged(self) -> bool:
        """Whether anything in this fleet is to be scheduled: there is a queue, or a job that asks for it."""
        return bool(self.queues.specs) or bool(self._jobs)

    @property
    def ready(self) -> bool:
        """Whether its state is that of the hub."""
        return self._buffer is None

    def queue_of(self, obj: Obj) -> str:
        """``Task.queue`` of a job."""
        if self.queues_listed:
            return self.queues.of(obj.meta.namespace) if self.queues.specs else ""
        self._unsure.add((obj.meta.namespace, obj.meta.name))
        return UNKNOWN_QUEUE

    def uid_of(self, namespace: str, name: str) -> str:
        """Of a job that takes part; empty for another."""
        obj = self._hub.cached(namespace, name)
        return obj.meta.uid if obj is not None and obj.meta.uid in self._jobs else ""

    def explain(self, uid: str) -> JobExplanation | None:
        """See ``Admission.explain``."""
        return self._admission.explain(uid, self._clock.wall()) if self.ready else None

    def queue_status(self) -> list[QueueStatus]:
        """See ``Admission.queue_status``."""
        return self._admission.queue_status() if self.ready else []

    def capacity(self) -> list[CapacitySummary]:
        """See ``Admission.capacity``."""
        return self._admission.capacity() if self.ready else []

    # inputs

    def take_queues(self, objs: Iterable[Obj]) -> None:
        """All ``Queue`` objects; the first call says that they are known."""
        first, self.queues_listed = not self.queues_listed, True
        changed = self.queues.replace(objs)
        if first:
            unsure, self._unsure = self._unsure, set()
            for namespace, name in unsure:
                if (obj := self._hub.cached(namespace, name)) is not None:
                    self._hub.wake(obj)
        if not changed and not first:
            return
        self._admission.set_queues(self.queues.specs.values(), self._clock.wall())
        if self.ready:  # another queue may be that of their namespace now
            for obj in self._hub.all_cached():
                self._take(obj, gone=False, again=True)
        self._woken.set()

    def take_jobs(self, changes: Iterable[tuple[Obj, bool]]) -> None:
        """Jobs that have changed, or are gone (True)."""
        for obj, gone in changes:
            named = (obj.meta.namespace, obj.meta.name)
            if not (self.queues.specs or obj.meta.uid in self._jobs or concerns(obj.raw) or named in self._targets):
                continue
            if self._buffer is not None:
                self._buffer[obj.meta.uid] = (obj, gone)
            else:
                self._take(obj, gone=gone)
            self._woken.set()

    def set_cluster(self, cluster: Candidate, capacity: CapacitySummary | None) -> None:
        """A member has joined or changed."""
        before = self._clusters.get(cluster.name)
        if before == (cluster, capacity):
            return
        self._clusters[cluster.name] = (cluster, capacity)
        self._admission.set_cluster(cluster, capacity, self._clock.wall())
        self._woken.set()

    def remove_cluster(self, name: str) -> None:
        """A member has left the fleet."""
        if self._clusters.pop(name, None) is not None:
            self._admission.remove_cluster(name, self._clock.wall())
            self._woken.set()

    # the loop

    async def run(self) -> None:
        """One term after the other, for ever."""
        while True:
            try:
                await self._term()
            finally:
                self._end_term()

    async def _term(self) -> None:
        while not (self._hub.writable and self._hub.listed and self.queues_listed and self._needed()):
            await self._sleep(IDLE)
        if self._hub.succeeds:
            await self._clock.sleep(SETTLE)
        await self._rebuild()
        while self._hub.writable and not self._fenced:
            self._woken.clear()
            self._turn()
            await self._sleep(self._next_turn())

    def _needed(self) -> bool:
        """Whether there is anything to schedule. What was cached before the first event is searched once."""
        if not self._scanned:
            self._scanned, self._wanted = True, any(concerns(obj.raw) for obj in self._hub.all_cached())
        return bool(self.queues.specs) or bool(self._buffer) or self._wanted

    def _end_term(self) -> None:
        for task in self._writing.values():
            task.cancel()
        self._writing.clear()
        self._jobs.clear()
        self._seen.clear()
        self._again.clear()
        self._untold.clear()
        self._targets.clear()
        self._buffer, self._fenced, self._scanned = {}, False, False
        self._admission = Admission()

    async def _rebuild(self) -> None:
        now = self._clock.wall()
        self._admission = Admission()
        self._admission.set_queues(self.queues.specs.values(), now)
        for cluster, capacity in self._clusters.values():
            self._admission.set_cluster(cluster, capacity, now)
        async for obj in self._hub.all_jobs():
            self._take(obj, gone=False)
        buffer, self._buffer = self._buffer or {}, None
        for obj, gone in buffer.values():
            self._take(obj, gone=gone)

    async def _sleep(self, seconds: float) -> None:
        waits = {asyncio.ensure_future(self._woken.wait()), asyncio.ensure_future(self._clock.sleep(seconds))}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()

    def _next_turn(self) -> float:
        if self._untold and not self._writing:
            return 0.0
        now = self._clock.wall()
        due = self._admission.next_wake(now)
        return min(IDLE, max(0.0, due - now)) if due is not None else IDLE

    def _turn(self) -> None:
        """Decide, and begin to write."""
        now = self._clock.wall()
        for uid in [uid for uid, at in self._again.items() if at <= now]:
            del self._again[uid]
            if (known := self._jobs.get(uid)) is not None:
                self._submit(known, known.record)
        room = AT_ONCE - len(self._writing)
        if room <= 0:
            return
        for decision in self._admission.decide(now, room):
            self._write(decision)
        if now - self._rotated >= IDLE:
            self._rotated = now
            self._untold |= dict.fromkeys(self._next_round())
        for uid in list(self._untold)[:EXPLAINED]:
            del self._untold[uid]
            self._tell(uid)

    def _next_round(self) -> list[str]:
        """Some more jobs, all of them in turn: what they wait for may be something else by now."""
        found = list(itertools.islice(self._round, EXPLAINED))
        if len(found) < EXPLAINED:
            self._round = iter(list(self._jobs))
        return found

    # jobs

    def _take(self, obj: Obj, *, gone: bool, again: bool = False) -> None:
        """One state of a job."""
        uid, now = obj.meta.uid, self._clock.wall()
        if gone:
            self._seen.pop(uid, None)
            self._jobs.pop(uid, None)
            self._admission.finish(uid, "Deleted", now)
            return
        if not again and obj.rv and obj.rv <= self._seen.get(uid, 0):
            return
        try:
            job = ScheduledJob(obj)
        except UnreadableJob:
            return  # its reconcile says so to the user
        known = self._jobs.get(uid)
        takes_part = job.ours and (job.wants or bool(self.queues.of(obj.meta.namespace)))
        if known is None and (not takes_part or job.outcome is not None):
            if (obj.meta.namespace, obj.meta.name) in self._targets:
                self._bystander(job)
            return
        self._seen[uid] = obj.rv
        if job.outcome is not None:
            self._jobs.pop(uid, None)
            self._admission.finish(uid, job.outcome, now)
            return
        if known is None:
            known = self._jobs[uid] = _Known(job, job.record)
            if job.spec.suspend and not job.runs and (known.record is None or known.record.state == "Pending"):
                return
            self._submit(known, self._first_record(job))
        else:
            changed = known.job.obj.version != obj.version
            known.job = job
            if changed and known.record is not None and known.record.state != "Pending":
                self._submit(known, known.record)
        self._follow(uid, known)

    def _bystander(self, job: ScheduledJob) -> None:
        """One that takes no part, and that others depend on: it holds nothing, and what it has reached counts."""
        if job.outcome is None and not job.status.start_time:
            return
        meta, now = job.obj.meta, self._clock.wall()
        self._admission.submit(JobDemand(meta.uid, meta.namespace, meta.name, 0.0, 0), AdmissionRecord("Admitted"), now)
        if job.outcome is not None:
            self._admission.finish(meta.uid, job.outcome, now)

    def _first_record(self, job: ScheduledJob) -> AdmissionRecord | None:
        """What is known of a job that is met for the first time. One that has started without the scheduler is admitted as it
        stands."""
        if job.record is not None or not job.status.start_time or job.wants:
            return job.record
        clusters = {each.name: each.active for each in job.status.clusters if each.active}
        return AdmissionRecord("Admitted", self._queue(job), clusters=clusters, reason="Started", message="it ran already")

    def _follow(self, uid: str, known: _Known) -> None:
        """What its newest state says of Pods."""
        job, record, now = known.job, known.record, self._clock.wall()
        if record is not None and record.state == "Evicting":
            if not job.runs and uid not in self._writing:
                known.record = self._admission.evicted(uid, now) or known.record
                self._untold[uid] = None
        elif record is not None and record.state == "Admitted":
            if job.spec.suspend:
                if not job.runs and uid not in self._writing:
                    self._release(uid, known)
            else:
                for name in job.given_up & record.clusters.keys():
                    self._admission.cluster_lost(name, now, {uid})
                self._admission.pods(uid, job.running, now)
        elif job.spec.suspend or meta_deleted(job.obj):
            self._admission.finish(uid, "Deleted", now)
        else:
            self._submit(known, None)

    def _queue(self, job: ScheduledJob) -> str:
        return job.spec.queue or self.queues.of(job.obj.meta.namespace)

    def _submit(self, known: _Known, record: AdmissionRecord | None) -> None:
        job = known.job
        name = job.spec.priority_class_name
        priority = job.spec.priority or 0
        if name is not None:
            if name not in self._priorities:
                self._spawn(job.uid, self._find_priority(job.uid, name))
                if record is None or record.state == "Pending":
                    return
            priority = self._priorities.get(name, record.priority if record is not None else 0)
        try:
            demand = job.demand(self._queue(job), priority)
        except UnreadableJob as error:
            log.warning("job %s/%s is not scheduled: %s", job.obj.meta.namespace, job.obj.meta.name, error)
            return
        for each in demand.depends_on:
            target = (demand.namespace, each.job)
            if target not in self._targets:
                self._targets.add(target)
                if (other := self._hub.cached(*target)) is not None:
                    self._take(other, gone=False)
        self._admission.submit(demand, record, self._clock.wall())
        if record is None or record.state == "Pending":
            self._untold.setdefault(job.uid, None)

    # writes

    def _spawn(self, uid: str, work: Coroutine[Any, Any, None]) -> None:
        if uid in self._writing:
            work.close()
            return
        task = asyncio.get_running_loop().create_task(work)
        self._writing[uid] = task

        def ended(done: asyncio.Task[None]) -> None:
            if self._writing.get(uid) is done:
                del self._writing[uid]
            if not done.cancelled() and (error := done.exception()) is not None:
                if not isinstance(error, Fenced):
                    log.error("the scheduler's work on job %s has failed", uid, exc_info=error)
                self._fenced = True  # the next term begins with what the hub has
            self._woken.set()

        task.add_done_callback(ended)

    async def _find_priority(self, uid: str, name: str) -> None:
        try:
            value = await self._hub.priority_of(name)
        except KubeError:
            value = None
        if value is None:
            self._again[uid] = self._clock.wall() + AGAIN
            return
        self._priorities[name] = value
        self._again[uid] = 0.0

    def _write(self, decision: AdmissionDecision) -> None:
        uid = decision.uid
        known = self._jobs.get(uid)
        if known is None:
            self._admission.withdraw(uid, self._clock.wall())
            return
        before = self._writing.pop(uid, None)
        self._spawn(uid, self._written(uid, known, decision, before))

    async def _written(self, uid: str, known: _Known, decision: AdmissionDecision, before: "asyncio.Task[None] | None") -> None:
        if before is not None:
            await asyncio.wait([before])
        outcome, newest = await self._writer.write(known.job.obj, decision.record)
        now = self._clock.wall()
        if outcome is Written.YES:
            known.record, known.told = decision.record, ""
            if newest is not None:
                self._hub.wake(newest)
                asyncio.get_running_loop().call_soon(self._retake, newest)
            return
        self._admission.withdraw(uid, now)
        if outcome is Written.GONE or newest is None:
            asyncio.get_running_loop().call_soon(self._drop, uid)
        elif outcome is Written.REFUSED:
            self._admission.finish(uid, "Deleted", now)
            self._again[uid] = now + AGAIN
        else:
            asyncio.get_running_loop().call_soon(self._retake, newest)

    def _retake(self, obj: Obj) -> None:
        if self.ready and obj.meta.uid in self._jobs:
            self._take(obj, gone=False, again=obj.rv >= self._seen.get(obj.meta.uid, 0))
            self._woken.set()

    def _drop(self, uid: str) -> None:
        if self._jobs.pop(uid, None) is not None:
            self._admission.finish(uid, "Deleted", self._clock.wall())

    def _release(self, uid: str, known: _Known) -> None:
        """A suspended job without Pods holds quota until its status says that it holds none: it may be resumed any moment."""
        record = AdmissionRecord("Pending", self._queue(known.job), reason="Suspended", message="the job is suspended")

        async def release() -> None:
            outcome, newest = await self._writer.write(known.job.obj, record, insist=False)
            if outcome is Written.YES:
                known.record = record
                self._admission.finish(uid, "Deleted", self._clock.wall())
            if newest is not None:
                asyncio.get_running_loop().call_soon(self._retake, newest)

        self._spawn(uid, release())

    def _tell(self, uid: str) -> None:
        """Write why a job waits, where that is not what it was told last."""
        known = self._jobs.get(uid)
        if known is None or uid in self._writing or (known.record is not None and known.record.state != "Pending"):
            return
        found = self._admission.explain(uid, self._clock.wall())
        if found is None or found.state != "Pending" or found.reason in ("", "NotConsidered", known.told):
            return
        known.told = found.reason
        base = known.record or AdmissionRecord("Pending")
        record = msgspec.structs.replace(
            base,
            state="Pending",
            queue=found.queue,
            clusters={},
            node_selector={},
            flavor="",
            admitted_at=0.0,
            reason=found.reason,
            message=found.message,
        )

        async def tell() -> None:
            outcome, newest = await self._writer.write(known.job.obj, record, insist=False)
            if outcome is Written.YES and newest is not None:
                known.record = record
                self._hub.wake(newest)
            else:
                known.told = ""
                self._untold[uid] = None

        self._spawn(uid, tell())
