"""Pods that can't be where they were admitted are placed anew: the total stays, limits hold, and nothing is taken away twice."""

import random
from typing import Any

import msgspec
from admission_world import World, job, queue
from hypothesis import given, settings
from hypothesis import strategies as st

from raycp.scheduling.admissions import AdmissionRecord
from raycp.scheduling.demand import JobDemand
from raycp.scheduling.labels import TaintSpec
from raycp.scheduling.model import Rules
from raycp.scheduling.relocation import Displacement

PACK = Rules("Pack", ("c-a", "c-b", "c-c"))


def world(**clusters: int) -> World:
    """Clusters ``c-a`` and so on, of one node with that many cores; a queue without limit."""
    return World([queue("q", 1000)], {f"c-{name}": (1, cpu) for name, cpu in clusters.items()})


def admitted(w: World, uid: str, pods: int, rules: Rules = PACK, **fields: Any) -> dict[str, int]:
    w.submit(job(uid, pods, queue="q", rules=rules, **fields))
    w.decide()
    assert w.records[uid].state == "Admitted"
    return w.records[uid].clusters


def close(w: World, name: str, **fields: Any) -> None:
    """Drain or taint it."""
    w.fields[name] = fields
    w.tell(name)


def displace(w: World, uid: str, idle: bool = False, retry_at: float = 0.0, **limits: int) -> None:
    w.admission.displace(uid, Displacement({f"c-{name}": most for name, most in limits.items()}, idle, retry_at))


def test_what_is_beyond_a_limit_moves_as_far_as_there_is_room_and_the_rest_when_there_is() -> None:
    w = world(a=8, b=3)
    assert admitted(w, "j", 6) == {"c-a": 6}
    close(w, "c-a", refusal="it is drained")
    displace(w, "j", a=0)
    (made,) = w.decide()
    assert (made.kind, made.record.clusters) == ("Move", {"c-b": 3, "c-a": 3})
    assert w.decide() == [], "nothing is free: it stays"
    w.clusters["c-c"] = (1, 9)
    w.tell("c-c")
    (made,) = w.decide()
    assert made.record.clusters == {"c-b": 3, "c-c": 3}
    displace(w, "j", a=0)
    assert w.decide() == [], "what was said before takes nothing away twice"


def test_a_limit_is_a_level_so_that_an_old_one_takes_nothing_away_twice() -> None:
    w = world(a=8, b=8)
    admitted(w, "j", 6)
    close(w, "c-a", refusal="it is unschedulable")
    for _ in range(3):
        displace(w, "j", a=4)
        w.decide()
        assert w.records["j"].clusters == {"c-a": 4, "c-b": 2}


def test_what_runs_moves_before_what_waits_is_admitted() -> None:
    w = world(a=4, b=4)
    admitted(w, "j", 4)
    w.submit(job("late", 4, queue="q", rules=PACK, priority=9))
    w.submit(job("later", 4, queue="q", rules=PACK, priority=9))
    close(w, "c-a", refusal="it is drained")
    displace(w, "j", a=0)
    first, *_ = w.decide()
    assert (first.uid, first.record.clusters) == ("j", {"c-b": 4})
    assert w.waiting == ["late", "later"]


def test_pods_that_have_to_be_together_move_all_or_none() -> None:
    for rules, after in (
        (Rules("Single"), {"c-c": 4}),
        (Rules("Pack", topology="SameCluster"), {"c-c": 4}),
    ):
        w = world(a=4, b=3)
        rules = Rules(rules.strategy, ("c-a", "c-b", "c-c"), topology=rules.topology)
        assert admitted(w, "j", 4, rules) == {"c-a": 4}
        close(w, "c-a", refusal="it is drained")
        displace(w, "j", a=0)
        assert w.decide() == [], "three of four would be torn apart"
        w.clusters["c-c"] = (1, 4)
        w.tell("c-c")
        w.decide()
        assert w.records["j"].clusters == after


def test_a_gang_of_one_zone_moves_to_another_as_a_whole() -> None:
    w = World([queue("q", 100)], {"x-a": (1, 2), "y-a": (1, 2), "z-b": (1, 8)})
    rules = Rules(clusters=("x-a", "y-a", "z-b"), topology="SameZone")
    assert admitted(w, "j", 4, rules, min_available=4) == {"x-a": 2, "y-a": 2}
    close(w, "x-a", refusal="it is drained")
    w.admission.displace("j", Displacement({"x-a": 0}))
    (made,) = w.decide()
    assert made.record.clusters == {"z-b": 4}


def test_a_job_of_which_nothing_runs_gives_its_quota_back_and_waits_longer_each_time() -> None:
    w = World([queue("q", 4)], {"c-a": (1, 8)})
    refusing = JobDemand("j", "ns", "j", 0.0, 4, {"cpu": 1}, "q", rules=PACK)
    admitted(w, "j", 4)
    w.submit(job("next", 4, queue="q", created=1.0))
    waits = []
    for _ in range(7):
        w.admission.submit(_refused(refusing, "exceeded quota"), w.records["j"], w.now)
        displace(w, "j", idle=True, retry_at=w.now + 5, a=0)
        (made,) = (each for each in w.decide() if each.uid == "j")
        assert (made.kind, made.record.reason) == ("Evict", "ClustersRefuse")
        assert "exceeded quota" in made.record.message
        w.gone("j")
        waits.append(w.records["j"].not_before - w.now)
        if "next" in w.jobs:
            assert [each.uid for each in w.decide()] == ["next"], "its quota is free"
            w.end("next")
        w.now = w.records["j"].not_before
        w.admission.submit(refusing, None, w.now)
        assert [(each.kind, each.uid) for each in w.decide()] == [("Admit", "j")]
    assert waits == [10, 20, 40, 80, 160, 300, 300]


def test_a_job_of_which_nothing_runs_takes_a_part_of_a_place_and_a_gang_none() -> None:
    for gang, after in ((0, {"c-a": 3, "c-b": 1}), (4, {"c-a": 4})):
        w = world(a=4, b=1)
        admitted(w, "j", 4, min_available=gang)
        w.admission.submit(_refused(w.jobs["j"], "exceeded quota"), w.records["j"], w.now)
        displace(w, "j", idle=True, a=0)
        (made,) = w.decide()
        assert (made.kind, made.record.clusters) == ("Evict" if gang else "Move", after)
        assert w.decide() == [], "before it has said whether that part runs"


def test_a_job_of_which_something_runs_is_not_evicted() -> None:
    w = world(a=8)
    admitted(w, "j", 4)
    w.admission.submit(_refused(w.jobs["j"], "exceeded quota"), w.records["j"], w.now)
    displace(w, "j", a=2)
    assert w.decide() == []


def test_a_refused_cluster_is_refused_for_this_job_only() -> None:
    w = world(a=8, b=8)
    w.submit(_refused(job("j", 4, queue="q", rules=PACK), "exceeded quota"))
    w.submit(job("other", 4, queue="q", rules=PACK))
    w.decide()
    assert (w.records["j"].clusters, w.records["other"].clusters) == ({"c-b": 4}, {"c-a": 4})
    found = w.admission.explain("j", w.now)
    assert found is not None
    assert {each.cluster: (each.reason, each.message) for each in found.clusters}["c-a"] == ("Refused", "exceeded quota")


def test_a_tainted_cluster_is_no_place_to_move_to() -> None:
    w = world(a=4, b=4, c=4)
    admitted(w, "j", 4)
    close(w, "c-b", taints=(TaintSpec("spot"),))
    close(w, "c-a", refusal="it is drained")
    displace(w, "j", a=0)
    w.decide()
    assert w.records["j"].clusters == {"c-c": 4}


def test_room_at_the_new_place_is_kept_until_its_pods_are_seen() -> None:
    """Also where the job was admitted long ago."""
    w = world(a=4, b=4)
    admitted(w, "j", 4)
    w.now += 1000
    w.decide()
    close(w, "c-a", refusal="it is drained")
    displace(w, "j", a=0)
    w.decide()
    w.observed.add("c-b")
    w.tell("c-b")
    w.submit(job("late", 4, queue="q", rules=PACK))
    w.now += 2
    assert w.decide() == []


def _refused(demand: JobDemand, why: str, name: str = "c-a") -> JobDemand:
    return msgspec.structs.replace(demand, refused={name: why})


RULES = [
    Rules(),
    Rules("Pack"),
    Rules("Single"),
    Rules("Weighted", weights={"c-a": 3}),
    Rules(topology="SameCluster"),
    Rules(max_clusters=2),
]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 6), st.sampled_from(RULES)), min_size=1, max_size=6),
    st.integers(0, 2**32),
    st.lists(st.integers(0, 6), min_size=3, max_size=20),
)
def test_in_any_order_of_drains_ends_and_restarts_totals_stay_and_room_holds(
    jobs: list[tuple[int, Rules]], seed: int, steps: list[int]
) -> None:
    rng = random.Random(seed)
    w = world(a=6, b=8, c=4)
    totals: dict[str, int] = {}
    limits: dict[str, dict[str, int]] = {}
    for number, (pods, rules) in enumerate(jobs):
        w.submit(job(f"j{number}", pods, queue="q", rules=rules, created=float(number)))
    for step in steps:
        w.now += 1.0
        before: dict[str, AdmissionRecord] = dict(w.records)
        made = w.decide()  # checks quota and room
        for each in made:
            if each.kind == "Admit":
                totals[each.uid] = sum(each.record.clusters.values())
            elif each.kind == "Move":
                old = before[each.uid].clusters
                assert sum(each.record.clusters.values()) == totals[each.uid], "none is lost, none is added"
                for name, most in limits.get(each.uid, {}).items():
                    assert each.record.clusters.get(name, 0) <= max(most, old.get(name, 0)), "nothing moves to where it may not be"
                if w.jobs[each.uid].rules in (RULES[2], RULES[4]):
                    assert len(each.record.clusters) == 1
        running = [uid for uid in w.admitted if uid in w.jobs]
        if step == 0 and running:
            w.end(rng.choice(running))
        elif step == 1:
            w.restart()
            for uid, asked in limits.items():
                w.admission.displace(uid, Displacement(asked))
        elif step in (2, 3) and running:
            uid = rng.choice(running)
            name = rng.choice(sorted(w.records[uid].clusters))
            drained = _refused(w.jobs[uid], "it refuses", name)
            w.jobs[uid] = drained
            w.admission.submit(drained, w.records[uid], w.now)
            limits[uid] = {name: rng.randrange(w.records[uid].clusters[name])}
            w.admission.displace(uid, Displacement(limits[uid]))
        elif step == 4:
            w.submit(job(f"n{w.now:g}", rng.randrange(1, 5), queue="q", created=w.now))


def test_no_more_move_at_once_than_may_be_written_and_the_rest_follows() -> None:
    w = world(a=8, b=8)
    for uid in ("i", "j", "k"):
        admitted(w, uid, 2)
    close(w, "c-a", refusal="it is drained")
    for uid in ("i", "j", "k"):
        displace(w, uid, a=0)
    made = []
    for _ in range(2):
        made.append(len(w.decide(limit=2)))
        assert w.admission.undecided == (len(made) == 1)
    assert made == [2, 1]
    assert all(w.records[uid].clusters == {"c-b": 2} for uid in ("i", "j", "k"))
