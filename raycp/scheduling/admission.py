"""``Admission``: which job runs next, and where. A state machine without input and output.

The rules:

1. The next job is one of the queue whose weighted dominant share is least (``quota``), of that queue the one of highest priority,
   of those the oldest (``lines``).
2. It is admitted if its queue has quota for it and the fleet has room (``attempts``): all of its Pods, or at least
   ``min_available``.
3. Else jobs make way for it, if there are any that have to (``preemption``); else room is kept for it (``reservations``), and
   others of its queue may pass it only as far as that delays nothing.
4. A gang that has too few Pods, for longer than its ``ready_timeout``, goes whole and waits again, each time longer. A job that is
   preempted, or whose cluster is lost, waits again where it stood before.
5. Pods that can't be where they were admitted are placed anew, before any job that waits (``relocation``).
"""

from collections.abc import Callable, Container, Iterable
from typing import Literal

from msgspec.structs import replace

from raycp.scheduling.admissions import AdmissionDecision, AdmissionRecord, MoveKind
from raycp.scheduling.attempts import Fit, attempt
from raycp.scheduling.capacity import CapacitySummary
from raycp.scheduling.demand import JobDemand
from raycp.scheduling.dependencies import DependencyGraph
from raycp.scheduling.eviction import Timers, backed_off, backoff_message, broken, evicting, preempted
from raycp.scheduling.lines import JobEntry, Misfit, QueueLine
from raycp.scheduling.model import Candidate
from raycp.scheduling.preemption import victims
from raycp.scheduling.questions import AdmissionQuestions
from raycp.scheduling.queues import QueueSpec
from raycp.scheduling.relocation import Displaced, Displacement, after_loss
from raycp.scheduling.reservations import HeadPlan
from raycp.scheduling.state import PATIENCE, AdmissionState

JobOutcome = Literal["Complete", "Failed", "Deleted"]

RESERVED = 60.0
"""Seconds for which room is kept for admitted Pods that no summary shows. Longer than a creation takes, and a summary's way
here."""

SCANNED = 256
"""Groups of alike jobs of a queue that are looked at behind a head that waits."""

PASSING = 32
"""Of those, the kinds that are tried: one job of each, and shorter ones of the same kind."""

_PENDING = AdmissionRecord("Pending")


class Admission(AdmissionQuestions):
    """The state: queues, clusters, jobs that wait and jobs that run. Events change it; ``decide`` answers.

    A decision is in force as soon as it is returned. If it can't be written, ``withdraw`` takes it back. Times are Unix seconds,
    from one clock; an event is never refused for being late or told twice. Not for several threads.
    """

    def __init__(self, state: AdmissionState | None = None) -> None:
        super().__init__(state)
        self._uids: dict[str, str] = {}
        self._ended: dict[str, str] = {}
        """Jobs that have ended and are not deleted: uid to key."""
        self._graph = DependencyGraph()
        self._displaced = Displaced(self._state)
        self._timers = Timers()
        self._outbox: list[AdmissionDecision] = []
        self.unrecorded: dict[str, AdmissionRecord] = {}
        """Jobs that wait, and whose ``record.fulfilled`` is to be written, as it counts once what was fulfilled is deleted."""
        self._misfits: dict[tuple[str, bytes], Misfit] = {}
        """What does not fit until room or quota becomes free, by queue and kind of job."""

    # events

    def set_queues(self, queues: Iterable[QueueSpec], now: float) -> None:
        """These are the queues now. Jobs of a queue that is gone wait; those that run stay and are charged to nobody."""
        self._plans.drop_all()
        self._state.ledger.set_queues(queues)
        self._lines = {name: QueueLine() for name in self._state.ledger.queues}
        for entry in self._jobs.values():
            if entry.record.state == "Pending":
                self._enqueue(entry, now)
        self._freed()

    def set_cluster(self, cluster: Candidate, capacity: CapacitySummary | None, now: float) -> None:
        """A cluster has joined or changed. ``capacity`` None: not known, no limit. An unreachable one gets no new Pods."""
        state = self._state
        old = state.rooms.get(cluster.name)
        known = state.candidates.get(cluster.name)
        if known == cluster and (old.summary if old is not None else None) == capacity:
            return
        if state.set_candidate(cluster, now):
            self._timers.at(now + PATIENCE, "")
        self._plans.mark_stale(cluster.name)
        state.set_capacity(cluster.name, capacity, now)
        self._freed(hope=True)

    def remove_cluster(self, name: str, now: float) -> None:
        """The cluster has left the fleet."""
        self._plans.mark_stale(name)
        self._state.remove_candidate(name)
        self._state.set_capacity(name, None, now)
        self._freed(hope=True)

    def submit(self, job: JobDemand, record: AdmissionRecord | None, now: float) -> None:
        """A job is there, or has changed. ``record``: its ``status.admission``, from which a new scheduler rebuilds its
        state; ignored for a job that is known. What an admitted job holds does not change with it."""
        entry = self._jobs.get(job.uid)
        if entry is not None and entry.demand == job:
            return
        concerned = self._graph.add(job)
        if entry is None:
            entry = self._jobs[job.uid] = JobEntry(job, record or _PENDING)
            self._uids[job.key] = job.uid
            self._apply(entry, entry.record, now)
        elif entry.record.state == "Pending":
            self._leave(entry)
            entry.change(job)
            self._enqueue(entry, now)
        else:
            self._state.change(entry, job)
        for key in concerned:
            self._wake(key, now)

    def finish(self, uid: str, outcome: JobOutcome, now: float) -> None:
        """A job has ended or is deleted: its quota and room are free. Of a job that ends, tell its deletion too."""
        entry = self._jobs.pop(uid, None)
        key = entry.demand.key if entry is not None else self._ended.get(uid)
        if key is None:
            return
        if entry is not None:
            self._uids.pop(key, None)
            self._leave(entry)
            self._outbox = [each for each in self._outbox if each.uid != uid]
            if entry.record.state != "Pending":
                self._state.drop(entry)
                self._freed()
        if outcome == "Deleted":
            self._ended.pop(uid, None)
            woken = self._graph.remove(key)
        else:
            self._ended[uid] = key
            woken = self._graph.reached(key, outcome)
        for other in woken:
            self._wake(other, now)

    def pods(self, uid: str, running: int, now: float) -> None:
        """``running`` Pods of an admitted job run or have succeeded. A gang that had enough and has too few for longer than its
        ``ready_timeout`` (at once, without one) is evicted."""
        entry = self._jobs.get(uid)
        if entry is None or entry.record.state != "Admitted":
            return
        if running:
            self.started(uid, now)
        if running >= entry.demand.min_available:
            entry.ready, entry.recover_by = True, None
        elif entry.ready and entry.recover_by is None:
            entry.recover_by = now + (entry.demand.ready_timeout or 0.0)
            self._timers.at(entry.recover_by, uid)

    def displace(self, uid: str, said: Displacement) -> None:
        """What an admitted job says of where it runs (see ``relocation``)."""
        entry = self._jobs.get(uid)
        if entry is not None and entry.record.state == "Admitted":
            self._displaced.ask(entry, said)

    def started(self, uid: str, now: float) -> None:
        """A Pod of the job runs or has run."""
        entry = self._jobs.get(uid)
        for key in self._graph.reached(entry.demand.key, "Started") if entry is not None else ():
            self._wake(key, now)

    def cluster_lost(self, name: str, now: float, uids: Container[str] | None = None) -> None:
        """The Pods of a cluster are given up, of all jobs or of ``uids``: gangs with too few left are evicted, others move."""
        for entry in sorted(self._state.running.values(), key=lambda each: each.rank):
            record = entry.record
            concerned = record.state == "Admitted" and entry.stays_until <= now and (uids is None or entry.uid in uids)
            if concerned and record.clusters.get(name):
                self._decided(entry, *after_loss(self._state, entry, name), now)
        self._freed()

    def evicted(self, uid: str, now: float) -> AdmissionRecord | None:
        """The Pods of an evicted or preempted job are gone: quota and room are free, the job waits again, where it stood before.
        Returns the record that is to be written; None if it was not being evicted."""
        entry = self._jobs.get(uid)
        if entry is None or entry.record.state != "Evicting":
            return None
        pending = entry.record.requeued()
        self._apply(entry, pending, now)
        self._freed()
        return pending

    def withdraw(self, uid: str, now: float, until: float = 0.0) -> None:
        """The last decision on the job could not be written, and is void. No other is made on one that runs before ``until``."""
        entry = self._jobs.get(uid)
        if entry is not None and entry.previous is not entry.record:
            if until:
                entry.stays_until = until
                self._timers.at(until, uid)
            self._apply(entry, entry.previous, now)
            self._freed()

    # decisions

    def decide(self, now: float, limit: int = 100, enough: Callable[[], bool] = lambda: False) -> list[AdmissionDecision]:
        """At most ``limit`` decisions, the most urgent first (more only where one needs several jobs to make way). It also ends,
        having looked at one queue at least, when ``enough`` says so; each call decides by the state that it finds. Unless there is
        more that is ``undecided``, nothing can be decided until an event, or ``next_wake``."""
        for uid in self._timers.due(now):
            self._timer(uid, now)
        out, self._outbox = self._outbox[:limit], self._outbox[limit:]
        for plan in self._plans.stale():
            self._plans.foresee(plan.entry, plan.flavor, now, self._state.making_way(now) if plan.preempts else [])
            if enough():
                return out
        moves = self._displaced.decided(now)  # what runs comes before what waits
        while len(out) < limit and (move := next(moves, None)) is not None:
            entry, kind, record = move
            self._apply(entry, record, now)
            out.append(AdmissionDecision(kind, entry.uid, record))
            self._freed()
            if enough():
                return out
        self._plans.settle()  # of quota that has become free since, those come first for whom some is kept
        ledger = self._state.ledger
        while len(out) < limit:
            if self._plans.loosened:
                self._plans.loosened = False
                self._freed()
            open_lines = [name for name, line in self._lines.items() if not line.settled and len(line)]
            if not open_lines:
                break
            name = min(open_lines, key=lambda each: (ledger.share(each), self._lines[each].head_rank()))
            decisions = self._serve(name, now) if ledger.queues[name].stop == "None" else []
            self._lines[name].settled = not decisions
            out += decisions
            if enough():
                break
        return out

    @property
    def undecided(self) -> bool:
        """Whether ``decide`` has ended before all was decided."""
        if self._outbox or not self._displaced.settled:
            return True
        return any(not line.settled and len(line) for line in self._lines.values())

    def next_wake(self, now: float) -> float | None:
        """When to call ``decide`` even without an event: the end of a backoff, a timeout, or a reservation."""
        return self._timers.first()

    # one queue

    def _serve(self, name: str, now: float) -> list[AdmissionDecision]:
        """Decisions on the first of its jobs on which there is something to decide."""
        line = self._lines[name]
        head: JobEntry | None = None
        strict = self._state.ledger.queues[name].strategy == "StrictFIFO"
        failed: dict[bytes, float] = {}
        flavors = self._state.ledger.flavors(name)
        bar: HeadPlan | None = None
        looked = 0
        for entry in line.heads():
            kind, lasts = entry.group
            plan: HeadPlan | None = None
            if head is not None:
                looked += 1
                if looked > SCANNED or len(failed) >= PASSING:
                    break
                if kind in failed and lasts >= failed[kind]:
                    continue  # one like it, and no longer, could not run either
                if bar is not None and (bar.start is None or now + lasts > bar.start):
                    if all(each.name == bar.flavor.name for each in flavors):
                        if bar.start is None:
                            break
                        failed[kind] = lasts
                        continue
                    plan = bar
            if kind in line.hopeless:
                continue  # since a moment ago
            found = self._try(name, entry, head.demand.key if head is not None else "", plan, now)
            if isinstance(found, AdmissionDecision):
                return [found]
            entry.wait(found.reason, found.message)
            if found.hopeless:
                line.give_up(kind, found)
                continue
            failed[kind] = lasts
            if head is not None:
                continue
            self._plans.only(entry)
            decisions = self._make_way(name, entry, now)
            if decisions:
                return decisions
            if self._plan(name, entry, found, now):
                if strict:
                    break
                head, bar = entry, self._plans.barred(entry)
        return []

    def _try(self, name: str, entry: JobEntry, ahead: str, bar: HeadPlan | None, now: float) -> AdmissionDecision | Misfit:
        """Admit it if it fits, and delays no head before it (``ahead``, its key), whose plan ``bar`` it may not use."""
        key = (name, entry.kind)
        usable = self._plans.usable(entry, now)
        known = self._misfits.get(key) if not usable else None
        if known is not None:
            return known
        with self._plans.lifted(usable):
            found = attempt(self._state, name, entry.demand, now, without=bar.flavor.name if bar is not None else None)
            if isinstance(found, Fit) and not (bar is not None and bar.nodes.keys() & found.clusters.keys()):
                return self._admit(entry, found, now)
        if isinstance(found, Misfit) and bar is None:
            if not usable and not found.hopeless:
                self._misfits[key] = found
            return found
        return Misfit("BehindHead", f"{ahead} is before it, and must not wait longer because of it")

    def _admit(self, entry: JobEntry, fit: Fit, now: float) -> AdmissionDecision:
        job, old = entry.demand, entry.record
        labels = fit.flavor.node_labels
        record = AdmissionRecord(
            "Admitted", entry.line, fit.flavor.name, fit.clusters, labels, job.priority, now, old.requeues, fulfilled=old.fulfilled
        )
        self._apply(entry, record, now)
        return AdmissionDecision("Admit", entry.uid, record)

    def _make_way(self, name: str, entry: JobEntry, now: float) -> list[AdmissionDecision]:
        """Preempt others for it, once."""
        with self._plans.lifted(self._plans.usable(entry, now)):
            found = victims(self._state, name, entry.demand, now)
        if found is None:
            return []
        flavor, chosen = found
        out = []
        for victim in chosen:
            record = preempted(victim.record, name, entry.demand)
            self._apply(victim, record, now)
            out.append(AdmissionDecision("Preempt", victim.uid, record, entry.uid))
        plan = self._plans.of(entry.uid)
        if plan is None or out or plan.stale:
            self._plans.foresee(entry, flavor, now, self._state.making_way(now))
        entry.wait("Preempting", f"waits for {len(self._state.making_way(now))} jobs that make way")
        return out

    def _plan(self, name: str, entry: JobEntry, misfit: Misfit, now: float) -> bool:
        """Keep room for the head. False: it can't ever run with the present nodes, and is in nobody's way."""
        old = self._plans.of(entry.uid)
        waits = old is not None and old.preempts and self._state.making_way(now)
        if old is not None and (waits or (not old.preempts and (old.start is None or old.start > now))):
            return True
        for flavor in self._state.ledger.flavors(name):
            if self._plans.foresee(entry, flavor, now, []) is not None:
                return True
        none = Misfit("NoClusterFit", f"{misfit.message}; it would not fit if nothing else ran", hopeless=True)
        self._lines[name].give_up(entry.kind, none)
        entry.wait(none.reason, none.message)
        return False

    # the state of a job

    def _apply(self, entry: JobEntry, record: AdmissionRecord, now: float) -> None:
        """Make ``record`` the job's state."""
        self._out_of_line(entry)
        if entry.uid in self._state.running and record.state != "Pending":
            entry.previous = entry.record
            entry.reserved_until = max(entry.reserved_until, now + RESERVED)  # where it moves to, nobody has seen its Pods
            self._timers.at(entry.reserved_until, entry.uid)
            self._state.replace(entry, record)
            return
        self._state.drop(entry)
        entry.previous, entry.record = entry.record, record
        if record.state == "Pending":
            entry.ready, entry.ready_by, entry.recover_by, entry.seen = False, None, None, set()
            self._plans.drop(entry.uid)
            self._enqueue(entry, now)
            return
        entry.line = record.queue
        entry.reserved_until = now + RESERVED
        self._timers.at(entry.reserved_until, entry.uid)
        if entry.demand.ready_timeout is not None and entry.demand.min_available:
            entry.ready_by = now + entry.demand.ready_timeout  # after a restart, nothing is known of its Pods yet
            self._timers.at(entry.ready_by, entry.uid)
        self._state.take(entry)
        self._plans.drop(entry.uid)

    def _decided(self, entry: JobEntry, kind: MoveKind, record: AdmissionRecord, now: float) -> None:
        self._apply(entry, record, now)
        self._outbox.append(AdmissionDecision(kind, entry.uid, record))

    def _leave(self, entry: JobEntry) -> None:
        self._out_of_line(entry)
        self._plans.drop(entry.uid)

    def _out_of_line(self, entry: JobEntry) -> None:
        line = self._lines.get(entry.line)
        if line is not None:
            line.remove(entry)

    def _enqueue(self, entry: JobEntry, now: float) -> None:
        """To its queue, or to wait for what is in its way."""
        job = entry.demand
        name = job.queue or self._state.ledger.queue_of(job.namespace)
        entry.line = name
        met = self._graph.met(job, entry.record.fulfilled)
        if met != entry.record.fulfilled:
            entry.record = self.unrecorded[entry.uid] = replace(entry.record, fulfilled=met)
        if entry.record.not_before > now:
            entry.wait("Backoff", backoff_message(entry.record))
            self._timers.at(entry.record.not_before, entry.uid)
        elif (obstacle := self._graph.obstacle(job, met)) is not None:
            entry.wait(*obstacle)
        elif name not in self._lines:
            entry.wait("NoQueue", f"there is no queue {name}")
        else:
            entry.wait("NotConsidered", "")
            self._lines[name].add(entry)

    def _wake(self, key: str, now: float) -> None:
        """What a job depends on has changed."""
        entry = self._jobs.get(self._uids.get(key, ""))
        if entry is not None and entry.record.state == "Pending":
            self._leave(entry)
            self._enqueue(entry, now)

    def _timer(self, uid: str, now: float) -> None:
        entry = self._jobs.get(uid)
        if entry is None:
            if not uid:  # for a silent cluster nobody waits any longer
                self._freed()
            return
        record = entry.record
        if record.state == "Pending":
            if entry.reason == "Backoff" and record.not_before <= now:
                self._enqueue(entry, now)
            return
        if 0.0 < entry.stays_until <= now:
            entry.stays_until = 0.0
            self._freed()
        if entry.reserved_until <= now and [each for each in record.clusters if self._state.occupy(entry, each, now)]:
            self._freed()
        if (why := broken(entry, now)) is not None:
            self._decided(entry, "Evict", evicting(record, *why, backed_off(record.requeues, now)), now)

    def _freed(self, *, hope: bool = False) -> None:
        """What did not fit may fit now; with ``hope``, also what could never fit."""
        self._misfits.clear()
        self._displaced.settled = False
        for line in self._lines.values():
            line.settled = False
            if hope:
                line.hope()
