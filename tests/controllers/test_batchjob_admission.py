"""What the scheduler's decision means for a job's Pods: the pure plan, with ``status.admission`` in every state."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from raycp.controllers.batchjob.job import Job, JobCluster, JobPlan, RefusedCreate
from raycp.controllers.batchjob.newpod import new_pod
from raycp.controllers.batchjob.plan import plan
from raycp.controllers.batchjob.pods import JobPod, pod_name
from raycp.controllers.batchjob.types import BatchJobSpec
from raycp.sdk import conditions

TEMPLATE = {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "busybox"}]}}
NOW = 1_700_000_000.0
CLUSTERS = [JobCluster(name) for name in ("a", "b", "c")]


class Steps:
    """A job's reconciles, one after the other, over a fleet where each write takes effect at once."""

    def __init__(self, queue: str = "", **fields: Any) -> None:
        self.spec = BatchJobSpec.model_validate({"template": TEMPLATE, **fields})
        self.queue = queue
        self.status: dict[str, Any] = {}
        self.pods: dict[str, JobPod] = {}
        self.now = NOW
        self.events: list[str] = []
        self.hidden: set[str] = set()
        self.draining: set[str] = set()
        self.full: set[str] = set()
        """Clusters that have no node for the Pods."""
        self.refusing: set[str] = set()

    def step(self) -> JobPlan:
        """One reconcile, carried out."""
        self.now += 2.0
        clusters = [
            JobCluster(each.name, visible=each.name not in self.hidden, draining=each.name in self.draining) for each in CLUSTERS
        ]
        seen = [pod for pod in self.pods.values() if pod.cluster not in self.hidden]
        job = Job("uid", self.spec, self.status, 1, queue=self.queue)
        made = plan(job, seen, clusters, self.now)
        wrong = [each for each in made.creates if each.cluster in self.refusing]
        no = [RefusedCreate(each.cluster, each.index, "PodsRefused", "no") for each in wrong]
        if no:
            taken = [each for each in made.creates if each.cluster not in self.refusing]
            made = plan(replace(job, status=made.status, refused=tuple(no)), seen, clusters, self.now)
            made.creates = [*taken, *(each for each in made.creates if each not in taken)]
        self.status = made.status
        self.events += [reason for _, reason, _ in made.events]
        for pod in made.ends:
            del self.pods[pod.name]
        for create in made.creates:
            name = pod_name("j", create.index, create.attempt)
            assert name not in self.pods
            pod = JobPod(create.cluster, name, name, create.index, create.attempt, "Running", True)
            if create.cluster in self.full:
                pod = replace(pod, phase="Pending", ready=False, scheduled=False, unschedulable_since=self.now)
            self.pods[name] = pod
        return made

    def settle(self) -> None:
        """Reconciles until nothing changes any more."""
        for _ in range(10):
            before = (dict(self.status), set(self.pods))
            self.step()
            if before == (self.status, set(self.pods)):
                return
        raise AssertionError("it does not settle")

    def admit(self, **clusters: int) -> None:
        self.status = self.status | {"admission": {"state": "Admitted", "queue": "batch", "clusters": clusters}}

    def where(self) -> dict[str, int]:
        return dict(Counter(pod.cluster for pod in self.pods.values()))

    def condition(self, type: str) -> tuple[str, str]:
        found = conditions.get(self.status["conditions"], type)
        assert found is not None
        return found["status"], found["reason"]


@pytest.mark.parametrize(
    "job",
    [
        Steps(queue="batch", parallelism=3),
        Steps(queue="?", parallelism=3),
        Steps(parallelism=3, queue="", gang={}),
        Steps(parallelism=3, dependsOn=[{"job": "first"}]),
    ],
    ids=["queue of its namespace", "queues not known yet", "gang", "dependsOn"],
)
def test_no_pod_before_the_admission(job: Steps) -> None:
    job.settle()
    assert job.where() == {}
    assert job.status["phase"] == "Queued"
    assert "startTime" not in job.status
    assert job.condition("QuotaReserved") == ("False", "Waiting")
    assert job.condition("Scheduled") == ("False", "Waiting")
    assert job.step().waiting == "quota", "the wait is counted apart"


def test_a_job_without_a_queue_is_placed_at_once() -> None:
    job = Steps(parallelism=3)
    job.step()
    assert sum(job.where().values()) == 3
    assert conditions.get(job.status["conditions"], "Admitted") is None
    assert "admission" not in job.status


def test_pods_run_where_they_are_admitted_and_nowhere_else() -> None:
    job = Steps(queue="batch", parallelism=6, placement={"clusterSelector": {"not": "there"}})
    job.admit(c=2, a=3)
    job.settle()
    assert job.where() == {"a": 3, "c": 2}, "five are admitted; the scheduler has applied the placement"
    assert job.condition("Admitted") == ("True", "Admitted")
    assert job.condition("QuotaReserved")[0] == "True"
    assert job.events.count("Admitted") == 1
    assert job.status["admission"]["clusters"] == {"c": 2, "a": 3}, "the decision is kept as it is"


def test_a_preempted_job_is_held_and_its_counters_stay_exact() -> None:
    job = Steps(queue="batch", parallelism=3, completions=4, completionMode="Indexed")
    job.admit(a=2, b=1)
    job.settle()
    done = next(name for name, pod in job.pods.items() if pod.index == 1)
    job.pods[done] = JobPod(job.pods[done].cluster, done, done, 1, 0, "Succeeded")
    job.settle()
    job.status["admission"] = {"state": "Evicting", "queue": "batch", "reason": "Preempted", "message": "by job x"}
    job.settle()
    assert {pod.phase for pod in job.pods.values()} == {"Succeeded"}
    assert (job.status["succeeded"], job.status["failed"], job.status["active"]) == (1, 0, 0)
    assert not any(entry.get("assigned") for entry in job.status["clusters"]), "so the scheduler knows that nothing is left"
    assert job.condition("Admitted") == ("False", "Preempted")
    assert "startTime" not in job.status
    job.admit(c=3)
    job.settle()
    running = [pod for pod in job.pods.values() if pod.phase == "Running"]
    assert {pod.cluster for pod in running} == {"c"}
    assert sorted(pod.index for pod in running) == [0, 2, 3]
    assert job.status["failed"] == 0


def test_what_is_admitted_less_leaves() -> None:
    job = Steps(queue="batch", parallelism=4)
    job.admit(a=4)
    job.settle()
    job.admit(a=1, b=3)
    job.settle()
    assert job.where() == {"a": 1, "b": 3}
    assert job.status["failed"] == 0


def test_a_drained_cluster_takes_none_of_what_is_admitted_there_and_says_so_to_the_scheduler() -> None:
    """When that has decided, Pods leave some at a time; their number is never more than what was admitted."""
    job = Steps(queue="batch", parallelism=8)
    job.admit(a=8)
    job.settle()
    job.draining = {"a"}
    job.settle()
    assert (job.where(), job.status["limits"]) == ({"a": 8}, {"a": 0}), "they run on until there is a place"
    job.admit(a=2, b=6)
    numbers = []
    for _ in range(12):
        job.step()
        numbers.append(job.where().get("a", 0))
        assert sum(job.where().values()) <= 8
    assert numbers[:4] == [6, 4, 2, 2], "a quarter at a time; the last two have no place"
    assert job.where() == {"a": 2, "b": 6}
    assert (job.status["failed"], job.status["active"], job.status["limits"]) == (0, 8, {"a": 0})
    job.admit(b=8)
    job.settle()
    assert (job.where(), "limits" in job.status) == ({"b": 8}, False)


def test_a_gang_moves_at_once_unless_it_says_otherwise() -> None:
    """Part of it is worth nothing."""
    for placement, left in (({}, 0), ({"maxMoving": 3}, 1)):
        job = Steps(parallelism=4, gang={}, placement=placement)
        job.admit(a=4)
        job.settle()
        job.draining = {"a"}
        job.admit(b=4)
        job.step()
        assert job.where().get("a", 0) == left


def test_what_a_cluster_refuses_is_told_to_the_scheduler_and_no_more_than_that() -> None:
    job = Steps(queue="batch", parallelism=6, completions=20)
    job.admit(a=2, b=4)
    job.refusing = {"b"}
    job.settle()
    assert (job.where(), job.status["limits"]) == ({"a": 2}, {"b": 0})
    assert job.status["clusters"][1]["refusal"]["reason"] == "PodsRefused"
    job.admit(a=6)
    job.settle()
    assert (job.where(), "limits" in job.status) == ({"a": 6}, False)
    job.admit(a=5, b=1)
    job.settle()
    assert job.where() == {"a": 5}
    assert job.status["limits"] == {"b": 0}


def test_a_job_near_its_end_asks_for_no_place_that_it_does_not_need() -> None:
    job = Steps(queue="batch", parallelism=4, completions=4, completionMode="Indexed")
    job.admit(a=2, b=2)
    job.settle()
    for name, pod in list(job.pods.items()):
        if pod.cluster == "b":
            job.pods[name] = replace(pod, phase="Succeeded", ready=False)
    job.refusing = {"b"}
    job.settle()
    assert "limits" not in job.status


def test_pods_that_no_node_takes_are_told_to_the_scheduler_and_stay_until_it_has_decided() -> None:
    job = Steps(queue="batch", parallelism=4)
    job.full = {"b"}
    job.admit(a=2, b=2)
    job.settle()
    assert "limits" not in job.status, "not before they have waited for a while"
    job.now += 61
    job.settle()
    assert (job.where(), job.status["limits"], job.status["unschedulable"]) == ({"a": 2, "b": 2}, {"b": 0}, 2)
    assert next(each for each in job.status["clusters"] if each["name"] == "b")["refusal"]["reason"] == "Unschedulable"
    job.admit(a=2, c=2)
    job.settle()
    assert (job.where(), job.status["failed"]) == ({"a": 2, "c": 2}, 0)
    assert "limits" not in job.status
    assert "unschedulable" not in job.status


def test_an_unreachable_clusters_pods_are_not_given_up() -> None:
    """They are assumed to run: only the loss of the cluster, by the job's own rules, gives them up."""
    job = Steps(queue="batch", parallelism=2)
    job.admit(a=1, b=1)
    job.settle()
    job.hidden = {"a"}
    job.admit(b=2)
    job.settle()
    assert job.where() == {"a": 1, "b": 1}


def test_a_job_that_ran_before_its_namespace_had_a_queue_runs_on() -> None:
    job = Steps(parallelism=2)
    job.settle()
    job.queue = "batch"
    job.settle()
    assert sum(job.where().values()) == 2
    job.status["admission"] = {"state": "Evicting", "queue": "batch", "reason": "Preempted"}
    job.settle()
    assert job.where() == {}, "but it can be preempted"


def test_pods_ask_for_the_nodes_of_their_flavor() -> None:
    spec = BatchJobSpec.model_validate({"template": TEMPLATE})
    made = plan(Job("uid", spec), [], CLUSTERS, NOW)
    template = {"spec": {**TEMPLATE["spec"], "nodeSelector": {"disk": "ssd"}}}
    obj = {
        "metadata": {"name": "j", "namespace": "default", "uid": "uid"},
        "spec": {"template": template},
        "status": {"admission": {"state": "Admitted", "nodeSelector": {"gpu": "a100"}}},
    }
    pod = new_pod(obj, spec, made.creates[0])
    assert pod["spec"]["nodeSelector"] == {"disk": "ssd", "gpu": "a100"}
    assert pod["metadata"]["labels"]["raycp.io/queue"] == ""


def test_no_template_says_that_a_queue_knows_the_room_of_its_pods() -> None:
    """The scheduler subtracts the room of a Pod with that label by its job's record, and this job has none."""
    spec = BatchJobSpec.model_validate({"template": TEMPLATE})
    made = plan(Job("uid", spec), [], CLUSTERS, NOW)
    template = TEMPLATE | {"metadata": {"labels": {"raycp.io/queue": "research", "team": "a"}}}
    obj = {"metadata": {"name": "j", "namespace": "default", "uid": "uid"}, "spec": {"template": template}}
    labels = new_pod(obj, spec, made.creates[0])["metadata"]["labels"]
    assert "raycp.io/queue" not in labels
    assert labels["team"] == "a"
