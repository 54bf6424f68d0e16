"""``FleetScheduler``: shows one ``SchedulerTerm`` after the other the queues, clusters and jobs of the fleet.

A term begins with a list of the hub's jobs, read from the API server: what a predecessor has admitted is in their
``status.admission``, whatever this process has cached. From then on events keep it up to date.

The loop sleeps until something that a decision reads has changed (law 13): a job, a queue, a cluster, or the time.
"""

import asyncio
from collections.abc import Iterable

from raycp.base.clock import Clock
from raycp.base.objects import Obj
from raycp.base.tasks import UNKNOWN_QUEUE
from raycp.scheduler.hub import HubJobs
from raycp.scheduler.jobs import concerns
from raycp.scheduler.queue_table import QueueTable
from raycp.scheduler.term import IDLE, PAUSE, SLICE, SchedulerTerm
from raycp.scheduling import Candidate
from raycp.scheduling.admissions import JobExplanation, JobWait
from raycp.scheduling.capacity import CapacitySummary
from raycp.scheduling.queues import QueueStatus

HEARING = 5.0
"""Seconds that a term waits at most, before its first decision, until it has heard of each member what it has: else all goes to
those whose shard is first to report."""

SETTLE = 1.0
"""Seconds between a promotion and the list of the jobs: what a predecessor had sent before it died takes effect meanwhile, or never
(its writes carry a time limit)."""


class FleetScheduler:
    """See the module. Inputs may come at any time; ``run`` never returns."""

    def __init__(self, hub: HubJobs, clock: Clock) -> None:
        self.queues = QueueTable()
        self.queues_listed = False
        """Whether ``queues`` are those of the hub."""
        self._hub = hub
        self._clock = clock
        self._clusters: dict[str, tuple[Candidate, CapacitySummary | None]] = {}
        self._unheard: set[str] = set()
        """Members of which nothing has been reported yet."""
        self._term: SchedulerTerm | None = None
        """The present one; None until its jobs are listed."""
        self._unsure: set[tuple[str, str]] = set()
        """Jobs that were handed out while the queues were not known."""
        self._buffer: dict[str, tuple[Obj, bool]] = {}
        """Changes before a term's jobs are listed, the last of each; of those that go only while they are listed, so that a long
        pause keeps no job that is gone."""
        self._lists = False
        """Whether a term is being shown all there is."""
        self._unshown: dict[str, None] = {}
        """Clusters that have changed since a new term was shown them."""
        self._unshown_queues = False
        self._scanned = self._wanted = False
        self._woken = asyncio.Event()

    # what the shard asks

    @property
    def engaged(self) -> bool:
        """Whether anything in this fleet is to be scheduled: there is a queue, or a job that asks for it."""
        return bool(self.queues.specs or self._buffer or (self._term is not None and self._term.jobs))

    @property
    def ready(self) -> bool:
        """Whether its state is that of the hub."""
        return self._term is not None

    def queue_of(self, obj: Obj) -> str:
        """``Task.queue`` of a job."""
        if self.queues_listed:
            return self.queues.of(obj.meta.namespace) if self.queues.specs else ""
        self._unsure.add((obj.meta.namespace, obj.meta.name))
        return UNKNOWN_QUEUE

    def explain(self, namespace: str, name: str) -> JobExplanation | None:
        """See ``Admission.explain``; None for a job that takes no part."""
        obj = self._hub.cached(namespace, name)
        if self._term is None or obj is None or obj.meta.uid not in self._term.jobs:
            return None
        return self._term.admission.explain(obj.meta.uid, self._clock.wall())

    def waits(self, namespace: str, name: str) -> JobWait | None:
        """See ``Admission.waits``; None also for a job that takes no part."""
        obj = self._hub.cached(namespace, name)
        return self._term.admission.waits(obj.meta.uid) if self._term is not None and obj is not None else None

    def queue_status(self) -> list[QueueStatus]:
        """See ``Admission.queue_status``."""
        return self._term.admission.queue_status() if self._term is not None else []

    def capacity(self) -> list[CapacitySummary]:
        """See ``Admission.capacity``."""
        return self._term.admission.capacity() if self._term is not None else []

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
        if changed:
            self._unshown_queues = True
        if changed and self._term is not None:
            self._term.admission.set_queues(self.queues.specs.values(), self._clock.wall())
            self._term.take_all_again(self._hub.all_cached())  # another queue may be that of their namespace now
        self._woken.set()

    def take_jobs(self, changes: Iterable[tuple[Obj, bool]]) -> None:
        """Jobs that have changed, or are gone (True)."""
        term = self._term
        for obj, gone in changes:
            if not (self.queues.specs or concerns(obj.raw) or (term is not None and term.knows(obj))):
                continue
            if term is None and gone and not self._lists:
                self._buffer.pop(obj.meta.uid, None)  # the next list is without it
            elif term is None:
                self._buffer[obj.meta.uid] = (obj, gone)
            else:
                term.take(obj, gone=gone)
            self._woken.set()

    def set_cluster(self, cluster: Candidate, capacity: CapacitySummary | None, *, heard: bool) -> None:
        """A member has joined or changed. ``heard``: this is what its shard reports, not what is assumed until it does."""
        if not heard:
            self._unheard.add(cluster.name)
        elif cluster.name in self._unheard:
            self._unheard.remove(cluster.name)
            self._woken.set()
        if self._clusters.get(cluster.name) == (cluster, capacity):
            return
        self._clusters[cluster.name] = (cluster, capacity)
        self._unshown[cluster.name] = None
        if self._term is not None:
            self._term.admission.set_cluster(cluster, capacity, self._clock.wall())
            self._woken.set()

    def remove_cluster(self, name: str) -> None:
        """A member has left the fleet."""
        self._unheard.discard(name)
        if self._clusters.pop(name, None) is None:
            return
        self._unshown[name] = None
        if self._term is not None:
            self._term.admission.remove_cluster(name, self._clock.wall())
            self._woken.set()

    # the loop

    async def run(self) -> None:
        """One term after the other, for ever."""
        while True:
            while not (self._hub.writable and self._hub.listed and self.queues_listed and self._needed()):
                self._woken.clear()  # or each sleep ends at once
                await self._sleep(IDLE)
            if self._hub.succeeds:
                await self._clock.sleep(SETTLE)
            term = SchedulerTerm(self._hub, self._clock, self.queues, self._woken)
            try:
                await self._begin(term)
                patient = self._clock.now() + HEARING
                while self._hub.writable and not term.fenced:
                    self._woken.clear()
                    if self._unheard and (left := patient - self._clock.now()) > 0:
                        await self._sleep(min(IDLE, left))
                        continue
                    patient = 0.0
                    term.turn()
                    if term.unfinished:
                        await self._clock.sleep(PAUSE)
                    else:
                        await self._sleep(term.next_turn())
            finally:
                self._term, self._scanned, self._lists = None, False, False
                term.close()

    def _needed(self) -> bool:
        """Whether there is anything to schedule. What was cached before the first event is searched once."""
        if not self._scanned:
            self._scanned, self._wanted = True, any(concerns(obj.raw) for obj in self._hub.all_cached())
        return bool(self.queues.specs) or bool(self._buffer) or self._wanted

    async def _begin(self, term: SchedulerTerm) -> None:
        """Show it all that there is, in slices; what changes meanwhile too."""
        self._lists = True
        listed = {obj.meta.uid: obj async for obj in self._hub.all_jobs()}
        self._unshown, self._unshown_queues = dict.fromkeys(self._clusters), True
        jobs = iter(list(listed.values()))
        end = self._clock.now() + SLICE
        while True:
            if self._clock.now() >= end:
                await self._clock.sleep(PAUSE)
                end = self._clock.now() + SLICE
            now = self._clock.wall()
            if self._unshown_queues:
                self._unshown_queues = False
                term.admission.set_queues(self.queues.specs.values(), now)
                jobs = iter(list(listed.values()))  # another queue may be theirs than that by which they were taken
            elif self._unshown:
                name = next(iter(self._unshown))
                del self._unshown[name]
                if (known := self._clusters.get(name)) is not None:
                    term.admission.set_cluster(*known, now)
                else:
                    term.admission.remove_cluster(name, now)
            elif (obj := next(jobs, None)) is not None:
                term.take(obj, gone=False, again=True)
            elif self._buffer:
                uid = next(iter(self._buffer))
                obj, gone = self._buffer.pop(uid)
                term.take(obj, gone=gone)
                if gone:
                    listed.pop(uid, None)
                elif uid not in listed or listed[uid].rv < obj.rv:
                    listed[uid] = obj
            else:
                break
        self._term, self._lists = term, False

    async def _sleep(self, seconds: float) -> None:
        waits = {asyncio.ensure_future(self._woken.wait()), asyncio.ensure_future(self._clock.sleep(seconds))}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()
