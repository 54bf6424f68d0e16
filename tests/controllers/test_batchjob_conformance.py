"""What the documentation of Job and its controller say, a test a sentence: the pure plan in virtual time. ``docs/batchjob.md`` has
the table."""

import random
from dataclasses import replace
from typing import Any

import pytest
from test_batchjob_plan import TEMPLATE, World, run, spec

from raycp.controllers.batchjob.job import Create, Job, JobCluster, JobPlan
from raycp.controllers.batchjob.newpod import new_pod
from raycp.controllers.batchjob.plan import plan
from raycp.controllers.batchjob.pods import JobPod
from raycp.controllers.batchjob.report import duration_text
from raycp.sdk import conditions

INDEXED = {"completionMode": "Indexed", "completions": 3, "parallelism": 3}
STANDARD = ("Complete", "Failed", "Suspended", "FailureTarget", "SuccessCriteriaMet")


def types(world: World) -> list[str]:
    """The standard conditions that are True, in order."""
    return [c["type"] for c in world.status["conditions"] if c["type"] in STANDARD and c["status"] == "True"]


def reason(world: World, type: str) -> tuple[str, str]:
    found = conditions.get(world.status["conditions"], type)
    assert found is not None, world.status["conditions"]
    return found["reason"], found["message"]


def end_all(world: World, phase: str = "Succeeded", **fields: Any) -> None:
    """End the Pods that run."""
    for key, pod in sorted(world.pods.items()):
        if not pod.ended:
            world.pods[key] = replace(pod, **fields)
            world.end(key, phase)


def going(world: World) -> list[JobPod]:
    return [pod for _, pod in sorted(world.pods.items()) if not pod.ended and pod.ends_at is None]


def key_of(world: World, index: int) -> tuple[str, str]:
    return next(key for key, pod in sorted(world.pods.items()) if pod.index == index and not pod.ended)


def exited(code: int, container: str = "main") -> dict[str, Any]:
    return {"status": {"containerStatuses": [{"name": container, "state": {"terminated": {"exitCode": code}}}]}}


# -- kinds of jobs


def test_a_job_without_numbers_runs_one_pod_to_success() -> None:
    world = World(spec())
    run(world, 2)
    assert (len(world.pods), world.status["active"], world.status["progress"]) == (1, 1, "0/1")
    end_all(world)
    run(world)
    assert types(world) == ["SuccessCriteriaMet", "Complete"]
    assert reason(world, "Complete") == ("CompletionsReached", "Reached expected number of succeeded pods")
    assert (world.status["succeeded"], world.status["active"], world.status["progress"]) == (1, 0, "1/1")
    assert world.status["completionTime"] >= world.status["startTime"]


def test_a_fixed_completion_count_never_runs_more_than_what_is_missing() -> None:
    world = World(spec(completions=5, parallelism=3))
    seen = []
    for _ in range(4):
        run(world, 2)
        seen.append(len(going(world)))
        end_all(world)
    assert seen == [3, 2, 0, 0]
    assert world.status["succeeded"] == 5
    assert "completedIndexes" not in world.status, "a NonIndexed job has none"


def test_a_work_queue_starts_nothing_after_a_success_and_waits_for_the_others() -> None:
    world = World(spec(parallelism=3))
    run(world, 2)
    assert world.status["progress"] == "0/1 of 3"
    world.end(key_of(world, 0), "Succeeded")
    run(world, 2)
    assert len(going(world)) == 2
    assert types(world) == []
    end_all(world, "Failed")
    run(world)
    assert types(world) == ["SuccessCriteriaMet", "Complete"], "a failure after a success is no matter"


def test_parallelism_0_pauses_the_job() -> None:
    world = World(spec(parallelism=0, completions=2))
    run(world, 2)
    assert world.pods == {}
    assert types(world) == []


def test_completions_0_is_complete_at_once() -> None:
    world = World(spec(completions=0))
    run(world)
    assert types(world) == ["SuccessCriteriaMet", "Complete"]


def test_an_indexed_job_completes_when_each_index_has_succeeded_once() -> None:
    world = World(spec(**INDEXED))
    run(world)
    world.end(key_of(world, 0), "Succeeded")
    world.end(key_of(world, 2), "Succeeded")
    run(world)
    assert world.status["completedIndexes"] == "0,2"
    end_all(world)
    run(world)
    assert world.status["completedIndexes"] == "0-2"
    assert types(world) == ["SuccessCriteriaMet", "Complete"]


# -- what a Pod gets

JOB = {
    "metadata": {"name": "pi", "namespace": "default", "uid": "job-uid"},
    "spec": {
        "template": {
            "metadata": {"labels": {"app": "x"}, "annotations": {"note": "y"}, "finalizers": ["acme.io/keep"]},
            "spec": {
                "restartPolicy": "Never",
                "hostname": "mine",
                "initContainers": [{"name": "init", "image": "busybox"}],
                "containers": [
                    {"name": "main", "image": "busybox", "env": [{"name": "A", "value": "1"}]},
                    {"name": "own", "image": "busybox", "env": [{"name": "JOB_COMPLETION_INDEX", "value": "mine"}]},
                ],
            },
        }
    },
}


@pytest.mark.parametrize(("index", "kept"), [(0, True), (99, True), (100, False)])
def test_a_host_name_is_job_and_index_up_to_the_longest_there_is(index: int, kept: bool) -> None:
    """Beyond it, an elastic job has grown: its name was accepted once, and stays."""
    name = "y" * 60
    long = {**JOB, "metadata": JOB["metadata"] | {"name": name}}
    made = new_pod(long, spec(**INDEXED | {"completions": 200}), Create("a", index, 0))
    host = made["spec"]["hostname"]
    assert (host == f"{name}-{index}") == kept
    assert len(host) <= 63


def test_a_pod_has_both_forms_of_the_labels_and_keeps_its_own() -> None:
    pod = new_pod(JOB, spec(), Create("a", 2, 1))
    assert pod["metadata"]["name"] == "pi-2-1"
    labels = {name: value for name, value in pod["metadata"]["labels"].items() if not name.startswith("batch.raycp.io/")}
    assert labels == {
        "app": "x",
        "job-name": "pi",
        "batch.kubernetes.io/job-name": "pi",
        "controller-uid": "job-uid",
        "batch.kubernetes.io/controller-uid": "job-uid",
    }
    assert pod["metadata"]["annotations"] == {"note": "y"}
    assert pod["metadata"]["finalizers"] == ["acme.io/keep", "batch.raycp.io/tracking"]
    assert pod["spec"]["hostname"] == "mine", "a NonIndexed job sets no host name"
    assert pod["spec"]["containers"][0]["env"] == [{"name": "A", "value": "1"}]


def test_an_indexed_pod_knows_its_index_by_label_annotation_env_and_host_name() -> None:
    pod = new_pod(JOB, spec(**INDEXED), Create("a", 2, 0))
    name = "batch.kubernetes.io/job-completion-index"
    assert (pod["metadata"]["labels"][name], pod["metadata"]["annotations"][name]) == ("2", "2")
    assert pod["spec"]["hostname"] == "pi-2"
    source = {"name": "JOB_COMPLETION_INDEX", "valueFrom": {"fieldRef": {"fieldPath": f"metadata.labels['{name}']"}}}
    first, second = pod["spec"]["containers"]
    assert first["env"] == [{"name": "A", "value": "1"}, source]
    assert second["env"] == [{"name": "JOB_COMPLETION_INDEX", "value": "mine"}], "the user's own stays"
    assert pod["spec"]["initContainers"][0]["env"] == [source]
    assert not [key for key in pod["metadata"]["annotations"] if "failure-count" in key]


def test_with_limits_per_index_a_pod_carries_the_failures_of_its_index() -> None:
    limited = spec(**INDEXED, backoffLimitPerIndex=3)
    found = new_pod(JOB, limited, Create("a", 1, 0, 0, 0))["metadata"]["annotations"]
    assert found["batch.kubernetes.io/job-index-failure-count"] == "0"
    assert "batch.kubernetes.io/job-index-ignored-failure-count" not in found
    found = new_pod(JOB, limited, Create("a", 1, 3, 2, 1))["metadata"]["annotations"]
    assert found["batch.kubernetes.io/job-index-failure-count"] == "2"
    assert found["batch.kubernetes.io/job-index-ignored-failure-count"] == "1"


# -- failures and backoff


def next_look(decided: JobPlan) -> float | None:
    """Seconds until the job is requeued."""
    return min((wait for wait in (decided.requeue_after, decided.settles_after) if wait is not None), default=None)


def waits(world: World) -> float:
    """Seconds until the next Pod is created, in virtual time."""
    started, before = world.now, world.uids
    while world.uids == before:
        decided = plan(Job("uid", world.spec, world.status, 1), world.seen(), world.clusters(), world.now)
        assert decided.creates or next_look(decided) is not None, "nothing would wake it"
        run(world)
        if world.uids == before:
            world.now += next_look(decided) or 0.0
        assert world.now - started < 5000
    return world.now - started


def test_the_wait_before_the_next_pod_doubles_to_its_cap() -> None:
    world = World(spec(backoffLimit=20))
    found = []
    run(world)
    for _ in range(8):
        end_all(world, "Failed", ended_at=world.now)
        run(world)
        found.append(round(waits(world)))
    assert found == [10, 20, 40, 80, 160, 320, 600, 600]


def test_failures_together_count_each() -> None:
    world = World(spec(completions=8, parallelism=4, backoffLimit=20))
    run(world)
    for index in range(4):
        world.end(key_of(world, index), "Failed")
    run(world)
    assert world.status["failed"] == 4
    assert round(waits(world)) == 80


def test_the_wait_holds_for_fresh_pods_of_the_job_too() -> None:
    world = World(spec(completions=4, parallelism=1))
    run(world)
    end_all(world, "Failed")
    world.spec = world.spec.model_copy(update={"parallelism": 2})
    run(world, 2)
    assert going(world) == []
    assert round(waits(world)) == 10
    assert len(going(world)) == 2


def test_a_success_begins_a_new_count() -> None:
    world = World(spec(completions=4, parallelism=2, backoffLimit=20))
    run(world)
    for _ in range(2):
        world.end(key_of(world, 0), "Failed")
        run(world)
        waits(world)
    world.end(key_of(world, 1), "Succeeded")
    run(world)
    assert "backoff" not in world.status
    end_all(world, "Failed")
    run(world)
    assert world.status["backoff"]["failures"] == 2


def test_the_wait_is_counted_from_the_end_of_the_pod() -> None:
    world = World(spec())
    run(world)
    ended = world.now
    end_all(world, "Failed", ended_at=ended)
    world.now += 7
    run(world)
    assert round(waits(world)) == 3


def test_a_finish_time_of_the_future_or_before_the_pod_is_not_believed() -> None:
    for lie, wait in ((1e12, 10), (0.0, 10)):
        world = World(spec())
        run(world)
        end_all(world, "Failed", ended_at=lie, created=world.now)
        run(world)
        assert round(waits(world)) == wait


def test_backoff_limit_0_fails_with_the_first_failure() -> None:
    world = World(spec(backoffLimit=0))
    run(world)
    end_all(world, "Failed")
    run(world)
    assert types(world) == ["FailureTarget", "Failed"]
    assert reason(world, "Failed") == ("BackoffLimitExceeded", "Job has reached the specified backoff limit")
    assert (world.status["failed"], "completionTime" in world.status) == (1, False)
    assert ("Warning", *reason(world, "Failed")) in world.events


def test_the_default_backoff_limit_is_6_and_none_with_limits_per_index() -> None:
    assert spec().failure_limit == 6
    assert spec(**INDEXED, backoffLimitPerIndex=1).failure_limit == 2**31 - 1
    assert spec(**INDEXED, backoffLimitPerIndex=1, backoffLimit=2).failure_limit == 2


def test_pods_of_a_failed_job_are_ended_and_count_as_failed() -> None:
    world = World(spec(completions=3, parallelism=3, backoffLimit=0))
    run(world)
    world.end(key_of(world, 0), "Failed")
    run(world)
    assert types(world) == ["FailureTarget"]
    assert (world.status["failed"], world.status["active"], world.status["terminating"]) == (3, 0, 2)
    end_all(world, "Succeeded")
    run(world, 2)
    assert types(world) == ["FailureTarget", "Failed"]
    assert (world.status["failed"], world.status["succeeded"], world.status["terminating"]) == (3, 0, 0)


@pytest.mark.parametrize(("limit", "restarts", "fails"), [(3, 2, False), (3, 3, True), (0, 1, True), (0, 0, False)])
def test_under_on_failure_restarts_of_containers_count(limit: int, restarts: int, fails: bool) -> None:
    template = {"spec": TEMPLATE["spec"] | {"restartPolicy": "OnFailure"}}
    world = World(spec(backoffLimit=limit, template=template))
    run(world)
    key = key_of(world, 0)
    world.pods[key] = replace(world.pods[key], phase="Running", restarts=restarts)
    run(world)
    assert (types(world) == ["FailureTarget"]) == fails


def test_under_never_restarts_do_not_count() -> None:
    world = World(spec(backoffLimit=0))
    run(world)
    key = key_of(world, 0)
    world.pods[key] = replace(world.pods[key], phase="Running", restarts=9)
    run(world)
    assert types(world) == []


# -- limits per index


def test_each_index_backs_off_by_itself() -> None:
    world = World(spec(completionMode="Indexed", completions=8, parallelism=8, backoffLimitPerIndex=3))
    run(world)
    end_all(world, "Failed")
    run(world)
    assert round(waits(world)) == 10
    assert len(going(world)) == 8, "none waits for the failures of others"
    world.end(key_of(world, 3), "Failed")
    run(world)
    assert round(waits(world)) == 20


def test_an_index_fails_when_its_limit_is_exceeded_and_the_others_go_on() -> None:
    world = World(spec(**INDEXED, backoffLimitPerIndex=1))
    run(world)
    assert world.status["failedIndexes"] == ""
    for _ in range(2):
        world.end(key_of(world, 1), "Failed")
        run(world)
        world.now += 30
        run(world)
    assert world.status["failedIndexes"] == "1"
    assert sorted(pod.index for pod in going(world)) == [0, 2]
    assert types(world) == []
    end_all(world)
    run(world)
    assert types(world) == ["FailureTarget", "Failed"]
    assert reason(world, "Failed") == ("FailedIndexes", "Job has failed indexes")
    assert (world.status["completedIndexes"], world.status["failed"]) == ("0,2", 2)


def test_max_failed_indexes_ends_the_job() -> None:
    world = World(spec(**INDEXED, backoffLimitPerIndex=0, maxFailedIndexes=1))
    run(world)
    for index in (0, 1):
        world.end(key_of(world, index), "Failed")
    run(world)
    assert reason(world, "FailureTarget")[0] == "MaxFailedIndexesExceeded"


def test_backoff_limit_holds_beside_limits_per_index() -> None:
    world = World(spec(**INDEXED, backoffLimitPerIndex=5, backoffLimit=1))
    run(world)
    for index in (0, 1):
        world.end(key_of(world, index), "Failed")
    run(world)
    assert reason(world, "FailureTarget")[0] == "BackoffLimitExceeded"


def test_the_next_pod_of_an_index_carries_its_failures() -> None:
    policy = {"rules": [{"action": "Ignore", "onExitCodes": {"operator": "In", "values": [7]}}]}
    world = World(spec(**INDEXED, backoffLimitPerIndex=3, podFailurePolicy=policy))
    run(world)
    for raw in (exited(1), exited(7)):
        key = key_of(world, 0)
        world.pods[key] = replace(world.pods[key], raw=raw)
        world.end(key, "Failed")
        run(world)
        world.now += 100
        decided = plan(Job("uid", world.spec, world.status, 1), world.seen(), world.clusters(), world.now)
        run(world)
    (create,) = decided.creates
    assert (create.index, create.failures, create.ignored) == (0, 1, 1)
    assert world.status["failed"] == 1


# -- pod failure policy


def policy_of(action: str, **rule: Any) -> dict[str, Any]:
    return {"rules": [{"action": action, **rule}]}


def test_fail_job_names_container_and_rule() -> None:
    policy = policy_of("FailJob", onExitCodes={"containerName": "main", "operator": "In", "values": [42]})
    world = World(spec(podFailurePolicy=policy))
    run(world)
    end_all(world, "Failed", raw=exited(42))
    run(world)
    words = "Container main for pod default/job-0-0 failed with exit code 42 matching FailJob rule at index 0"
    assert reason(world, "Failed") == ("PodFailurePolicy", words)


def test_fail_job_by_condition_names_it() -> None:
    world = World(spec(podFailurePolicy=policy_of("FailJob", onPodConditions=[{"type": "ConfigIssue"}])))
    run(world)
    end_all(world, "Failed", raw={"status": {"conditions": [{"type": "ConfigIssue", "status": "True"}]}})
    run(world)
    assert reason(world, "Failed")[1] == "Pod default/job-0-0 has condition ConfigIssue matching FailJob rule at index 0"


def test_ignore_replaces_the_pod_after_a_wait_and_counts_nothing() -> None:
    world = World(spec(backoffLimit=0, podFailurePolicy=policy_of("Ignore", onPodConditions=[{"type": "DisruptionTarget"}])))
    run(world)
    end_all(world, "Failed", raw={"status": {"conditions": [{"type": "DisruptionTarget", "status": "True"}]}})
    run(world)
    assert (world.status["failed"], types(world)) == (0, [])
    assert round(waits(world)) == 10


def test_fail_index_fails_the_index_at_once() -> None:
    policy = policy_of("FailIndex", onExitCodes={"operator": "NotIn", "values": [1, 2]})
    world = World(spec(**INDEXED, backoffLimitPerIndex=9, podFailurePolicy=policy))
    run(world)
    key = key_of(world, 1)
    world.pods[key] = replace(world.pods[key], raw=exited(3))
    world.end(key, "Failed")
    run(world)
    assert world.status["failedIndexes"] == "1"


def test_the_first_rule_that_matches_decides_and_exit_code_0_matches_none() -> None:
    rules = [
        {"action": "Count", "onExitCodes": {"operator": "In", "values": [42]}},
        {"action": "FailJob", "onExitCodes": {"operator": "NotIn", "values": [7]}},
    ]
    for code, fails in ((42, False), (7, False), (0, False), (3, True)):
        world = World(spec(podFailurePolicy={"rules": rules}))
        run(world)
        end_all(world, "Failed", raw=exited(code))
        run(world)
        assert (types(world) == ["FailureTarget", "Failed"]) == fails, code


# -- success policy


@pytest.mark.parametrize(
    ("rule", "done", "met"),
    [
        ({"succeededCount": 2}, [0, 2], True),
        ({"succeededCount": 2}, [0], False),
        ({"succeededIndexes": "0-1"}, [0, 1], True),
        ({"succeededIndexes": "0-1"}, [0, 2], False),
        ({"succeededIndexes": "1-2", "succeededCount": 1}, [2], True),
        ({"succeededIndexes": "1-2", "succeededCount": 1}, [0], False),
    ],
)
def test_a_success_policy_is_met_by_its_indexes_or_their_number(rule: dict[str, Any], done: list[int], met: bool) -> None:
    world = World(spec(**INDEXED, successPolicy={"rules": [{"succeededCount": 3}, rule]}))
    run(world)
    for index in done:
        world.end(key_of(world, index), "Succeeded")
    run(world)
    assert (types(world) == ["SuccessCriteriaMet"]) == met
    if met:
        assert reason(world, "SuccessCriteriaMet") == ("SuccessPolicy", "Matched rules at index 1")
        end_all(world, "Failed")
        run(world, 2)
        assert types(world) == ["SuccessCriteriaMet", "Complete"]
        assert reason(world, "Complete")[0] == "SuccessPolicy"
        assert (world.status["succeeded"], world.status["failed"]) == (len(done), 0), "those that were ended are no failures"


@pytest.mark.parametrize("rule", [{"succeededCount": 0}, {"succeededIndexes": "", "succeededCount": 0}, {"succeededIndexes": ""}])
def test_a_success_policy_is_not_met_before_the_first_success(rule: dict[str, Any]) -> None:
    world = World(spec(**INDEXED, successPolicy={"rules": [rule]}))
    run(world)
    assert (types(world), len(going(world))) == ([], 3)
    world.end(key_of(world, 1), "Succeeded")
    run(world)
    met = "succeededIndexes" not in rule
    assert (types(world) == ["SuccessCriteriaMet"]) == met, "a rule that names no index is never met"


def test_failure_is_judged_before_success() -> None:
    world = World(spec(**INDEXED, backoffLimit=0, successPolicy={"rules": [{"succeededCount": 1}]}))
    run(world)
    world.end(key_of(world, 0), "Succeeded")
    world.end(key_of(world, 1), "Failed")
    run(world)
    assert types(world) == ["FailureTarget"]


# -- replacement


def test_by_default_a_pod_that_is_deleted_counts_as_failed_and_is_replaced_while_it_ends() -> None:
    world = World(spec())
    run(world)
    (key,) = world.pods
    world.delete(key)
    run(world)
    assert (world.status["failed"], world.status["active"], world.status["terminating"]) == (1, 0, 1)
    assert round(waits(world)) == 10
    run(world)
    assert (world.status["active"], world.status["terminating"]) == (1, 1)
    assert sorted(pod.attempt for pod in world.pods.values()) == [0, 1]
    world.end(key, "Failed")
    run(world)
    assert world.status["failed"] == 1, "once"


def test_under_failed_a_pod_is_replaced_when_it_has_ended() -> None:
    for fields in ({"podReplacementPolicy": "Failed"}, {"podFailurePolicy": {"rules": []}}):
        world = World(spec(**fields))
        run(world)
        (key,) = world.pods
        world.delete(key)
        run(world)
        assert (world.status["failed"], world.status["terminating"], len(world.pods)) == (0, 1, 1)
        world.end(key, "Failed")
        run(world)
        assert world.status["failed"] == 1
        assert round(waits(world)) == 10


# -- deadline, suspend, ttl


def test_a_pod_that_a_policy_says_to_ignore_is_no_failure_when_its_job_fails() -> None:
    rules = {"rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}]}
    world = World(spec(**INDEXED, podFailurePolicy=rules, backoffLimit=0))
    run(world)
    world.pods[key_of(world, 1)] = replace(
        world.pods[key_of(world, 1)], raw={"status": {"conditions": [{"type": "DisruptionTarget", "status": "True"}]}}
    )
    world.end(key_of(world, 0), "Failed")
    run(world, 2)
    assert types(world)[0] == "FailureTarget"
    assert world.status["failed"] == 2, "the first, and the one that is not disrupted"


def test_a_deadline_of_0_seconds_is_over_before_a_pod_is_created() -> None:
    world = World(spec(activeDeadlineSeconds=0))
    run(world)
    assert types(world) == ["FailureTarget", "Failed"]
    assert reason(world, "Failed")[0] == "DeadlineExceeded"
    assert (world.pods, world.status["failed"]) == ({}, 0)


def test_a_deadline_ends_a_job_whose_pods_no_node_takes() -> None:
    """The Pods are gone by our own writes, which wake nobody: the job must wake itself."""
    world = World(spec(activeDeadlineSeconds=4))
    run(world)
    (key,) = world.pods
    world.pods[key] = replace(world.pods[key], scheduled=False)
    for _ in range(10):
        decided = plan(Job("uid", world.spec, world.status, 1), world.seen(), world.clusters(), world.now)
        world.reconcile(random.Random(1))
        for gone in [at for at, pod in world.pods.items() if pod.ends_at is not None and not pod.tracked]:
            del world.pods[gone]  # the API server deletes at once what has no node
        if types(world) == ["FailureTarget", "Failed"]:
            break
        wait = next_look(decided)
        assert wait is not None, "stuck"
        world.now += wait
    assert reason(world, "Failed") == ("DeadlineExceeded", "Job was active longer than specified deadline")
    assert (world.status["failed"], world.status["active"]) == (1, 0)


def test_a_suspended_job_has_no_start_time_and_no_pods() -> None:
    world = World(spec(suspend=True, activeDeadlineSeconds=5))
    run(world, 2)
    assert (world.pods, "startTime" in world.status, types(world)) == ({}, False, ["Suspended"])
    assert reason(world, "Suspended") == ("JobSuspended", "Job suspended")
    world.now += 100
    run(world)
    assert types(world) == ["Suspended"], "its deadline does not run"
    world.spec = world.spec.model_copy(update={"suspend": False})
    run(world)
    assert reason(world, "Suspended") == ("JobResumed", "Job resumed")
    assert conditions.parse_time(world.status["startTime"]) == world.now
    assert [event[1:] for event in world.events] == [("Suspended", "Job suspended"), ("Resumed", "Job resumed")]


def test_a_job_that_never_was_suspended_has_no_such_condition() -> None:
    world = World(spec())
    run(world, 2)
    assert conditions.get(world.status["conditions"], "Suspended") is None


def test_suspending_keeps_what_is_done_and_counts_no_failure() -> None:
    world = World(spec(**INDEXED))
    run(world)
    world.end(key_of(world, 0), "Succeeded")
    run(world)
    world.spec = world.spec.model_copy(update={"suspend": True})
    run(world)
    end_all(world, "Failed")
    run(world)
    assert (world.status["completedIndexes"], world.status["failed"], world.status["active"]) == ("0", 0, 0)


def test_a_time_to_live_of_0_deletes_at_once() -> None:
    world = World(spec(ttlSecondsAfterFinished=0))
    run(world)
    end_all(world)
    assert plan(Job("uid", world.spec, world.status, 1), world.seen(), world.clusters(), world.now).delete_job


# -- elastic


def test_an_elastic_job_that_shrinks_drops_the_indexes_above() -> None:
    world = World(spec(**INDEXED))
    run(world)
    world.end(key_of(world, 0), "Succeeded")
    run(world)
    world.spec = world.spec.model_copy(update={"completions": 2, "parallelism": 2})
    run(world, 2)
    assert [pod.index for pod in going(world) if not pod.given_up] == [1]
    end_all(world)
    run(world, 2)
    assert types(world) == ["SuccessCriteriaMet", "Complete"]
    assert (world.status["completedIndexes"], world.status["failed"]) == ("0,1", 0)


# -- status


def test_the_standard_conditions_come_first_with_their_probe_time() -> None:
    world = World(spec())
    run(world)
    end_all(world)
    run(world)
    first, second, *_ = world.status["conditions"]
    assert (first["type"], second["type"]) == ("SuccessCriteriaMet", "Complete")
    assert first["lastProbeTime"] == first["lastTransitionTime"]
    writes = world.status_writes
    run(world, 3)
    assert world.status_writes == writes


def test_active_counts_no_pod_that_is_not_there() -> None:
    job = Job("uid", spec(completions=3, parallelism=3), {}, 1)
    decided = plan(job, [], [JobCluster("a")], 1e9)
    assert (len(decided.creates), decided.status["active"], decided.status["phase"]) == (3, 0, "Pending")
    assert decided.settles_after is not None, "that they exist by now is no event of others"


def test_uncounted_pods_are_none_and_indexes_of_thousands_of_millions_cost_nothing() -> None:
    status = {"completedIndexes": "0-3000000000", "clusters": [{"name": "a", "assigned": "0-3000000000"}], "attempts": {"x": 1}}
    decided = plan(Job("uid", spec(**INDEXED), status, 1), [], [JobCluster("a")], 1e9)
    assert (decided.status["completedIndexes"], decided.status["uncountedTerminatedPods"]) == ("0-2", {})


def test_a_damaged_status_stops_nothing() -> None:
    status = {"completedIndexes": "zero,1", "failedIndexes": "?", "attempts": {"two": 2}, "indexBackoff": {"1": "soon"}}
    decided = plan(Job("uid", spec(**INDEXED, backoffLimitPerIndex=1), status, 1), [], [JobCluster("a")], 1e9)
    assert [create.index for create in decided.creates] == [0, 2]
    assert decided.status["completedIndexes"] == "1"


def test_a_job_of_thousands_of_millions_of_completions_is_planned_like_any_other() -> None:
    job = Job("uid", spec(completions=2**31 - 1, parallelism=4), {"completedSlots": "0-1999999999"}, 1)
    decided = plan(job, [], [JobCluster("a")], 1e9)
    assert [create.index for create in decided.creates] == [2_000_000_000 + n for n in range(4)]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (125, "2m5s"),
        (600, "10m"),
        (10799, "179m"),
        (10800, "3h"),
        (3 * 3600 + 60, "3h1m"),
        (8 * 3600 + 60, "8h"),
        (48 * 3600, "2d"),
        (49 * 3600, "2d1h"),
        (8 * 86400 + 3600, "8d"),
    ],
)
def test_durations_are_written_as_kubectl_writes_them(seconds: int, text: str) -> None:
    assert duration_text(seconds) == text


def test_the_duration_of_a_finished_job_stays() -> None:
    world = World(spec())
    run(world)
    world.now += 42
    end_all(world)
    run(world)
    assert world.status["duration"] == "42s"
    world.now += 1000
    run(world)
    assert world.status["duration"] == "42s"
