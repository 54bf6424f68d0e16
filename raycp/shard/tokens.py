"""A shard's client budgets: how often the whole fleet asks the API servers of its clusters (``clusters[].qps``).

The cluster's primary shard owns the bucket (``raycp.kube.budget``); its own lists and probes take from it too. While tokens are
plenty some travel with each hand-out, as many as a reconcile of that controller needed of late, and unused ones come back with the
acknowledgement; when they are scarce, workers ask (``TokenRequest``) and are answered in the order of priority and
time. So one busy worker can use all of it, and many never more than it. A cluster without ``qps`` has no budget here and costs
nothing.
"""

from collections.abc import Callable

from raycp.base.clock import Clock
from raycp.base.loops import Loops
from raycp.base.tasks import Done, Task
from raycp.kube.budget import BACKGROUND, LIVE, Budget, Waiter
from raycp.protocol.frames import TOKEN_PATIENCE, Reply, TokenRequest
from raycp.protocol.plan import Plan

TRAVELS_AT_MOST = 8
"""Tokens with one hand-out."""

_NEWEST = 0.1
"""Weight of the newest reconcile in the mean number of requests."""


class Asked:
    """One worker's open question. ``gone()`` once its connection is."""

    __slots__ = ("ask", "at", "gone", "send", "waiter", "worker")

    def __init__(self, worker: str, ask: TokenRequest, at: float, send: Callable[[Reply], None], gone: Callable[[], bool]) -> None:
        self.worker = worker
        self.ask = ask
        self.at = at
        self.send = send
        self.gone = gone
        self.waiter: Waiter | None = None


class _Cluster:
    """One cluster's."""

    def __init__(self, budget: Budget, qps: float, burst: int) -> None:
        self.budget = budget
        self.terms = (qps, burst)
        self.lent: dict[str, int] = {}
        self.needed: dict[str, float] = {}
        self.asked: set[Asked] = set()
        self.pumping = False


class Tokens:
    """Lives in a shard. ``active`` is False where no cluster of it has ``qps``."""

    def __init__(self, clock: Clock, loops: Loops) -> None:
        self._clock = clock
        self._loops = loops
        self._clusters: dict[str, _Cluster] = {}
        self.active = False

    def update(self, plan: Plan, shard: str, *, succeeds: bool = False) -> None:
        """The budgets of the shard's clusters, as the plan has them. ``succeeds``: another primary had them before, so that they
        begin empty."""
        wanted = {}
        for cluster in plan.clusters:
            spec = plan.fleet.doc.cluster(cluster.name)
            if cluster.shard == shard and spec.qps:
                wanted[cluster.name] = (spec.qps, spec.burst or 0)
        for name in [name for name in self._clusters if name not in wanted]:
            for asked in list(self._clusters.pop(name).asked):
                asked.send(Reply(asked.ask.id, tokens=asked.ask.n))  # no limit any more
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
        """The primary before may just have given out all there was."""
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

    def took_back(self, worker: str, done: Done) -> None:
        """An acknowledgement."""
        known = self._clusters.get(done.key.cluster)
        if known is None:
            return
        calls = sum(call.status >= 0 and call.cluster == done.key.cluster for call in done.calls)
        before = known.needed.get(done.key.controller, 1.0)
        known.needed[done.key.controller] = before + _NEWEST * (calls - before)
        lent = known.lent.get(worker, 0)
        used = min(done.used, lent)  # more than was lent here was lent by the primary before
        unused = min(done.unused, lent - used)
        if used:
            known.budget.used(used)
        if unused:
            known.budget.returned(unused)
            self._pump_soon(done.key.cluster, known)
        if used or unused:
            known.lent[worker] = lent - used - unused

    # asked for

    def ask(self, asked: Asked) -> None:
        """A worker needs tokens: it is answered now or when its turn comes."""
        ask = asked.ask
        known = self._clusters.get(ask.cluster)
        if known is None:
            asked.send(Reply(ask.id, tokens=ask.n))
            return
        given = known.budget.grant(max(1, ask.n), ask.priority)
        if given:
            asked.send(Reply(ask.id, tokens=given))
            return
        known.asked.add(asked)
        asked.waiter = known.budget.enqueue(ask.priority, lambda: self._granted(known, asked))
        self._pump_soon(ask.cluster, known)

    def _granted(self, known: _Cluster, asked: Asked) -> None:
        known.asked.discard(asked)
        if asked.gone():
            known.budget.give_back(1)
            return
        asked.send(Reply(asked.ask.id, tokens=1 + known.budget.grant(asked.ask.n - 1, asked.ask.priority)))

    def step(self) -> None:
        """A few times a second: answer those that have waited too long, forget those that have gone."""
        since = self._clock.now() - TOKEN_PATIENCE
        for known in self._clusters.values():
            for asked in [asked for asked in known.asked if asked.at < since or asked.gone()]:
                self._drop(known, asked)
                asked.send(Reply(asked.ask.id))

    def _drop(self, known: _Cluster, asked: Asked) -> None:
        known.asked.discard(asked)
        assert asked.waiter is not None
        asked.waiter.dead = True

    def _pump_soon(self, cluster: str, known: _Cluster) -> None:
        if known.asked and not known.pumping:
            known.pumping = True
            self._loops.spawn(self._pump(known), f"tokens of {cluster}")

    async def _pump(self, known: _Cluster) -> None:
        try:
            while (wait := known.budget.pump()) is not None:
                await self._clock.sleep(min(wait, 1.0))
        finally:
            known.pumping = False

    def wanted(self, cluster: str) -> int:
        """How many requests of workers wait for a token."""
        known = self._clusters.get(cluster)
        return sum(asked.ask.n for asked in known.asked if not asked.gone()) if known is not None else 0

    # workers that end

    def worker_lost(self, worker: str) -> None:
        """Its process is dead: what it carried returns."""
        self._forget(worker, Budget.returned)

    def worker_returned(self, worker: str) -> None:
        """It has reconnected: what it carried it may have used without telling."""
        self._forget(worker, Budget.used)

    def _forget(self, worker: str, how: Callable[[Budget, int], None]) -> None:
        for name, known in self._clusters.items():
            lent = known.lent.pop(worker, 0)
            if lent:
                how(known.budget, lent)
                self._pump_soon(name, known)
            for asked in [asked for asked in known.asked if asked.worker == worker and asked.gone()]:
                self._drop(known, asked)
