"""A status that somebody has damaged, and numbers as large as the schema takes: the plan goes on with what can be read."""

import json
import random
from typing import Any

import pytest
from test_batchjob_plan import NOW, TEMPLATE, spec

from raycp.controllers.batchjob.cleanup import cleanup
from raycp.controllers.batchjob.invalidity import UnreadableJob, wind_up
from raycp.controllers.batchjob.job import Create, Job, JobCluster, JobPlan
from raycp.controllers.batchjob.newpod import new_pod
from raycp.controllers.batchjob.plan import plan
from raycp.controllers.batchjob.pods import ATTEMPT, GIVEN_UP, INDEX, TRACKING, read_pod
from raycp.controllers.batchjob.record import JobRecord
from raycp.controllers.batchjob.types import crd
from raycp.sdk import conditions
from raycp.sdk.owner import Ownership

TIMES = ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "soon", ""]
TEXTS = [*TIMES, "0-3000000000", "zero", "5-1", "-1", "é", "x" * 300, "True", "Complete", "not camel!"]
NUMBERS = [-(2**63), -1, 0, 1, 5, 2**31, 2**63 - 1]
INDEXES = ["0", "1", "-1", "two", "9" * 20, "٣"]
TYPES = ["Complete", "Failed", "FailureTarget", "SuccessCriteriaMet", "Suspended", "PodsReady", "PodsReleased", "é", ""]
SPECS: list[dict[str, Any]] = [
    {"completionMode": "Indexed", "completions": 3, "parallelism": 3, "backoffLimitPerIndex": 1},
    {"completions": 3, "parallelism": 2, "ttlSecondsAfterFinished": 3},
    {"activeDeadlineSeconds": 5, "suspend": True},
    {"parallelism": 2, "activeDeadlineSeconds": 2**63 - 1},
]
STATUS = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]


def drawn(schema: dict[str, Any], rng: random.Random, name: str = "") -> Any:
    """A value that the schema takes."""
    kind = schema.get("type")
    if name == "conditions":
        values: list[Any] = [*TEXTS, *NUMBERS, None, {}, [], 1.5, True]
        fields = ("type", "status", "reason", "message", "lastTransitionTime", "observedGeneration")
        made = [{field: rng.choice(values) for field in fields if rng.random() < 0.7} for _ in range(3)]
        return [one | {"type": rng.choice(TYPES), "status": rng.choice(["True", "False", "Maybe"])} for one in made]
    if kind == "object" and "additionalProperties" in schema:
        return {rng.choice(INDEXES): drawn(schema["additionalProperties"], rng) for _ in range(3)}
    if kind == "object":
        fields = schema.get("properties", {})
        needed = schema.get("required", ())
        made = {field: drawn(of, rng, field) for field, of in fields.items() if field in needed or rng.random() < 0.6}
        return made | ({"name": rng.choice("abz")} if "name" in fields else {})
    if kind == "array":
        return [drawn(schema["items"], rng) for _ in range(rng.randint(0, 3))]
    return rng.choice({"integer": NUMBERS, "boolean": [True, False]}.get(kind or "", TEXTS))


def planned(status: dict[str, Any], now: float = NOW, **fields: Any) -> JobPlan:
    return plan(Job("uid", spec(**fields), status, 2), [], [JobCluster("a"), JobCluster("b")], now)


@pytest.mark.parametrize("fields", SPECS, ids=lambda fields: next(iter(fields)))
def test_no_status_that_the_schema_takes_stops_a_job_or_its_deletion(fields: dict[str, Any]) -> None:
    for seed in range(100):
        status = drawn(STATUS, random.Random(seed))
        first = planned(status, **fields)
        assert all(0 <= create.attempt <= 2**31 for create in first.creates), (seed, first.creates)
        assert first.requeue_after is None or first.requeue_after <= 7 * 86_400, seed
        second = planned(first.status, NOW + 1, **fields)
        assert all(condition["lastTransitionTime"] for condition in second.status["conditions"]), seed
        cleanup(status, frozenset(), [], [JobCluster("a")])
        wind_up(UnreadableJob(status, "spec: not readable"), [], [JobCluster("a")], NOW)


@pytest.mark.parametrize(
    "status",
    [
        {"backoff": {"failures": 1, "until": "9999-12-30T00:00:00Z"}},
        {"clusters": [{"name": n, "refusal": {"reason": "PodsRefused", "until": "9999-12-30T00:00:00Z"}} for n in "ab"]},
    ],
    ids=["backoff", "refusal"],
)
def test_a_wait_without_end_is_as_long_as_the_longest_of_its_kind(status: dict[str, Any]) -> None:
    first = planned(status)
    assert first.creates == []
    later = planned(first.status, NOW + 601)
    assert len(later.creates) == 1


def test_a_deadline_is_not_put_off_by_a_start_in_the_future() -> None:
    first = planned({"startTime": "9999-12-30T00:00:00Z"}, activeDeadlineSeconds=5)
    later = planned(first.status, NOW + 6, activeDeadlineSeconds=5)
    assert conditions.is_true(later.status["conditions"], "FailureTarget")


@pytest.mark.parametrize("at", [None, 5, "9999-12-30T00:00:00Z"])
def test_a_finished_job_without_a_readable_time_is_deleted_after_its_time_to_live(at: Any) -> None:
    done = {"type": "Complete", "status": "True", "lastTransitionTime": at}
    first = planned({"conditions": [done]}, ttlSecondsAfterFinished=3)
    assert not first.delete_job
    assert planned(first.status, NOW + 4, ttlSecondsAfterFinished=3).delete_job


def test_a_failure_without_reason_is_one_all_the_same() -> None:
    decided = planned({"conditions": [{"type": "FailureTarget", "status": "True"}]})
    failed = conditions.get(decided.status["conditions"], "Failed")
    assert failed is not None
    assert failed["reason"] == "Unknown"


def test_a_template_made_of_a_pod_of_a_job_gives_no_pod_up() -> None:
    meta = {"annotations": {GIVEN_UP: "true", "note": "y"}, "finalizers": [TRACKING], "labels": {INDEX: "7", ATTEMPT: "3"}}
    obj = {
        "metadata": {"name": "pi", "namespace": "default", "uid": "job-uid"},
        "spec": {"template": TEMPLATE | {"metadata": meta}},
    }
    made = new_pod(obj, spec(), Create("a", 0, 0))
    read = read_pod(obj["metadata"], "a", made, Ownership.MARKED)
    assert read is not None
    assert (read.index, read.attempt, read.given_up) == (0, 0, False)
    assert made["metadata"]["finalizers"] == [TRACKING]
    assert made["metadata"]["annotations"] == {"note": "y"}


@pytest.mark.parametrize(
    "status",
    [
        "Failed",
        5,
        {"phase": "Failed", "conditions": ["Ready"]},
        {"phase": "Failed", "conditions": 5},
        {"phase": "Failed", "containerStatuses": [None]},
        {"phase": "Failed", "containerStatuses": [{"state": "terminated"}]},
        {"phase": "Failed", "containerStatuses": [{"restartCount": "many"}]},
        {"phase": ["Failed"], "initContainerStatuses": [{"state": {"waiting": [1]}}]},
    ],
    ids=str,
)
@pytest.mark.parametrize("deleted", [False, True])
def test_a_pod_whose_status_no_api_server_serves_is_assumed_to_run(status: Any, deleted: bool) -> None:
    meta = {"name": "pi", "namespace": "default", "uid": "job-uid"}
    made = new_pod({"metadata": meta, "spec": {"template": TEMPLATE}}, spec(), Create("a", 0, 0))
    made["spec"] = made["spec"] | {"nodeName": "n"}
    if deleted:
        made["metadata"] |= {"deletionTimestamp": conditions.time_text(NOW + 30), "deletionGracePeriodSeconds": 30}
    pod = read_pod(meta, "a", made | {"status": status}, Ownership.MARKED)
    assert pod is not None
    assert (pod.ended, pod.terminating, pod.overdue(NOW)) == (False, deleted, False)
    assert pod.raw["metadata"]["finalizers"] == [TRACKING], "what is written to it is made of that"
    fields = {"completions": 2, "parallelism": 2, "podReplacementPolicy": "Failed"}
    job = Job("uid", spec(**fields), {"clusters": [{"name": "a", "assigned": "0"}]}, 1)
    decided = plan(job, [pod], [JobCluster("a"), JobCluster("b")], NOW)
    assert [create.index for create in decided.creates] == [1], "the rest of the job goes on"
    assert decided.status["failed"] == 0


def test_a_job_that_can_not_be_read_fails_when_nothing_of_it_can_run() -> None:
    status = {"clusters": [{"name": "a", "assigned": "0", "active": 1}], "succeeded": 1, "completedIndexes": "1"}
    hidden = [JobCluster("a", visible=False)]
    waiting = wind_up(UnreadableJob(status, "spec: ?"), [], hidden, NOW)
    assert [condition["type"] for condition in waiting.status["conditions"]] == ["FailureTarget"]
    assert (waiting.status["active"], waiting.requeue_after) == (1, 15.0)
    over = wind_up(UnreadableJob(waiting.status, "spec: ?", forgotten=frozenset("a")), [], hidden, NOW)
    assert [condition["type"] for condition in over.status["conditions"]] == ["FailureTarget", "Failed"]
    assert (over.status["active"], over.status["completedIndexes"], over.events) == (0, "1", [])


@pytest.mark.parametrize("count", [10_000, 10_001, 100_000])
def test_a_status_of_as_many_failed_indexes_as_there_may_be_is_one_that_a_server_takes(count: int) -> None:
    record = JobRecord()
    for index in range(count):
        record.attempts[index] = record.index_failures[index] = 1 + (index % 7 == 0)
        record.waits[index] = NOW + 10 + index // 2000
        record.assigned[index] = "a"
    record.tally("a")
    status = record.write(1, 0, "Running", indexed=True, limited=True)
    assert len(json.dumps(status)) < 1.4 * 2**20
    again = JobRecord.read(status)
    assert (again.attempts, again.index_failures, again.assigned) == (record.attempts, record.index_failures, record.assigned)
    assert all(0 <= again.waits[index] - at < 1 for index, at in record.waits.items())


def test_sets_of_indexes_that_nobody_could_hold_are_read_up_to_a_bound() -> None:
    read = JobRecord.read({"attempts": {"0-3000000000": 5, "7": 1}, "indexBackoff": {"0-3000000000": "2023-11-15T00:00:00Z"}})
    assert (len(read.attempts), len(read.waits)) == (100_000, 100_000)


@pytest.mark.parametrize(
    ("target", "end", "reason"),
    [
        ("SuccessCriteriaMet", "Complete", "SuccessPolicy"),
        ("FailureTarget", "Failed", "DeadlineExceeded"),
        ("", "Failed", "InvalidSpec"),
    ],
)
def test_what_was_decided_before_a_spec_could_not_be_read_any_more_stands(target: str, end: str, reason: str) -> None:
    decided = [
        {"type": target, "status": "True", "reason": reason, "message": "m", "lastTransitionTime": conditions.time_text(NOW)}
    ]
    status: dict[str, Any] = {"conditions": decided if target else [], "admission": {"state": "Admitted"}}
    found = wind_up(UnreadableJob(status, "no such field"), [], [JobCluster("a")], NOW).status
    true = {each["type"]: each["reason"] for each in found["conditions"] if each["status"] == "True"}
    assert true == {target or "FailureTarget": reason, end: reason}
    assert found["phase"] == end
    assert ("completionTime" in found) == (end == "Complete")
    assert found["admission"] == {"state": "Admitted"}, "the scheduler's"
