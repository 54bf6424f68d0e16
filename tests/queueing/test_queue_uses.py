"""Delays, hand-over, holds, removals, answers, metrics, autoscaling: the queue as a shard uses it."""

import math
import time
from random import Random
from typing import Any

import pytest
from hand_clock import HandClock

from raycp.base.clock import SystemClock
from raycp.base.keys import RequestKey
from raycp.classify import Priority, Reason
from raycp.config.controllers import ControllerSpec
from raycp.config.tiers import TiersSpec
from raycp.metrics import Metrics, WorkQueueMetrics
from raycp.queueing import KeyBackoff, LanePolicy, PoolPolicy, PoolState, QueuePolicy, WorkQueue, scale_pool
from raycp.queueing.events import QueueMetrics


def key(name: str = "x", *, cluster: str = "c", namespace: str = "n", controller: str = "k") -> RequestKey:
    return RequestKey(controller, cluster, namespace, name)


def fresh(policy: QueuePolicy | None = None, metrics: QueueMetrics | None = None) -> tuple[WorkQueue, HandClock]:
    clock = HandClock()
    return WorkQueue(policy or QueuePolicy(), clock, metrics, Random(1)), clock


# -- time


def test_next_due_is_the_earliest_delayed_key_and_says_when_it_moves_forward():
    queue, clock = fresh()
    moved: list[float] = []
    queue.on_due_changed = lambda: moved.append(queue.next_due() - clock.now())
    assert queue.next_due() == math.inf
    for name, delay in (("late", 30), ("early", 10), ("between", 20)):
        queue.add(key(name), tier="standard", delay=delay, real=False)
    assert moved == [30, 10]
    clock.time += 9.9
    assert (queue.promote(), queue.ready, queue.pull("w", 5)) == (0, 0, [])
    clock.time += 0.2
    assert (queue.promote(), queue.ready, queue.delayed) == (1, 1, 2)
    assert queue.next_due() == pytest.approx(clock.now() + 9.9)
    assert [item.key.name for item in queue.pull("w", 5)] == ["early"]
    queue.add(key("between"), tier="standard")
    assert queue.next_due() == pytest.approx(clock.now() + 19.9), "the place of a woken key does not count"


def test_next_due_counts_the_deadlines_of_holds():
    queue, clock = fresh()
    moved: list[float] = []
    queue.on_due_changed = lambda: moved.append(queue.next_due() - clock.now())
    queue.add(key(), tier="standard")
    queue.hold(key(), "promotion", timeout=8.0)
    queue.hold(key(), "writes", timeout=9.0)
    queue.hold(key(), "promotion", timeout=3.0)
    assert moved == [8.0, 3.0]
    clock.time += 3.0
    assert queue.promote() == 0
    assert queue.next_due() == clock.now() + 6.0
    queue.release(key(), "writes")
    assert (queue.next_due(), queue.ready) == (math.inf, 1)


def test_a_pull_promotes_a_bounded_number_of_due_keys():
    queue, clock = fresh()
    for number in range(1_000):
        queue.add(key(str(number)), tier="standard", delay=1.0)
    clock.time += 1.0
    queue.pull("w", 0)
    assert (queue.ready, queue.delayed) == (512, 488)
    assert queue.next_due() == clock.now(), "the timer of a dispatcher rings at once for the rest"
    assert queue.promote() == 488


def test_blocked_keys_are_neither_handed_out_nor_due():
    queue, _ = fresh()
    queue.limit_cluster("c", 0, "breaker open")
    queue.add(key(), tier="standard")
    assert (queue.pull("w", 1), queue.ready, queue.next_due()) == ([], 1, math.inf)
    queue.limit_cluster("c", 1, "probing")
    assert len(queue.pull("w", 5)) == 1


@pytest.mark.parametrize("paused", [{"paused_clusters": frozenset({"c"})}, {"paused_controllers": frozenset({"k"})}])
def test_what_is_paused_waits_and_harms_no_others(paused: dict[str, Any]):
    queue, clock = fresh()
    running = [key("runs", controller=name, cluster=cluster) for name, cluster in (("k", "c"), ("other", "free"))]
    for each in running:
        queue.add(each, tier="standard")
    assert len(queue.pull("w", 9)) == 2
    queue.set_policy(QueuePolicy(**paused))
    queue.limit_cluster("c", None)  # the guard goes on setting its limits
    waiting = [key(f"{number}", namespace=f"n{number % 3}") for number in range(9)]
    for each in [*waiting, key("free", controller="other", cluster="free")]:
        queue.add(each, tier="standard")
    clock.time += 100.0
    assert [item.key.name for item in queue.pull("w", 99)] == ["free"]
    assert queue.done("w", running[0]), "what runs ends"
    queue.add(running[0], tier="critical")
    assert queue.pull("w", 99) == []
    assert queue.oldest_ready() == dict.fromkeys(queue.oldest_ready(), 0.0), "no lane starves by it"
    why = queue.why(waiting[0])
    assert why is not None
    assert why.waits_for in ("cluster c to be resumed: it is paused", "controller k to be resumed: it is paused")
    assert queue.blocked_clusters() == ({"c": "paused"} if "paused_clusters" in paused else {})
    queue.set_policy(QueuePolicy())
    assert {item.key for item in queue.pull("w", 99)} == {*waiting, running[0]}


def test_a_paused_cluster_has_its_other_limits_again_after_it():
    queue, _ = fresh(QueuePolicy(paused_clusters=frozenset({"c"})))
    queue.limit_cluster("c", 1, "probing")
    for name in "ab":
        queue.add(key(name), tier="standard")
    assert (queue.pull("w", 5), queue.blocked_clusters()) == ([], {"c": "paused"})
    queue.set_policy(QueuePolicy())
    assert len(queue.pull("w", 5)) == 1


def test_delays_by_the_machines_clock():
    queue = WorkQueue(QueuePolicy(), SystemClock())
    queue.add(key(), tier="standard", delay=0.02, real=False)
    assert queue.promote() == 0
    time.sleep(max(0.0, queue.next_due() - SystemClock().now()))
    assert queue.promote() == 1
    assert len(queue.pull("w", 1)) == 1
    queue.close()


# -- order, raising, polls


def test_live_before_away_before_backlog_before_system():
    queue, _ = fresh()
    wanted = [Priority.LIVE, Priority.AWAY, Priority.OWNED_AWAY, Priority.STATUS, Priority.BACKLOG, Priority.POLL,
              Priority.SYSTEM]  # fmt: skip
    for priority in reversed(wanted):
        queue.add(key(priority.name), tier="standard", priority=priority)
    assert [item.priority for item in queue.pull("w", 9)] == wanted


def test_a_real_event_cancels_a_system_delay_and_raises():
    queue, _ = fresh()
    queue.add(key(), tier="background", priority=0, delay=50, reason=Reason.RESYNC, real=False)
    queue.add(key(), tier="critical", priority=100, reason=Reason.UPDATE)
    (item,) = queue.pull("w", 1)
    assert (item.tier, item.reason, item.priority) == ("critical", Reason.UPDATE, 100)


def test_polls_never_ratchet_up():
    queue, clock = fresh()
    queue.add(key(), tier="critical", reason=Reason.UPDATE)
    queue.pull("w", 1)
    queue.requeue("w", key(), 10.0)
    clock.time += 11
    (item,) = queue.pull("w", 1)
    assert (item.tier, item.priority, item.reason, item.waited) == ("background", Priority.POLL, Reason.POLL, 1.0)
    queue.requeue("w", key(), 10.0, tier="high")
    clock.time += 11
    (item,) = queue.pull("w", 1)
    assert (item.tier, item.priority) == ("high", Priority.POLL)


def test_backoff_doubles_is_capped_and_forgotten_after_success():
    queue, clock = fresh(QueuePolicy(backoff=KeyBackoff(1.0, 5.0, 0.2), backoffs={"special": KeyBackoff(0.5, 5.0, 0.0)}))
    queue.add(key(), tier="standard")
    for base in (1.0, 2.0, 4.0, 5.0, 5.0):
        assert len(queue.pull("w", 1)) == 1
        delay = queue.retry("w", key(), error="boom")
        assert base <= delay <= base * 1.2
        clock.time += base * 0.99
        assert queue.pull("w", 1) == []
        clock.time += base * 0.22
    (item,) = queue.pull("w", 1)
    assert (item.attempt, item.reason) == (6, Reason.RETRY)
    assert queue.retry("w", key(), retry_after=77.0) == 77.0
    queue.add(key(), tier="standard", reason=Reason.UPDATE)
    (item,) = queue.pull("w", 1)
    assert item.attempt == 7
    queue.done("w", key())
    queue.add(key(), tier="standard")
    assert queue.pull("w", 1)[0].attempt == 1
    queue.add(key("y", controller="special"), tier="standard")
    queue.pull("w", 1)
    assert queue.retry("w", key("y", controller="special")) == 0.5


@pytest.mark.parametrize("delay", [-1.0, math.nan, math.inf])
def test_delays_that_are_none(delay):
    queue, _ = fresh()
    with pytest.raises(ValueError, match="delay"):
        queue.add(key(), tier="standard", delay=delay)
    assert key() not in queue
    queue.add(key(), tier="standard")
    queue.pull("w", 1)
    with pytest.raises(ValueError, match="delay"):
        queue.requeue("w", key(), delay)
    with pytest.raises(ValueError, match="delay"):
        queue.retry("w", key(), retry_after=delay)
    assert queue.running("w"), "the key is still with its worker"


def test_an_unknown_tier_means_the_default_one():
    queue, _ = fresh()
    assert queue.add(key(), tier="no such tier")
    assert queue.pull("w", 1)[0].tier == "standard"


def test_each_outcome_puts_the_key_where_it_belongs_and_counts_once():
    queue, _ = fresh()
    for name in ("ok", "retry", "interrupted", "poll"):
        queue.add(key(name), tier="standard")
    for item in queue.pull("w", 9):
        settle = {
            "ok": lambda item: queue.done("w", item.key, id=item.id),
            "retry": lambda item: queue.retry("w", item.key, id=item.id) is not None,
            "interrupted": lambda item: queue.interrupted("w", item.key, id=item.id),
            "poll": lambda item: queue.requeue("w", item.key, 9.0, id=item.id),
        }[item.key.name]
        assert settle(item)
        assert not settle(item), "twice"
    states = {each.key.name: queue.why(each.key).state for each in queue.snapshot()}
    assert states == {"retry": "delayed", "interrupted": "ready", "poll": "delayed"}


# -- deaths, holds, removals


def test_a_dead_workers_keys_return_to_the_front():
    queue, clock = fresh()
    for name in "abcd":
        queue.add(key(name), tier="standard")
    queue.pull("w", 3)
    assert [held.name for _, held, _ in queue.running("w")] == ["a", "b", "c"]
    queue.hold(key("b"), "its turn", timeout=1.0)
    assert queue.forget_worker("w") == [key("a"), key("b"), key("c")]
    assert queue.running() == []
    assert [item.key.name for item in queue.pull("v", 1)] == ["a"]
    clock.time += 1.0
    assert [item.key.name for item in queue.pull("v", 9)] == ["b", "c", "d"], "one that was held for a moment, too"
    assert queue.forget_worker("w") == []


def test_holds_end_by_reason_or_deadline():
    queue, clock = fresh()
    queue.add(key(), tier="standard")
    queue.hold(key(), "promotion")
    queue.hold(key(), "writes", timeout=5.0)
    queue.hold(key("idle"), "promotion")
    assert queue.pull("w", 5) == []
    assert queue.why(key()).waits_for == "release: promotion, writes"
    assert queue.release(key(), "promotion") is False
    clock.time += 5.0
    assert [item.key for item in queue.pull("w", 5)] == [key()]
    assert queue.release(key("idle"), "promotion")
    assert key("idle") not in queue
    queue.hold(key(), "writes")
    queue.add(key(), tier="standard")
    queue.done("w", key())
    assert queue.pull("w", 1) == []
    queue.release(key())
    assert len(queue.pull("w", 1)) == 1


def test_a_cluster_that_leaves_takes_its_keys_along():
    queue, _ = fresh()
    for cluster in ("c", "d"):
        for name in ("a", "b", "late"):
            queue.add(key(name, cluster=cluster), tier="standard", delay=9 if name == "late" else 0)
    queue.pull("w", 1)
    queue.add(key("a"), tier="standard")
    assert queue.remove_cluster("c") == [key("a")]
    assert not queue.add(key("z"), tier="standard")
    queue.done("w", key("a"))
    assert {saved.key.cluster for saved in queue.snapshot()} == {"d"}
    queue.admit_cluster("c")
    assert queue.add(key("z"), tier="standard")
    assert queue.remove_controller("k") == 4
    assert (len(queue), queue.ready, queue.delayed) == (0, 0, 0)


# -- hand-over


def test_a_snapshot_carries_keys_reasons_delays_attempts_and_clocks():
    queue, clock = fresh()
    queue.add(key("ready"), tier="critical", reason=Reason.UPDATE)
    queue.add(key("late"), tier="background", priority=0, delay=60, reason=Reason.RESYNC, real=False)
    queue.add(key("runs"), tier="high", reason=Reason.CREATE)
    queue.add(key("fails"), tier="standard", reason=Reason.CREATE)
    queue.limit_cluster("c", None)
    for item in queue.pull("w", 4):
        if item.key.name == "fails":
            queue.retry("w", item.key, retry_after=20.0, error="boom")
        elif item.key.name == "ready":
            queue.done("w", item.key)
    queue.add(key("ready"), tier="critical", reason=Reason.UPDATE)
    clock.time += 5
    saved = queue.snapshot()
    later = HandClock(start=5_000_000.0)
    other = WorkQueue(QueuePolicy(), later)
    other.restore(saved, hold_running="promotion")
    why = {name: other.why(key(name)) for name in ("ready", "late", "runs", "fails")}
    assert (why["ready"].state, why["ready"].tier, why["ready"].reason) == ("ready", "critical", Reason.UPDATE)
    assert (why["ready"].age, why["ready"].ready_for) == (5.0, 5.0)
    assert (why["late"].state, why["late"].delay_left, why["late"].reason) == ("delayed", 55.0, Reason.RESYNC)
    assert (why["runs"].state, why["runs"].waits_for) == ("held", "release: promotion")
    assert (why["fails"].delay_left, why["fails"].attempts, why["fails"].retry) == (15.0, 1, True)
    assert why["fails"].error == "boom"
    other.release(key("runs"))
    items = other.pull("w", 9)
    assert {item.key.name: item.reason for item in items} == {"ready": Reason.UPDATE, "runs": Reason.INTERRUPTED}
    assert {item.key.name: item.added for item in items} == {"ready": 4_999_995.0, "runs": 4_999_995.0}


# -- live policy, answers


def test_a_policy_applies_to_what_is_queued():
    queue, clock = fresh(QueuePolicy(concurrency={"k": 1}))
    for name in "abc":
        queue.add(key(name), tier="high")
    queue.add(key("late"), tier="high", delay=5)
    (first,) = queue.pull("w", 9)
    assert queue.pull("w", 9) == []
    lanes = (LanePolicy("standard", 0.5, 1.0), LanePolicy("background", 0.5, 1.0))
    queue.set_policy(QueuePolicy(lanes, concurrency={"k": 3}))
    assert [(item.key.name, item.tier) for item in queue.pull("w", 9)] == [("b", "standard"), ("c", "standard")]
    queue.retry("w", first.key, retry_after=0.0)
    assert queue.why(first.key).tier == "standard"
    clock.time += 6
    assert len(queue.pull("w", 9)) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"lanes": ()},
        {"lanes": (LanePolicy("a", 0.5, 1), LanePolicy("a", 0.5, 1)), "default": "a"},
        {"lanes": (LanePolicy("a", 0.7, 1), LanePolicy("b", 0.7, 1)), "default": "a"},
        {"lanes": (LanePolicy("a", 0.0, 1),), "default": "a"},
        {"default": "nope"},
    ],
)
def test_impossible_policies(wrong):
    with pytest.raises(ValueError):
        QueuePolicy(**wrong)


def test_the_policy_of_a_fleet_file():
    controllers = {"echo": ControllerSpec(use="echo", concurrency=4), "jobs": ControllerSpec(use="jobs")}
    policy = QueuePolicy.of(TiersSpec(), controllers, {"west": 9}, slots=64)
    assert [(lane.name, lane.share, lane.max_wait) for lane in policy.lanes] == [
        ("critical", 0.40, 1.0), ("high", 0.25, 5.0), ("standard", 0.25, 15.0), ("background", 0.10, 60.0),
    ]  # fmt: skip
    assert policy.concurrency == {"echo": 4}
    assert policy.backoffs["jobs"] == KeyBackoff(0.05, 300.0, 0.2)


def test_why_says_who_is_ahead_and_what_it_waits_for():
    queue, _ = fresh(QueuePolicy(concurrency={"capped": 1}))
    for name in "abc":
        queue.add(key(name), tier="standard")
    queue.add(key("live", namespace="m"), tier="standard")
    queue.add(key("old", namespace="m"), tier="standard", priority=Priority.BACKLOG)
    assert queue.why(key("a")).ahead == 1
    assert queue.why(key("c")).ahead == 3
    assert queue.why(key("old", namespace="m")).ahead == 4
    queue.limit_cluster("c", 0, "breaker open after 5 time-outs")
    assert queue.why(key("a")).waits_for == "cluster c: 0 in flight, limit 0 (breaker open after 5 time-outs)"
    for name in "xy":
        queue.add(key(name, cluster="d", controller="capped"), tier="standard")
    queue.pull("w", 9)
    assert queue.why(key("y", cluster="d", controller="capped")).waits_for == ("controller capped: 1 in flight, concurrency 1")
    assert queue.why(key("x", cluster="d", controller="capped")).waits_for.startswith("the end of the reconcile")
    assert queue.why(key("nobody")) is None


def test_delays_are_told_for_autoscaling():
    queue, clock = fresh()
    for index in range(100):
        queue.add(key(str(index)), tier="high")
    clock.time += 0.5
    for item in queue.pull("w", 90):
        queue.done("w", item.key)
    clock.time += 1.0
    (high,) = [each for each in queue.delays() if each.tier == "high"]
    assert (high.ready, high.handed_out, high.oldest, high.worst) == (10, 90, 1.5, 0.5)
    assert 0.4 <= high.p50 <= 0.5
    clock.time += 20
    assert next(each for each in queue.delays() if each.tier == "high").handed_out == 0


def test_metrics_under_their_client_go_names():
    metrics = Metrics()
    families = WorkQueueMetrics(metrics)
    observer = QueueMetrics(families)
    queue, clock = fresh(metrics=observer)
    queue.add(key("a"), tier="high")
    queue.add(key("b"), tier="high")
    queue.add(key("c"), tier="high", delay=9)
    clock.time += 1
    queue.pull("w", 1)
    clock.time += 2
    observer.publish(queue)
    lane = ("c", "k", "high")
    series = families.series(*lane)
    assert (series.adds.value, families.depth.labels(*lane).value, families.delayed.labels(*lane).value) == (2, 1, 1)
    assert (families.unfinished_work.labels(*lane).value, families.longest_running.labels(*lane).value) == (2.0, 2.0)
    assert series.queue_duration.count == 1
    queue.retry("w", key("a"))
    observer.publish(queue)
    assert series.work_duration.count == 1
    assert families.delayed.labels(*lane).value == 2


def test_a_cluster_that_left_leaves_no_series_behind_and_counts_anew():
    metrics = Metrics()
    families = WorkQueueMetrics(metrics)
    observer = QueueMetrics(families)
    queue, _ = fresh(metrics=observer)

    def counted() -> list[str]:
        observer.publish(queue)
        families = [family for family in metrics.families() if family.spec.labels[0] == "cluster"]
        return sorted({values[0] for family in families for values, _ in family.rows})

    for name in "ab":
        queue.add(key(name), tier="high")
    queue.pull("w", 1)
    assert counted() == ["c"]
    queue.remove_cluster("c")
    metrics.drop("cluster", "c")
    observer.drop("c")
    assert counted() == []
    queue.done("w", key("a"))
    assert counted() == [], "what still ran counts for nobody"
    queue.admit_cluster("c")
    queue.add(key("a"), tier="high")
    assert counted() == ["c"]
    assert families.adds.labels("c", "k", "high").value == 1
    assert families.depth.labels("c", "k", "high").value == 1


# -- autoscaling


def drive(delays, policy, busy=32, ready=0, workers=1):
    """Call it once a second with these delays; returns the sizes."""
    sizes, above, below, changed = [], None, None, -math.inf
    for now, delay in enumerate(delays):
        state = PoolState(workers, delay, busy, ready, 0, above, below, changed)
        decision = scale_pool(state, policy, float(now))
        workers, above, below = decision.target, decision.above_since, decision.below_since
        changed = decision.changed_at
        assert decision.reason
        sizes.append(workers)
    return sizes


POOL = PoolPolicy(min=1, max=8, target=0.5, up_after=2.0, down_after=10.0)


def test_a_pool_grows_by_lasting_delay_and_not_by_a_spike():
    assert drive([5.0] * 12, POOL)[-1] == 8
    assert drive([5.0, 0.3, 5.0, 0.3, 5.0, 0.3], POOL) == [1] * 6
    assert drive([0.4] * 30, POOL, workers=3) == [3] * 30, "between half the target and the target nothing changes"


def test_a_pool_shrinks_slowly_and_only_with_slots_to_spare():
    assert drive([0.0] * 25, POOL, busy=10, workers=4) == [4] * 10 + [3] * 10 + [2] * 5
    assert drive([0.0] * 25, POOL, busy=100, workers=4) == [4] * 25
    assert drive([0.0] * 50, POOL, busy=0, workers=2)[-1] == 1


def test_a_pool_stays_within_its_bounds():
    assert scale_pool(PoolState(0, 0.0, 0, 0), POOL, 0.0).target == 1
    assert scale_pool(PoolState(12, 9.0, 0, 0), POOL, 0.0).target == 8
    assert scale_pool(PoolState(4, 9.0, 0, 0, starting=1, above_since=-99.0), POOL, 0.0).target == 4
    from_none = PoolPolicy(min=0, max=2, target=0.5)
    assert scale_pool(PoolState(0, 9.0, 0, 5), from_none, 0.0).target == 1
    with pytest.raises(ValueError, match="impossible"):
        scale_pool(PoolState(1, 0.0, 0, 0), PoolPolicy(min=3, max=2, target=1.0), 0.0)
    with pytest.raises(ValueError, match="impossible"):
        scale_pool(PoolState(1, 0.0, 0, 0), PoolPolicy(min=1, max=2, target=math.nan), 0.0)
