"""The queue against a model so simple that it is right by inspection: laws 1 to 3, with dead workers, holds, limits, and a timer
set by ``next_due``."""

import math
from random import Random

from hand_clock import HandClock
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from raycp.base.keys import RequestKey
from raycp.queueing import KeyBackoff, QueuePolicy, WorkQueue

TIERS = ("critical", "high", "standard", "background")
RANK = {tier: rank for rank, tier in enumerate(TIERS)}
KEYS = [
    RequestKey(controller, cluster, namespace, "x")
    for controller in ("a", "b")
    for cluster in ("c1", "c2")
    for namespace in ("n1", "n2")
]
keys = st.sampled_from(KEYS)
workers = st.sampled_from(("w1", "w2", "w3"))
tiers = st.sampled_from(TIERS)
priorities = st.sampled_from((0, 40, 80, 100))
delays = st.sampled_from((0.0, 0.0, 0.5, 3.0, 60.0))


class Want:
    """What a key is due for: tier, priority, earliest time; ``retry``: only something real brings it forward."""

    def __init__(self, tier: str, priority: int, ready_at: float, real: bool, retry: bool = False) -> None:
        self.tier, self.priority, self.ready_at, self.real, self.retry = tier, priority, ready_at, real, retry

    def merge(self, tier: str, priority: int, ready_at: float, real: bool) -> None:
        self.tier = min(self.tier, tier, key=RANK.__getitem__)
        self.priority = max(self.priority, priority)
        if real or not self.retry:
            self.ready_at, self.retry = min(self.ready_at, ready_at), False
        self.real = self.real or real


class QueueMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = HandClock()
        policy = QueuePolicy(backoff=KeyBackoff(1.0, 8.0, 0.0), concurrency={"b": 2}, cluster_in_flight=5)
        self.queue = WorkQueue(policy, self.clock, rng=Random(7))
        self.due: dict[RequestKey, Want] = {}
        self.running: dict[RequestKey, tuple[str, int, Want]] = {}
        self.failed: dict[RequestKey, int] = {}
        self.held: set[RequestKey] = set()
        self.limits: dict[str, int | None] = {}
        self.timer = math.inf
        self.queue.on_due_changed = self._set_timer

    def _set_timer(self) -> None:
        self.timer = self.queue.next_due()

    def _now(self) -> float:
        return self.clock.now()

    @rule(key=keys, tier=tiers, priority=priorities, delay=delays, real=st.booleans())
    def add(self, key, tier, priority, delay, real):
        assert self.queue.add(key, tier=tier, priority=priority, delay=delay, reason="r", real=real)
        want = self.due.get(key)
        if want is None:
            self.due[key] = Want(tier, priority, self._now() + delay, real)
        else:
            want.merge(tier, priority, self._now() + delay, real)

    @rule(seconds=st.sampled_from((0.1, 0.7, 5.0, 100.0)))
    def pass_time(self, seconds):
        self.clock.time += seconds

    @rule(worker=workers, n=st.integers(1, 6), prefer=st.sampled_from((None, *TIERS)))
    def pull(self, worker, n, prefer):
        items = self.queue.pull(worker, n, prefer=prefer)
        assert len(items) <= n
        for item in items:
            key = item.key
            assert key not in self.running, "law 1: one key, one worker"
            assert key not in self.held
            want = self.due.pop(key)
            assert want.ready_at <= self._now(), "law 3: handed out before its time"
            assert (item.tier, item.priority) == (want.tier, want.priority), "law 3: a raised item rises"
            assert item.attempt == self.failed.get(key, 0) + 1
            self.running[key] = (worker, item.id, want)
        # A limit reached by these hand-outs is respected.
        for cluster in ("c1", "c2"):
            limit = self.limits.get(cluster)
            limit = 5 if limit is None else min(limit, 5)
            started = sum(item.key.cluster == cluster for item in items)
            total = sum(key.cluster == cluster for key in self.running)
            assert not started or total <= limit
        assert sum(key.controller == "b" for key in self.running) <= 2
        if not items:
            self._assert_nothing_servable()

    def _servable(self) -> list[RequestKey]:
        free = []
        for key, want in self.due.items():
            limit = self.limits.get(key.cluster)
            limit = 5 if limit is None else min(limit, 5)
            if (
                key not in self.running
                and key not in self.held
                and want.ready_at <= self._now()
                and sum(other.cluster == key.cluster for other in self.running) < limit
                and (key.controller == "a" or sum(other.controller == "b" for other in self.running) < 2)
            ):
                free.append(key)
        return free

    def _assert_nothing_servable(self) -> None:
        """Law 2, and work conservation: an empty pull means that nothing could be served, save retries at their
        limit."""
        for key in self._servable():
            assert self.due[key].retry, f"{key} could be served: {self.queue.why(key)}"

    def _finish(self, key: RequestKey) -> tuple[str, int, Want]:
        return self.running.pop(key)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def done(self, data):
        key = data.draw(st.sampled_from(sorted(self.running)))
        worker, number, _ = self._finish(key)
        assert self.queue.done(worker, key, id=number)
        self.failed.pop(key, None)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def fail(self, data):
        key = data.draw(st.sampled_from(sorted(self.running)))
        worker, number, ran = self._finish(key)
        delay = self.queue.retry(worker, key, id=number)
        self._model_failure(key, ran)
        assert delay is not None

    @rule(worker=workers, key=keys, tier=tiers, real=st.booleans(), held=st.booleans())
    def fail_and_add(self, worker, key, tier, real, held):
        """What shortens a backoff, and what does not, held or not."""
        self.pull(worker, 6, None)
        if key not in self.running:
            return
        if held:
            self.hold(key)
        holder, number, ran = self._finish(key)
        assert self.queue.retry(holder, key, id=number) is not None
        self._model_failure(key, ran)
        self.add(key, tier, 40, 0.0, real)
        if held:
            self.release(key)

    def _model_failure(self, key: RequestKey, ran: Want) -> None:
        self.failed[key] = self.failed.get(key, 0) + 1
        backoff = min(8.0, 2.0 ** (self.failed[key] - 1))
        want = self.due.get(key)
        if want is not None and want.real:
            want.merge(ran.tier, ran.priority, want.ready_at, True)
        else:
            merged = Want(ran.tier, ran.priority, self._now() + backoff, False, retry=True)
            if want is not None:
                merged.tier = min(ran.tier, want.tier, key=RANK.__getitem__)
                merged.priority = max(ran.priority, want.priority)
            self.due[key] = merged

    @precondition(lambda self: self.running)
    @rule(data=st.data(), after=st.sampled_from((0.5, 30.0)), tier=st.sampled_from((None, *TIERS)))
    def poll(self, data, after, tier):
        key = data.draw(st.sampled_from(sorted(self.running)))
        worker, number, _ = self._finish(key)
        assert self.queue.requeue(worker, key, after, id=number, tier=tier)
        self.failed.pop(key, None)
        tier = tier or "background"
        want = self.due.get(key)
        if want is None:
            self.due[key] = Want(tier, 20, self._now() + after, False)
        else:
            want.merge(tier, 20, self._now() + after, False)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def interrupt(self, data):
        key = data.draw(st.sampled_from(sorted(self.running)))
        worker, number, ran = self._finish(key)
        assert self.queue.interrupted(worker, key, id=number)
        self._model_return(key, ran)

    def _model_return(self, key: RequestKey, ran: Want) -> None:
        want = self.due.get(key)
        real = want is not None and want.real
        if want is None:
            self.due[key] = Want(ran.tier, ran.priority, self._now(), ran.real, ran.retry)
        else:
            want.merge(ran.tier, ran.priority, self._now(), ran.real)
            want.ready_at, want.retry = self._now(), ran.retry and not real

    @rule(worker=workers)
    def worker_dies(self, worker):
        mine = sorted(key for key, (holder, _, _) in self.running.items() if holder == worker)
        lost = self.queue.forget_worker(worker)
        assert sorted(lost) == mine, "law 2: a dead worker's keys return"
        for key in mine:
            _, number, ran = self._finish(key)
            self._model_return(key, ran)
            assert not self.queue.done(worker, key, id=number), "a dead worker's late answer counts for nothing"

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def answer_without_holding_the_key(self, data):
        key = data.draw(st.sampled_from(sorted(self.running)))
        worker, number, _ = self.running[key]
        assert not self.queue.done("another", key)
        assert not self.queue.done(worker, key, id=number + 10_000)

    @rule(key=keys)
    def hold(self, key):
        self.queue.hold(key)
        self.held.add(key)

    @rule(key=keys, worker=workers)
    def pull_held(self, key, worker):
        """A held key is handed out by name, when it could be if it were not held; at its end it is held again."""
        due_at = self.queue.held_due(key)
        waits = key in self.held and key in self.due and key not in self.running
        want_at = self.due[key].ready_at if waits else math.inf
        assert max(due_at, self._now()) == max(want_at, self._now())  # of what was ready, since when is not kept
        held, self.held = self.held, set()
        free = waits and key in self._servable()
        self.held = held
        item = self.queue.pull_held(worker, key, "held")
        assert (item is not None) == free
        if item is not None:
            want = self.due.pop(key)
            assert (item.key, item.tier, item.priority) == (key, want.tier, want.priority)
            assert item.attempt == self.failed.get(key, 0) + 1
            self.running[key] = (worker, item.id, want)
        assert self.queue.pull_held(worker, key, "another reason") is None

    @rule(key=keys)
    def release(self, key):
        self.queue.release(key)
        self.held.discard(key)

    @rule(key=keys)
    def remove(self, key):
        self.queue.remove(key)
        self.due.pop(key, None)
        if key not in self.running and key not in self.held:
            self.failed.pop(key, None)

    @rule(cluster=st.sampled_from(("c1", "c2")), limit=st.sampled_from((None, 0, 1, 3)))
    def limit(self, cluster, limit):
        self.queue.limit_cluster(cluster, limit, "breaker")
        self.limits[cluster] = limit

    @rule(share=st.sampled_from((0.1, 0.3)))
    def policy(self, share):
        old = self.queue.policy
        lanes = tuple(type(lane)(lane.name, share if lane.name == "high" else lane.share, 0.5) for lane in old.lanes)
        shrunk = tuple(type(lane)(lane.name, lane.share * 0.8, lane.max_wait) for lane in lanes)
        self.queue.set_policy(QueuePolicy(shrunk, backoff=old.backoff, concurrency={"b": 2}, cluster_in_flight=5))
        self.queue.set_policy(QueuePolicy(old.lanes, backoff=old.backoff, concurrency={"b": 2}, cluster_in_flight=5))

    @rule()
    def hand_over(self):
        """The successor has what the predecessor had; what ran is due again."""
        saved = self.queue.snapshot()
        other = WorkQueue(self.queue.policy, self.clock, rng=Random(7))
        other.restore(saved)
        for key, (_, _, ran) in list(self.running.items()):
            want = self.due.get(key)
            real = want is not None and want.real
            if want is None:
                self.due[key] = Want(ran.tier, ran.priority, self._now(), ran.real, ran.retry)
            else:
                want.merge(ran.tier, ran.priority, self._now(), ran.real)
                want.ready_at, want.retry = self._now(), ran.retry and not real
        self.running.clear()
        for cluster, limit in self.limits.items():
            other.limit_cluster(cluster, limit)
        self.queue.close()
        self.queue = other
        self._set_timer()
        other.on_due_changed = self._set_timer

    @invariant()
    def the_timer_rings_in_time(self):
        """A dispatcher that sleeps until ``next_due``, and sets its timer again at ``on_due_changed``, misses no delayed key."""
        if self.timer <= self._now():
            self.queue.promote()
            self._set_timer()
        delayed = [
            want.ready_at
            for key, want in self.due.items()
            if key not in self.running and key not in self.held and want.ready_at > self._now()
        ]
        assert self.timer <= self.queue.next_due() == min(delayed, default=math.inf)

    @invariant()
    def counts_agree(self):
        depths = self.queue.depths()
        assert sum(each.running for each in depths) == len(self.running)
        free = {key: want for key, want in self.due.items() if key not in self.running and key not in self.held}
        ready = sum(want.ready_at <= self._now() for want in free.values())
        assert self.queue.ready == sum(each.ready for each in depths) == ready, "only ready items count as depth"
        assert self.queue.delayed == sum(each.delayed for each in depths) == len(free) - ready
        for key, want in free.items():
            why = self.queue.why(key)
            assert why is not None
            assert (why.tier, why.priority, why.retry) == (want.tier, want.priority, want.retry)

    def teardown(self):
        """Law 2: whatever is due comes out, once it may."""
        for cluster in ("c1", "c2"):
            self.queue.limit_cluster(cluster, None)
        for key in list(self.held):
            self.queue.release(key)
        self.held.clear()
        self.clock.time += 1_000.0
        for worker in ("w1", "w2", "w3"):
            for key in self.queue.forget_worker(worker):
                _, _, ran = self._finish(key)
                self._model_return(key, ran)
        seen = set()
        while items := self.queue.pull("last", 1):
            for item in items:
                assert item.key not in seen
                seen.add(item.key)
                self.queue.done("last", item.key)
        assert seen == set(self.due)
        self.queue.close()


TestQueueLaws = QueueMachine.TestCase
TestQueueLaws.settings = settings(max_examples=max(150, settings.default.max_examples), stateful_step_count=50, deadline=None)
