"""A shard's client budgets: the request rate of the whole fleet at each of its clusters' API servers (``clusters[].qps``).

The cluster's primary shard owns the bucket (``raycp.kube.budget``); its own lists and probes take from it too. While tokens are
plenty, each hand-out carries as many as recent reconciles of its controller needed, and unused ones return with the
acknowledgement. When tokens are scarce, workers request them (``TokenRequest``) and are answered in the order of priority and time.
So one busy worker can use the whole budget, and many together never exceed it. A cluster without ``qps`` has no budget and costs
nothing.
"""

from collections.abc import Callable
from functools import partial

from raycp.base.clock import Clock
from raycp.base.loop_names import LoopName
from raycp.base.loops import Loops
from raycp.base.problems import ProblemOwner
from raycp.base.tasks import Done, Task
from raycp.kube.budget import BACKGROUND, LIVE, Budget, Waiter
from raycp.protocol.frames import TOKEN_PATIENCE, Reply, TokenRequest
from raycp.protocol.plan import Plan

TRAVELS_AT_MOST = 8
"""Tokens with one hand-out."""

_NEWEST = 0.1
"""Weight of the newest reconcile in the mean number of requests."""


class PendingRequest:
    """One worker's request that is not answered yet. ``disconnected()`` is True once its connection has ended."""

    __slots__ = ("at", "disconnected", "request", "send", "waiter", "worker")

    def __init__(
        self, worker: str, request: TokenRequest, at: float, send: Callable[[Reply], None], disconnected: Callable[[], bool]
    ) -> None:
        self.worker = worker
        self.request = request
        self.at = at
        self.send = send
        self.disconnected = disconnected
        self.waiter: Waiter | None = None


class _Cluster:
    """One cluster's budget. ``lent``: tokens carried by each worker; ``needed``: mean requests of a reconcile, by controller."""

    def __init__(self, budget: Budget, qps: float, burst: int) -> None:
        self.budget = budget
        self.terms = (qps, burst)
        self.lent: dict[str, int] = {}
        self.needed: dict[str, float] = {}
        self.pending: set[PendingRequest] = set()
        self.pumping = False


class Tokens:
    """Lives in a shard. ``active`` is False where no cluster of it has ``qps``."""

    def __init__(self, clock: Clock, loops: Loops) -> None:
        self._clock = clock
        self._loops = loops
        self._clusters: dict[str, _Cluster] = {}
        self.active = False

    def update(self, plan: Plan, shard: str, *, succeeds: bool = False) -> None:
        """The budgets of the shard's clusters, as the plan has them. ``succeeds``: a predecessor had them, so they start empty."""
        wanted = {}
        for cluster in plan.clusters:
            spec = plan.fleet.doc.cluster(cluster.name)
            if cluster.shard == shard and spec.qps:
                wanted[cluster.name] = (spec.qps, spec.burst or 0)
        for name in [name for name in self._clusters if name not in wanted]:
            for pending in list(self._clusters.pop(name).pending):
                pending.send(Reply(pending.request.id, tokens=pending.request.n))  # no limit now
        for name, (qps, burst) in wanted.items():
            known = self._clusters.get(name)
            if known is None:
                known = self._clusters[name] = _Cluster(Budget(self._clock, qps, burst), qps, burst)
                if succeeds:
                    known.budget.empty()
            elif known.terms != (qps, burst):
                known.terms = (qps, burst)
                known.budget.configure(qps, burst)
        self.active = bool(self._clusters)

    def promoted(self) -> None:
        """Empty all buckets: the predecessor may just have granted every token."""
        for known in self._clusters.values():
            known.budget.empty()

    def budget(self, cluster: str) -> Budget | None:
        """The bucket of a cluster, for the shard's own client."""
        known = self._clusters.get(cluster)
        return known.budget if known is not None else None

    # with hand-outs

    def lend(self, worker: str, task: Task) -> None:
        """Put tokens on a hand-out to ``worker``."""
        known = self._clusters.get(task.key.cluster)
        if known is None:
            return
        needed = round(known.needed.get(task.key.controller, 1.0) + 0.4)
        if needed:
            priority = BACKGROUND if task.tier == "background" else LIVE
            task.tokens = known.budget.lend(min(needed, TRAVELS_AT_MOST), priority)
            if task.tokens:
                known.lent[worker] = known.lent.get(worker, 0) + task.tokens

    def acknowledged(self, worker: str, done: Done) -> None:
        """An acknowledgement: account for the tokens that its hand-out carried."""
        known = self._clusters.get(done.key.cluster)
        if known is None:
            return
        calls = sum(call.status >= 0 and call.cluster == done.key.cluster for call in done.calls)
        before = known.needed.get(done.key.controller, 1.0)
        known.needed[done.key.controller] = before + _NEWEST * (calls - before)
        lent = known.lent.get(worker, 0)
        used = min(done.used, lent)  # more than was lent here was lent by the predecessor
        unused = min(done.unused, lent - used)
        if used:
            known.budget.used(used)
        if unused:
            known.budget.returned(unused)
            self._pump_soon(done.key.cluster, known)
        if used or unused:
            known.lent[worker] = lent - used - unused

    # requests

    def request(self, pending: PendingRequest) -> None:
        """A worker requests tokens: answer now or when its turn comes."""
        request = pending.request
        known = self._clusters.get(request.cluster)
        if known is None:
            pending.send(Reply(request.id, tokens=request.n))
            return
        given = known.budget.grant(max(1, request.n), request.priority)
        if given:
            pending.send(Reply(request.id, tokens=given))
            return
        known.pending.add(pending)
        pending.waiter = known.budget.enqueue(request.priority, lambda: self._granted(known, pending))
        self._pump_soon(request.cluster, known)

    def _granted(self, known: _Cluster, pending: PendingRequest) -> None:
        known.pending.discard(pending)
        if pending.disconnected():
            known.budget.give_back(1)
            return
        pending.send(Reply(pending.request.id, tokens=1 + known.budget.grant(pending.request.n - 1, pending.request.priority)))

    def step(self) -> None:
        """A few times a second: answer requests that have waited too long, drop those of closed connections."""
        since = self._clock.now() - TOKEN_PATIENCE
        for known in self._clusters.values():
            for pending in [pending for pending in known.pending if pending.at < since or pending.disconnected()]:
                self._drop(known, pending)
                pending.send(Reply(pending.request.id))

    def _drop(self, known: _Cluster, pending: PendingRequest) -> None:
        known.pending.discard(pending)
        assert pending.waiter is not None
        pending.waiter.dead = True

    def _pump_soon(self, cluster: str, known: _Cluster) -> None:
        if known.pending and not known.pumping:
            known.pumping = True
            self._loops.supervise(partial(self._pump, known), LoopName.TOKENS, ProblemOwner(cluster=cluster), most=1.0)

    async def _pump(self, known: _Cluster) -> None:
        while (wait := known.budget.pump()) is not None:
            await self._clock.sleep(min(wait, 1.0))
        known.pumping = False

    def wanted(self, cluster: str) -> int:
        """How many requests of workers wait for a token."""
        known = self._clusters.get(cluster)
        return sum(pending.request.n for pending in known.pending if not pending.disconnected()) if known is not None else 0

    # lost and reconnected workers

    def worker_lost(self, worker: str) -> None:
        """Its process is dead: the tokens that it carried return."""
        self._forget(worker, Budget.returned)

    def worker_returned(self, worker: str) -> None:
        """It has reconnected: it may have used the tokens that it carried without reporting it."""
        self._forget(worker, Budget.used)

    def _forget(self, worker: str, how: Callable[[Budget, int], None]) -> None:
        for name, known in self._clusters.items():
            lent = known.lent.pop(worker, 0)
            if lent:
                how(known.budget, lent)
                self._pump_soon(name, known)
            for pending in [pending for pending in known.pending if pending.worker == worker and pending.disconnected()]:
                self._drop(known, pending)
