"""The counting of BatchJob under all that a fleet does to it: crashes, deletions, refusals, full, drained and tainted clusters, and
clusters that are lost and return, in any order."""

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_batchjob_plan import NOW, World, spec, specs

from raycp.controllers.batchjob.cleanup import cleanup
from raycp.controllers.batchjob.job import Create, Job, JobCluster, RefusedCreate
from raycp.controllers.batchjob.placementtypes import ClusterToleration
from raycp.controllers.batchjob.plan import plan
from raycp.controllers.batchjob.pods import JobPod, pod_name
from raycp.controllers.batchjob.types import BatchJobSpec
from raycp.scheduling.labels import TaintSpec, expelling
from raycp.sdk import conditions

PERMIT = 6.0
TOLERATION = ClusterToleration(key="t", operator="Exists", effect="NoExecute")


class Ground(World):
    """A fleet whose clusters refuse Pods, have no node for them, are drained and tainted. ``refusing``: reason by cluster."""

    def __init__(self, job_spec: BatchJobSpec, names: tuple[str, ...] = ("a", "b", "c")) -> None:
        super().__init__(job_spec, names)
        self.refusing: dict[str, str] = {}
        self.full: set[str] = set()
        self.draining: set[str] = set()
        self.taints: dict[str, tuple[TaintSpec, ...]] = {}
        self.replaced: set[tuple[str, str]] = set()
        """Pods in lost clusters whose index was created elsewhere meanwhile."""

    def clusters(self) -> list[JobCluster]:
        return [
            JobCluster(
                name,
                visible=name not in self.hidden,
                draining=name in self.draining,
                permit=PERMIT,
                taints=self.taints.get(name, ()),
            )
            for name in self.names
        ]

    def expelled(self, name: str) -> bool:
        """Whether a taint there is not tolerated at all."""
        found = expelling(self.taints.get(name, ()), self.spec.placement.tolerated)
        return found is not None and not found[1]

    def reconcile(self, rng: random.Random, crash_after: int | None = None) -> None:
        job, seen, left = Job("uid", self.spec, self.status, 1), self.seen(), crash_after
        decided = plan(job, seen, self.clusters(), self.now)
        creates, others = decided.creates, [("end", pod) for pod in decided.ends] + [("release", pod) for pod in decided.releases]
        for _ in range(8):
            writes: list[tuple[str, Any]] = [("create", create) for create in creates] + others
            rng.shuffle(writes)
            if decided.status != self.status:
                writes.insert(0, ("status", decided))
            refused: list[RefusedCreate] = []
            for kind, what in writes:
                if left is not None:
                    left -= 1
                    if left < 0:
                        return
                if kind == "create" and what.cluster in self.refusing:
                    reason = self.refusing[what.cluster]
                    refused.append(RefusedCreate(what.cluster, what.index, reason, "no", reason == "InvalidTemplate"))
                else:
                    self.write(kind, what, rng)
            self.events += decided.events
            if not refused:
                return
            job = replace(job, status=decided.status, refused=tuple(refused))
            decided = plan(job, seen, self.clusters(), self.now)
            again = {each.index for each in refused}
            creates, others = [create for create in decided.creates if create.index in again], []

    def create(self, create: Create) -> None:
        key = (create.cluster, pod_name("job", create.index, create.attempt))
        if key in self.pods:
            return
        assert create.cluster not in self.draining, f"{create} in a cluster that is drained"
        assert not self.expelled(create.cluster), f"{create} in a cluster with a taint that is not tolerated"
        running = self.in_the_way(create)
        lost = [pod for pod in running if pod.cluster in self.hidden]
        assert not [pod for pod in running if pod not in lost], f"law 1: {create} while {running}"
        if self.spec.placement.on_unreachable == "Wait":
            assert not lost, f"law 4: {create} while {lost} may run"
        self.replaced |= {(pod.cluster, pod.name) for pod in lost}
        assert self.ends.get((create.index, create.attempt)) is None, f"law 1: {create} again after its end"
        self.uids += 1
        made = replace(self.blank(create), uid=f"u{self.uids}")
        self.pods[key] = made if create.cluster not in self.full else replace(made, scheduled=False, unschedulable_since=self.now)

    def blank(self, create: Create) -> JobPod:
        return JobPod(create.cluster, pod_name("job", create.index, create.attempt), "", create.index, create.attempt)

    def reap(self, key: tuple[str, str]) -> None:
        pod = self.pods[key]
        if pod.ends_at is not None and not pod.tracked and not pod.scheduled:
            del self.pods[key]  # no kubelet has it
            if not pod.given_up:
                self.ends[pod.index, pod.attempt] = "Failed"
        else:
            super().reap(key)

    def end(self, key: tuple[str, str], phase: str) -> None:
        if self.pods[key].scheduled:
            super().end(key, phase)

    def make_room(self, name: str) -> None:
        self.full.discard(name)
        for key, pod in self.pods.items():
            if pod.cluster == name:
                self.pods[key] = replace(pod, scheduled=True, unschedulable_since=None)

    def settle(self, rng: random.Random) -> None:
        self.refusing.clear()
        self.draining.clear()
        self.taints.clear()
        for name in list(self.full):
            self.make_room(name)
        super().settle(rng)


@st.composite
def hardy(draw: st.DrawFn) -> BatchJobSpec:
    """Specs that wait for lost clusters or do not."""
    found = draw(specs())
    placement = {
        "on_unreachable": draw(st.sampled_from(["Wait", "Replace"])),
        "unreachable_toleration_seconds": draw(st.sampled_from([0, 20])),
        "unschedulable_toleration_seconds": draw(st.sampled_from([1, 60])),
        "max_moving": draw(st.sampled_from([None, 1, 3])),
        "tolerations": draw(st.sampled_from([[], [TOLERATION], [TOLERATION.model_copy(update={"toleration_seconds": 30})]])),
    }
    return found.model_copy(update={"placement": found.placement.model_copy(update=placement)})


def disturb(world: Ground, rng: random.Random, step: int) -> None:
    """One thing that a fleet, its users or its servers do."""
    keys, name = sorted(world.pods), rng.choice(world.names)
    key = rng.choice(keys) if keys else None
    if step <= 3:
        world.reconcile(rng, crash_after=None if step else rng.randrange(5))
    elif step == 4:
        world.hidden ^= {name}
    elif step == 5:
        world.now += rng.choice([0.1, 3, 30, 300, 3000])
    elif step == 6:
        world.spec = world.spec.model_copy(update={"suspend": not world.spec.suspend})
    elif step == 7:
        if world.refusing.pop(name, None) is None:
            world.refusing[name] = rng.choice(["PodsRefused", "PodNameTaken", "InvalidTemplate"])
    elif step == 8:
        if name in world.full:
            world.make_room(name)
        else:
            world.full.add(name)
    elif step == 9 and rng.random() < 0.5:
        world.draining ^= {name}
    elif step == 9:
        if world.taints.pop(name, None) is None:
            world.taints[name] = (TaintSpec("t", effect=rng.choice(["NoExecute", "NoExecute", "NoSchedule", "PreferNoSchedule"])),)
    elif step == 14:
        world.spec = world.spec.model_copy(update={"parallelism": rng.randrange(6)})
    elif key is not None and step == 10:
        world.delete(key)
    elif key is not None:
        world.end(key, "Succeeded" if rng.random() < 0.6 else "Failed")


@settings(max_examples=600, deadline=None)
@given(hardy(), st.integers(0, 2**32), st.lists(st.integers(0, 14), min_size=5, max_size=60))
def test_every_order_of_loss_refusal_and_return_keeps_the_laws(job_spec: BatchJobSpec, seed: int, steps: list[int]) -> None:
    rng = random.Random(seed)
    world = Ground(job_spec)
    for step in steps:
        disturb(world, rng, step)
    world.spec = world.spec.model_copy(update={"suspend": False, "parallelism": max(1, world.spec.at_once)})
    world.settle(rng)

    status = world.status
    finished = [c for c in ("Complete", "Failed") if conditions.is_true(status["conditions"], c)]
    assert len(finished) == 1, "a job ends, and in one way"
    succeeded = {index for (index, _), phase in world.ends.items() if phase == "Succeeded"}
    if finished == ["Complete"] and job_spec.success_policy is None:
        assert status["succeeded"] >= (1 if job_spec.work_queue else job_spec.size)
    assert status["succeeded"] <= len(succeeded | world.lucky), "counted at most once"
    failures = {pod for pod, phase in world.ends.items() if phase == "Failed"} | world.killed
    assert status["failed"] <= len(failures | world.deleted), "each failure is counted once"
    assert not [pod for pod in world.pods.values() if pod.tracked], "no Pod is held back for ever"
    assert not [pod for pod in world.pods.values() if not pod.ended], "nothing runs on, no Pod is orphaned"
    assert (status.get("active"), status.get("ready")) == (0, 0)
    assert not [entry for entry in status["clusters"] if entry.get("replaced") or entry.get("leaving") or entry.get("lostAt")]
    assert not [entry for entry in status["clusters"] if entry.get("taintedAt")]
    assert not world.replaced & set(world.pods), "what was replaced is deleted"


@settings(max_examples=200, deadline=None)
@given(hardy(), st.integers(0, 2**32), st.lists(st.sampled_from([1, 2, 4, 5, 7, 8, 9, 11, 12, 14]), min_size=5, max_size=50))
def test_without_deletions_and_replacements_each_end_is_counted_exactly_once(
    job_spec: BatchJobSpec, seed: int, steps: list[int]
) -> None:
    rng = random.Random(seed)
    wait = job_spec.placement.model_copy(update={"on_unreachable": "Wait"})
    world = Ground(job_spec.model_copy(update={"placement": wait}))
    for step in steps:
        disturb(world, rng, step)
    world.spec = world.spec.model_copy(update={"parallelism": max(1, world.spec.at_once)})
    world.settle(rng)
    if any(reason == "InvalidTemplate" for _, reason, _ in world.events):
        return  # it may have failed before it ran
    succeeded = {index for (index, _), phase in world.ends.items() if phase == "Succeeded"}
    assert len(succeeded) <= world.status["succeeded"] <= len(succeeded | world.lucky)
    assert world.status["failed"] == sum(phase == "Failed" for phase in world.ends.values()) + len(world.killed)


def decided(world: Ground) -> tuple[Any, ...]:
    found = plan(Job("uid", world.spec, world.status, 1), world.seen(), world.clusters(), world.now)
    return (found.requeue_after, sorted(found.creates, key=str), found.ends, found.releases, found.status)


@settings(max_examples=200, deadline=None)
@given(hardy(), st.integers(0, 2**32), st.lists(st.integers(1, 12), max_size=25), st.floats(0.0, 1.0))
def test_no_decision_changes_by_time_alone_before_the_job_is_requeued(
    job_spec: BatchJobSpec, seed: int, steps: list[int], share: float
) -> None:
    rng = random.Random(seed)
    world = Ground(job_spec)
    for step in steps:
        disturb(world, rng, step)
    for _ in range(60):
        before = (world.status, dict(world.pods))
        world.reconcile(rng)
        if (world.status, world.pods) == before:
            break
    wait, *now = decided(world)
    world.now += (10_000_000.0 if wait is None else wait) * share * 0.999
    assert decided(world)[1:] == tuple(now), f"requeued after {wait}"


def run(world: Ground, rounds: int = 1) -> None:
    for _ in range(rounds):
        world.reconcile(random.Random(1))


def clusters_of(world: Ground) -> dict[int, str]:
    return {pod.index: pod.cluster for pod in world.pods.values() if not pod.ended and pod.ends_at is None}


def entry(world: Ground, name: str) -> dict[str, Any]:
    return next(each for each in world.status["clusters"] if each["name"] == name)


def test_under_replace_lost_pods_run_anew_and_the_old_ones_are_deleted_when_they_return() -> None:
    rules = {"onUnreachable": "Replace", "unreachableTolerationSeconds": 30}
    world = Ground(spec(parallelism=3, completions=3, completionMode="Indexed", placement=rules))
    run(world)
    ((lost, old),) = [key for key in world.pods if key[0] == "b"]
    index = world.pods[lost, old].index
    world.hidden.add("b")
    run(world)
    assert entry(world, "b")["lostAt"]
    world.now += 30 + PERMIT - 1
    run(world)
    assert len(world.pods) == 3, "a write that was under way may still take effect"
    world.now += 2
    run(world, 2)
    (new,) = [pod for pod in world.pods.values() if pod.index == index and pod.cluster != "b"]
    assert (new.attempt, world.status["failed"], world.status["active"]) == (1, 0, 3)
    assert "PodsReplaced" in {reason for _, reason, _ in world.events}
    world.end((lost, old), "Succeeded")
    world.hidden.clear()
    run(world, 2)
    assert world.status["succeeded"] == 0, "the older attempt is not counted"
    assert (lost, old) not in world.pods
    notes = [note for _, reason, note in world.events if reason == "ReplacedPodDeleted"]
    assert len(notes) == 1
    assert old in notes[0]
    world.settle(random.Random(1))
    assert world.status["succeeded"] == 3


def test_under_wait_pods_of_a_lost_cluster_stay_active() -> None:
    world = Ground(spec(parallelism=3, completions=3))
    run(world, 2)
    world.hidden.add("b")
    world.now += 100_000
    run(world, 2)
    assert (len(world.pods), world.status["active"]) == (3, 3)


def test_after_a_cluster_is_forgotten_the_counters_are_those_of_the_living() -> None:
    world = Ground(spec(parallelism=3, completions=3, completionMode="Indexed", placement={"clusters": ["b"]}))
    run(world, 2)
    assert world.status["active"] == 3
    world.hidden.add("b")
    job = Job("uid", world.spec, world.status, 1, frozenset({"b"}))
    found = plan(job, world.seen(), world.clusters(), world.now)
    assert (found.status["active"], found.status["ready"]) == (0, 0)


def test_one_refused_index_goes_elsewhere_and_harms_no_other() -> None:
    world = Ground(spec(parallelism=3, completions=3, completionMode="Indexed", retryBackoff={"initialSeconds": 0}))
    run(world)
    at = {pod.index: key for key, pod in world.pods.items()}
    home = world.pods[at[1]].cluster
    for name in world.names:
        world.refusing[name] = "InvalidTemplate"
    world.end(at[1], "Failed")
    run(world)
    assert not conditions.is_true(world.status["conditions"], "FailureTarget")
    assert sorted(clusters_of(world)) == [0, 2], "healthy Pods run on"
    accepted = conditions.get(world.status["conditions"], "PodsAccepted")
    assert accepted is not None
    assert (accepted["status"], accepted["reason"]) == ("False", "InvalidTemplate")
    del world.refusing[next(name for name in world.names if name != home)]
    world.now += 11
    run(world, 2)
    assert sorted(clusters_of(world)) == [0, 1, 2]
    world.settle(random.Random(1))
    assert world.status["succeeded"] == 3
    assert world.status["failed"] == 1


def test_a_template_that_all_refuse_fails_the_job_and_a_quota_does_not() -> None:
    for reason, fails in (("InvalidTemplate", True), ("PodsRefused", False)):
        world = Ground(spec(parallelism=2, completions=2))
        world.refusing = dict.fromkeys(world.names, reason)
        run(world, 2)
        assert conditions.is_true(world.status["conditions"], "Failed") == fails
    world.now += 5000
    del world.refusing["c"]
    run(world, 3)
    assert set(clusters_of(world).values()) == {"c"}
    assert len(clusters_of(world)) == 2


def test_after_its_backoff_a_cluster_that_refuses_gets_one_pod_to_try() -> None:
    world = Ground(spec(parallelism=4, completions=4, placement={"clusters": ["a"]}))
    world.refusing = {"a": "PodsRefused"}
    tries = []
    for waited in (0, 11, 21, 41):
        world.now += waited
        job = Job("uid", world.spec, world.status, 1)
        tries.append(len(plan(job, world.seen(), world.clusters(), world.now).creates))
        run(world)
    assert tries == [4, 1, 1, 1]
    assert entry(world, "a")["refusal"]["times"] == 4
    assert plan(Job("uid", world.spec, world.status, 1), [], world.clusters(), world.now + 60).creates == []
    assert plan(Job("uid", world.spec, world.status, 2), [], world.clusters(), world.now).creates, "a change of the job is tried"


def test_pods_without_a_node_move_to_a_cluster_that_takes_them() -> None:
    world = Ground(spec(parallelism=2, completions=2, placement={"clusters": ["a", "b"], "strategy": "Pack"}), ("a", "b"))
    world.full.add("a")
    run(world)
    assert set(clusters_of(world).values()) == {"a"}
    world.now += 59
    run(world)
    assert set(clusters_of(world).values()) == {"a"}
    world.now += 2
    run(world, 3)
    assert set(clusters_of(world).values()) == {"b"}
    assert (world.status["failed"], world.status["active"]) == (0, 2)
    assert entry(world, "a")["refusal"]["reason"] == "Unschedulable"


def test_pods_without_a_node_stay_where_no_other_cluster_takes_them() -> None:
    world = Ground(spec(parallelism=2, completions=2, placement={"clusters": ["a"]}))
    world.full.add("a")
    run(world)
    run(world)
    assert conditions.is_true(world.status["conditions"], "Scheduled")
    world.now += 1000
    run(world, 3)
    assert set(clusters_of(world).values()) == {"a"}
    scheduled = conditions.get(world.status["conditions"], "Scheduled")
    assert scheduled is not None
    assert (scheduled["status"], scheduled["reason"]) == ("False", "Unschedulable")
    world.make_room("a")
    run(world)
    assert conditions.is_true(world.status["conditions"], "Scheduled")


def test_a_drained_cluster_is_left_some_pods_at_a_time() -> None:
    world = Ground(spec(parallelism=8, completions=8, placement={"clusters": ["a", "b"], "strategy": "Pack"}), ("a", "b"))
    run(world)
    world.draining.add("a")
    most = 0
    for _ in range(20):
        run(world)
        leaving = [key for key, pod in world.pods.items() if pod.given_up or pod.ends_at is not None]
        most = max(most, len(leaving))
        for key in leaving[:1]:
            if world.pods[key].ends_at is None:
                world.delete(key)
            world.end(key, "Failed")
    assert most == 2, "a quarter of the parallelism"
    assert set(clusters_of(world).values()) == {"b"}
    assert len(clusters_of(world)) == 8
    assert (world.status["failed"], world.status["active"]) == (0, 8)
    assert [entry["name"] for entry in world.status["clusters"]] == ["b"], "nothing of the job is left there"
    world.names = ("b",)
    assert cleanup(world.status, frozenset(), [], world.clusters())[1] == "", "nor does its deletion wait for it"


def test_a_drained_cluster_keeps_its_pods_while_no_other_takes_them() -> None:
    world = Ground(spec(parallelism=2, completions=2), ("a",))
    run(world)
    world.draining.add("a")
    run(world, 3)
    assert len(clusters_of(world)) == 2


EXECUTE, SCHEDULE = TaintSpec("t", effect="NoExecute"), TaintSpec("t")
TAINTED: dict[str, Any] = {"parallelism": 2, "completions": 2}
PACK: dict[str, Any] = {"clusters": ["a", "b"], "strategy": "Pack"}


def all_end(world: Ground) -> None:
    """What was given up is gone."""
    for key in [key for key, pod in world.pods.items() if pod.given_up]:
        world.end(key, "Failed")


@pytest.mark.parametrize("seconds", [None, 0, 30])
def test_pods_leave_a_taint_no_execute_when_it_is_no_longer_tolerated(seconds: int | None) -> None:
    """By the clock of the status: another process goes on with it."""
    tolerations = [TOLERATION.model_copy(update={"toleration_seconds": seconds})] if seconds is not None else []
    world = Ground(spec(**TAINTED, placement={**PACK, "maxMoving": 2, "tolerations": tolerations}), ("a", "b"))
    run(world, 2)
    world.taints["a"] = (EXECUTE,)
    run(world)
    if seconds:
        assert entry(world, "a")["taintedAt"]
        world.now += seconds - 1
        run(world)
        assert set(clusters_of(world).values()) == {"a"}, "it is tolerated so long"
        world.now += 2
    for _ in range(3):
        run(world)
        all_end(world)
    run(world)
    assert set(clusters_of(world).values()) == {"b"}
    assert (world.status["failed"], world.status["active"]) == (0, 2)
    assert any("its taint t:NoExecute is not tolerated" in note for _, reason, note in world.events if reason == "PodsMoved")


def test_nothing_new_is_sent_to_a_taint_that_is_tolerated_for_a_time_only() -> None:
    """It would have to leave again."""
    tolerations = [TOLERATION.model_copy(update={"toleration_seconds": 3600})]
    world = Ground(spec(**TAINTED, retryBackoff={"initialSeconds": 0}, placement={**PACK, "tolerations": tolerations}), ("a", "b"))
    run(world, 2)
    world.taints["a"] = (EXECUTE,)
    world.end(("a", "job-0-0"), "Failed")
    run(world, 2)
    assert clusters_of(world) == {0: "b", 1: "a"}


def test_a_taint_for_ever_tolerated_changes_nothing_and_one_that_goes_starts_no_clock() -> None:
    world = Ground(spec(**TAINTED, placement={**PACK, "tolerations": [TOLERATION]}), ("a", "b"))
    run(world, 2)
    world.taints["a"] = (EXECUTE,)
    world.now += 1000
    run(world, 2)
    assert set(clusters_of(world).values()) == {"a"}
    assert "taintedAt" not in entry(world, "a")
    timed = [TOLERATION.model_copy(update={"toleration_seconds": 30})]
    world.spec = world.spec.model_copy(update={"placement": world.spec.placement.model_copy(update={"tolerations": timed})})
    run(world)
    world.taints.clear()
    run(world)
    assert "taintedAt" not in entry(world, "a")


def test_a_taint_no_schedule_keeps_new_pods_away_and_moves_none() -> None:
    world = Ground(spec(**TAINTED, retryBackoff={"initialSeconds": 0}, placement=PACK), ("a", "b"))
    run(world, 2)
    world.taints["a"] = (SCHEDULE,)
    world.now += 1000
    run(world, 2)
    assert set(clusters_of(world).values()) == {"a"}
    world.end(("a", "job-1-0"), "Failed")
    run(world, 2)
    assert clusters_of(world) == {0: "a", 1: "b"}


@pytest.mark.parametrize("why", ["lost", "forgotten", "refuses", "drained"])
def test_a_job_of_one_cluster_moves_as_a_whole_when_it_has_to(why: str) -> None:
    """Also when some of it has succeeded there already."""
    rules = {"strategy": "Single", "clusters": ["a", "b"], "onUnreachable": "Replace", "unreachableTolerationSeconds": 0}
    world = Ground(spec(parallelism=1, completions=2, completionMode="Indexed", placement=rules), ("a", "b"))
    run(world, 2)
    world.end(("a", "job-0-0"), "Succeeded")
    forgotten = frozenset({"a"} if why == "forgotten" else ())
    if why == "refuses":
        world.refusing["a"] = "PodsRefused"
    run(world)
    if why in ("lost", "forgotten"):
        world.hidden.add("a")
        run(world)
        world.now += PERMIT + 2
    elif why == "drained":
        world.draining.add("a")
    for _ in range(3):
        job = Job("uid", world.spec, world.status, 1, forgotten)
        world.status = plan(job, world.seen(), world.clusters(), world.now).status if forgotten else world.status
        run(world)
        for key, pod in list(world.pods.items()):
            if pod.given_up:
                world.end(key, "Failed")
    assert clusters_of(world)[1] == "b"
    assert (world.status["succeeded"], world.status["failed"]) == (1, 0)


def ended(world: Ground) -> None:
    """Every Pod that was given up ends."""
    run(world)
    for key, pod in list(world.pods.items()):
        if pod.given_up:
            world.end(key, "Failed")
    run(world, 3)


@pytest.mark.parametrize("change", [{"parallelism": 2}, {"suspend": True}, {"parallelism": 0}])
@pytest.mark.parametrize("kind", [{"completions": 12, "completionMode": "Indexed"}, {"completions": 12}, {}])
def test_a_lost_cluster_that_has_no_pod_of_the_job_any_more_holds_nothing(kind: dict[str, Any], change: dict[str, Any]) -> None:
    world = Ground(spec(parallelism=6, **kind), ("a", "b"))
    run(world, 2)
    world.spec = world.spec.model_copy(update=change)
    ended(world)
    assert {entry["name"]: entry["assigned"] for entry in world.status["clusters"] if entry["assigned"]} == (
        {"b": "0,1"} if change == {"parallelism": 2} else {}
    ), "as `raycp drain` reads it"
    world.hidden.add("a")
    before = clusters_of(world)
    run(world, 3)
    assert clusters_of(world) == before, "what runs in the other is left alone"
    assert world.status["active"] == len(before)
    world.spec = world.spec.model_copy(update={"parallelism": 6, "suspend": False})
    run(world, 3)
    assert sorted(clusters_of(world).items()) == [(index, "b") for index in range(6)], "all of it runs where it can"
    assert world.status["failed"] == 0


def test_a_work_queue_that_has_shrunk_is_complete_though_a_cluster_is_lost_that_has_none_of_its_pods() -> None:
    world = Ground(spec(parallelism=4, placement={"clusters": ["a", "b"]}), ("a", "b"))
    run(world, 2)
    world.spec = world.spec.model_copy(update={"parallelism": 2})
    ended(world)
    (lost,) = {"a", "b"} - set(clusters_of(world).values()) or {"b"}
    world.hidden.add(lost)
    for key, pod in list(world.pods.items()):
        if not pod.ended and pod.cluster != lost:
            world.end(key, "Succeeded")
    run(world, 3)
    assert conditions.is_true(world.status["conditions"], "Complete")


def test_a_late_creation_of_an_index_that_has_left_its_cluster_is_removed_and_counts_nothing() -> None:
    world = Ground(spec(parallelism=2, completions=2, completionMode="Indexed"), ("a", "b"))
    run(world, 2)
    at = {pod.index: pod.cluster for pod in world.pods.values()}
    world.spec = world.spec.model_copy(update={"suspend": True})
    ended(world)
    world.create(Create(at[0], 0, 0))
    world.spec = world.spec.model_copy(update={"suspend": False})
    run(world, 2)
    late = [pod for pod in world.pods.values() if pod.attempt == 0]
    assert [pod.given_up for pod in late] == [True]
    world.settle(random.Random(1))
    assert (world.status["succeeded"], world.status["failed"]) == (2, 0)


@pytest.mark.parametrize("strategy", ["Pack", "Spread", "Single"])
@pytest.mark.parametrize("parallelism", [1, 6])
def test_pods_that_fit_nowhere_do_not_go_back_and_forth(strategy: str, parallelism: int) -> None:
    """Each cluster is tried with one Pod, ever more rarely, as after any refusal."""
    placement = {"clusters": ["a", "b"], "strategy": strategy}
    world = Ground(spec(parallelism=parallelism, completions=parallelism, placement=placement), ("a", "b"))
    world.full = {"a", "b"}
    for _ in range(3 * 360):
        run(world)
        world.now += 10
        for key in list(world.pods):
            world.reap(key)
    assert world.uids <= 2 * parallelism + 2 * 3 * 3600 / 300, "two clusters, each tried every 5 minutes at most"
    scheduled = conditions.get(world.status["conditions"], "Scheduled")
    assert scheduled is not None
    assert scheduled["status"] == "False"
    world.make_room("a")
    for _ in range(70):
        run(world, 2)
        world.now += 10
        for key in list(world.pods):
            world.reap(key)
    assert set(clusters_of(world).values()) == {"a"}, "when there is room, all of them use it"
    assert len(clusters_of(world)) == parallelism


def test_a_work_queue_that_has_a_success_ends_none_of_its_pods_when_parallelism_is_lowered() -> None:
    world = Ground(spec(parallelism=4))
    run(world, 2)
    world.end(next(iter(world.pods)), "Succeeded")
    world.spec = world.spec.model_copy(update={"parallelism": 1})
    run(world, 2)
    assert len(clusters_of(world)) == 3


def test_an_elastic_job_that_shrinks_while_a_cluster_is_lost_goes_on_with_what_is_left() -> None:
    """The indexes that it has dropped may run there still: they are nobody's work, and the job is not over before they are gone."""
    world = Ground(spec(parallelism=6, completions=6, completionMode="Indexed"), ("a", "b"))
    run(world, 2)
    at = clusters_of(world)
    assert (at[0], at[1], at[5]) == ("b", "b", "a")
    world.hidden.add("a")
    run(world)
    world.spec = world.spec.model_copy(update={"parallelism": 2, "completions": 2})
    run(world, 2)
    assert {index for index, name in clusters_of(world).items() if name == "b"} == {0, 1}, "wanted, and left alone"
    for key, pod in list(world.pods.items()):
        if pod.cluster == "b":
            world.end(key, "Failed" if pod.given_up else "Succeeded")
    run(world, 2)
    assert conditions.is_true(world.status["conditions"], "SuccessCriteriaMet")
    assert not conditions.is_true(world.status["conditions"], "Complete"), "Pods may run in the other"
    world.settle(random.Random(1))
    assert conditions.is_true(world.status["conditions"], "Complete")
    assert (world.status["succeeded"], world.status["failed"]) == (2, 0)
    assert not [pod for pod in world.pods.values() if not pod.ended]


def test_a_pod_that_was_created_beside_a_refused_one_is_not_taken_for_missing() -> None:
    """Meanwhile the wait of an index that comes first is over, so that its place is another's in the second plan."""
    job_spec = spec(parallelism=2, completions=3, completionMode="Indexed", backoffLimitPerIndex=2)
    waits = {"indexBackoff": {"0": conditions.time_text(NOW + 1)}, "attempts": {"0": 1}, "indexFailures": {"0": 1}}
    clusters = [JobCluster("a"), JobCluster("b")]
    first = plan(Job("uid", job_spec, waits, 1), [], clusters, NOW)
    assert sorted(create.index for create in first.creates) == [1, 2]
    refused = next(create for create in first.creates if create.index == 1)
    said = (RefusedCreate(refused.cluster, 1, "PodsRefused", "no"),)
    second = plan(Job("uid", job_spec, first.status, 1, refused=said), [], clusters, NOW + 2)
    assert sorted(create.index for create in second.creates) == [0, 1]
    assert not [each for each in second.status["clusters"] if each.get("leaving")], "index 2 has a Pod"


@pytest.mark.parametrize("change", [{"suspend": True}, {"queue": "held"}])
def test_no_pods_are_ready_of_a_job_that_is_to_have_none(change: dict[str, Any]) -> None:
    world = Ground(spec(parallelism=2, completions=2), ("a", "b"))
    run(world, 2)
    for key, pod in world.pods.items():
        world.pods[key] = replace(pod, phase="Running", ready=True)
    run(world)
    assert conditions.is_true(world.status["conditions"], "PodsReady")
    world.spec = world.spec.model_copy(update=change)
    for _ in range(3):  # one that is held loses its Pods some at a time
        ended(world)
    assert world.status["active"] == 0
    assert conditions.get(world.status["conditions"], "PodsReady") is None
