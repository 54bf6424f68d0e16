"""Admission by example: quota, fair shares, preemption, reservations, gangs, order between jobs, explanations."""

from collections import Counter

import pytest
from admission_world import World, job, queue
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from raycp.scheduling import explanation
from raycp.scheduling.capacity import DeclaredNodes, declared_capacity
from raycp.scheduling.demand import Dependency
from raycp.scheduling.model import Candidate, Rules
from raycp.scheduling.state import AdmissionState

ONE = {"c1": (1, 10)}


def world(*queues: object, clusters: dict[str, tuple[int, int]] | None = None) -> World:
    return World(list(queues), clusters or ONE)  # type: ignore[arg-type]


def why(w: World, uid: str) -> str:
    found = w.admission.explain(uid, w.now)
    assert found is not None
    return found.reason


def test_without_queues_jobs_run_by_priority_then_time_where_there_is_room() -> None:
    w = world()
    for each in (job("late", 6, created=2.0), job("early", 6, created=1.0), job("urgent", 6, created=3.0, priority=5)):
        w.submit(each)
    assert [each.uid for each in w.decide()] == ["urgent"]
    w.end("urgent")
    assert [each.uid for each in w.decide()] == ["early"]


def test_a_namespace_leads_to_its_queue() -> None:
    w = world(queue("team", 4, namespaces=("ns",)))
    w.submit(job("mine", 2))
    assert w.decide()[0].record.queue == "team"


def test_a_queue_borrows_what_its_cohort_lends_and_no_more() -> None:
    w = world(queue("a", 3, "all", borrowing_limit=4), queue("b", 5, "all", lending_limit=3))
    for number in range(8):
        w.submit(job(f"j{number}", queue="a"))
    w.decide()
    assert len(w.admitted) == 6  # 3 of its own, 3 that b lends
    assert why(w, "j7") in ("WaitingForQuota", "BehindHead", "NotConsidered")
    assert why(w, "j6") == "WaitingForQuota"
    (status,) = [each for each in w.admission.queue_status() if each.name == "a"]
    assert (status.pending, status.admitted, status.usage[0].borrowed) == (2, 6, 3)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([1.0, 2.0, 3.0]), min_size=2, max_size=4), st.integers(1, 3))
def test_queues_get_shares_in_proportion_to_their_weights(weights: list[float], cpu: int) -> None:
    """DRF: with equal jobs, no queue is ahead of another by more than one job, weighted."""
    w = World(
        [queue(f"q{at}", 0, "all", weight=weight) for at, weight in enumerate(weights)] + [queue("lender", 60, "all")],
        {"c1": (60, 1 * cpu)},
    )
    for at in range(len(weights)):
        for number in range(60):
            w.submit(job(f"q{at}-{number}", 1, cpu, queue=f"q{at}"))
    w.decide()
    got = Counter(w.records[uid].queue for uid in w.admitted)
    shares = [got[f"q{at}"] / weight for at, weight in enumerate(weights)]
    assert max(shares) - min(shares) <= max(1 / weight for weight in weights) + 1e-9
    assert sum(got.values()) == 60 // cpu


def test_lent_quota_is_reclaimed_from_the_lowest_priority_then_the_youngest() -> None:
    w = world(queue("a", 5, "all"), queue("b", 5, "all"))
    for number, priority in enumerate([5, 0, 0]):
        w.now = float(number)
        w.submit(job(f"b{number}", 3, queue="b", priority=priority, created=w.now))
        w.decide()
    assert w.admitted == ["b0", "b1", "b2"]
    w.submit(job("a0", 4, queue="a"))
    made = w.decide()
    assert [(each.kind, each.uid, each.by, each.record.reason) for each in made] == [("Preempt", "b2", "a0", "InCohortReclamation")]
    assert why(w, "a0") == "Preempting"
    assert w.decide() == []  # decided once
    w.gone("b2")
    assert [each.uid for each in w.decide()] == ["a0"]
    assert "b2" in w.waiting


def test_within_a_queue_only_lower_priority_is_preempted_and_no_more_than_needed() -> None:
    w = world(queue("a", 10))
    for number, (pods, priority) in enumerate([(2, 1), (3, 1), (5, 3)]):
        w.now = float(number)
        w.submit(job(f"j{number}", pods, queue="a", priority=priority, created=w.now))
        w.decide()
    w.submit(job("same", 5, queue="a", priority=1))
    assert w.decide() == []
    w.submit(job("next", 3, queue="a", priority=2))
    assert [(each.kind, each.uid) for each in w.decide()] == [("Preempt", "j1")]


def test_a_restart_in_the_middle_of_a_preemption_takes_no_further_victim() -> None:
    w = world(queue("a", 10))
    for name in ("x", "y"):
        w.submit(job(name, 5, queue="a"))
    w.decide()
    w.submit(job("big", 5, queue="a", priority=9))
    assert len(w.decide()) == 1
    w.restart()
    assert w.decide() == []
    (victim,) = w.names("Evicting")
    w.gone(victim)
    assert [each.uid for each in w.decide()] == ["big"]


def test_a_large_head_reserves_and_only_jobs_that_end_in_time_pass() -> None:
    w = world(queue("a", 100))
    w.submit(job("runs", 6, queue="a", active_deadline=100.0))
    w.decide()
    w.now = 1.0
    w.submit(job("large", 8, queue="a", created=1.0))
    w.submit(job("endless", 2, queue="a", created=2.0))
    w.submit(job("long", 2, queue="a", created=3.0, active_deadline=200.0))
    w.submit(job("short", 2, queue="a", created=4.0, active_deadline=50.0))
    assert [each.uid for each in w.decide()] == ["short"]
    found = w.admission.explain("large", w.now)
    assert found is not None
    assert (found.position, found.reserved_from, found.reason) == (1, 100.0, "NoRoom")
    w.now = 60.0
    w.end("short")
    w.end("runs")
    assert [each.uid for each in w.decide()] == ["large", "endless"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 30)), min_size=1, max_size=6),
    st.integers(5, 10),
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 40), st.booleans()), max_size=15),
)
def test_backfill_never_delays_the_reservation(
    before: list[tuple[int, int]], head: int, after: list[tuple[int, int, bool]]
) -> None:
    """Jobs last as long as their deadline. The head starts no later with others behind it than alone."""

    def start(others: list[tuple[int, int, bool]]) -> float:
        w = world(queue("a", 100), queue("b", 100), clusters={"c1": (1, 6), "c2": (2, 2)})
        ends: dict[str, float] = {}
        for number, (pods, lasts) in enumerate(before):
            w.submit(job(f"before-{number}", pods, queue="a", priority=9, active_deadline=float(lasts)))
        w.submit(job("head", head, queue="a", priority=9, created=1.0))
        made = w.decide()
        assume(len(made) >= len(before))  # the head is the first that waits
        for number, (pods, lasts, elsewhere) in enumerate(others):
            w.submit(job(f"after-{number}", pods, queue="b" if elsewhere else "a", created=2.0, active_deadline=float(lasts)))
        while "head" not in w.admitted:
            for each in made + w.decide():
                ends[each.uid] = w.now + (w.jobs[each.uid].active_deadline or 0.0)
            made = []
            if "head" in w.admitted:
                break
            w.now = min(ends.values())
            for uid in [uid for uid, end in ends.items() if end <= w.now]:
                del ends[uid]
                w.end(uid)
        return w.now

    assert start(after) <= start([])


def test_a_gang_starts_with_enough_pods_over_all_clusters_or_not_at_all() -> None:
    w = world(clusters={"c1": (1, 3), "c2": (1, 3), "c3": (1, 2)})
    w.submit(job("gang", 12, min_available=9))
    assert w.decide() == []
    assert why(w, "gang") == "NoClusterFit"
    w.submit(job("fits", 12, min_available=8))
    (made,) = w.decide()
    assert made.record.clusters == {"c1": 3, "c2": 3, "c3": 2}


def test_a_gang_in_one_cluster_or_one_zone() -> None:
    w = World([], {"c1": (1, 3), "d1": (1, 3), "c2": (1, 5)})
    w.submit(job("cluster", 5, rules=Rules(topology="SameCluster")))
    assert w.decide()[0].record.clusters == {"c2": 5}
    w.submit(job("zone", 6, rules=Rules(topology="SameZone")))
    assert w.decide()[0].record.clusters == {"c1": 3, "d1": 3}


def test_a_gang_that_is_not_ready_in_time_goes_whole_and_waits_longer_each_time() -> None:
    w = world(queue("a", 10))
    w.submit(job("gang", 4, queue="a", min_available=4, ready_timeout=30.0))
    waits = []
    for _ in range(3):
        (made,) = w.decide()
        assert made.kind == "Admit"
        w.admission.pods("gang", 3, w.now)
        wake = w.admission.next_wake(w.now)
        assert wake == w.now + 30
        w.now += 30
        (made,) = w.decide()
        assert (made.kind, made.record.reason) == ("Evict", "PodsReadyTimeout")
        w.gone("gang")
        assert (w.decide(), why(w, "gang")) == ([], "Backoff")
        waits.append(w.records["gang"].not_before - w.now)
        found = w.admission.explain("gang", w.now)
        assert found is not None
        assert found.message.startswith("PodsReadyTimeout: 4 Pods did not run within 30 s; it is tried again at 1970-01-01T00:")
        w.records["gang"] = replace(w.records["gang"], reason=found.reason, message=found.message)  # as it is told
        w.restart()
        again = w.admission.explain("gang", w.now)
        assert again is not None
        assert again.message == found.message, "another scheduler says the same"
        w.now = w.records["gang"].not_before
    assert waits == [60.0, 120.0, 240.0]


def test_a_restart_gives_a_gang_its_time_again() -> None:
    w = world(queue("a", 10))
    w.submit(job("gang", 4, queue="a", min_available=4, ready_timeout=30.0))
    w.decide()
    w.now = 500.0
    w.restart()
    assert w.decide() == []
    w.admission.pods("gang", 4, w.now)
    w.now = 531.0
    assert w.decide() == []


def test_a_gang_that_falls_below_its_minimum_goes_whole() -> None:
    w = world(queue("a", 10))
    w.submit(job("gang", 4, queue="a", min_available=3))
    w.decide()
    w.admission.pods("gang", 4, w.now)
    w.admission.pods("gang", 3, w.now)
    assert w.decide() == []
    w.admission.pods("gang", 2, w.now)
    assert [(each.kind, each.record.reason) for each in w.decide()] == [("Evict", "GangBroken")]


def test_a_lost_cluster_moves_what_may_move_and_breaks_gangs() -> None:
    w = World([queue("a", 20)], {"c1": (1, 4), "c2": (1, 4), "c3": (1, 4)})
    w.submit(job("gang", 6, queue="a", min_available=6))
    w.submit(job("free", 3, queue="a", created=1.0))
    w.decide()
    lost = next(name for name in w.records["gang"].clusters if name in w.records["free"].clusters)
    w.lost.add(lost)
    w.tell(lost)
    w.admission.cluster_lost(lost, w.now)
    made = {each.uid: each for each in w.decide()}
    assert made["gang"].kind == "Evict"
    assert made["free"].kind == "Move"
    assert lost not in made["free"].record.clusters
    w.gone("gang")
    w.decide()
    assert why(w, "gang") == "NoRoom"
    w.lost.clear()
    w.tell(lost)
    assert [each.uid for each in w.decide()] == ["gang"]


def test_what_many_jobs_wait_for_is_known_without_a_placement(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page of jobs asks it of each row: in the same words as ``explain`` where the job has been considered."""
    w = world(queue("a", 4), queue("held", 4, stop="Hold"), queue("idle", 4))
    for at in range(12):
        w.submit(job(f"j{at:02}", 3 + at % 2, queue="a", created=float(at)))
    w.submit(job("h", queue="held"))
    w.submit(job("d", depends_on=(Dependency("j00"),)))
    w.decide()
    explained = {uid: w.admission.explain(uid, w.now) for uid in w.jobs}
    monkeypatch.setattr(explanation, "attempt", None)
    monkeypatch.setattr(AdmissionState, "place", None)
    assert w.admission.waits("j00") is None, "it is admitted"
    assert w.admission.waits("nobody") is None
    for uid in w.waiting:
        found, told = w.admission.waits(uid), explained[uid]
        assert found is not None
        assert told is not None
        assert (found.position, found.pending) == (told.position, told.pending)
        assert found.reason in (told.reason, "BehindHead")
        assert found.message
    behind = w.admission.waits("j11")
    assert behind is not None
    assert (behind.reason, behind.position, behind.pending) == ("BehindHead", 11, 11)
    assert behind.message == "10 jobs are before it, the first is ns/j01"
    heads = {status.name: status.head for status in w.admission.queue_status()}
    first, held = heads["a"], heads["held"]
    assert first is not None
    assert (first.job, first.reason) == ("ns/j01", "WaitingForQuota")
    assert held is not None
    assert (held.job, held.reason) == ("ns/h", "QueueStopped")
    assert heads["idle"] is None


def test_jobs_wait_for_those_that_they_depend_on() -> None:
    w = world()
    w.submit(job("b", depends_on=(Dependency("a"),)))
    w.submit(job("s", depends_on=(Dependency("a", "Started"),)))
    assert w.decide() == []
    found = w.admission.explain("b", 0.0)
    assert found is not None
    assert found.reason == "DependencyMissing"
    assert found.message.startswith("waits for job ns/a (Complete), which does not exist")
    w.submit(job("a"))
    assert [each.uid for each in w.decide()] == ["a"]
    w.admission.pods("a", 1, w.now)
    assert [each.uid for each in w.decide()] == ["s"]
    w.end("a", "Failed")
    assert (w.decide(), why(w, "b")) == ([], "DependencyFailed")


@pytest.mark.parametrize("first", ["older", "younger"])
def test_gangs_that_a_lost_cluster_sent_back_run_in_order_whichever_is_gone_first(first: str) -> None:
    """The younger one is head of the queue for a moment, and room is kept for it: not any more when the older is back."""
    w = World([queue("q", 100)], {"c-a": (4, 4), "c-b": (2, 8)})
    for at, name in enumerate(("older", "younger", "moves")):
        w.submit(job(name, 8, queue="q", created=float(at), min_available=0 if name == "moves" else 8))
        w.decide()
    w.lost.add("c-a")
    w.tell("c-a")
    w.admission.cluster_lost("c-a", w.now)
    w.decide()
    assert w.names("Evicting") == ["older", "younger"]
    for uid in sorted(w.names("Evicting"), key=lambda each: each != first):
        w.gone(uid)
        w.decide()
    assert w.records["older"].clusters == {"c-b": 8}
    assert w.waiting == ["younger"]


def test_room_that_was_kept_for_a_job_is_free_for_other_queues_when_it_is_deleted() -> None:
    w = World([queue("a", 100), queue("b", 100)], {"c-1": (1, 8)})
    w.submit(job("runs", 5, queue="a"))
    w.decide()
    w.submit(job("large", 8, queue="a", created=1.0))
    w.decide()
    w.submit(job("small", 3, queue="b", created=2.0))
    assert (w.decide(), why(w, "small")) == ([], "NoRoom"), "the rest is kept for the large one"
    w.end("large", "Deleted")
    assert [each.uid for each in w.decide()] == ["small"]


def test_a_preempted_job_does_not_wait_again_for_what_was_fulfilled_and_is_deleted() -> None:
    """Nor does it for another scheduler, which knows the records alone."""
    w = World([queue("q", 4)], {"c-1": (1, 9)})
    w.submit(job("a"))
    w.submit(job("b", 4, queue="q", depends_on=(Dependency("a"),)))
    w.decide()
    w.end("a")
    w.admission.finish("a", "Deleted", w.now)
    assert [each.uid for each in w.decide()] == ["b"]
    assert w.records["b"].fulfilled == ("a/Complete",)
    w.submit(job("urgent", 4, queue="q", priority=5))
    assert [(each.kind, each.uid) for each in w.decide()] == [("Preempt", "b")]
    w.gone("b")
    w.decide()
    w.end("urgent")
    w.restart()
    assert [(each.kind, each.uid) for each in w.decide()] == [("Admit", "b")]


def test_a_cycle_is_refused_by_name_and_ends_when_one_is_deleted() -> None:
    w = world()
    w.submit(job("a", depends_on=(Dependency("b", "Started"),)))
    w.submit(job("b", depends_on=(Dependency("c"),)))
    w.submit(job("c", depends_on=(Dependency("a"),)))
    assert w.decide() == []
    found = w.admission.explain("a", 0.0)
    assert found is not None
    assert found.reason == "DependencyCycle"
    assert "ns/a -> ns/b -> ns/c -> ns/a" in found.message
    w.end("c", "Deleted")
    assert (w.decide(), why(w, "a")) == ([], "DependsOn")


@pytest.mark.parametrize(
    ("demand", "reason"),
    [
        (job("j", 1, queue="nobody"), "NoQueue"),
        (job("j", 1, queue="held"), "QueueStopped"),
        (job("j", 9, queue="small"), "ExceedsMaxQuota"),
        (job("j", 1, 11), "NoClusterFit"),
    ],
)
def test_why_a_job_waits(demand: object, reason: str) -> None:
    w = world(queue("held", 5, stop="Hold"), queue("small", 5))
    w.submit(demand)  # type: ignore[arg-type]
    assert w.decide() == []
    assert why(w, "j") == reason


def test_what_does_not_fit_at_all_is_in_nobodys_way() -> None:
    w = world(queue("a", 20))
    w.submit(job("huge", 1, 11, queue="a", priority=9))
    w.submit(job("small", 1, 1, queue="a"))
    assert [each.uid for each in w.decide()] == ["small"]


def test_what_foreign_pods_leave_no_room_for_is_tried_when_they_go() -> None:
    w = world()
    full = declared_capacity("c1", [DeclaredNodes(1, {"cpu": 10})])
    full.groups[0].bins[0].free = {"cpu": 2, "pods": 110}
    w.admission.set_cluster(Candidate("c1"), full, w.now)
    w.submit(job("j", 5))
    assert (w.decide(), why(w, "j")) == ([], "NoClusterFit")
    w.tell("c1")
    assert [each.uid for each in w.decide()] == ["j"]


def test_each_cluster_has_a_verdict_with_a_score() -> None:
    w = World([queue("a", 20)], {"c1": (1, 4), "c2": (1, 4)})
    w.lost.add("c2")
    w.tell("c2")
    w.submit(job("j", 5, queue="a"))
    w.decide()
    found = w.admission.explain("j", w.now)
    assert found is not None
    verdicts = {each.cluster: each for each in found.clusters}
    assert verdicts["c2"].reason == "Unreachable"
    assert verdicts["c1"].score > 0
    assert found.message.startswith("needs room for 5 Pods, all clusters together have room for 4")


def test_a_withdrawn_decision_is_made_again() -> None:
    w = world(queue("a", 5))
    w.submit(job("j", 5, queue="a"))
    w.decide()
    w.admission.withdraw("j", w.now)
    del w.records["j"]
    assert [each.uid for each in w.decide()] == ["j"]


def test_what_an_admitted_job_has_in_each_cluster_is_explained() -> None:
    w = World([queue("a", 10)], {"c1": (1, 4), "c2": (1, 4), "c3": (1, 4)})
    w.submit(job("j", 5, queue="a", rules=Rules("Pack", clusters=("c1", "c2", "c3"))))
    w.decide()
    found = w.admission.explain("j", w.now)
    assert found is not None
    assert found.message == "Pods by cluster: c1: 4, c2: 1"
    assert [(each.cluster, each.count, each.reason, each.message) for each in found.clusters] == [
        ("c1", 4, "Assigned", "has 4"),
        ("c2", 1, "Assigned", "has 1"),
        ("c3", 0, "NotNeeded", "none of its Pods is here"),
    ]
