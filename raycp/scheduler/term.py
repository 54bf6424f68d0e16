"""``SchedulerTerm``: one term of the scheduler: the jobs that take part, ``Admission``, and the writes of its decisions.

It begins with nothing, is shown every job, and is thrown away when the permit ends or a write is fenced off: the next begins with
what the hub has. A decision counts as soon as it is made, and until it is certain that it was not written: quota is never promised
twice.
"""

import asyncio
import itertools
import logging
import math
from collections import deque
from collections.abc import Coroutine, Iterable, Iterator
from typing import Any

import msgspec

from raycp.base.clock import Clock
from raycp.base.objects import Obj
from raycp.kube.errors import Fenced, KubeError
from raycp.scheduler.hub import HubJobs
from raycp.scheduler.jobs import JobNotReadable, ScheduledJob
from raycp.scheduler.queue_table import QueueTable
from raycp.scheduler.writes import AdmissionWriter, WriteResult, meta_deleted
from raycp.scheduling.admission import Admission
from raycp.scheduling.admissions import AdmissionDecision, AdmissionRecord
from raycp.scheduling.demand import JobDemand

log = logging.getLogger(__name__)

AT_ONCE = 64
"""Decisions that one turn makes, and writes at a time."""

EXPLAINED = 16
"""Jobs that wait, and are told why, in one turn."""

SLICE = 0.004
"""Seconds for which a turn decides, explains or takes in jobs, before the shard's loop goes on: it serves the hub's informers and
queue too (law 5)."""

PAUSE = 0.002
"""Seconds for that, at least, until the next turn."""

IDLE = 1.0
"""Seconds until some more jobs are looked at, whether they still wait for what they were told; the longest time between turns."""

SOON = 0.5
"""Seconds until quota is given back, where another has written to the job at the same time."""

AGAIN = 5.0
"""Seconds until a job is considered again whose admission the API server has refused, or whose PriorityClass there is not."""


class _Known(msgspec.Struct):
    """A job that takes part. ``told``: the reason that it was last told for waiting. ``refused``: see ``JobDemand``, as it was
    submitted last."""

    job: ScheduledJob
    record: AdmissionRecord | None = None
    told: str = ""
    refused: dict[str, str] = {}
    written: int = 0
    """resourceVersion of the last decision."""
    quiet_until: float = 0.0
    """What may wait is not written before, since the last try has failed."""


class SchedulerTerm:
    """See the module. ``woken`` is set when there may be something to decide."""

    def __init__(self, hub: HubJobs, clock: Clock, queues: QueueTable, woken: asyncio.Event) -> None:
        self.admission = Admission()
        self.fenced = False
        """Whether a write was refused since the permit has ended: this term is over."""
        self.jobs: dict[str, _Known] = {}
        self.targets: set[tuple[str, str]] = set()
        """Jobs that others depend on: what has become of them matters, whether they have a queue or not."""
        self._aside: set[str] = set()
        """Those of them that the scheduler does not run at the moment."""
        self._hub = hub
        self._clock = clock
        self._queues = queues
        self._woken = woken
        self._writer = AdmissionWriter(hub, clock)
        self._taken_again: deque[tuple[str, str]] = deque()
        """Jobs that are looked at again before anything is decided."""
        self._seen: dict[str, int] = {}
        self._writing: dict[str, asyncio.Task[None]] = {}
        self._again: dict[str, float] = {}
        self._untold: dict[str, None] = {}
        self._priorities: dict[str, int] = {}
        self._round: Iterator[str] = iter(())
        self._rotated = float("-inf")

    def knows(self, obj: Obj) -> bool:
        """Whether what becomes of this job matters."""
        return obj.meta.uid in self.jobs or (obj.meta.namespace, obj.meta.name) in self.targets

    def take_all_again(self, objs: Iterable[Obj]) -> None:
        """Another queue may be theirs now; nothing is decided until all of them have been looked at."""
        self._taken_again = deque((obj.meta.namespace, obj.meta.name) for obj in objs)

    @property
    def unfinished(self) -> bool:
        """Whether there is more to do at once, after a ``PAUSE``."""
        if len(self._writing) >= AT_ONCE:
            return False  # the end of a write wakes it
        return bool(self._taken_again) or self.admission.undecided

    def close(self) -> None:
        """End the writes that are under way."""
        for task in self._writing.values():
            task.cancel()

    def next_turn(self) -> float:
        """Seconds until the next turn, if nothing happens."""
        if self.unfinished or (self._untold and not self._writing):
            return PAUSE
        now = self._clock.wall()
        due = min(self.admission.next_wake(now) or math.inf, min(self._again.values(), default=math.inf))
        return min(IDLE, max(0.0, due - now))

    def turn(self) -> None:
        """Decide, and begin to write, for a ``SLICE`` of time."""
        now, end = self._clock.wall(), self._clock.now() + SLICE
        while self._taken_again:
            found = self._hub.cached(*self._taken_again.popleft())
            if found is not None:
                self.take(found, gone=False, again=True)
            if self._clock.now() >= end:
                return
        for uid in [uid for uid, at in self._again.items() if at <= now]:
            del self._again[uid]
            known = self.jobs.get(uid)
            if known is None:
                continue
            holds = known.record is not None and known.record.state != "Pending"
            if holds or not known.job.spec.suspend:
                self._submit(known, known.record)
            if holds:
                self._follow(uid, known)
        room = AT_ONCE - len(self._writing)
        if room <= 0:
            return
        for decision in self.admission.decide(now, room, lambda: self._clock.now() >= end):
            self._write(decision)
        if self._clock.now() - self._rotated >= IDLE:
            self._rotated = self._clock.now()
            self._untold |= dict.fromkeys(self._next_round())
        unrecorded = self.admission.unrecorded
        self._untold |= dict.fromkeys(unrecorded)
        unrecorded.clear()
        for uid in list(self._untold)[:EXPLAINED]:
            if self._clock.now() >= end:
                break
            del self._untold[uid]
            self._tell(uid)

    def _next_round(self) -> list[str]:
        """Some more jobs, all of them in turn: what they wait for may be something else by now."""
        found = list(itertools.islice(self._round, EXPLAINED))
        if len(found) < EXPLAINED:
            self._round = iter(list(self.jobs))
        return found

    # jobs

    def take(self, obj: Obj, *, gone: bool, again: bool = False) -> None:
        """One state of a job."""
        uid, now = obj.meta.uid, self._clock.wall()
        if gone:
            self._seen.pop(uid, None)
            self.jobs.pop(uid, None)
            self._aside.discard(uid)
            self.admission.finish(uid, "Deleted", now)
            return
        seen = self._seen.get(uid, 0)
        if obj.rv and (obj.rv < seen or (obj.rv == seen and not again)):
            return
        try:
            job = ScheduledJob(obj)
        except JobNotReadable:
            return  # its reconcile says so to the user
        known = self.jobs.get(uid)
        takes_part = job.ours and (job.wants or bool(self._queues.of(obj.meta.namespace)))
        if known is None and (not takes_part or job.outcome is not None):
            self._bystander(job)
            return
        self._seen[uid] = obj.rv
        if job.outcome is not None:
            self.jobs.pop(uid, None)
            if job.ran:  # however short: nobody may have seen it run
                self.admission.started(uid, now)
            self.admission.finish(uid, job.outcome, now)
            return
        if known is None:
            known = self.jobs[uid] = _Known(job, self._first_record(job))
            if job.spec.suspend and not job.runs and (known.record is None or known.record.state == "Pending"):
                self._bystander(job)
                return
            self._submit(known, known.record)
        else:
            changed = known.job.obj.version != obj.version
            known.job = job
            if changed and known.record is not None and known.record.state != "Pending":
                self._submit(known, known.record)
        self._follow(uid, known)

    def _bystander(self, job: ScheduledJob) -> None:
        """One that takes no part, or not now. If others depend on it, it is known that it is there, holding nothing, and what it
        has reached counts."""
        meta, now = job.obj.meta, self._clock.wall()
        if (meta.namespace, meta.name) not in self.targets:
            return
        self._aside.add(meta.uid)
        self.admission.submit(JobDemand(meta.uid, meta.namespace, meta.name, 0.0, 0), AdmissionRecord("Admitted"), now)
        if job.ran:
            self.admission.started(meta.uid, now)
        if job.outcome is not None:
            self.admission.finish(meta.uid, job.outcome, now)

    def _first_record(self, job: ScheduledJob) -> AdmissionRecord | None:
        """What is known of a job that is met for the first time. One that has started without the scheduler is admitted as it
        stands, and uses the first flavor: nobody knows on which nodes it runs."""
        if job.record is not None or not job.status.start_time or job.wants:
            return job.record
        clusters = {each.name: each.active for each in job.status.clusters if each.active}
        queue = self._queue(job)
        spec = self._queues.specs.get(queue)
        flavor = spec.flavors[0].name if spec is not None and spec.flavors else ""
        return AdmissionRecord("Admitted", queue, flavor, clusters, reason="Started", message="it ran already")

    def _follow(self, uid: str, known: _Known) -> None:
        """What its newest state says of Pods."""
        job, record, now = known.job, known.record, self._clock.wall()
        if record is not None and record.state == "Evicting":
            if not job.runs and uid not in self._writing:
                known.record = self.admission.evicted(uid, now) or known.record
                self._untold[uid] = None
        elif record is not None and record.state == "Admitted":
            if job.spec.suspend:
                if not job.runs and uid not in self._writing:
                    self._release(uid, known)
            else:
                for name in job.given_up & record.clusters.keys():
                    self.admission.cluster_lost(name, now, self._given_up_with(job))
                if job.refused(now) != known.refused:
                    self._submit(known, record)
                self.admission.displace(uid, job.displacement(now))
                self.admission.pods(uid, job.running, now)
        elif job.spec.suspend or meta_deleted(job.obj):
            if uid not in self._aside:
                self.admission.finish(uid, "Deleted", now)
            if not meta_deleted(job.obj):
                self._bystander(job)
        else:
            self._submit(known, None)

    def _given_up_with(self, job: ScheduledJob) -> set[str]:
        """The jobs that give a lost cluster up when ``job`` does: all at once, so that what is left goes to them in order, not to
        the one whose reconcile was first."""
        patience = job.placement.unreachable_toleration_seconds
        return {uid for uid, known in self.jobs.items() if known.job.gives_up(patience)}

    def _queue(self, job: ScheduledJob) -> str:
        return job.spec.queue or self._queues.of(job.obj.meta.namespace)

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
        now = self._clock.wall()
        known.refused = job.refused(now)
        if retry := job.retry_at(now):  # then it is refused no longer
            self._again[job.uid] = min(retry, self._again.get(job.uid, retry))
        try:
            demand = job.demand(self._queue(job), priority, now)
        except JobNotReadable as error:
            log.warning("job %s/%s is not scheduled: %s", job.obj.meta.namespace, job.obj.meta.name, error)
            return
        for each in demand.depends_on:
            target = (demand.namespace, each.job)
            if target not in self.targets:
                self.targets.add(target)
                if (other := self._hub.cached(*target)) is not None:
                    self.take(other, gone=False, again=True)
        aside = job.uid in self._aside
        if aside:
            self._aside.remove(job.uid)
            self.admission.finish(job.uid, "Deleted", now)
        self.admission.submit(demand, record, now)
        if aside and job.ran:
            self.admission.started(job.uid, now)
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
                self.fenced = True  # the next term begins with what the hub has
            known = self.jobs.get(uid)
            if known is not None and uid not in self._writing and known.job.obj.rv > known.written:
                held = known.record is not None and known.record.state == "Evicting"
                if held or known.job.spec.suspend:
                    self._follow(uid, known)  # what was told meanwhile, and was not yet to be judged by the new record
            self._woken.set()

        task.add_done_callback(ended)

    async def _find_priority(self, uid: str, name: str) -> None:
        try:
            value = await self._hub.priority_of(name)
        except KubeError:
            value = None
        if value is None:
            self._again[uid] = self._clock.wall() + AGAIN
            known = self.jobs.get(uid)
            if known is not None and known.told != "NoPriorityClass":
                message = f"there is no PriorityClass {name} on the hub"
                record = AdmissionRecord("Pending", self._queue(known.job), reason="NoPriorityClass", message=message)
                outcome, newest = await self._writer.write(known.job.obj, record, insist=False)
                if outcome is WriteResult.YES and newest is not None:
                    known.told = record.reason
                    self._hub.wake(newest)
            return
        self._priorities[name] = value
        self._again[uid] = 0.0

    def _write(self, decision: AdmissionDecision) -> None:
        uid = decision.uid
        known = self.jobs.get(uid)
        if known is None:
            self.admission.withdraw(uid, self._clock.wall())
            return
        before = self._writing.pop(uid, None)
        self._spawn(uid, self._written(uid, known, decision, before))

    async def _written(self, uid: str, known: _Known, decision: AdmissionDecision, before: "asyncio.Task[None] | None") -> None:
        if before is not None:
            await asyncio.wait([before])
        outcome, newest = await self._writer.write(known.job.obj, decision.record)
        now = self._clock.wall()
        if outcome is WriteResult.YES:
            known.record, known.told = decision.record, ""
            if newest is not None:
                known.written = newest.rv
                self._hub.wake(newest)
                asyncio.get_running_loop().call_soon(self._retake, newest)
            return
        refused = outcome is WriteResult.REFUSED
        self.admission.withdraw(uid, now, now + AGAIN if refused else 0.0)
        if outcome is WriteResult.GONE or newest is None:
            asyncio.get_running_loop().call_soon(self._drop, uid)
        elif refused:
            if decision.kind == "Admit":  # others run while it can't
                self.admission.finish(uid, "Deleted", now)
            self._again[uid] = now + AGAIN
        else:
            asyncio.get_running_loop().call_soon(self._retake, newest)

    def _retake(self, obj: Obj) -> None:
        if obj.meta.uid in self.jobs:
            self.take(obj, gone=False, again=True)
            self._woken.set()

    def _drop(self, uid: str) -> None:
        if self.jobs.pop(uid, None) is not None:
            self.admission.finish(uid, "Deleted", self._clock.wall())

    def _release(self, uid: str, known: _Known) -> None:
        """A suspended job without Pods holds quota until its status says that it holds none: it may be resumed any moment."""
        if known.quiet_until > self._clock.wall():
            return
        record = AdmissionRecord("Pending", self._queue(known.job), reason="Suspended", message="the job is suspended")

        async def release() -> None:
            outcome, newest = await self._writer.write(known.job.obj, record, insist=False)
            if outcome is WriteResult.YES:
                known.record = record
                self.admission.finish(uid, "Deleted", self._clock.wall())
            else:
                self._failed(uid, known, SOON if outcome is WriteResult.CHANGED else AGAIN)
            if newest is not None:
                asyncio.get_running_loop().call_soon(self._retake, newest)

        self._spawn(uid, release())

    def _tell(self, uid: str) -> None:
        """Write why a job waits, where that is not what it was told last."""
        known = self.jobs.get(uid)
        if known is None or uid in self._writing or (known.record is not None and known.record.state != "Pending"):
            return
        now = self._clock.wall()
        found = self.admission.explain(uid, now) if known.quiet_until <= now else None
        if found is None or found.state != "Pending" or found.reason in ("", "NotConsidered"):
            return
        base = known.record or AdmissionRecord("Pending")
        if (found.reason, found.fulfilled) == (known.told, base.fulfilled):
            return
        known.told = found.reason
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
            fulfilled=found.fulfilled,
        )

        async def tell() -> None:
            outcome, newest = await self._writer.write(known.job.obj, record, insist=False)
            if outcome is WriteResult.YES and newest is not None:
                known.record = record
                self._hub.wake(newest)
            else:
                known.told = ""
                if outcome is WriteResult.CHANGED:  # at the same time as another's: it has yet to be told
                    self._untold[uid] = None
                else:
                    self._failed(uid, known, AGAIN)

        self._spawn(uid, tell())

    def _failed(self, uid: str, known: _Known, seconds: float) -> None:
        """A write that may wait has failed."""
        known.quiet_until = self._clock.wall() + seconds
        self._again[uid] = min(known.quiet_until, self._again.get(uid, math.inf))
