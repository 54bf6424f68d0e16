"""What the scheduler's decision means for a job's Pods: the pure plan, with ``status.admission`` in every state."""

from collections import Counter
from typing import Any

import pytest

from raycp.controllers.batchjob.job import Job, JobCluster, JobPlan
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

    def step(self) -> JobPlan:
        """One reconcile, carried out."""
        self.now += 2.0
        clusters = [JobCluster(each.name, visible=each.name not in self.hidden) for each in CLUSTERS]
        seen = [pod for pod in self.pods.values() if pod.cluster not in self.hidden]
        made = plan(Job("uid", self.spec, self.status, 1, queue=self.queue), seen, clusters, self.now)
        self.status = made.status
        self.events += [reason for _, reason, _ in made.events]
        for pod in made.ends:
            del self.pods[pod.name]
        for create in made.creates:
            name = pod_name("j", create.index, create.attempt)
            assert name not in self.pods
            self.pods[name] = JobPod(create.cluster, name, name, create.index, create.attempt, "Running", True)
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
