"""The ledger under any order of changes, hand-outs, ends and deaths: laws 1, 2, 9 and the watermark's exceptions."""

from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from raycp.base.events import Event, EventType, Source
from raycp.base.keys import GVK, RequestKey
from raycp.base.objects import Meta, Obj
from raycp.base.tasks import CLUSTER, Done, Outcome, Task, Written
from raycp.classify import NEW_CODE, Known, classify
from raycp.metrics import Metrics, SliMetrics
from raycp.protocol.plan import ControllerPlan
from raycp.queueing import Item, QueuePolicy, WorkQueue
from raycp.shard.handouts import Deferred
from raycp.shard.ledger import Ledger
from raycp.shard.routes import Route
from raycp.shard.suspects import Death
from raycp.slo import COUNTED_AT_ONCE, Objectives, SliClocks, SloTracker, Timelines

KIND = GVK("", "v1", "ConfigMap")
ROUTE = Route(ControllerPlan("c", "m", "c", str(KIND), "members", ("here",), 0), None)
KEYS = [RequestKey("c", "here", "default", name) for name in "ab"]
keys = st.sampled_from(KEYS)
workers = st.sampled_from(["w0", "w1"])


class ManualClock:
    """Time that moves by hand; nothing sleeps on it here."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    def wall(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("the ledger never waits")


def state_of(key: RequestKey, rv: int) -> Obj:
    return Obj(Meta(name=key.name, namespace=key.namespace, uid=key.name, resource_version=str(rv)), b"{}", rv, rv)


class LedgerMachine(RuleBasedStateMachine):
    """``changed``: newest version of each key; ``settled``: up to which version it is reconciled, or given up."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        rng = Random(1)
        self.queue = WorkQueue(QueuePolicy(), self.clock, None, rng)
        tracker = self.tracker = SloTracker(Objectives(), SliMetrics(Metrics()), self.clock.wall)
        self.ledger = Ledger(self.clock, rng, self.queue, SliClocks(self.clock), tracker, Timelines(self.clock), {"c": KIND}.get)
        self.ledger.judge = self.judge
        self.reported: set[RequestKey] = set()
        self.ledger.on_change = self.reported.add
        self.rv = 0
        self.number = 0
        self.changed: dict[RequestKey, int] = {}
        self.settled: dict[RequestKey, int] = {}
        self.running: dict[RequestKey, tuple[str, Task, int]] = {}

    def judge(self, deferred: Deferred) -> None:
        self.due(RequestKey("c", deferred.cluster, deferred.event.obj.meta.namespace, deferred.event.obj.meta.name), deferred.event)

    def due(self, key: RequestKey, event: Event) -> None:
        verdict = classify(event, Known(self.ledger.reconciled.get(key)))
        self.ledger.due(
            key,
            verdict,
            "standard",
            kind="user",
            observed=event.observed,
            version=event.obj.version,
            change=("here", KIND, event.obj.rv),
        )

    @rule(key=keys)
    def change(self, key: RequestKey) -> None:
        self.rv += 1
        before = self.changed.get(key)
        old = state_of(key, before) if before is not None else None
        self.changed[key] = self.rv
        type_ = EventType.ADDED if old is None else EventType.MODIFIED
        event = Event(type_, Source.WATCH, old, state_of(key, self.rv), self.clock.now())
        handout = self.ledger.working.get(key)
        if handout is not None:
            self.ledger.deferred(handout, Deferred("here", KIND, ROUTE, event))
        else:
            self.due(key, event)

    @rule(worker=workers)
    def hand_out(self, worker: str) -> None:
        for item in self.ledger.pull(worker, 1):
            self._started(worker, item)

    @rule()
    def hand_out_a_suspect(self) -> None:
        """To a worker that never dies here (``test_suspects``)."""
        item = self.ledger.quarantine.pull("quarantine")
        if item is not None:
            self._started("quarantine", item)

    def _started(self, worker: str, item: Item) -> None:
        assert item.key not in self.running, "one key, one worker"
        rv = self.changed[item.key]
        task = Task(item.id, item.key, item.tier, item.reason, item.attempt, 1, "0", 1, rv, item.waited, b"{}")
        self.ledger.started(worker, item, task, rv)
        self.running[item.key] = (worker, task, rv)

    def end(self, key: RequestKey, outcome: Outcome, **fields: object) -> None:
        _, task, rv = self.running.pop(key)
        done = Done(task.id, key, outcome, 0.01, **fields)  # type: ignore[arg-type]
        if outcome is Outcome.PERMANENT or (outcome is Outcome.OK and not done.waiting):
            self.settled[key] = rv
        assert self.ledger.ended(done)
        assert not self.ledger.ended(done), "an acknowledgement counts once"

    @precondition(lambda self: self.running)
    @rule(data=st.data(), outcome=st.sampled_from(list(Outcome)))
    def ended(self, data: st.DataObject, outcome: Outcome) -> None:
        self.end(data.draw(st.sampled_from(sorted(self.running))), outcome)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def ended_and_polls(self, data: st.DataObject) -> None:
        self.end(data.draw(st.sampled_from(sorted(self.running))), Outcome.OK, requeue_after=5.0)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def ended_and_waits(self, data: st.DataObject) -> None:
        self.end(data.draw(st.sampled_from(sorted(self.running))), Outcome.OK, requeue_after=5.0, waiting="quota")

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def wrote_its_own_object(self, data: st.DataObject) -> None:
        """The echo of the key's own write arrives while it is in work: it makes nothing due."""
        key = data.draw(st.sampled_from(sorted(self.running)))
        if self.changed[key] != self.running[key][2]:
            return  # somebody else's change came between: the write would have conflicted
        self.rv += 1
        echo = Event(EventType.MODIFIED, Source.WATCH, state_of(key, self.changed[key]), state_of(key, self.rv), self.clock.now())
        self.ledger.deferred(self.ledger.working[key], Deferred("here", KIND, ROUTE, echo))
        worker, task, _ = self.running[key]
        self.changed[key] = self.rv
        self.running[key] = (worker, task, self.rv)
        self.end(key, Outcome.OK, writes=[Written("here", str(KIND), "default", key.name, key.name, self.rv, b"{}")])
        assert self.queue.why(key) is None, "an own write makes no key due"

    @rule(worker=workers, data=st.data())
    def worker_dies(self, worker: str, data: st.DataObject) -> None:
        lost = [key for key, (holder, *_) in self.running.items() if holder == worker]
        culprit = data.draw(st.sampled_from([None, *lost]))
        handouts = [self.running.pop(key)[1].id for key in lost]
        death = Death(worker, blamed={culprit: "it blocked the loop"} if culprit is not None else {})
        self.ledger.died(death, self.ledger.keys_of(handouts), {})

    @rule(key=keys)
    def a_predecessors_hand_out_ends(self, key: RequestKey) -> None:
        self.ledger.held(key, "in work elsewhere", 30.0)
        if key not in self.running:
            assert not any(item.key == key for item in self.ledger.pull("w9", 0))
        self.ledger.released(key, "in work elsewhere")

    @rule(seconds=st.sampled_from([0.1, 1.0, 10.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.time += seconds

    @invariant()
    def nothing_is_lost(self) -> None:
        """Law 2: a change that no reconcile has seen is queued, delayed, held or in work, and an exception of the watermark."""
        for key, rv in self.changed.items():
            if self.settled.get(key, 0) < rv:
                assert key in self.running or self.queue.why(key) is not None, key
                assert any(due.last >= rv for due in self.ledger.marks.due_of(key)), (key, self.ledger.marks.due_of(key))

    @invariant()
    def what_is_reconciled_is_no_exception(self) -> None:
        for key, rv in self.changed.items():
            if self.settled.get(key, 0) >= rv and key not in self.running and self.queue.why(key) is None:
                assert not self.ledger.marks.due_of(key)
                assert self.ledger.reconciled[key] > 0

    @invariant()
    def the_ledger_knows_what_runs(self) -> None:
        assert set(self.ledger.working) == set(self.running)
        assert len(self.ledger) == len(self.running)

    @invariant()
    def a_clock_runs_for_each_open_change(self) -> None:
        """Law 9: clocks survive retries, deaths and holds, and stop at the success that saw the change. Of a key without a clock
        (a poll) whose change arrives in work, the hand-out keeps the event, and with it the time at which the clock will start."""
        open_ = {key for key, rv in self.changed.items() if self.settled.get(key, 0) < rv}
        for key in open_ - {state.key for state in self.ledger.clocks.export()}:
            assert key in self.running, key
            assert [each for each in self.ledger.working[key].deferred if each.event.obj.rv > self.running[key][2]], key

    @invariant()
    def standbys_learn_of_every_key(self) -> None:
        assert set(self.changed) <= self.reported


EXAMPLES = max(150, settings.default.max_examples)
LedgerMachine.TestCase.settings = settings(max_examples=EXAMPLES, stateful_step_count=50, deadline=None)
TestLedger = LedgerMachine.TestCase


def test_what_leaves_the_fleet_waits_for_no_cluster() -> None:
    """A key that waited for a cluster is not checked at the next recovery once its controller or its cluster has left."""
    machine = LedgerMachine()
    for key in KEYS:
        machine.change(key)
    machine.hand_out("w0")
    machine.hand_out("w0")
    for key in KEYS:
        machine.end(key, Outcome.OK, requeue_after=5.0, waiting=CLUSTER)
    assert sorted(machine.ledger.notes.usable("east")) == KEYS
    machine.ledger.drop_controller("c")
    assert not machine.ledger.notes.usable("east")


def test_a_cluster_that_returns_during_a_reconcile_that_missed_it_makes_its_key_due_again() -> None:
    machine = LedgerMachine()
    missed: list[RequestKey] = []
    machine.ledger.missed = missed.append
    for key in KEYS:
        machine.change(key)
    machine.hand_out("w0")
    machine.hand_out("w1")
    machine.ledger.notes.usable("east")
    machine.end(KEYS[0], Outcome.OK, unusable=["east"])
    machine.end(KEYS[1], Outcome.OK, unusable=["west"])
    assert missed == [KEYS[0]]
    assert machine.ledger.notes.usable("west") == [KEYS[1]]
    assert machine.ledger.notes.usable("east") == [KEYS[0]]


def test_new_code_forgives_what_failed_gave_up_or_runs() -> None:
    machine = LedgerMachine()
    for key in KEYS:
        machine.change(key)
    machine.hand_out("w0")
    machine.hand_out("w1")
    machine.end(KEYS[0], Outcome.PERMANENT, error="never")
    assert machine.ledger.forgive("c") == [KEYS[1], KEYS[0]], "the running one may fail with the old code"
    machine.end(KEYS[1], Outcome.RETRY, error="not yet")
    assert machine.ledger.forgive("c") == [KEYS[1], KEYS[0]]
    assert machine.ledger.forgive("other") == []
    for key in KEYS:
        machine.ledger.due(key, NEW_CODE, "standard")
        found = machine.queue.why(key)
        assert found is not None
        assert (found.state, found.retry, found.delay_left) == ("ready", False, 0.0), "no backoff is left"


def test_samples_that_are_many_are_counted_at_once() -> None:
    machine = LedgerMachine()
    for number in range(COUNTED_AT_ONCE):
        assert len(machine.tracker.taken) == number
        machine.change(KEYS[0])
        machine.hand_out("w0")
        machine.end(KEYS[0], Outcome.OK)
    assert not machine.tracker.taken
