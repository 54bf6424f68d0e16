"""The laws of admission, under any order of events: quota and room are never exceeded, nothing is admitted twice, preemption ends,
nobody waits for ever."""

from typing import Any

from admission_world import World, job, queue
from hypothesis import given, settings
from hypothesis import strategies as st

QUEUES = [
    queue("a", 6, "one", borrowing_limit=4, lending_limit=3),
    queue("b", 6, "one", weight=2.0),
    queue("c", 4, "one", within_queue="Never", strategy="StrictFIFO"),
    queue("d", 5),
]
CLUSTERS = {"c1": (2, 4), "c2": (3, 2), "c3": (1, 6)}

jobs = st.fixed_dictionaries(
    {
        "pods": st.integers(1, 6),
        "cpu": st.integers(1, 4),
        "queue": st.sampled_from(["a", "b", "c", "d", ""]),
        "priority": st.sampled_from([0, 0, 5, 10]),
        "share": st.sampled_from([0.0, 0.5, 1.0]),
        "deadline": st.sampled_from([None, 5.0, 20.0]),
        "timeout": st.sampled_from([None, 10.0]),
    }
)
events = st.one_of(
    st.tuples(st.just("submit"), jobs),
    st.tuples(st.sampled_from(["end", "gone", "withdraw", "broken", "ready"]), st.integers(0, 50)),
    st.tuples(st.sampled_from(["lose", "back"]), st.sampled_from(sorted(CLUSTERS))),
    st.tuples(st.just("restart"), st.none()),
    st.tuples(st.just("later"), st.sampled_from([1.0, 12.0, 70.0])),
)


def apply(world: World, number: int, kind: str, value: Any) -> None:
    running = world.admitted
    if kind == "submit":
        least = int(value["pods"] * value["share"])
        demand = job(
            f"j{number:03}",
            value["pods"],
            value["cpu"],
            world.now,
            queue=value["queue"],
            priority=value["priority"],
            min_available=least,
            active_deadline=value["deadline"],
            ready_timeout=value["timeout"],
        )
        world.submit(demand)
    elif kind == "end" and running:
        world.end(running[value % len(running)])
    elif kind == "gone" and (leaving := world.names("Evicting")):
        world.gone(leaving[value % len(leaving)])
    elif kind == "withdraw" and world.decisions:
        last = world.decisions[-1]
        if last.uid in world.jobs and world.records[last.uid] == last.record and last.kind == "Admit":
            world.admission.withdraw(last.uid, world.now)
            del world.records[last.uid]
    elif kind in ("broken", "ready") and running:
        world.admission.pods(running[value % len(running)], 0 if kind == "broken" else 99, world.now)
    elif kind == "lose":
        world.lost.add(value)
        world.tell(value)
        world.admission.cluster_lost(value, world.now)
    elif kind == "back":
        world.lost.discard(value)
        world.tell(value)
    elif kind == "restart":
        world.restart()
    elif kind == "later":
        world.now += value


@settings(max_examples=120, deadline=None)
@given(st.lists(events, max_size=40))
def test_quota_and_room_are_never_exceeded_and_preemption_ends(steps: list[tuple[str, Any]]) -> None:
    world = World(QUEUES, CLUSTERS)
    for number, (kind, value) in enumerate(steps):
        apply(world, number, kind, value)
        world.decide()
    for _ in range(200):  # with nothing new, victims gone at once: it comes to rest
        for uid in world.names("Evicting"):
            world.gone(uid)
        if not world.decide():
            break
    else:
        raise AssertionError(world.decisions[-10:])


@settings(max_examples=60, deadline=None)
@given(st.lists(jobs, min_size=1, max_size=25), st.integers(0, 1000))
def test_nobody_waits_for_ever(wanted: list[dict[str, Any]], seed: int) -> None:
    """Jobs end one after the other, the oldest first: in the end each has run that could ever run."""
    world = World(QUEUES, CLUSTERS)
    for number, value in enumerate(wanted):
        apply(world, number, "submit", value)
    for _ in range(40 * len(wanted)):
        world.now += 1
        world.decide()
        for uid in world.names("Evicting"):
            world.gone(uid)
        running = sorted(world.admitted, key=lambda uid: (world.records[uid].admitted_at, uid))
        if running:
            world.end(running[0])
    for uid in world.waiting:
        found = world.admission.explain(uid, world.now)
        assert found is not None
        assert found.reason in ("ExceedsMaxQuota", "NoClusterFit"), found


def test_jobs_that_can_never_run_are_in_nobodys_way() -> None:
    """However many, of however many kinds."""
    world = World([queue("d", 5)], {"c1": (2, 4)})
    for number in range(300):
        world.submit(job(f"alike-{number}", 9, queue="d", priority=10))
    for number in range(60):
        world.submit(job(f"other-{number}", 9 + number, queue="d", priority=10))
    world.submit(job("small", 1, queue="d"))
    assert [each.uid for each in world.decide()] == ["small"]
