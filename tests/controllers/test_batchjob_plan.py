"""The laws of BatchJob: the pure plan against a simulated fleet, with crashes, deletions and unreachable clusters."""

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raycp.controllers.batchjob.cleanup import cleanup
from raycp.controllers.batchjob.indexes import IndexSet
from raycp.controllers.batchjob.job import Create, Job, JobCluster
from raycp.controllers.batchjob.plan import plan
from raycp.controllers.batchjob.pods import JobPod, pod_name
from raycp.controllers.batchjob.reconcile import shown_tier
from raycp.controllers.batchjob.types import BatchJobSpec
from raycp.sdk import conditions

TEMPLATE = {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "busybox"}]}}
NOW = 1_700_000_000.0
IGNORED, FATAL = 7, 42
"""Exit codes of ``POLICY``."""

POLICY = {
    "rules": [
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [FATAL]}},
        {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [IGNORED]}},
    ]
}


def spec(**fields: Any) -> BatchJobSpec:
    return BatchJobSpec.model_validate({"template": TEMPLATE, **fields})


class World:
    """A fleet that holds Pods and a hub that holds a status. Between any two writes the controller may die."""

    def __init__(self, job_spec: BatchJobSpec, names: tuple[str, ...] = ("a", "b", "c")) -> None:
        self.spec = job_spec
        self.names = names
        self.hidden: set[str] = set()
        self.status: dict[str, Any] = {}
        self.pods: dict[tuple[str, str], JobPod] = {}
        self.ends: dict[tuple[int, int], str] = {}
        self.deleted: set[tuple[int, int]] = set()
        """Pods that somebody has deleted: they may count as failed, or end by themselves before that is seen."""
        self.killed: set[tuple[int, int]] = set()
        """Pods that ran when their job had failed: they count as failed, however they end."""
        self.ignored: set[tuple[int, int]] = set()
        """Pods that end as the job's policy says to ignore."""
        self.lucky: set[int] = set()
        """Indexes whose Pod was given up and succeeded all the same: that may count."""
        self.now = NOW
        self.uids = 0
        self.status_writes = 0
        self.events: list[tuple[str, str, str]] = []
        self.settling = False
        """The controller no longer dies."""

    def seen(self) -> list[JobPod]:
        return [pod for pod in self.pods.values() if pod.cluster not in self.hidden]

    def clusters(self) -> list[JobCluster]:
        return [JobCluster(name, visible=name not in self.hidden) for name in self.names]

    def reconcile(self, rng: random.Random, crash_after: int | None = None) -> None:
        job = Job("uid", self.spec, self.status, 1)
        decided = plan(job, self.seen(), self.clusters(), self.now)
        writes: list[tuple[str, Any]] = [("create", create) for create in decided.creates]
        for pod in decided.ends:
            writes.append(("end", pod))
        writes += [("release", pod) for pod in decided.releases]
        rng.shuffle(writes)
        if decided.status != self.status:
            writes.insert(0, ("status", decided))
        for done, (kind, what) in enumerate(writes):
            if crash_after is not None and done >= crash_after:
                return
            self.write(kind, what, rng)
        self.events += decided.events

    def write(self, kind: str, what: Any, rng: random.Random) -> None:
        if kind == "status":
            self.status = what.status
            self.status_writes += 1
            if conditions.is_true(self.status["conditions"], "FailureTarget"):
                self.killed |= {(pod.index, pod.attempt) for pod in what.ends if self.kills(pod)}
        elif kind == "create":
            self.create(what)
        elif kind == "release":
            self.untrack(what)
        elif kind == "end":
            key = (what.cluster, what.name)
            if key in self.pods:
                self.pods[key] = replace(self.pods[key], tracked=False, given_up=True)
                if self.settling or rng.random() < 0.9:  # else the controller dies between the two writes
                    self.delete(key)

    def kills(self, pod: JobPod) -> bool:
        """Whether a failed job that ends this Pod counts it: unless it was given up, or counted, before."""
        return not (pod.ended or pod.given_up or pod.ends_at or (pod.index, pod.attempt) in self.deleted)

    def in_the_way(self, create: Create) -> list[JobPod]:
        """Pods that keep the index from getting another."""
        going = self.spec.replaces_terminating
        found = [pod for pod in self.pods.values() if pod.index == create.index and not pod.ended]
        return [pod for pod in found if not (going and pod.ends_at is not None)]

    def create(self, create: Create) -> None:
        key = (create.cluster, pod_name("job", create.index, create.attempt))
        if key in self.pods:
            return  # AlreadyExists with our owner mark
        running = self.in_the_way(create)
        assert not running, f"law 1: {create} while {running}"
        identity = (create.index, create.attempt)
        assert self.ends.get(identity) is None, f"law 1: {create} again after it ended as {self.ends[identity]}"
        self.uids += 1
        self.pods[key] = JobPod(create.cluster, key[1], f"u{self.uids}", create.index, create.attempt)

    def untrack(self, pod: JobPod) -> None:
        key = (pod.cluster, pod.name)
        if key in self.pods:
            self.pods[key] = replace(self.pods[key], tracked=False)
            self.reap(key)

    def delete(self, key: tuple[str, str]) -> None:
        if not self.pods[key].given_up:
            self.deleted.add((self.pods[key].index, self.pods[key].attempt))
        if self.pods[key].ends_at is None:
            self.pods[key] = replace(self.pods[key], ends_at=self.now + 1)
        self.reap(key)

    def reap(self, key: tuple[str, str]) -> None:
        """An object goes when it is deleted, its containers have ended and no finalizer holds it."""
        pod = self.pods[key]
        if pod.ends_at is not None and not pod.tracked and pod.ended:
            del self.pods[key]

    def end(self, key: tuple[str, str], phase: str, code: int = 0) -> None:
        pod = self.pods[key]
        if not pod.ended:
            if phase == "Failed" and code:
                terminated = {"exitCode": code}
                pod = replace(pod, raw={"status": {"containerStatuses": [{"name": "main", "state": {"terminated": terminated}}]}})
                if code == IGNORED and self.spec.pod_failure_policy is not None:
                    self.ignored.add((pod.index, pod.attempt))
            if pod.given_up:
                if phase == "Succeeded":
                    self.lucky.add(pod.index)
            elif (pod.index, pod.attempt) not in self.killed:
                self.ends[pod.index, pod.attempt] = phase
            self.pods[key] = replace(pod, phase=phase, ready=False)
            self.reap(key)

    def settle(self, rng: random.Random) -> None:
        """Everything comes back into sight, every Pod ends well, and the controller gets all the time it wants."""
        self.hidden.clear()
        self.settling = True
        quiet = 0
        for _ in range(400):
            before = (self.status, dict(self.pods))
            self.reconcile(rng)
            for key in list(self.pods):
                terminating = self.pods[key].ends_at is not None
                self.end(key, "Failed" if terminating else "Succeeded")
            self.now += 700
            quiet = quiet + 1 if (self.status, dict(self.pods)) == before else 0
            if quiet > 1:
                return
        raise AssertionError("it does not come to rest")


@st.composite
def specs(draw: st.DrawFn) -> BatchJobSpec:
    fields: dict[str, Any] = {"backoffLimit": draw(st.sampled_from([0, 2, 1000]))}
    mode = draw(st.sampled_from(["Indexed", "NonIndexed", "queue"]))
    fields["parallelism"] = draw(st.integers(1, 4))
    if mode != "queue":
        fields["completions"] = draw(st.integers(1, 6))
        fields["completionMode"] = mode
    if mode == "Indexed" and draw(st.booleans()):
        fields |= {"backoffLimitPerIndex": draw(st.integers(0, 2)), "backoffLimit": 2**31 - 1}
        fields["successPolicy"] = {"rules": [{"succeededCount": draw(st.integers(1, fields["completions"]))}]}
    if draw(st.integers(0, 3)) == 0:
        fields["podFailurePolicy"] = POLICY
    elif draw(st.booleans()):
        fields["podReplacementPolicy"] = draw(st.sampled_from(["Failed", "TerminatingOrFailed"]))
    if draw(st.integers(0, 3)) == 0:
        fields["activeDeadlineSeconds"] = draw(st.sampled_from([1, 60, 100_000]))
    strategy = draw(st.sampled_from(["Spread", "Pack", "Single"]))
    fields["placement"] = {"strategy": strategy}
    return spec(**fields)


@settings(max_examples=600, deadline=None)
@given(specs(), st.integers(0, 2**32), st.lists(st.integers(0, 9), min_size=5, max_size=60))
def test_every_interleaving_keeps_the_laws(job_spec: BatchJobSpec, seed: int, steps: list[int]) -> None:
    rng = random.Random(seed)
    world = World(job_spec)
    for step in steps:
        keys = sorted(world.pods)
        key = rng.choice(keys) if keys else None
        if step <= 2:
            world.reconcile(rng)
        elif step == 3:
            world.reconcile(rng, crash_after=rng.randrange(4))
        elif step == 4:
            world.hidden ^= {rng.choice(world.names)}
        elif step == 5:
            world.now += rng.choice([0.1, 3, 30, 3000])
        elif step == 6:
            world.spec = world.spec.model_copy(update={"suspend": not world.spec.suspend})
        elif key is not None and step == 7:
            world.delete(key)
        elif key is not None:
            world.end(key, "Succeeded" if rng.random() < 0.6 else "Failed", rng.choice([1, 1, IGNORED, FATAL]))
    world.spec = world.spec.model_copy(update={"suspend": False})
    world.settle(rng)

    status = world.status
    finished = [c for c in ("Complete", "Failed") if conditions.is_true(status["conditions"], c)]
    assert len(finished) == 1, "a job ends, and in one way"
    succeeded = {index for (index, _), phase in world.ends.items() if phase == "Succeeded"}
    if finished == ["Complete"] and job_spec.success_policy is None:
        assert status["succeeded"] >= (1 if job_spec.work_queue else job_spec.size)
    assert status["succeeded"] <= len(succeeded | world.lucky), "counted at most once"
    failures = {pod for pod, phase in world.ends.items() if phase == "Failed" and pod not in world.ignored} | world.killed
    assert len(failures) <= status["failed"] <= len(failures | world.deleted), "each failure is counted once"
    assert not [pod for pod in world.pods.values() if pod.tracked], "no Pod is held back for ever"
    assert not [pod for pod in world.pods.values() if not pod.ended], "nothing runs on"
    assert status.get("active") == 0


@settings(max_examples=100, deadline=None)
@given(specs(), st.integers(0, 2**32), st.integers(0, 30))
def test_without_deletions_each_end_is_counted_exactly_once(job_spec: BatchJobSpec, seed: int, rounds: int) -> None:
    rng = random.Random(seed)
    world = World(job_spec)
    for _ in range(rounds):
        world.reconcile(rng, crash_after=rng.choice([None, None, 0, 1, 2]))
        for key in sorted(world.pods):
            if rng.random() < 0.4 and world.pods[key].ends_at is None:
                world.end(key, "Succeeded" if rng.random() < 0.7 else "Failed", rng.choice([1, 1, IGNORED, FATAL]))
        world.now += 700
    world.settle(rng)
    succeeded = {index for (index, _), phase in world.ends.items() if phase == "Succeeded"}
    assert len(succeeded) <= world.status["succeeded"] <= len(succeeded | world.lucky)
    failures = {pod for pod, phase in world.ends.items() if phase == "Failed" and pod not in world.ignored}
    assert world.status["failed"] == len(failures | world.killed)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(0, 9), min_size=5, max_size=50))
def test_an_elastic_job_keeps_the_laws_however_it_shrinks_and_grows(seed: int, steps: list[int]) -> None:
    rng = random.Random(seed)
    world = World(spec(completionMode="Indexed", completions=3, parallelism=3, backoffLimit=1000))
    for step in steps:
        keys = sorted(world.pods)
        if step <= 2:
            world.reconcile(rng, crash_after=rng.choice([None, 1, 2]))
        elif step == 3:
            size = rng.randint(1, 6)
            world.spec = world.spec.model_copy(update={"completions": size, "parallelism": size})
        elif step == 4:
            world.now += 700
        elif step == 8:
            world.hidden ^= {rng.choice(world.names)}
        elif step == 9:
            world.spec = world.spec.model_copy(update={"suspend": not world.spec.suspend})
        elif keys:
            world.end(rng.choice(keys), "Succeeded" if rng.random() < 0.6 else "Failed")
    world.spec = world.spec.model_copy(update={"suspend": False})
    world.settle(rng)
    status = world.status
    assert conditions.is_true(status["conditions"], "Complete")
    completed = set(IndexSet.read(status["completedIndexes"], 6))
    succeeded = {index for (index, _), phase in world.ends.items() if phase == "Succeeded"}
    assert completed <= succeeded | world.lucky, "nothing counts that did not succeed"
    assert len(completed) == status["succeeded"] > 0
    assert status["failed"] <= sum(phase == "Failed" for phase in world.ends.values())
    assert not [pod for pod in world.pods.values() if pod.tracked or not pod.ended], "nothing is held back or runs on"


def run(world: World, rounds: int = 1) -> None:
    for _ in range(rounds):
        world.reconcile(random.Random(1))


def test_a_steady_job_is_written_once_before_its_pods_exist_and_once_when_they_do() -> None:
    world = World(spec(parallelism=3, completions=3))
    run(world)
    assert world.status_writes == 1
    assert len(world.pods) == 3
    assert world.status["active"] == 0, "they may have been refused"
    run(world, 5)
    assert world.status["active"] == 3
    assert world.status_writes == 2


def test_an_unreachable_cluster_is_no_failure() -> None:
    world = World(spec(parallelism=3, completions=3))
    run(world)
    world.hidden.add("b")
    run(world, 3)
    assert len(world.pods) == 3
    assert world.status["failed"] == 0
    condition = conditions.get(world.status["conditions"], "ClustersReachable")
    assert condition is not None
    assert condition["status"] == "False"
    world.hidden.clear()
    world.settle(random.Random(1))
    assert conditions.is_true(world.status["conditions"], "Complete")
    assert conditions.is_true(world.status["conditions"], "ClustersReachable")


def test_indexes_of_a_forgotten_cluster_are_assigned_anew() -> None:
    world = World(spec(parallelism=3, completions=3, completionMode="Indexed"))
    run(world)
    lost = next(pod for pod in world.pods.values() if pod.cluster == "b")
    world.hidden.add("b")
    job = Job("uid", world.spec, world.status, 1, frozenset({"b"}))
    decided = plan(job, world.seen(), world.clusters(), world.now)
    assert [(c.index, c.attempt) for c in decided.creates] == [(lost.index, 1)]
    assert decided.creates[0].cluster != "b"
    assert decided.status["failed"] == 0


def test_the_backoff_limit_counts_all_clusters_together() -> None:
    world = World(spec(parallelism=4, completions=4, backoffLimit=2))
    run(world)
    for key in sorted(world.pods)[:3]:
        world.end(key, "Failed")
    run(world)
    target = conditions.get(world.status["conditions"], "FailureTarget")
    assert target is not None
    assert target["reason"] == "BackoffLimitExceeded"
    assert not conditions.is_true(world.status["conditions"], "Failed"), "one Pod still runs"
    for key in sorted(world.pods):
        world.end(key, "Failed")
    run(world)
    assert conditions.is_true(world.status["conditions"], "Failed")
    assert world.status["failed"] == 4, "that one too: the Job controller counts what it ends of a failed job"


def test_a_retry_waits_for_its_backoff_and_no_longer() -> None:
    world = World(spec(retryBackoff={"initialSeconds": 10, "maxSeconds": 15}))
    for attempt, wait in enumerate((10, 15, 15)):
        run(world)
        (key,) = [key for key, pod in world.pods.items() if not pod.ended]
        assert world.pods[key].attempt == attempt
        world.end(key, "Failed")
        run(world)
        world.now += wait - 1
        run(world)
        assert all(pod.ended for pod in world.pods.values())
        world.now += 2
    assert world.status["failed"] == 3


def test_suspend_ends_pods_without_counting_them_and_resume_restarts_the_job() -> None:
    world = World(spec(parallelism=2, completions=2))
    run(world)
    world.spec = world.spec.model_copy(update={"suspend": True})
    run(world, 3)
    assert "startTime" not in world.status
    for key in sorted(world.pods):
        world.end(key, "Failed")
    run(world)
    assert world.pods == {}
    assert world.status["failed"] == 0
    world.spec = world.spec.model_copy(update={"suspend": False})
    run(world)
    assert sorted(pod.attempt for pod in world.pods.values()) == [1, 1], "given up, they had left their cluster"
    assert world.status["startTime"]


def test_the_deadline_ends_the_job() -> None:
    world = World(spec(activeDeadlineSeconds=60))
    run(world)
    decided = plan(Job("uid", world.spec, world.status, 1), world.seen(), world.clusters(), world.now)
    assert decided.requeue_after == pytest.approx(60)
    world.now += 61
    run(world, 3)
    (key,) = world.pods
    world.end(key, "Failed")
    run(world)
    failed = conditions.get(world.status["conditions"], "Failed")
    assert failed is not None
    assert failed["reason"] == "DeadlineExceeded"


def test_ttl_deletes_the_finished_job() -> None:
    world = World(spec(ttlSecondsAfterFinished=100))
    run(world)
    (key,) = world.pods
    world.end(key, "Succeeded")
    run(world)
    job = Job("uid", world.spec, world.status, 1)
    decided = plan(job, world.seen(), world.clusters(), world.now)
    assert not decided.delete_job
    assert decided.requeue_after == pytest.approx(100)
    assert plan(job, world.seen(), world.clusters(), world.now + 101).delete_job


def failed_pod(code: int) -> JobPod:
    raw = {"status": {"containerStatuses": [{"name": "main", "state": {"terminated": {"exitCode": code}}}]}}
    return JobPod("a", "job-0-0", "u", 0, 0, phase="Failed", raw=raw)


@pytest.mark.parametrize(
    ("code", "failed", "ending"),
    [(42, 1, "FailureTarget"), (7, 0, None), (1, 1, None)],
)
def test_the_pod_failure_policy_decides_by_exit_code(code: int, failed: int, ending: str | None) -> None:
    policy = {
        "rules": [
            {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}},
            {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [7]}},
        ]
    }
    job = Job("uid", spec(podFailurePolicy=policy), {}, 1)
    decided = plan(job, [failed_pod(code)], [JobCluster("a")], NOW)
    assert decided.status["failed"] == failed
    assert conditions.is_true(decided.status["conditions"], "FailureTarget") == (ending is not None)


def test_success_policy_ends_the_job_before_all_have_succeeded() -> None:
    policy = {"rules": [{"succeededIndexes": "0,2", "succeededCount": 1}]}
    world = World(spec(parallelism=3, completions=3, completionMode="Indexed", successPolicy=policy))
    run(world)
    key = next(key for key, pod in world.pods.items() if pod.index == 2)
    world.end(key, "Succeeded")
    run(world)
    assert conditions.is_true(world.status["conditions"], "SuccessCriteriaMet")
    assert not conditions.is_true(world.status["conditions"], "Complete")
    world.settle(random.Random(1))
    assert conditions.is_true(world.status["conditions"], "Complete")
    assert world.status["succeeded"] == 1


def test_parallelism_bounds_pods_and_can_shrink() -> None:
    world = World(spec(parallelism=4, completions=10))
    run(world)
    assert len(world.pods) == 4
    world.spec = world.spec.model_copy(update={"parallelism": 1})
    run(world)
    going = [pod for pod in world.pods.values() if pod.ends_at is not None or pod.given_up]
    assert len(going) == 3
    run(world)
    for key in sorted(world.pods):
        if world.pods[key].given_up:
            world.end(key, "Failed")
    run(world)
    assert len(world.pods) == 1
    assert world.status["failed"] == 0


def test_an_elastic_job_that_shrinks_and_grows_counts_nothing_twice() -> None:
    world = World(spec(parallelism=3, completions=3, completionMode="Indexed"))
    run(world)
    for key in sorted(world.pods):
        pod = world.pods[key]
        if pod.index:
            world.end(key, "Failed" if pod.index == 2 else "Succeeded")
    run(world)
    assert (world.status["succeeded"], world.status["failed"]) == (1, 1)
    world.spec = world.spec.model_copy(update={"parallelism": 1, "completions": 1})
    run(world, 2)
    assert world.status["succeeded"] == 0
    world.spec = world.spec.model_copy(update={"parallelism": 3, "completions": 3})
    run(world, 2)
    assert (world.status["succeeded"], world.status["failed"]) == (1, 1)
    world.settle(random.Random(1))
    assert conditions.is_true(world.status["conditions"], "Complete")


def test_a_job_that_fits_no_cluster_says_why_and_is_requeued() -> None:
    world = World(spec(placement={"clusters": ["elsewhere"]}))
    job = Job("uid", world.spec, {}, 1)
    decided = plan(job, [], world.clusters(), NOW)
    assert decided.creates == []
    assert decided.waiting == "capacity"
    assert decided.requeue_after is not None
    scheduled = conditions.get(decided.status["conditions"], "Scheduled")
    assert scheduled is not None
    assert scheduled["status"] == "False"
    assert "not among the named clusters" in scheduled["message"]


def test_cleanup_waits_for_unreachable_clusters_unless_forgotten() -> None:
    world = World(spec(parallelism=3, completions=3))
    run(world)
    world.hidden.add("b")
    out, waits = cleanup(world.status, frozenset(), world.seen(), world.clusters())
    assert {pod.cluster for pod in out.ends} == {"a", "c"}
    assert "b" in waits
    out, waits = cleanup(world.status, frozenset({"b"}), [], world.clusters())
    assert waits == ""
    _, waits = cleanup(world.status, frozenset(), [], [each for each in world.clusters() if each.name != "b"])
    assert waits.endswith("not in the fleet any more: annotate it batch.raycp.io/forget-clusters=b to leave them there")


def test_a_long_job_name_makes_valid_and_distinct_pod_names() -> None:
    names = {pod_name("j" * 120, index, attempt) for index in range(20) for attempt in range(3)}
    assert len(names) == 60
    assert all(len(name) <= 63 for name in names)
    assert pod_name("j" * 120, 0, 0) != pod_name("j" * 121, 0, 0)


def test_ten_thousand_indexes_are_planned_fast() -> None:
    import time

    job = Job("uid", spec(parallelism=1000, completions=10_000, completionMode="Indexed"), {}, 1)
    started = time.perf_counter()
    decided = plan(job, [], [JobCluster(f"c{n}") for n in range(50)], NOW)
    assert len(decided.creates) == 1000
    assert time.perf_counter() - started < 1.0


def test_the_tier_that_is_shown_is_the_jobs_own_whatever_lane_a_requeue_goes_through() -> None:
    assert shown_tier("standard", {"spec": {}}) == "standard"
    assert shown_tier("background", {"spec": {}, "status": {"tier": "standard"}}) == "standard"
    assert shown_tier("background", {"spec": {"qosTier": "critical"}, "status": {}}) == "critical"
    assert shown_tier("background", {"spec": {}}) == "background"
