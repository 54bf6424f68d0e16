"""Who makes way, where queues have quotas of several resources: victims use what is borrowed, and preemption ends."""

from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from raycp.scheduling.admission import Admission
from raycp.scheduling.admissions import AdmissionDecision
from raycp.scheduling.capacity import DeclaredNodes, declared_capacity
from raycp.scheduling.demand import JobDemand
from raycp.scheduling.model import Candidate, Rules
from raycp.scheduling.queues import FlavorQuotas, FlavorResource, QueueSpec


def queue(name: str, weight: float = 1.0, **nominal: int) -> QueueSpec:
    resources = tuple(FlavorResource(resource, amount) for resource, amount in nominal.items())
    return QueueSpec(name, (FlavorQuotas("default", resources),), "one", weight)


def job(uid: str, queue: str, created: float = 0.0, pods: int = 1, priority: int = 0, **requests: int) -> JobDemand:
    return JobDemand(uid, "ns", uid, created, pods, requests, queue, priority)


def fleet(queues: list[QueueSpec], nodes: int, **allocatable: int) -> Admission:
    made = Admission()
    made.set_queues(queues, 0.0)
    made.set_cluster(Candidate("east"), declared_capacity("east", [DeclaredNodes(nodes, {"pods": 110, **allocatable})]), 0.0)
    return made


def decided(admission: Admission, now: float) -> list[tuple[str, str]]:
    return [(each.kind, each.uid) for each in admission.decide(now)]


def rests(admission: Admission, now: float, most: int) -> list[AdmissionDecision]:
    """The decisions until nothing is decided any more, with victims gone at once."""
    made: list[AdmissionDecision] = []
    for _ in range(most):
        found = admission.decide(now)
        if not found:
            return made
        made += found
        for each in found:
            if each.kind == "Preempt":
                admission.evicted(each.uid, now)
    raise AssertionError(made[-10:])


def test_a_queue_that_borrows_one_resource_keeps_its_own_of_another() -> None:
    """Two that take the node from each other because either borrows something that the other's job does not use would do so for
    ever."""
    queues = [queue("a", cpu=4, gpu=4, mem=0), queue("b", cpu=4, gpu=0, mem=4), queue("c", gpu=4, mem=4)]
    admission = fleet(queues, 1, cpu=2, gpu=9, mem=9)
    admission.submit(job("a-borrows", "a", mem=1), None, 0.0)
    admission.submit(job("b-borrows", "b", gpu=1), None, 0.0)
    assert sorted(decided(admission, 0.0)) == [("Admit", "a-borrows"), ("Admit", "b-borrows")]
    admission.submit(job("b-own", "b", 1.0, cpu=2, mem=1), None, 1.0)
    assert decided(admission, 1.0) == [("Admit", "b-own")]
    admission.submit(job("a-own", "a", 2.0, cpu=2, gpu=1), None, 2.0)
    assert decided(admission, 2.0) == []
    found = admission.explain("a-own", 2.0)
    assert found is not None
    assert found.reason == "NoRoom"


@pytest.mark.parametrize("needed", [600, 613])
def test_a_lender_takes_back_what_very_many_small_jobs_have_borrowed(needed: int) -> None:
    """As many go as have to, the youngest first."""
    admission = fleet([queue("lender", cpu=700), queue("borrower", cpu=0)], 7, cpu=100)
    for number in range(700):
        admission.submit(job(f"j{number:03}", "borrower", cpu=1), None, 0.0)
        assert decided(admission, float(number)) == [("Admit", f"j{number:03}")]
    admission.submit(job("large", "lender", 1000.0, needed, cpu=1), None, 1000.0)
    gone = decided(admission, 1000.0)
    assert sorted(gone) == [("Preempt", f"j{number:03}") for number in range(700 - needed, 700)]


RESOURCES = ("cpu", "gpu", "mem")
wanted = st.fixed_dictionaries(
    {
        "queue": st.sampled_from(["a", "b", "c"]),
        "pods": st.integers(1, 3),
        "priority": st.sampled_from([0, 0, 0, 5]),
        **{name: st.integers(0, 3) for name in RESOURCES},
    }
)
quotas = st.fixed_dictionaries({name: st.integers(0, 6) for name in RESOURCES})


@settings(max_examples=150, deadline=None)
@given(st.lists(quotas, min_size=3, max_size=3), st.lists(wanted, min_size=1, max_size=14), st.integers(2, 4))
def test_with_several_resources_preemption_ends_and_victims_have_borrowed_what_is_needed(
    quota: list[dict[str, int]], values: list[dict[str, Any]], nodes: int
) -> None:
    nominal = dict(zip("abc", quota, strict=True))
    admission = fleet([queue(name, **amounts) for name, amounts in nominal.items()], nodes, cpu=5, gpu=4, mem=5)
    jobs: dict[str, JobDemand] = {}
    running: dict[str, int] = {}

    def used(name: str) -> dict[str, int]:
        total: defaultdict[str, int] = defaultdict(int)
        for uid, pods in running.items():
            if jobs[uid].queue == name:
                for resource, amount in jobs[uid].requests.items():
                    total[resource] += amount * pods
        return total

    for number, value in enumerate(values):
        made = jobs[f"j{number:02}"] = job(f"j{number:02}", created=float(number), **value)
        admission.submit(made, None, float(number))
        for each in rests(admission, float(number), 200):
            if each.kind == "Admit":
                running[each.uid] = sum(each.record.clusters.values())
                continue
            victim, by = jobs[each.uid], jobs[each.by]
            if victim.queue == by.queue:
                assert victim.priority < by.priority
            else:
                over = used(victim.queue)
                contested = [name for name in RESOURCES if victim.requests[name] and by.requests[name]]
                assert any(over[name] > nominal[victim.queue][name] for name in contested), each
            del running[each.uid]
        assert admission.over_quota() == []


def test_a_head_that_would_borrow_keeps_nothing_from_those_it_would_borrow_from() -> None:
    """Of the job that it waits for nobody knows the end."""
    admission = fleet([queue("lender", cpu=6), queue("borrower", cpu=0)], 2, cpu=5)
    admission.submit(job("service", "borrower", cpu=1), None, 0.0)
    assert decided(admission, 0.0) == [("Admit", "service")]
    admission.submit(job("large", "borrower", 1.0, 2, cpu=3), None, 1.0)
    assert decided(admission, 1.0) == []
    admission.submit(job("small", "lender", 2.0, cpu=3), None, 2.0)
    assert decided(admission, 2.0) == [("Admit", "small")]
    admission.submit(job("rest", "lender", 3.0, cpu=3), None, 3.0)
    assert decided(admission, 3.0) == [("Preempt", "service")]
    admission.evicted("service", 4.0)
    assert decided(admission, 4.0) == [("Admit", "rest")]


def two_clusters() -> Admission:
    """Two jobs of low priority, ``far`` in a cluster that will be lost, and ``near``, which is older."""
    admission = Admission()
    admission.set_queues([queue("team", cpu=4)], 0.0)
    for number, (uid, name) in enumerate([("near", "east"), ("far", "west")]):
        admission.set_cluster(Candidate(name), declared_capacity(name, [DeclaredNodes(1, {"cpu": 4, "pods": 110})]), 0.0)
        admission.submit(replace(job(uid, "team", cpu=2), rules=Rules(clusters=(name,))), None, 0.0)
        assert decided(admission, float(number)) == [("Admit", uid)]
    return admission


def lose_west(admission: Admission) -> None:
    summary = next(each for each in admission.capacity() if each.cluster == "west")
    admission.set_cluster(Candidate("west", reachable=False, reason="it is silent"), summary, 2.0)


def test_nobody_waits_for_a_victim_that_cannot_be_ended() -> None:
    admission = two_clusters()
    lose_west(admission)
    admission.submit(job("urgent", "team", 3.0, priority=9, cpu=2), None, 3.0)
    assert decided(admission, 3.0) == [("Preempt", "near")]


def test_another_makes_way_when_the_cluster_of_a_victim_is_lost() -> None:
    admission = two_clusters()
    admission.submit(job("urgent", "team", 1.5, priority=9, cpu=2), None, 1.5)
    assert decided(admission, 1.5) == [("Preempt", "far")]
    lose_west(admission)
    assert decided(admission, 31.0) == []  # it may answer again
    assert (admission.next_wake(31.0), admission.undecided) == (32.0, False)
    assert decided(admission, 32.0) == [("Preempt", "near")]
    admission.evicted("near", 33.0)
    assert decided(admission, 33.0) == [("Admit", "urgent")]
    assert admission.over_quota() == []
