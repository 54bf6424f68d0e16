"""The queue that raycp's own is measured against keeps laws 1 and 2, and nothing else."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from raycp.base.clock import VirtualClock
from raycp.base.keys import RequestKey
from raycp.bench.naive_queue import NaiveQueue
from raycp.queueing import KeyBackoff, Queue, QueueFactory, QueuePolicy

FACTORY: QueueFactory = NaiveQueue


def key(name: str, cluster: str = "c", namespace: str = "n") -> RequestKey:
    return RequestKey("k", cluster, namespace, name)


def fresh(policy: QueuePolicy | None = None) -> tuple[Queue, VirtualClock]:
    clock = VirtualClock()
    return FACTORY(policy or QueuePolicy(), clock, None, Random(1)), clock


def test_keys_come_in_order_of_arrival_whatever_their_tier_priority_and_delay() -> None:
    queue, _ = fresh()
    keys = [RequestKey("k", f"c{i % 3}", f"n{i % 2}", str(i)) for i in range(20)]
    for index, each in enumerate(keys):
        tier = ("background", "critical", "standard")[index % 3]
        queue.add(each, tier=tier, priority=index % 2 * 100, delay=index % 4, reason="x", real=False)
    items = queue.pull("w", 50)
    assert [item.key for item in items] == keys
    assert items[1].tier == "critical"
    for item in items:
        assert queue.done("w", item.key)
    assert queue.snapshot() == []


def test_no_headroom_and_no_limit() -> None:
    queue, _ = fresh(QueuePolicy(cluster_in_flight=2))
    queue.limit_cluster("c", 0, "breaker open")
    queue.add(key("visit", namespace="quiet"), tier="standard")
    assert len(queue.pull("w", 1, slots=10)) == 1
    assert queue.done("w", key("visit", namespace="quiet"))
    for number in range(100):
        queue.add(key(str(number), namespace="flood"), tier="standard")
    assert len(queue.pull("w", 10, slots=10)) == 10
    assert queue.blocked_clusters() == {}


async def test_retries_wait_for_their_backoff_and_polls_for_their_time() -> None:
    queue, clock = fresh(QueuePolicy(backoff=KeyBackoff(1.0, 8.0, 0.0)))
    moved: list[float] = []
    queue.on_due_changed = lambda: moved.append(queue.next_due() - clock.now())
    for name in ("poll", "fails", "hurried"):
        queue.add(key(name), tier="standard")
    queue.pull("w", 3)
    assert queue.requeue("w", key("poll"), 5.0)
    assert queue.retry("w", key("fails"), error="boom") == 1.0
    assert queue.retry("w", key("hurried"), retry_after=9.0) == 9.0
    assert moved == [5.0, 1.0]
    queue.add(key("fails"), tier="standard", real=False)
    queue.add(key("hurried"), tier="standard", real=True)
    assert [item.key.name for item in queue.pull("w", 3)] == ["hurried"]
    await clock.advance(1.0)
    assert [(item.key.name, item.attempt) for item in queue.pull("w", 3)] == [("fails", 2)]
    await clock.advance(4.0)
    assert queue.promote() == 1
    assert [item.key.name for item in queue.pull("w", 3)] == ["poll"]


async def test_a_held_key_waits_for_its_release_or_its_deadline() -> None:
    queue, clock = fresh()
    queue.hold(key("a"), "promotion")
    queue.hold(key("b"), "writes", timeout=3.0)
    for name in "ab":
        queue.add(key(name), tier="standard")
    assert queue.pull("w", 2) == []
    assert queue.next_due() == clock.now() + 3.0
    assert queue.release(key("a"), "promotion")
    assert [item.key.name for item in queue.pull("w", 2)] == ["a"]
    await clock.advance(3.0)
    assert [item.key.name for item in queue.pull("w", 2)] == ["b"]


def test_a_successor_has_what_the_predecessor_had() -> None:
    queue, _ = fresh()
    for name in ("runs", "waits", "ready"):
        queue.add(key(name), tier="standard")
    queue.pull("w", 2)
    queue.retry("w", key("waits"), retry_after=20.0, error="boom")
    other, _ = fresh()
    other.restore(queue.snapshot(), hold_running="promotion")
    states = {name: (why.state, why.attempts) for name in ("runs", "waits", "ready") if (why := other.why(key(name)))}
    assert states == {"runs": ("held", 0), "waits": ("delayed", 1), "ready": ("ready", 0)}
    assert other.release(key("runs"))
    assert {item.key.name for item in other.pull("w", 9)} == {"runs", "ready"}


def test_a_cluster_that_leaves_takes_its_keys_along() -> None:
    queue, _ = fresh()
    for cluster in ("c", "d"):
        for name in ("a", "b"):
            queue.add(key(name, cluster), tier="standard")
    queue.pull("w", 1)
    queue.add(key("a"), tier="standard")
    assert queue.remove_cluster("c") == [key("a")]
    assert not queue.add(key("z"), tier="standard")
    assert queue.done("w", key("a"))
    assert {saved.key.cluster for saved in queue.snapshot()} == {"d"}
    queue.admit_cluster("c")
    assert queue.add(key("z"), tier="standard")
    assert queue.remove_controller("k") == 3
    assert queue.ready == 0


STEPS = ("add", "pull", "done", "fail", "interrupt", "die", "hold", "release")


@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 5))))
def test_law_1_and_law_2(steps: list[tuple[str, int]]) -> None:
    queue, _ = fresh(QueuePolicy(backoff=KeyBackoff(0.0, 0.0, 0.0)))
    due: set[RequestKey] = set()
    running: dict[RequestKey, int] = {}
    held: set[RequestKey] = set()
    for step, number in steps:
        each = key(str(number))
        if step == "add":
            queue.add(each, tier="standard")
            due.add(each)
        elif step == "pull":
            for item in queue.pull("w", number):
                assert item.key not in running, "law 1: one key, one worker"
                assert item.key not in held
                due.remove(item.key)
                running[item.key] = item.id
        elif step in ("done", "fail", "interrupt"):
            settle = {"done": queue.done, "fail": queue.retry, "interrupt": queue.interrupted}[step]
            settled = settle("w", each, id=running.get(each, -1))
            assert (settled is not None and settled is not False) == (each in running)
            if running.pop(each, None) is not None and step != "done":
                due.add(each)
        elif step == "die":
            assert set(queue.forget_worker("w")) == set(running)
            due |= set(running)
            running.clear()
        elif step == "hold":
            queue.hold(each)
            held.add(each)
        else:
            queue.release(each)
            held.discard(each)
        assert queue.ready == len(due - set(running) - held)
        assert sum(depth.running for depth in queue.depths()) == len(running)
    for each in held:
        queue.release(each)
    queue.forget_worker("w")
    assert {item.key for item in queue.pull("last", 100)} == due | set(running), "law 2: nothing is lost"
