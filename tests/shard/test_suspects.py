"""Law 11's suspects under any order of deaths, successes, changes, hand-overs and deaths that accuse nobody."""

import math
from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from raycp.base.keys import GVK, RequestKey
from raycp.base.tasks import Done, Outcome, Task
from raycp.classify import Reason, Verdict
from raycp.metrics import Metrics, SliMetrics
from raycp.protocol.frames import Progress, Suspicion, decode_body, encode_body
from raycp.queueing import Item, QueuePolicy, WorkQueue
from raycp.shard.ledger import Ledger
from raycp.shard.quarantine import ALONE
from raycp.shard.suspects import BACKOFF, WINDOW, Death, Level, Suspects
from raycp.slo import Objectives, SliClocks, SloTracker, Timelines

KIND = GVK("", "v1", "ConfigMap")
KEYS = [RequestKey("c", "here", "default", name) for name in ("deadly-0", "deadly-1", "good-0", "good-1", "good-2")]
keys = st.sampled_from(KEYS)
LIVE = Verdict(True, Reason.UPDATE, clock="live")
SLOTS = 3


class ManualClock:
    """Time that moves by hand; nothing sleeps on it here."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    def wall(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing here waits")


def ledger_of(clock: ManualClock) -> Ledger:
    rng = Random(1)
    queue = WorkQueue(QueuePolicy(), clock, None, rng)
    tracker = SloTracker(Objectives(), SliMetrics(Metrics()), clock.wall)
    return Ledger(clock, rng, queue, SliClocks(clock), tracker, Timelines(clock), {"c": KIND}.get)


def deadly(key: RequestKey) -> bool:
    return key.name.startswith("deadly")


class Running:
    """A key in work: in which worker, by which hand-out, and from which change on it has seen everything."""

    def __init__(self, worker: str, identity: int, seen: int) -> None:
        self.worker = worker
        self.identity = identity
        self.seen = seen


class SuspectsMachine(RuleBasedStateMachine):
    """Workers ``w0`` and ``w1`` of three slots, and ``q`` for suspects. A deadly key ends each worker in which it runs, as soon as
    ``the_deadly_strikes`` says so; a worker that died is followed by one of another name.

    ``deaths``: of each deadly key, those in which it was in flight, were not excused, and came before its conviction."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.ledger = ledger_of(self.clock)
        self.running: dict[RequestKey, Running] = {}
        self.names = {"w0": 0, "w1": 0, "q": 0}
        self.number = 0
        self.changed: dict[RequestKey, int] = {}
        self.reconciled: dict[RequestKey, int] = {}
        self.deaths: dict[RequestKey, list[float]] = {}
        self.dead: list[str] = []

    # the shard's life

    def name(self, slot: str) -> str:
        return f"{slot}-g{self.names[slot]}"

    @rule(key=keys)
    def change(self, key: RequestKey) -> None:
        self.number += 1
        self.changed[key] = self.number
        self.ledger.due(key, LIVE, "standard", kind="user", observed=self.clock.now(), version=self.number)

    @rule(slot=st.sampled_from(["w0", "w1"]))
    def hand_out(self, slot: str) -> None:
        worker = self.name(slot)
        room = SLOTS - sum(run.worker == worker for run in self.running.values())
        for item in self.ledger.pull(worker, room):
            assert self.ledger.quarantine.suspects.level(item.key) < Level.SUSPECT, "a suspect runs alone"
            self._started(worker, item)

    @rule()
    def hand_out_alone(self) -> None:
        worker = self.name("q")
        if any(run.worker == worker for run in self.running.values()):
            return
        item = self.ledger.quarantine.pull(worker)
        if item is not None:
            assert self.ledger.quarantine.suspects.level(item.key) >= Level.SUSPECT
            self._started(worker, item)

    def _started(self, worker: str, item: Item) -> None:
        key = item.key
        assert key not in self.running, "one key, one worker"
        task = Task(item.id, key, item.tier, item.reason, item.attempt, 1, "0", 1, self.changed[key], item.waited, b"{}")
        self.ledger.started(worker, item, task, self.changed[key])
        self.running[key] = Running(worker, task.id, self.changed[key])

    @precondition(lambda self: any(not deadly(key) for key in self.running))
    @rule(data=st.data(), outcome=st.sampled_from([Outcome.OK, Outcome.OK, Outcome.RETRY, Outcome.INTERRUPTED]))
    def ends(self, data: st.DataObject, outcome: Outcome) -> None:
        """Only innocent keys end: the others kill each time."""
        key = data.draw(st.sampled_from(sorted(key for key in self.running if not deadly(key))))
        run = self.running.pop(key)
        assert self.ledger.ended(Done(run.identity, key, outcome, 0.01, error="" if outcome is Outcome.OK else "e"))
        if outcome is Outcome.OK:
            self.reconciled[key] = run.seen

    # deaths

    def _level(self, key: RequestKey) -> Level:
        """What the key is at this moment: exposure ends by itself, which is noticed at the next death."""
        suspects = self.ledger.quarantine.suspects
        level, record = suspects.level(key), suspects.record(key)
        lapsed = level is Level.EXPOSED and record is not None and self.clock.now() - record.marks[-1].at > WINDOW
        return Level.CLEAR if lapsed else level

    def _dies(self, worker: str, *, excused: bool = False, blamed: RequestKey | None = None, doubted: bool = False) -> None:
        slot = worker.split("-")[0]
        lost = {run.identity: key for key, run in self.running.items() if run.worker == worker}
        before = {key: self._level(key) for key in lost.values()}
        names = {blamed: "it blocked the loop"} if blamed is not None else {}
        death = Death(worker, slot == "q", names, frozenset(lost.values()) if doubted else frozenset())
        self.ledger.died(death, self.ledger.keys_of(lost), {})
        now = self.clock.now()
        for key in lost.values():
            del self.running[key]
            level = self.ledger.quarantine.suspects.level(key)
            if excused:
                assert level is before[key], "a death that is excused accuses no key"
                continue
            alone = len(lost) == 1
            if level is Level.CONVICTED and before[key] is not Level.CONVICTED:
                assert alone or key == blamed, "an innocent is convicted only where it was alone, or was named"
                assert deadly(key) or alone
            if deadly(key) and before[key] is not Level.CONVICTED:
                mine = [at for at in self.deaths.get(key, []) if now - at <= WINDOW]
                mine.append(now)
                self.deaths[key] = mine
                assert level is Level.CONVICTED or len(mine) < 3, "a key that kills each time is convicted at its third death"
                assert level >= min(len(mine), 2)
        self.dead.append(worker)
        self.names[slot] += 1

    @precondition(lambda self: any(deadly(key) for key in self.running))
    @rule(data=st.data(), how=st.sampled_from(["exit", "exit", "exit", "blamed", "doubted"]))
    def the_deadly_strikes(self, data: st.DataObject, how: str) -> None:
        key = data.draw(st.sampled_from(sorted(key for key in self.running if deadly(key))))
        self._dies(self.running[key].worker, blamed=key if how == "blamed" else None, doubted=how == "doubted")

    @rule(slot=st.sampled_from(["w0", "w1", "q"]))
    def killed_by_somebody(self, slot: str) -> None:
        """The machine is out of memory, an operator sends SIGKILL."""
        self._dies(self.name(slot))

    @rule(slot=st.sampled_from(["w0", "w1", "q"]))
    def drained_and_killed(self, slot: str) -> None:
        self.ledger.excused(self.name(slot))
        self._dies(self.name(slot), excused=True)

    @precondition(lambda self: self.dead)
    @rule(data=st.data())
    def excused_later(self, data: st.DataObject) -> None:
        """The node is found to be lost after its workers' deaths were noticed. What its deaths had made of keys is taken back."""
        worker = data.draw(st.sampled_from(self.dead))
        suspects = self.ledger.quarantine.suspects
        self.ledger.excused(worker)
        for key in KEYS:
            record = suspects.record(key)
            assert record is None or worker not in [mark.worker for mark in record.marks]
            # The count of a deadly key begins anew where its marks have gone.
            self.deaths[key] = [mark.at for mark in record.marks] if record is not None else []

    # time and hand-over

    @rule(seconds=st.sampled_from([0.01, 0.4, 11.0, 200.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.time += seconds

    @rule()
    def hand_over(self) -> None:
        """The standby is promoted; what runs has been revoked and acknowledged."""
        for key, run in list(self.running.items()):
            if deadly(key):
                return  # it can't be revoked
            del self.running[key]
            self.ledger.ended(Done(run.identity, key, Outcome.INTERRUPTED, 0.0, error="revoked"))
        sent = Progress(1, self.ledger.progress(self.ledger.known_keys()), [], [], [], True)
        received = decode_body(encode_body(sent))
        assert isinstance(received, Progress)
        levels = {key: self.ledger.quarantine.suspects.level(key) for key in KEYS}
        successor = ledger_of(self.clock)
        for worker in self.dead[-3:]:
            if worker in self.ledger.quarantine.suspects.excused:
                successor.excused(worker)
        successor.suspected({each.key: each.suspicion for each in received.changed if isinstance(each.suspicion, Suspicion)})
        for each in received.changed:
            if each.saved is not None:
                each.saved.holds = []
                successor.restore([(each, each.saved)])
        assert levels == {key: successor.quarantine.suspects.level(key) for key in KEYS}, "suspicion travels"
        self.ledger.queue.close()  # type: ignore[attr-defined]
        self.ledger = successor

    # always

    @invariant()
    def what_is_unreconciled_is_queued_or_in_work(self) -> None:
        for key, number in self.changed.items():
            if self.reconciled.get(key, 0) < number:
                assert key in self.running or self.ledger.queue.why(key) is not None, f"{key} is lost"

    @invariant()
    def suspects_and_only_they_are_held_apart(self) -> None:
        quarantine = self.ledger.quarantine
        for key in KEYS:
            why = self.ledger.queue.why(key)
            held = why is not None and ALONE in why.waits_for
            assert not held or key in quarantine.suspects
            if key in quarantine.suspects and why is not None and key not in self.running:
                assert held

    def teardown(self) -> None:
        """Every key runs in the end: workers come, backoffs end; a deadly key runs again, alone, after each backoff."""
        for key, run in sorted(self.running.items()):
            if deadly(key):
                self._dies(run.worker)
        for key, run in list(self.running.items()):
            del self.running[key]
            self.ledger.ended(Done(run.identity, key, Outcome.OK, 0.01))
            self.reconciled[key] = run.seen
        ran: set[RequestKey] = set()
        for _ in range(60):
            self.clock.time += 400.0
            self.ledger.queue.promote()
            for slot in ("w0", "w1"):
                self.hand_out(slot)
            self.hand_out_alone()
            for key, run in list(self.running.items()):
                ran.add(key)
                if key in self.running and deadly(key):
                    self._dies(run.worker)
            for key, run in list(self.running.items()):
                del self.running[key]
                self.ledger.ended(Done(run.identity, key, Outcome.OK, 0.01))
                self.reconciled[key] = run.seen
        for key, number in self.changed.items():
            assert deadly(key) or self.reconciled.get(key, 0) == number, f"{key} never ran to its end"
            assert not deadly(key) or key in ran or self.reconciled.get(key, 0) == number
        for key in KEYS:
            if not deadly(key):
                assert self.ledger.quarantine.suspects.level(key) < Level.SUSPECT, "a success clears it"
        self.ledger.queue.close()  # type: ignore[attr-defined]


TestSuspects = SuspectsMachine.TestCase
TestSuspects.settings = settings(max_examples=max(200, settings.default.max_examples), stateful_step_count=50, deadline=None)


def test_exposure_ends_by_itself_before_a_death_that_is_excused() -> None:
    """A history that hypothesis found: 600.01 s after the death in which the key was exposed."""
    machine, key = SuspectsMachine(), KEYS[0]
    machine.change(key=key)
    machine.hand_out(slot="w0")
    machine.killed_by_somebody(slot="w0")
    assert machine.ledger.quarantine.suspects.level(key) is Level.EXPOSED
    machine.hand_out(slot="w0")
    machine.time_passes(seconds=WINDOW + 0.01)
    machine.drained_and_killed(slot="w0")
    assert machine.ledger.quarantine.suspects.level(key) is Level.CLEAR
    machine.teardown()


# the rules, one by one


def suspects() -> Suspects:
    return Suspects(Random(1))


A, B, C = KEYS[0], KEYS[2], KEYS[3]


def test_two_deaths_within_ten_minutes_make_a_suspect_and_a_third_alone_convicts() -> None:
    found = suspects()
    assert {key: finding.level for key, finding in found.died(Death("w0"), [A, B], 0.0).items()} == {A: 1, B: 1}
    assert not len(found)
    second = found.died(Death("w1"), [A, C], WINDOW)
    assert (second[A].level, second[C].level) == (Level.SUSPECT, Level.EXPOSED)
    assert second[A].reason == "it was in flight when 2 workers died within 10 minutes"
    assert found.turns() == [A]
    third = found.died(Death("q", alone=True), [A], WINDOW + 1.0)
    assert third[A].level is Level.CONVICTED
    assert third[A].backoff is not None
    assert BACKOFF.base <= third[A].backoff <= BACKOFF.base * (1 + BACKOFF.jitter)
    assert "ended the process of the worker in which it ran alone" in third[A].reason


def test_exposure_ends_after_ten_minutes_whatever_succeeds_meanwhile() -> None:
    found = suspects()
    found.died(Death("w0"), [A], 0.0)
    assert not found.ended(A, True, 1.0), "a success beside others says nothing"
    assert found.died(Death("w1"), [A], WINDOW + 0.1)[A].level is Level.EXPOSED


def test_the_backoff_of_a_convicted_key_grows_and_is_bounded() -> None:
    found = suspects()
    found.died(Death("w0", blamed={A: "it blocked the loop"}), [A, B], 0.0)
    backoffs = [found.died(Death(f"q{n}", alone=True), [A], float(n))[A].backoff for n in range(1, 20)]
    assert all(later is not None and later > 10.0 for later in backoffs)
    assert backoffs[-1] is not None
    assert backoffs[-1] <= BACKOFF.cap * (1 + BACKOFF.jitter)
    assert backoffs[3] is not None
    assert backoffs[0] is not None
    assert backoffs[3] > 4 * backoffs[0]
    record = found.record(A)
    assert record is not None
    assert record.deaths == 20


def test_a_named_culprit_is_convicted_at_once_and_the_others_are_only_exposed() -> None:
    found = suspects().died(Death("w0", blamed={A: "it blocked the loop for 5.1 s"}), [A, B], 0.0)
    assert (found[A].level, found[A].reason, found[B].level) == (Level.CONVICTED, "it blocked the loop for 5.1 s", Level.EXPOSED)


def test_where_one_of_several_blocked_its_worker_all_of_them_are_suspects() -> None:
    found = suspects()
    found.died(Death("w0", doubted=frozenset({A, B})), [A, B, C], 0.0)
    assert [found.level(key) for key in (A, B, C)] == [Level.SUSPECT, Level.SUSPECT, Level.EXPOSED]


def test_a_success_clears_and_another_end_that_the_process_survives_clears_after_ten_minutes() -> None:
    found = suspects()
    found.died(Death("w0", doubted=frozenset({A, B})), [A, B], 0.0)
    assert found.ended(A, True, 1.0)
    assert found.level(A) is Level.CLEAR
    assert not found.ended(B, False, WINDOW)
    assert found.ended(B, False, WINDOW + 0.1)


def test_an_excused_death_takes_back_what_it_made() -> None:
    found = suspects()
    found.died(Death("w0"), [A], 0.0)
    found.died(Death("w1"), [A], 1.0)
    found.died(Death("q", alone=True), [A], 2.0)
    assert found.excuse("q") == {A: Level.CONVICTED}
    assert found.level(A) is Level.SUSPECT
    assert found.excuse("w1") == {A: Level.SUSPECT}
    assert found.level(A) is Level.EXPOSED
    assert found.died(Death("w2"), [A], 3.0)[A].level is Level.SUSPECT, "the first death still counts"
    found.excuse("w3")
    assert found.died(Death("w3"), [A, B], 4.0) == {}
    assert found.level(B) is Level.CLEAR


def test_suspects_take_turns() -> None:
    found = suspects()
    found.died(Death("w0", doubted=frozenset({A, B, C})), [A, B, C], 0.0)
    order = found.turns()
    found.started(order[0])
    assert found.turns() == [*order[1:], order[0]]


def test_what_is_kept_of_a_key_is_bounded_and_travels_with_its_age() -> None:
    found = suspects()
    for number in range(100):
        found.died(Death(f"w{number}", doubted=frozenset({A})), [A], float(number))
    sent = found.export(A, 100.0)
    assert sent is not None
    assert (len(sent.marks), sent.deaths) == (8, 100)
    successor = suspects()
    assert successor.adopt(A, sent, 5000.0) is Level.SUSPECT
    again = successor.export(A, 5000.0)
    assert again == sent
    assert math.isclose(again.marks[-1].age, 1.0)
