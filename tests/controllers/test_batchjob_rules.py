"""The rules of a job's spec: the CRD on the embedded API server and the controller's own check, against the same inputs."""

import copy
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from live_fleet import LiveFleet

from raycp.controllers.batchjob.specs import InvalidSpec, read_spec, update_problems
from raycp.controllers.batchjob.types import crd
from raycp.kube import ApiError

INDEXED: dict[str, Any] = {"completionMode": "Indexed", "completions": 5, "parallelism": 5}
PER_INDEX = INDEXED | {"backoffLimitPerIndex": 1}


def template(**pod: Any) -> dict[str, Any]:
    return {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "busybox"}], **pod}}


def labelled(**labels: str) -> dict[str, Any]:
    return template() | {"metadata": {"labels": labels}}


def job(spec: dict[str, Any], name: str = "pi") -> dict[str, Any]:
    return {
        "apiVersion": "batch.raycp.io/v1alpha1",
        "kind": "BatchJob",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"template": template(), **copy.deepcopy(spec)},
    }


def exit_rule(action: str = "FailJob", **codes: Any) -> dict[str, Any]:
    return {"rules": [{"action": action, "onExitCodes": {"operator": "In", "values": [42], **codes}}]}


def success(**rule: Any) -> dict[str, Any]:
    return INDEXED | {"successPolicy": {"rules": [rule]}}


def placed(**placement: Any) -> dict[str, Any]:
    return {"placement": placement}


def expression(operator: str, *values: str) -> dict[str, Any]:
    return {"matchExpressions": [{"key": "zone", "operator": operator, **({"values": list(values)} if values else {})}]}


PLACEMENT: dict[str, Any] = {
    "clusters": ["east-1", "west-1"],
    "clusterSelector": {"gpu": "a100"},
    "affinities": [
        {"name": "near", "labelSelector": {"matchLabels": {"region": "east"}, **expression("In", "a", "b")}},
        {"name": "far", "clusters": ["west-1"], "labelSelector": expression("DoesNotExist")},
    ],
    "preferences": [{"weight": 50, "preference": expression("Exists")}, {"weight": -1, "preference": {"matchLabels": {"a": "b"}}}],
    "tolerations": [
        {"operator": "Exists"},
        {"key": "spot", "value": "true"},
        {"key": "spot", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60},
    ],
    "topologySpreadConstraints": [
        {"topologyKey": "zone", "maxSkew": 2},
        {"topologyKey": "region", "whenUnsatisfiable": "ScheduleAnyway"},
    ],
    "cost": {"weight": 20, "label": "price"},
    "strategy": "Weighted",
    "weights": {"east-1": 3, "west-1": 0},
}


GOOD: list[dict[str, Any]] = [
    {"placement": PLACEMENT},
    placed(),
    placed(affinities=[{"name": f"g{n}", "clusters": ["a"]} for n in range(16)]),
    {},
    {"parallelism": 0},
    {"completions": 0},
    {"completions": 3_000_000, "parallelism": 100_000},
    {"backoffLimit": 0, "activeDeadlineSeconds": 0, "ttlSecondsAfterFinished": 0, "suspend": True},
    INDEXED | {"completions": 0},
    PER_INDEX | {"maxFailedIndexes": 5, "backoffLimit": 3},
    {"queue": "batch", "priority": -5, "dependsOn": [{"job": "first"}, {"job": "second", "condition": "Started"}]},
    {"parallelism": 8, "gang": {"minAvailable": 8, "topology": "SameZone", "timeoutSeconds": 60}, "priorityClassName": "high"},
    {"parallelism": 8, "gang": {}},
    PER_INDEX | {"podFailurePolicy": exit_rule("FailIndex", containerName="main")},
    {"podFailurePolicy": exit_rule(operator="NotIn", values=[0, 1]), "podReplacementPolicy": "Failed"},
    {"podFailurePolicy": {"rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}]}},
    {"podFailurePolicy": {"rules": []}},
    {"podReplacementPolicy": "TerminatingOrFailed"},
    success(succeededIndexes="0-2,4", succeededCount=3),
    success(succeededIndexes=""),
    success(succeededCount=0),
    {"managedBy": "acme.io/foo"},
    {"managedBy": "kubernetes.io/job-controller"},
    {"manualSelector": True, "selector": {"matchLabels": {"a": "b"}}, "template": labelled(a="b", c="d")},
    {
        "manualSelector": True,
        "selector": {
            "matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}, {"key": "c", "operator": "DoesNotExist"}]
        },
        "template": labelled(a="b"),
    },
    dict.fromkeys(
        (
            "parallelism",
            "backoffLimitPerIndex",
            "maxFailedIndexes",
            "selector",
            "podFailurePolicy",
            "managedBy",
            "suspend",
            "completionMode",
        )
    ),
    {"template": template(restartPolicy="OnFailure", nodeSelector={"a": "b"}, hostPID=True, unknownField={"kept": 1})},
]

BAD: list[tuple[dict[str, Any], str]] = [
    (placed(strategy="Random"), "spec.placement.strategy"),
    (placed(weights={"a": -1}), "spec.placement.weights"),
    (placed(clusters=["a"] * 1001), "spec.placement.clusters"),
    (placed(affinities=[{"clusters": ["a"]}]), "spec.placement.affinities[0].name"),
    (placed(affinities=[{"name": "a"}]), "spec.placement.affinities[0]"),
    (placed(affinities=[{"name": "a", "clusters": ["a"]}] * 2), "spec.placement.affinities"),
    (placed(affinities=[{"name": f"g{n}", "clusters": ["a"]} for n in range(17)]), "spec.placement.affinities"),
    (placed(affinities=[{"name": "a", "labelSelector": expression("In")}]), "spec.placement.affinities[0].labelSelector"),
    (placed(affinities=[{"name": "a", "labelSelector": expression("Exists", "x")}]), "spec.placement.affinities[0].labelSelector"),
    (placed(affinities=[{"name": "a", "labelSelector": expression("Like", "x")}]), "spec.placement.affinities[0].labelSelector"),
    (placed(preferences=[{"weight": 101, "preference": expression("Exists")}]), "spec.placement.preferences[0].weight"),
    (placed(preferences=[{"weight": 0, "preference": expression("Exists")}]), "spec.placement.preferences[0].weight"),
    (placed(preferences=[{"weight": 1, "preference": {}}]), "spec.placement.preferences[0].preference"),
    (placed(preferences=[{"weight": 1, "preference": expression("NotIn")}]), "spec.placement.preferences[0].preference"),
    (placed(tolerations=[{"value": "x"}]), "spec.placement.tolerations[0].operator"),
    (placed(tolerations=[{"key": "a", "operator": "Exists", "value": "x"}]), "spec.placement.tolerations[0].value"),
    (placed(tolerations=[{"key": "a", "tolerationSeconds": 5}]), "spec.placement.tolerations[0].effect"),
    (placed(tolerations=[{"key": "a", "effect": "NoExecute", "tolerationSeconds": -5}]), "spec.placement.tolerations[0]"),
    (placed(tolerations=[{"key": "a", "effect": "Never"}]), "spec.placement.tolerations[0].effect"),
    (placed(topologySpreadConstraints=[{"topologyKey": "rack"}]), "spec.placement.topologySpreadConstraints[0].topologyKey"),
    (placed(topologySpreadConstraints=[{"topologyKey": "zone", "maxSkew": 0}]), "spec.placement.topologySpreadConstraints[0]"),
    (placed(topologySpreadConstraints=[{"topologyKey": "zone"}] * 2), "spec.placement.topologySpreadConstraints"),
    (placed(topologySpreadConstraints=[{"topologyKey": "zone"}], strategy="Single"), "spec.placement.topologySpreadConstraints"),
    (placed(cost={"weight": 0}), "spec.placement.cost.weight"),
    (placed(cost={"label": "price"}), "spec.placement.cost.weight"),
    (
        {"manualSelector": True, "selector": {"matchExpressions": [{"key": "a", "operator": "In"}]}, "template": labelled(a="b")},
        "spec.selector.matchExpressions[0].values",
    ),
    ({"queue": "Not A Name"}, "spec.queue"),
    ({"queue": ""}, "spec.queue"),
    ({"priority": 2_000_000_000}, "spec.priority"),
    ({"priority": 1, "priorityClassName": "high"}, "spec.priority"),
    ({"parallelism": 3, "gang": {"minAvailable": 4}}, "spec.gang.minAvailable"),
    ({"gang": {"minAvailable": 2}}, "spec.gang.minAvailable"),
    ({"gang": {"topology": "SameRack"}}, "spec.gang.topology"),
    ({"gang": {"timeoutSeconds": 0}}, "spec.gang.timeoutSeconds"),
    ({"dependsOn": [{"job": "first", "condition": "Done"}]}, "spec.dependsOn[0].condition"),
    ({"dependsOn": [{"job": ""}]}, "spec.dependsOn[0].job"),
    ({"parallelism": -1}, "spec.parallelism"),
    ({"completions": -1}, "spec.completions"),
    ({"backoffLimit": -1}, "spec.backoffLimit"),
    ({"activeDeadlineSeconds": -1}, "spec.activeDeadlineSeconds"),
    ({"ttlSecondsAfterFinished": -1}, "spec.ttlSecondsAfterFinished"),
    (PER_INDEX | {"backoffLimitPerIndex": -1}, "spec.backoffLimitPerIndex"),
    ({"completionMode": "Sorted"}, "spec.completionMode"),
    ({"completionMode": "Indexed"}, "spec.completions"),
    (INDEXED | {"parallelism": 100_001}, "spec.parallelism"),
    (INDEXED | {"maxFailedIndexes": 1}, "spec.backoffLimitPerIndex"),
    (PER_INDEX | {"maxFailedIndexes": 6}, "spec.maxFailedIndexes"),
    (PER_INDEX | {"completions": 100_001}, "spec.maxFailedIndexes"),
    (PER_INDEX | {"completions": 200_000, "maxFailedIndexes": 10_001}, "spec.maxFailedIndexes"),
    (PER_INDEX | {"completions": 200_000, "maxFailedIndexes": 1, "parallelism": 10_001}, "spec.parallelism"),
    ({"backoffLimitPerIndex": 1}, "spec.backoffLimitPerIndex"),
    ({"backoffLimitPerIndex": 1, "maxFailedIndexes": 1}, "spec.maxFailedIndexes"),
    ({"successPolicy": {"rules": [{"succeededCount": 1}]}}, "spec.successPolicy"),
    (INDEXED | {"successPolicy": {"rules": []}}, "spec.successPolicy.rules"),
    (success(), "spec.successPolicy.rules"),
    (success(succeededCount=-1), "spec.successPolicy.rules"),
    (success(succeededCount=6), "spec.successPolicy.rules"),
    (success(succeededIndexes="0-1", succeededCount=3), "spec.successPolicy.rules"),
    (success(succeededIndexes="5-1"), "spec.successPolicy.rules"),
    (success(succeededIndexes="3,1"), "spec.successPolicy.rules"),
    (success(succeededIndexes="2-2"), "spec.successPolicy.rules"),
    (success(succeededIndexes="zero"), "spec.successPolicy.rules"),
    (success(succeededIndexes="0-6000000"), "spec.successPolicy.rules"),
    (success(succeededIndexes="5"), "spec.successPolicy.rules"),
    (success(succeededIndexes="0-1-2"), "spec.successPolicy.rules"),
    ({"podReplacementPolicy": "Never"}, "spec.podReplacementPolicy"),
    ({"podReplacementPolicy": "TerminatingOrFailed", "podFailurePolicy": exit_rule()}, "spec.podReplacementPolicy"),
    ({"podFailurePolicy": exit_rule("FailIndex")}, "spec.podFailurePolicy.rules"),
    ({"podFailurePolicy": exit_rule("Retry")}, "spec.podFailurePolicy.rules"),
    ({"podFailurePolicy": exit_rule(containerName="other")}, "spec.podFailurePolicy.rules"),
    ({"podFailurePolicy": exit_rule(values=[])}, "spec.podFailurePolicy.rules"),
    ({"podFailurePolicy": exit_rule(values=[0])}, "spec.podFailurePolicy.rules"),
    ({"podFailurePolicy": exit_rule(values=[2, 1])}, "spec.podFailurePolicy.rules"),
    ({"podFailurePolicy": exit_rule(values=[1, 1])}, "spec.podFailurePolicy.rules"),
    ({"podFailurePolicy": exit_rule(operator="Has")}, "spec.podFailurePolicy.rules"),
    ({"podFailurePolicy": {"rules": [{"action": "Count"}]}}, "spec.podFailurePolicy.rules"),
    (
        {"podFailurePolicy": {"rules": [exit_rule()["rules"][0] | {"onPodConditions": [{"type": "DisruptionTarget"}]}]}},
        "spec.podFailurePolicy.rules",
    ),
    (
        {"podFailurePolicy": {"rules": [{"action": "Count", "onPodConditions": [{"type": "A", "status": "Maybe"}]}]}},
        "spec.podFailurePolicy.rules",
    ),
    (
        {"podFailurePolicy": {"rules": [{"action": "Count", "onPodConditions": [{"type": "not a name"}]}]}},
        "spec.podFailurePolicy.rules",
    ),
    ({"podFailurePolicy": exit_rule(), "template": template(restartPolicy="OnFailure")}, "spec.template.spec.restartPolicy"),
    ({"template": template(restartPolicy="Always")}, "spec.template.spec.restartPolicy"),
    ({"template": {"spec": {"containers": [{"name": "main"}]}}}, "spec.template.spec.restartPolicy"),
    ({"template": template(containers=[])}, "spec.template.spec.containers"),
    ({"template": template(containers=[{"name": "main"}])}, "spec.template.spec.containers"),
    ({"template": template(containers=[{"name": "Not A Name", "image": "busybox"}])}, "spec.template.spec.containers"),
    ({"template": template(containers=[{"name": "main", "image": "busybox"}] * 2)}, "spec.template.spec.containers"),
    ({"template": template(terminationGracePeriodSeconds="soon")}, "spec.template.spec.terminationGracePeriodSeconds"),
    ({"template": template(containers=[{"name": "main", "image": "busybox", "env": "a=b"}])}, "spec.template.spec.containers"),
    ({"template": template(containers=[{"name": "main", "image": "busybox", "env": [1]}])}, "spec.template.spec.containers"),
    ({"template": template() | {"metadata": {"finalizers": 5}}}, "spec.template.metadata.finalizers"),
    ({"managedBy": "foo"}, "spec.managedBy"),
    ({"retryBackoff": {"maxSeconds": 1e12}}, "spec.retryBackoff.maxSeconds"),
    ({"placement": {"unschedulableTolerationSeconds": 2**63 - 1}}, "spec.placement.unschedulableTolerationSeconds"),
    ({"managedBy": "Not Valid/foo"}, "spec.managedBy"),
    ({"managedBy": "acme.io/" + "x" * 60}, "spec.managedBy"),
    ({"manualSelector": True}, "spec.selector"),
    ({"selector": {"matchLabels": {"a": "b"}}, "template": labelled(a="b")}, "spec.selector"),
    ({"manualSelector": True, "selector": {"matchLabels": {"a": "b"}}}, "spec.template.metadata"),
    (
        {"manualSelector": True, "selector": {"matchLabels": {"a": "b"}}, "template": labelled(a="c")},
        "spec.template.metadata.labels",
    ),
    (
        {
            "manualSelector": True,
            "selector": {"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["b"]}]},
            "template": labelled(a="b"),
        },
        "spec.template.metadata",
    ),
]

NAMES = [
    ("v1.2-run", {}, True),
    ("v1.2-run", INDEXED, False),
    ("v1.2-run", INDEXED | {"completions": 0}, True),
    ("x" * 63, {}, True),
    ("x" * 64, {}, False),
    ("x" * 61, INDEXED, True),
    ("x" * 61, INDEXED | {"completions": 11}, False),
    ("x" * 60, INDEXED | {"completions": 11}, True),
    ("x" * 57, INDEXED | {"completions": 100_000}, True),
    ("x" * 57, INDEXED | {"completions": 100_001}, False),
]

RUNNING = {"completions": 3, "parallelism": 2}
SUSPENDED = RUNNING | {"suspend": True}
UPDATES: list[tuple[dict[str, Any], dict[str, Any], bool, bool]] = [
    # old, new, whether the job has started, whether that is allowed
    (RUNNING, RUNNING | {"parallelism": 5}, True, True),
    (RUNNING, RUNNING | {"suspend": True, "backoffLimit": 1, "activeDeadlineSeconds": 9, "ttlSecondsAfterFinished": 1}, True, True),
    (RUNNING, RUNNING | {"completions": 4}, True, False),
    (RUNNING, {"parallelism": 2}, True, False),
    ({"parallelism": 2}, RUNNING, True, False),
    (RUNNING, RUNNING | {"completionMode": "Indexed"}, True, False),
    (INDEXED, INDEXED | {"completions": 7, "parallelism": 7}, True, True),
    (INDEXED, INDEXED | {"completions": 3, "parallelism": 3}, True, True),
    (INDEXED, INDEXED | {"completions": 7}, True, False),
    (INDEXED, INDEXED | {"parallelism": 2}, True, True),
    (PER_INDEX, INDEXED, True, False),
    (PER_INDEX, PER_INDEX | {"backoffLimitPerIndex": 2}, True, False),
    (PER_INDEX, PER_INDEX | {"maxFailedIndexes": 2}, True, True),
    (RUNNING, RUNNING | {"podFailurePolicy": exit_rule()}, True, False),
    ({"podFailurePolicy": exit_rule()}, {"podFailurePolicy": exit_rule(values=[43])}, True, False),
    (success(succeededCount=1), success(succeededCount=2), True, False),
    ({"managedBy": "acme.io/foo"}, {"managedBy": "acme.io/bar"}, False, False),
    ({}, {"podReplacementPolicy": "Failed"}, True, True),
    ({}, {"parallelism": 3}, True, False),
    ({"parallelism": 3}, {}, True, False),
    ({"parallelism": 3}, {"parallelism": 0}, True, True),
    ({"completions": 3}, {"completions": 3, "parallelism": 3}, True, True),
    (RUNNING, RUNNING | {"placement": PLACEMENT}, True, True),
    (RUNNING | {"placement": PLACEMENT}, RUNNING, True, True),
    (RUNNING, RUNNING | {"dependsOn": [{"job": "other"}]}, True, True),
    (RUNNING, RUNNING | {"template": template(nodeSelector={"a": "b"})}, False, False),
    (SUSPENDED, SUSPENDED | {"template": template(nodeSelector={"a": "b"})}, False, True),
    (SUSPENDED, SUSPENDED | {"template": template(nodeSelector={"a": "b"})}, True, False),
    (SUSPENDED, SUSPENDED | {"template": template(tolerations=[{"key": "a"}], schedulingGates=[{"name": "g"}])}, False, True),
    (SUSPENDED, SUSPENDED | {"template": labelled(a="b")}, False, True),
    (SUSPENDED, SUSPENDED | {"template": template(affinity={"nodeAffinity": {"x": 1}})}, False, True),
    (SUSPENDED, SUSPENDED | {"template": template(affinity={"podAffinity": {"x": 1}})}, False, False),
    (SUSPENDED, SUSPENDED | {"template": template(containers=[{"name": "main", "image": "other"}])}, False, False),
    (SUSPENDED, SUSPENDED | {"template": template(priorityClassName="high")}, False, False),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hub() -> AsyncIterator[LiveFleet]:
    async with LiveFleet("hub") as made:
        await made.install("hub", crd())
        yield made


async def refusal(hub: LiveFleet, verb: str, obj: dict[str, Any]) -> list[str] | None:
    """The fields that the server complains of; None where it accepts."""
    try:
        await hub.send(verb, "hub", obj)
    except ApiError as error:
        if error.status != 422:
            raise
        return [cause["field"] for cause in error.details["causes"]]
    return None


@pytest.mark.asyncio(loop_scope="module")
async def test_what_a_job_accepts_is_accepted_by_server_and_controller(hub: LiveFleet) -> None:
    for number, spec in enumerate(GOOD):
        made = job(spec, f"good-{number}")
        read_spec(made)
        assert await refusal(hub, "create", made) is None, spec


@pytest.mark.asyncio(loop_scope="module")
async def test_what_a_job_refuses_is_refused_by_server_and_controller(hub: LiveFleet) -> None:
    for spec, field in BAD:
        fields = await refusal(hub, "create", job(spec))
        assert fields is not None, f"the server accepts {spec}"
        assert any(one.startswith(field) for one in fields), (spec, fields)
        with pytest.raises(InvalidSpec) as raised:
            read_spec(job(spec))
        assert field in str(raised.value), spec


@pytest.mark.asyncio(loop_scope="module")
async def test_indexes_out_of_order_between_the_first_and_the_last_are_refused_by_the_controller(hub: LiveFleet) -> None:
    """The one thing that the server does not see."""
    for number, text in enumerate(("0-2,2-3", "0,3,2,4", "0,2-1,4")):
        wrong = success(succeededIndexes=text)
        assert await refusal(hub, "create", job(wrong, f"order-{number}")) is None
        with pytest.raises(InvalidSpec, match="in increasing order"):
            read_spec(job(wrong))


@pytest.mark.asyncio(loop_scope="module")
async def test_names_are_judged_alike(hub: LiveFleet) -> None:
    for number, (name, spec, good) in enumerate(NAMES):
        made = job(spec, name)
        made["metadata"]["namespace"] = f"names-{number}"
        await hub.send("create", "hub", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"names-{number}"}})
        assert (await refusal(hub, "create", made) is None) == good, (name, spec)
        if good:
            read_spec(made)
        else:
            with pytest.raises(InvalidSpec, match=r"metadata\.name"):
                read_spec(made)


@pytest.mark.asyncio(loop_scope="module")
async def test_changes_are_judged_alike(hub: LiveFleet) -> None:
    for number, (old, new, started, good) in enumerate(UPDATES):
        made = await hub.send("create", "hub", job(old, f"change-{number}"))
        if started:
            path = f"/apis/batch.raycp.io/v1alpha1/namespaces/default/batchjobs/change-{number}/status"
            body = b'{"status":{"startTime":"2026-01-01T00:00:00Z"}}'
            await hub.clients["hub"].request("PATCH", path, body=body, content_type="application/merge-patch+json")
            found = await hub.objects("hub", "batch.raycp.io/v1alpha1/BatchJob", "default")
            made = next(obj for obj in found if obj["metadata"]["name"] == made["metadata"]["name"])
        fields = await refusal(hub, "update", made | {"spec": job(new)["spec"]})
        assert (fields is None) == good, (old, new, started, fields)
        assert (not update_problems(job(old)["spec"], job(new)["spec"], started)) == good, (old, new, started)


@pytest.mark.asyncio(loop_scope="module")
async def test_the_null_that_tools_write_into_a_template_changes_nothing(hub: LiveFleet) -> None:
    """``creationTimestamp: null``, as of ``kubectl create job --dry-run=client -o yaml``, by client and server-side apply."""
    made = job({"template": template() | {"metadata": {"creationTimestamp": None, "labels": {"a": "b"}}}}, "pasted")
    stored = await hub.send("create", "hub", made)
    assert stored["spec"]["template"]["metadata"] == {"labels": {"a": "b"}}
    path = "/apis/batch.raycp.io/v1alpha1/namespaces/default/batchjobs/pasted"
    query = {"fieldManager": "kubectl", "force": "true"}
    body = msgspec.json.encode(made)
    await hub.clients["hub"].request("PATCH", path, body=body, query=query, content_type="application/apply-patch+yaml")
    del made["spec"]["template"]["metadata"]["creationTimestamp"]
    body = msgspec.json.encode(made)
    await hub.clients["hub"].request("PATCH", path, body=body, query=query, content_type="application/apply-patch+yaml")
