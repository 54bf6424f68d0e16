"""No cluster harms another: how a shard limits a cluster that fails, hangs or answers 429 (law 5).

Workers report the outcomes of their requests with each acknowledgement, and in frames of their own those of requests for keys of
other shards. Failures open the cluster's breaker: none of its keys is handed out, so that none occupies a slot, until the shard's
own probes (``probes``) succeed; workers are notified, and send no requests to it for other keys either. The shard's own client of
the cluster has the same breaker, and its reflectors are woken when it closes. A 429 pauses the cluster for the
requested time, followed by a slow start. While its client budget (``raycp.shard.tokens``) is short of tokens, only as many keys are
handed out as will receive tokens soon. Status and metrics show all of this.
"""

import logging
from collections.abc import Callable, Iterable
from functools import partial

from raycp.base.clock import Clock
from raycp.base.loop_names import LoopName
from raycp.base.loops import Loops
from raycp.base.problems import ProblemOwner
from raycp.base.tasks import ApiCall
from raycp.kube import ClusterClient
from raycp.kube.breaker import Breaker, BreakerPhase
from raycp.kube.errors import RETRY_AFTER_MAX, UNABLE
from raycp.member.limits import breaker_policy
from raycp.metrics import ApiMetrics, Metrics
from raycp.protocol.frames import CallOutcome
from raycp.protocol.plan import Plan
from raycp.queueing.protocol import Queue
from raycp.shard.caches import Caches
from raycp.shard.identity import ShardIdentity
from raycp.shard.probes import ServerProbe
from raycp.shard.tokens import Tokens

log = logging.getLogger(__name__)

PAUSE = 1.0
"""After a 429 that named no time, in seconds."""

AHEAD = 0.5
"""Seconds of a client budget's rate that keys in work may wait for; further keys wait in the queue."""

_FAILED = UNABLE | {0}
_LEVEL = {BreakerPhase.CLOSED: 0.0, BreakerPhase.HALF_OPEN: 1.0, BreakerPhase.OPEN: 2.0}


class _Cluster:
    """One cluster's health. ``limit`` is the slow start's, ``short`` the client budget's (None: no limit); ``applied_limit`` is the
    queue's, with its reason."""

    def __init__(self, breaker: Breaker, probe: ServerProbe) -> None:
        self.breaker = breaker
        self.probe = probe
        self.connected = False
        self.paused_until = 0.0
        self.limit: int | None = None
        self.doubled_at = 0.0
        self.listing_until: float | None = None
        self.throttled = 0
        self.short: int | None = None
        self.waiting = 0
        self.applied_limit: tuple[int | None, str] = (None, "")


class ClusterGuard:
    """One shard's clusters. ``calls_ended`` costs a dictionary lookup per request that succeeded."""

    def __init__(
        self,
        identity: ShardIdentity,
        caches: Caches,
        queue: Queue,
        tokens: Tokens,
        clock: Clock,
        loops: Loops,
        metrics: Metrics,
        changed: Callable[[str], None],
    ) -> None:
        self._identity = identity
        self._caches = caches
        self._queue = queue
        self._tokens = tokens
        self._clock = clock
        self._loops = loops
        self._changed = changed
        self._clusters: dict[str, _Cluster] = {}
        self._metrics = ApiMetrics(metrics)

    def update(self, plan: Plan) -> None:
        """The shard's clusters of ``plan``."""
        mine = {cluster.name for cluster in plan.clusters if cluster.shard == self._identity.shard}
        for name in [name for name in self._clusters if name not in mine]:
            self._clusters.pop(name).probe.ended = True
            self._metrics.breaker.remove(name)
        for name in mine - set(self._clusters):
            policy = breaker_policy(plan.fleet.doc.cluster(name).breaker)
            breaker = Breaker(self._clock, policy, partial(self._moved, name))
            probe = ServerProbe(self._clock, breaker, partial(self._client, name))
            known = self._clusters[name] = _Cluster(breaker, probe)
            self._metrics.breaker.labels(name).set(0.0)
            self._metrics.throttled.labels(name)  # 0 from the start: the first one is an increase
            known.listing_until = self._clock.now() + plan.fleet.doc.spec.timeouts.sync_deadline
            self._limit(name, known)

    def breaker(self, cluster: str) -> Breaker | None:
        """The circuit breaker of a cluster of this shard; None for another's."""
        known = self._clusters.get(cluster)
        return known.breaker if known is not None else None

    def calls_ended(self, calls: Iterable[ApiCall]) -> None:
        """Handle the outcomes of one reconcile's requests."""
        for call in calls:
            known = self._clusters.get(call.cluster)
            if known is None or call.status < 0:
                continue
            if call.status == 429:
                self._pause(call.cluster, known, call.retry_after)
                if (budget := self._tokens.budget(call.cluster)) is not None:
                    budget.throttled(call.retry_after)
            elif call.status in _FAILED:
                reason = f"{call.status or 'no answer'} to {call.verb} within {call.seconds:.1f} s"
                sent = self._clock.now() - call.seconds
                if call.path.startswith("/apis/"):
                    known.probe.doubt(reason, sent)
                    self._probe(call.cluster, known)
                else:
                    known.breaker.failure(reason, sent)
                    self._limit(call.cluster, known)
            elif not known.breaker.untroubled:
                known.breaker.success()

    def outcomes(self, outcome: CallOutcome) -> None:
        """Handle the outcomes of a worker's requests for keys of other shards."""
        for cluster, count in outcome.answered.items():
            known = self._clusters.get(cluster)
            if known is not None:
                for _ in range(count):
                    if known.breaker.untroubled:
                        break
                    known.breaker.success()
        self.calls_ended(outcome.failed)

    def connected(self, name: str) -> None:
        """The shard has a client of the cluster, perhaps a new one: make it use this breaker, and the budget that the workers
        share. A breaker that opened against another endpoint says nothing of this one, which has answered."""
        client, known = self._client(name), self._clusters.get(name)
        if client is None:
            return
        if known is not None and client.breaker is not known.breaker:
            if known.connected:
                known.breaker.reset()
            known.connected = True
            client.breaker = known.breaker
        budget = self._tokens.budget(name) if self._tokens.active else None
        if budget is not None and client.budget is not budget:
            client.budget = budget

    def state_of(self, cluster: str) -> tuple[str, str]:
        """(state, reason), for status: closed, half-open, open, or throttled."""
        known = self._clusters.get(cluster)
        if known is None:
            return "closed", ""
        snapshot = known.breaker.snapshot()
        if snapshot.state is not BreakerPhase.CLOSED:
            return str(snapshot.state), f"breaker {snapshot.state}: {snapshot.reason}"
        left = known.paused_until - self._clock.now()
        if left > 0:
            return "throttled", f"429: it asked for a pause, {left:.1f} s to go"
        if known.short is not None:
            return "throttled", f"client budget: {known.waiting} requests wait for a token"
        return ("throttled", f"slow start after a 429: {known.limit} at once") if known.limit is not None else ("closed", "")

    def listed(self, name: str) -> None:
        """A kind has been listed. A cluster's keys are not handed out before all kinds are: which keys are urgent and which
        children exist is not known yet, and the list completes sooner. A kind that can't be listed delays nothing."""
        known = self._clusters.get(name)
        watched = self._caches.cluster(name)
        if known is None or known.listing_until is None or watched is None:
            return
        waiting = [i for i in watched.informers.values() if not i.accounted and not i.failing]
        if self._clock.now() > known.listing_until or (watched.client is not None and not waiting):
            known.listing_until = None
            self._limit(name, known)

    async def step(self) -> None:
        """A few times a second: end pauses, double slow starts, probe clusters with an open breaker."""
        self._tokens.step()
        for name, known in list(self._clusters.items()):
            self.connected(name)
            if self._tokens.active:
                self._ration(name, known)
            if known.listing_until is not None:
                self.listed(name)
            if known.limit is not None and self._clock.now() >= known.paused_until:
                self._recover(name, known)
            if (watched := self._caches.cluster(name)) is not None and watched.client is not None:
                known.probe.silent(watched.last_contact)
            self._probe(name, known)

    # breaker

    def _moved(self, name: str, old: BreakerPhase, new: BreakerPhase, reason: str) -> None:
        """A breaker has changed its state."""
        log.warning("cluster %s: breaker %s%s", name, new, f" ({reason})" if reason else "")
        known, watched = self._clusters.get(name), self._caches.cluster(name)
        if known is not None:
            self._metrics.breaker.labels(name).set(_LEVEL[new])
            self._limit(name, known)
        if new is BreakerPhase.CLOSED and watched is not None:
            watched.wake()

    def _probe(self, name: str, known: _Cluster) -> None:
        if known.probe.wanted and not known.probe.busy:
            known.probe.busy = True
            self._loops.supervise(known.probe.run, LoopName.CLUSTER_PROBE, ProblemOwner(cluster=name))

    def _client(self, name: str) -> ClusterClient | None:
        watched = self._caches.cluster(name)
        return watched.client if watched is not None else None

    # 429

    def _pause(self, name: str, known: _Cluster, retry_after: float | None) -> None:
        now = self._clock.now()
        known.throttled += 1
        self._metrics.throttled.labels(name).inc()
        fresh = now >= known.paused_until
        pause = PAUSE if retry_after is None else min(RETRY_AFTER_MAX, max(0.0, retry_after))
        known.paused_until = max(known.paused_until, now + pause)
        if fresh:
            # Halved once per pause, however many 429s arrive; it doubles again every second.
            running = sum(depth.running for depth in self._queue.depths() if depth.cluster == name)
            known.limit = max(1, (running if known.limit is None else known.limit) // 2)
        known.doubled_at = known.paused_until
        self._limit(name, known)

    def _recover(self, name: str, known: _Cluster) -> None:
        assert known.limit is not None
        now = self._clock.now()
        if now - known.doubled_at >= 1.0:
            known.doubled_at = now
            known.limit *= 2
            base = self._queue.policy.cluster_limits.get(name, 256)
            if known.limit >= base:
                known.limit = None
        self._limit(name, known)

    # the client budget

    def _ration(self, name: str, known: _Cluster) -> None:
        """Keep keys that would only wait for a token in the queue, where they hold no slot and urgent keys overtake them."""
        budget = self._tokens.budget(name)
        waiting = self._tokens.wanted(name) if budget is not None else 0
        enough = max(2, round(budget.state().rate * AHEAD)) if budget is not None else 0
        if waiting > enough:
            running = sum(depth.running for depth in self._queue.depths() if depth.cluster == name)
            known.waiting, known.short = waiting, max(1, running - (waiting - enough))
        elif waiting <= enough // 2:
            known.short = None
        self._limit(name, known)

    def _limit(self, name: str, known: _Cluster) -> None:
        state = known.breaker.state
        limit: int | None = None
        why = ""
        if state is BreakerPhase.OPEN:
            limit, why = 0, self.state_of(name)[1]
        elif state is BreakerPhase.HALF_OPEN:
            limit, why = 1, self.state_of(name)[1]
        elif known.listing_until is not None:
            limit, why = 0, "its kinds are being listed"
        elif self._clock.now() < known.paused_until:
            limit, why = 0, "429: it asked for a pause"
        elif known.limit is not None:
            limit, why = known.limit, "slow start after a 429"
        if known.short is not None and (limit is None or known.short < limit):
            limit, why = known.short, "client budget: requests wait for tokens"
        if known.applied_limit != (limit, why):
            known.applied_limit = (limit, why)
            self._queue.limit_cluster(name, limit, why)
            self._changed(name)
