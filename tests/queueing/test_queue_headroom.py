"""Headroom: slots that a flood leaves free for namespaces that come and go."""

import math
from random import Random

from hand_clock import HandClock
from hypothesis import given
from hypothesis import strategies as st

from raycp.base.keys import RequestKey
from raycp.classify import Priority
from raycp.queueing import QueuePolicy, WorkQueue
from raycp.queueing.fair import RECENT

SLOTS = 10


def key(namespace: str, name: int) -> RequestKey:
    return RequestKey("k", "c", namespace, str(name))


def queue_of() -> tuple[WorkQueue, HandClock]:
    clock = HandClock()
    return WorkQueue(QueuePolicy(), clock, None, Random(1)), clock


def pull(queue: WorkQueue, n: int = SLOTS) -> list[RequestKey]:
    return [item.key for item in queue.pull("w", n, slots=SLOTS)]


def visit(queue: WorkQueue, namespace: str, number: int, priority: int = Priority.LIVE) -> None:
    """One key of ``namespace`` comes, is served and goes."""
    queue.add(key(namespace, number), tier="standard", priority=priority)
    assert pull(queue, 1) == [key(namespace, number)]
    assert queue.done("w", key(namespace, number))


def flood(queue: WorkQueue, count: int = 100) -> None:
    for number in range(count):
        queue.add(key("flood", number), tier="standard")


def test_headroom_serves_light_namespaces_at_once_beside_a_flood() -> None:
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


def test_headroom_is_lent_where_no_namespace_comes_and_goes() -> None:
    queue, clock = queue_of()
    flood(queue)
    assert len(pull(queue)) == SLOTS
    for number in range(3):
        assert queue.done("w", key("flood", number))
    visit(queue, "quiet", 0)
    assert pull(queue, 3) == [key("flood", 10)]
    clock.time += 6.0
    assert len(pull(queue, 2)) == 2, "a namespace that came once does not keep slots for ever"


def test_headroom_bounds_a_pull_of_more_keys_than_slots() -> None:
    queue, _ = queue_of()
    visit(queue, "quiet", 0)
    flood(queue)
    assert len(pull(queue, 50)) == 8
    assert pull(queue, 50) == []
    for number in range(1, 20):
        queue.add(key(f"quiet-{number}", 0), tier="standard")
    assert len(pull(queue, 50)) == 19, "they hold no slot yet"


def test_headroom_is_not_kept_for_system_triggered_work() -> None:
    queue, _ = queue_of()
    visit(queue, "quiet", 0, priority=Priority.SYSTEM)
    flood(queue)
    assert len(pull(queue)) == SLOTS


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 30)), max_size=60), st.integers(1, 12), st.randoms())
def test_headroom_starves_no_key(added: list[tuple[str, int]], slots: int, chance: Random) -> None:
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


def test_the_end_of_headroom_is_due() -> None:
    """Law 13: what time alone lets go is announced, so that whoever pulls is woken then."""
    queue, clock = queue_of()
    calls: list[float] = []
    queue.on_due_changed = lambda: calls.append(queue.next_due())
    visit(queue, "quiet", 0)
    flood(queue)
    assert len(pull(queue)) == 8
    assert queue.ready == 92
    (due,) = calls
    assert clock.time < due < clock.time + RECENT + 1.0
    assert pull(queue, 2) == []
    assert calls == [due], "announced once"
    clock.time = due
    queue.promote()
    assert len(pull(queue, 2)) == 2
    assert queue.next_due() == math.inf


@given(st.lists(st.tuples(st.sampled_from(["quiet", "other", "flood"]), st.integers(1, 12), st.booleans()), max_size=12))
def test_no_key_waits_for_time_without_a_due_time(steps: list[tuple[str, int, bool]]) -> None:
    """Whoever pulls when something is due, and at no other time, gets all that there are slots for in the end."""
    queue, clock = queue_of()
    running: list[RequestKey] = []
    for number, (namespace, count, ends) in enumerate(steps):
        for each in range(count):
            queue.add(key(namespace, 100 * number + each), tier="standard")
        running += pull(queue, SLOTS - len(running))
        if ends and running:
            assert queue.done("w", running.pop())
    running += pull(queue, SLOTS - len(running))
    while (due := queue.next_due()) != math.inf:
        assert due > clock.time
        clock.time = due
        queue.promote()
        running += pull(queue, SLOTS - len(running))
    clock.time += 1000.0
    assert pull(queue, SLOTS - len(running)) == []
