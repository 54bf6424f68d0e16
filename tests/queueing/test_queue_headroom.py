"""Slots kept free of a flood for those who come and go."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from raycp.base.clock import VirtualClock
from raycp.base.keys import RequestKey
from raycp.classify import Priority
from raycp.queueing import QueuePolicy, WorkQueue

SLOTS = 10


def key(namespace: str, name: int) -> RequestKey:
    return RequestKey("k", "c", namespace, str(name))


def queue_of(policy: QueuePolicy | None = None) -> tuple[WorkQueue, VirtualClock]:
    clock = VirtualClock()
    return WorkQueue(policy or QueuePolicy(), clock, None, Random(1)), clock


def pull(queue: WorkQueue, n: int = SLOTS) -> list[RequestKey]:
    return [item.key for item in queue.pull("w", n, slots=SLOTS)]


def visit(queue: WorkQueue, namespace: str, number: int, priority: int = Priority.LIVE) -> None:
    """Somebody comes, is served and goes."""
    queue.add(key(namespace, number), tier="standard", priority=priority)
    assert pull(queue, 1) == [key(namespace, number)]
    assert queue.done("w", key(namespace, number))


def flood(queue: WorkQueue, count: int = 100) -> None:
    for number in range(count):
        queue.add(key("flood", number), tier="standard")


def test_a_flood_leaves_slots_to_those_who_come_and_go_and_they_get_them_at_once() -> None:
    queue, _ = queue_of()
    visit(queue, "quiet", 0)
    flood(queue)
    assert len(pull(queue)) == 8
    assert pull(queue, 2) == []
    for number in range(1, 20):
        visit(queue, "quiet", number)
    # A second one at the same time is served too, a third waits.
    for number in (20, 21):
        queue.add(key("quiet", number), tier="standard")
    assert {each.namespace for each in pull(queue, 2)} == {"quiet"}
    assert pull(queue, 0) == []


async def test_without_anybody_else_all_slots_are_lent_and_after_a_while_again() -> None:
    queue, clock = queue_of()
    flood(queue)
    assert len(pull(queue)) == SLOTS
    for number in range(3):
        assert queue.done("w", key("flood", number))
    visit(queue, "quiet", 0)
    assert pull(queue, 3) == [key("flood", 10)]
    await clock.advance(6.0)
    assert len(pull(queue, 2)) == 2, "whoever came once is not waited for for ever"


def test_what_the_system_triggered_reserves_nothing() -> None:
    queue, _ = queue_of()
    visit(queue, "quiet", 0, priority=Priority.SYSTEM)
    flood(queue)
    assert len(pull(queue)) == SLOTS


def test_the_naive_policy_knows_nothing_of_it() -> None:
    queue, _ = queue_of(QueuePolicy(fifo=True))
    visit(queue, "quiet", 0)
    flood(queue)
    assert len(pull(queue)) == SLOTS


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 30)), max_size=60), st.integers(1, 12), st.randoms())
def test_whatever_waits_is_served_in_the_end(added: list[tuple[str, int]], slots: int, chance: Random) -> None:
    queue, _ = queue_of()
    running: list[RequestKey] = []
    seen: set[RequestKey] = set()
    for namespace, number in added:
        queue.add(key(namespace, number), tier="standard")
        items = queue.pull("w", max(0, slots - len(running)) and 1, slots=slots)
        running += [item.key for item in items]
        seen.update(item.key for item in items)
        if running and chance.random() < 0.5:
            queue.done("w", running.pop(chance.randrange(len(running))))
    while queue.ready or running:
        items = queue.pull("w", slots - len(running), slots=slots)
        running += [item.key for item in items]
        seen.update(item.key for item in items)
        assert running, "what is ready and has all slots to itself is handed out"
        queue.done("w", running.pop())
    assert seen == {key(namespace, number) for namespace, number in added}
