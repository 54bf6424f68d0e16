"""Room that is kept for jobs at the head of their queues (EASY backfilling: Lifka, 1995; Mu'alem and Feitelson, 2001).

1. A head that can't run gets a plan: on which nodes it will run when which jobs have ended, and from when on, if all of those
have an
   ``activeDeadlineSeconds``.
2. Of the plans of one flavor, the one that was made first is kept, and each whose victims are on their way out: nothing more is
given
   out of its nodes, nor of the quota that it has so far. So a large job gets its turn, however many small ones arrive.
3. A job may use what is kept if it ends, by its ``activeDeadlineSeconds``, before the plan's start; or if the head would have to
   borrow, and the job stays within its own queue's nominal quota: a queue has its own whenever it wants, also before others that
   wait for it.
4. Of the same queue, nothing else passes a plan that is not kept.
"""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from raycp.scheduling.attempts import Fit, attempt_in, feasible
from raycp.scheduling.lines import JobEntry
from raycp.scheduling.queues import FlavorQuotas
from raycp.scheduling.rooms import GrantedNode
from raycp.scheduling.state import AdmissionState

FORESEEN = 256
"""Ends of jobs that are looked at one by one; what comes later counts as coming then, which only makes backfill more careful."""


class HeadPlan:
    """Of the head ``entry``. ``start``: None if not known. ``since``: plans are numbered in the order in which they are first
    made. ``preempts``: its victims are on their way out."""

    def __init__(self, entry: JobEntry, flavor: FlavorQuotas, start: float | None, since: int, *, preempts: bool) -> None:
        self.entry, self.flavor, self.start, self.since, self.preempts = entry, flavor, start, since, preempts
        self.queue = entry.line
        self.active = False
        """It is kept at this moment."""
        self.nodes: dict[str, list[GrantedNode]] = {}
        self.blind = False
        """It has no nodes yet, since it waits for those for whom room is kept; it starts no earlier than they do."""
        self.stale = False
        """Its nodes are not those of the present summaries."""
        self.charged: dict[str, int] = {}
        """Quota that is kept for it."""

    def order(self) -> tuple[bool, int]:
        """Who comes first."""
        return not self.preempts, self.since


class Reservations:
    """The plans, at most one for each queue, by the head's uid."""

    def __init__(self, state: AdmissionState) -> None:
        self._state = state
        self.plans: dict[str, HeadPlan] = {}
        self._kept: list[HeadPlan] = []
        self.loosened = False
        """Something that was kept is free for others, who may have been told that there is no room."""
        self._numbers = itertools.count()

    def of(self, uid: str) -> HeadPlan | None:
        """The plan of a job."""
        return self.plans.get(uid)

    def foresee(self, entry: JobEntry, flavor: FlavorQuotas, now: float, gone: list[JobEntry]) -> HeadPlan | None:
        """Make the plan of a head. ``gone``: jobs that are on their way out. None: even an empty fleet would not do."""
        old = self.plans.pop(entry.uid, None)
        since = next(self._numbers) if old is None else old.since
        self.settle()
        order = (not gone, since)  # what is kept now only because this plan is not there is in nobody's way
        self._release(
            [each for each in self._kept if each.flavor.name == flavor.name and not each.preempts and each.order() > order]
        )
        state, job = self._state, entry.demand
        ends = [each for each in state.by_end() if each not in gone] if gone else state.by_end()
        with state.what_if() as undo:
            start: float | None = now
            for each in gone:
                state.lift(each, undo)
            possible = feasible(state, entry.line, flavor, job)
            for number, each in enumerate(ends):
                if possible:
                    break
                state.lift(each, undo)
                if number < FORESEEN:
                    end = each.ends_by()
                    start = None if end is None or start is None else max(start, end)
                if number < FORESEEN or number == len(ends) - 1:
                    possible = feasible(state, entry.line, flavor, job)
            found = attempt_in(state, entry.line, flavor, job, now) if possible else None
            plan: HeadPlan | None = None
            if isinstance(found, Fit):
                plan = self.plans[entry.uid] = HeadPlan(entry, flavor, start, since, preempts=bool(gone))
                self._choose_nodes(plan, found)
            elif self._kept:
                self._release(self._kept)  # may be it has to wait for those for whom room is kept
                if feasible(state, entry.line, flavor, job):
                    starts = [each.start for each in self._kept]
                    start = min((each for each in starts if each is not None), default=None) if None not in starts else None
                    plan = self.plans[entry.uid] = HeadPlan(entry, flavor, start, since, preempts=bool(gone))
                    plan.blind = True
        self.settle()  # not before what was lifted is back
        return plan

    def _choose_nodes(self, plan: HeadPlan, found: Fit) -> None:
        """Those that it would get."""
        state = self._state
        shape = state.shape(plan.entry.demand, plan.flavor.node_labels)
        for name, count in found.clusters.items():
            room = state.rooms.get(name)
            if room is not None:
                room.grant(_KEY, shape, count)
                plan.nodes[name] = list(dict.fromkeys(room.nodes_of(_KEY)))
                room.revoke(_KEY)

    def only(self, entry: JobEntry) -> None:
        """It is the head of its queue now: what was planned for another is void."""
        for plan in [each for each in self.plans.values() if each.queue == entry.line and each.entry is not entry]:
            self.drop(plan.entry.uid)

    def drop_all(self) -> None:
        """The queues are exchanged."""
        for uid in list(self.plans):
            self.drop(uid)

    def drop(self, uid: str) -> None:
        """The job has no plan any more."""
        plan = self.plans.pop(uid, None)
        if plan is not None:
            if plan in self._kept:
                self.loosened = True
                for each in self.plans.values():
                    each.stale = each.stale or each.blind
            self.settle()

    def mark_stale(self, cluster: str) -> None:
        """A cluster's nodes have been exchanged."""
        for plan in self.plans.values():
            if cluster in plan.nodes:
                del plan.nodes[cluster]
                plan.stale = True

    def stale(self) -> list[HeadPlan]:
        """Those that are kept, and have to be made anew for it."""
        return [plan for plan in self._kept if plan.stale]

    def settle(self) -> None:
        """Keep what is to be kept, and nothing else."""
        kept: list[HeadPlan] = []
        flavors: set[str] = set()
        for plan in sorted(self.plans.values(), key=HeadPlan.order):
            if plan.preempts or plan.flavor.name not in flavors:
                flavors.add(plan.flavor.name)
                kept.append(plan)
        self._release([plan for plan in self._kept if plan not in kept])
        self._state.catch_up()
        for plan in kept:  # their nodes stay theirs; the quota is divided anew
            if plan.active:
                self._discharge(plan)
                plan.active = False
        self._kept = kept
        self._keep(kept)

    def _keep(self, plans: list[HeadPlan]) -> None:
        rooms = self._state.rooms
        for plan in plans:
            if plan.active or plan not in self._kept:
                continue
            plan.active = True
            if not self._state.called_off(_HIDDEN + plan.entry.uid):
                for name, nodes in plan.nodes.items():
                    rooms[name].keep(nodes, kept=True)  # of those that it keeps already, some may be another plan's too
            self._charge(plan)

    def _charge(self, plan: HeadPlan) -> None:
        job, ledger = plan.entry.demand, self._state.ledger
        for resource, amount in job.per_pod.items():
            left = ledger.available(plan.queue, plan.flavor.name, resource)
            if left is not None:
                plan.charged[resource] = max(0, min(left, amount * job.needed))
        ledger.keep(plan.queue, plan.flavor.name, plan.charged)

    def _discharge(self, plan: HeadPlan) -> None:
        self._state.ledger.keep(plan.queue, plan.flavor.name, plan.charged, -1)
        plan.charged = {}

    def _release(self, plans: list[HeadPlan]) -> None:
        for plan in plans:
            if not plan.active:
                continue
            plan.active = False
            self._discharge(plan)
            self._state.later(_HIDDEN + plan.entry.uid, partial(self._show, plan))

    def _show(self, plan: HeadPlan) -> None:
        for name, nodes in plan.nodes.items():
            room = self._state.rooms.get(name)
            if room is not None:
                room.keep(nodes, kept=False)

    def usable(self, entry: JobEntry, now: float) -> list[HeadPlan]:
        """What is kept and ``entry`` may use: its own plan, each that is needed only after its end, and each of a queue that would
        borrow what is ``entry``'s own."""
        deadline = entry.demand.active_deadline
        end = None if deadline is None else now + deadline
        return [
            plan
            for plan in self._kept
            if plan.entry is entry
            or (
                not plan.preempts
                and ((end is not None and plan.start is not None and end <= plan.start) or self._lends(entry, plan))
            )
        ]

    def _lends(self, entry: JobEntry, plan: HeadPlan) -> bool:
        ledger, job, flavor = self._state.ledger, entry.demand, plan.flavor.name
        if entry.line == plan.queue or not ledger.same_cohort(entry.line, plan.queue):
            return False
        if all(each.name != flavor for each in ledger.flavors(entry.line)):
            return False
        head = plan.entry.demand
        borrows = ledger.own_pods(plan.queue, flavor, head.per_pod, head.needed) < head.needed
        return borrows and ledger.own_pods(entry.line, flavor, job.per_pod, job.needed) == job.needed

    @contextmanager
    def lifted(self, plans: list[HeadPlan]) -> Iterator[None]:
        """They are not kept within."""
        self._release(plans)
        try:
            yield
        finally:
            self._keep(plans)

    def barred(self, head: JobEntry) -> HeadPlan | None:
        """The plan of the head that others of its queue may not use the flavor and the clusters of, unless they end before its
        start; None: they are free."""
        plan = self.plans.get(head.uid)
        return None if plan is None or plan.active else plan


_KEY, _HIDDEN = "/plan", "/hidden/"
