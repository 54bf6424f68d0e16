"""The audit of hand-outs: a slow worker loses nothing, whatever is on its way; what a fault loses returns, after its revocation."""

from collections import deque
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from raycp.base.keys import RequestKey
from raycp.metrics import HandoutMetrics, Metrics
from raycp.protocol.frames import Clusters, Held, Message, Revoke, Tasks
from raycp.shard.handout_audit import HandoutAudit
from raycp.shard.handouts import WorkerSeat

KEY = RequestKey("c", "here", "default", "a")
LIMIT = 5


class Line:
    """A connection towards the worker: frames arrive in their order, some time."""

    def __init__(self) -> None:
        self.sent = 0
        self.under_way: deque[Message] = deque()

    def send(self, message: Message) -> None:
        self.sent += 1
        self.under_way.append(message)


class Healthy(RuleBasedStateMachine):
    """A shard's seat and its worker, with frames under way in both directions. Nothing is lost but by connections."""

    def __init__(self) -> None:
        super().__init__()
        self.line: Any = Line()
        self.seat = WorkerSeat("w", self)  # type: ignore[arg-type]
        self.seat.connection = self.line
        self.seats = {"w": self.seat}
        self.unseen: set[int] = set()
        metrics = HandoutMetrics(Metrics())
        self.recovered = {where: metrics.recovered.labels(where) for where in ("worker", "credit", "queue", "ledger")}
        self.audit = HandoutAudit(None, self, metrics)  # type: ignore[arg-type]
        self.number = 0
        self.returned: list[int] = []
        # the worker
        self.running: set[int] = set()
        self.ended: list[int] = []
        self.outstanding = 0
        self.received = 0
        self.void: set[int] = set()
        self.to_shard: deque[Any] = deque()

    # what the audit asks of the dispatcher

    def give_back(self, seat: WorkerSeat, identity: int, error: str) -> None:
        assert identity in self.void, "revoked at the worker before its key returns"
        assert identity not in self.running, "law 1"
        del seat.in_flight[identity]
        self.returned.append(identity)

    def release(self, seat: WorkerSeat, identity: int) -> None:
        raise AssertionError("no hand-out is an earlier primary's here")

    def revoke(self, seat: WorkerSeat, ids: list[int]) -> None:
        self.line.send(Revoke(ids))

    def dispatch_soon(self) -> None: ...

    # the shard

    @precondition(lambda self: self.seat.credit)
    @rule(data=st.data())
    def hand_out(self, data: st.DataObject) -> None:
        count = data.draw(st.integers(1, self.seat.credit))
        ids = list(range(self.number, self.number + count))
        self.number += count
        self.line.send(Tasks([ids]))  # type: ignore[list-item]
        self.seat.in_flight.update(dict.fromkeys(ids, self.line.sent))
        self.seat.credit -= count

    @rule()
    def another_frame(self) -> None:
        self.line.send(Clusters([]))

    @precondition(lambda self: self.to_shard)
    @rule()
    def shard_receives(self) -> None:
        message = self.to_shard.popleft()
        if isinstance(message, Held):
            self.audit.held(self.seat, message)
        else:
            credit, done = message
            self.seat.credit += credit
            for identity in done:
                self.seat.in_flight.pop(identity, None)

    # the worker

    @precondition(lambda self: self.line.under_way)
    @rule()
    def worker_receives(self) -> None:
        message = self.line.under_way.popleft()
        self.received += 1
        if isinstance(message, Tasks):
            self.start(message.tasks[0])  # type: ignore[arg-type]
        elif isinstance(message, Revoke):
            self.void.update(identity for identity in message.ids if identity not in self.running)

    def start(self, ids: list[int]) -> None:
        self.running.update(ids)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def a_reconcile_ends(self, data: st.DataObject) -> None:
        identity = data.draw(st.sampled_from(sorted(self.running)))
        self.running.discard(identity)
        self.ended.append(identity)

    @rule()
    def worker_acknowledges(self) -> None:
        credit = max(0, LIMIT - self.outstanding + len(self.ended))
        self.outstanding += credit - len(self.ended)
        self.to_shard.append((credit, self.ended))
        self.ended = []

    @rule()
    def worker_reports(self) -> None:
        ids = sorted(self.running) + self.ended
        half = len(ids) // 2
        if half:
            self.to_shard.append(Held(self.received, self.outstanding, ids[:half], True))
        self.to_shard.append(Held(self.received, self.outstanding, ids[half:]))

    @rule()
    def the_connection_breaks(self) -> None:
        """What was under way is lost; the worker names in its next Hello what it has."""
        self.line = Line()
        self.seat.connection = self.line
        self.to_shard.clear()
        self.received = 0
        has = self.running | set(self.ended)
        for identity in set(self.seat.in_flight) - has:
            del self.seat.in_flight[identity]
        self.seat.in_flight = dict.fromkeys(self.seat.in_flight, 0)
        self.seat.reported, self.seat.revoked, self.seat.credit = set(), {}, 0
        self.outstanding = len(has)

    def settle(self) -> None:
        """Everything arrives, and the worker reports until nothing more comes of it."""
        for _ in range(6):
            self.worker_acknowledges()
            self.worker_reports()
            while self.line.under_way or self.to_shard:
                while self.line.under_way:
                    self.worker_receives()
                while self.to_shard:
                    self.shard_receives()

    def teardown(self) -> None:
        self.settle()
        assert set(self.seat.in_flight) == self.running
        assert self.seat.credit + len(self.seat.in_flight) == self.outstanding == LIMIT, "no slot is lost"


class HealthyWorker(Healthy):
    @invariant()
    def nothing_is_recovered(self) -> None:
        assert self.returned == []
        assert not any(counter.value for counter in self.recovered.values())
        assert not any(isinstance(message, Revoke) for message in self.line.under_way)


class FaultyWorker(Healthy):
    """Faults of every step: a hand-out, an acknowledgement or credit is dropped."""

    lost = 0

    def start(self, ids: list[int]) -> None:
        if self.lost:
            self.lost -= 1
        else:
            super().start(ids)

    @precondition(lambda self: not self.lost)
    @rule()
    def the_next_hand_outs_are_lost_on_arrival(self) -> None:
        self.lost = 1

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def the_worker_loses_a_run(self, data: st.DataObject) -> None:
        self.running.discard(data.draw(st.sampled_from(sorted(self.running))))

    @precondition(lambda self: self.ended)
    @rule()
    def an_acknowledgement_is_lost(self) -> None:
        self.ended.pop()

    @precondition(lambda self: self.to_shard and not isinstance(self.to_shard[0], Held))
    @rule()
    def a_pull_is_lost(self) -> None:
        self.to_shard.popleft()

    @precondition(lambda self: self.seat.credit)
    @rule()
    def credit_is_lost(self) -> None:
        self.seat.credit -= 1

    @rule()
    def credit_is_counted_twice(self) -> None:
        self.seat.credit += 1

    def teardown(self) -> None:
        self.lost = 0
        self.settle()
        self.ended += self.running  # credit that was counted twice is spent as long as what it was spent on runs
        self.running = set()
        super().teardown()
        assert len(self.returned) == len(set(self.returned)), "each returns once"


TestHealthyWorker = HealthyWorker.TestCase
TestFaultyWorker = FaultyWorker.TestCase
TestHealthyWorker.settings = TestFaultyWorker.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_a_report_that_is_older_than_a_hand_out_says_nothing_of_it() -> None:
    """The worker's report and the shard's next hand-out pass each other on the way, twice."""
    machine = Healthy()
    machine.worker_acknowledges()
    machine.shard_receives()
    for _ in range(2):
        machine.worker_reports()
        machine.line.send(Tasks([[machine.number]]))  # type: ignore[list-item]
        machine.seat.in_flight[machine.number] = machine.line.sent
        machine.seat.credit -= 1
        machine.number += 1
        machine.shard_receives()
    assert machine.returned == []
    assert machine.seat.revoked == {}
    machine.teardown()


