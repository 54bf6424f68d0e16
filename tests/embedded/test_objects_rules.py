"""Defaults, preparation and validation of single kinds."""

import json
import random
import uuid
from typing import Any

import pytest

from raycp.embedded.errors import FieldError
from raycp.embedded.managed import track
from raycp.embedded.resources import BUILTINS
from raycp.embedded.strategy import strategy
from raycp.embedded.strategy.metadata import new_uid

KINDS = {(info.group, info.kind): info for info in BUILTINS}
NOW = "2026-01-01T00:00:00Z"
CONTAINER = {"name": "c", "image": "busybox"}
TEMPLATE = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [CONTAINER]}}


def create(kind: str, group: str = "", name: str = "x", **body: Any) -> tuple[dict[str, Any], list[FieldError]]:
    info = KINDS[group, kind]
    own = strategy(info)
    meta = {"name": name, "uid": "u-1", **body.pop("metadata", {})}
    raw = json.dumps({"apiVersion": info.api_version, "kind": kind, "metadata": meta, **body}).encode()
    obj, _ = own.decode(raw, "application/json", "Strict")
    track(info, None, obj, "test", "Update", NOW)
    own.prepare_create(obj, NOW, "ns")
    return obj, own.validate(obj)


def update(old: dict[str, Any], new: dict[str, Any], sub: str | None = None) -> tuple[dict[str, Any], list[FieldError]]:
    group, _, _ = old["apiVersion"].rpartition("/")
    own = strategy(KINDS[group, old["kind"]])
    made = own.convert(json.loads(json.dumps(new)))
    made = own.prepare_update(made, old, sub)
    return made, own.validate(made, old, sub)


def told(errors: list[FieldError]) -> list[tuple[str, str]]:
    return [(error.field, error.type) for error in errors]


def test_defaults_of_a_pod() -> None:
    pod, errors = create("Pod", spec={"containers": [CONTAINER]})
    assert not errors
    assert pod["status"] == {"phase": "Pending", "qosClass": "BestEffort"}
    assert pod["metadata"]["generation"] == 1
    spec = pod["spec"]
    assert spec["containers"][0]["imagePullPolicy"] == "Always"
    assert [t["key"] for t in spec["tolerations"]] == ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]
    owned = pod["metadata"]["managedFields"][0]["fieldsV1"]
    assert "f:tolerations" not in owned["f:spec"]
    assert "f:status" not in owned
    assert "f:dnsPolicy" in owned["f:spec"]


@pytest.mark.parametrize(
    ("image", "policy"),
    [("a", "Always"), ("a:latest", "Always"), ("a:1", "IfNotPresent"), ("h:5000/a", "Always"), ("a@sha256:0", "IfNotPresent")],
)
def test_pull_policy_follows_the_tag(image: str, policy: str) -> None:
    pod, _ = create("Pod", spec={"containers": [{"name": "c", "image": image}]})
    assert pod["spec"]["containers"][0]["imagePullPolicy"] == policy


@pytest.mark.parametrize(
    ("resources", "qos"),
    [
        ({}, "BestEffort"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
        ({"limits": {"cpu": "1"}}, "Burstable"),
    ],
)
def test_qos_class_of_a_pod(resources: dict[str, Any], qos: str) -> None:
    pod, errors = create("Pod", spec={"containers": [{**CONTAINER, "resources": resources}]})
    assert not errors
    assert pod["status"]["qosClass"] == qos


@pytest.mark.parametrize(
    ("spec", "causes"),
    [
        ({}, [("spec.containers", "FieldValueRequired")]),
        ({"containers": [{"name": "c"}]}, [("spec.containers[0].image", "FieldValueRequired")]),
        ({"containers": [CONTAINER, CONTAINER]}, [("spec.containers[1].name", "FieldValueDuplicate")]),
        ({"containers": [CONTAINER], "restartPolicy": "No"}, [("spec.restartPolicy", "FieldValueNotSupported")]),
        (
            {"containers": [{**CONTAINER, "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]},
            [("spec.containers[0].volumeMounts[0].name", "FieldValueNotFound")],
        ),
        (
            {"containers": [{**CONTAINER, "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}}]},
            [("spec.containers[0].resources.requests", "FieldValueInvalid")],
        ),
        ({"containers": [CONTAINER], "activeDeadlineSeconds": 0}, [("spec.activeDeadlineSeconds", "FieldValueInvalid")]),
    ],
)
def test_invalid_pods(spec: dict[str, Any], causes: list[tuple[str, str]]) -> None:
    assert told(create("Pod", spec=spec)[1]) == causes


def test_most_of_a_pods_spec_is_immutable() -> None:
    pod, _ = create("Pod", spec={"containers": [CONTAINER]})
    changed, errors = update(pod, {**pod, "spec": {**pod["spec"], "containers": [{**pod["spec"]["containers"][0], "image": "y"}]}})
    assert not errors
    assert changed["metadata"]["generation"] == 2
    _, errors = update(pod, {**pod, "spec": {**pod["spec"], "hostNetwork": True}})
    assert told(errors) == [("spec", "FieldValueForbidden")]
    _, errors = update(pod, {**pod, "spec": {**pod["spec"], "tolerations": []}})
    assert not errors  # the defaults are restored


def test_status_and_spec_are_updated_separately() -> None:
    pod, _ = create("Pod", spec={"containers": [CONTAINER]})
    made, errors = update(pod, {**pod, "spec": {}, "status": {"phase": "Running"}}, "status")
    assert not errors
    assert made["spec"] == pod["spec"]
    assert made["status"] == {"phase": "Running", "qosClass": "BestEffort"}
    made, _ = update(pod, {**pod, "status": {"phase": "Failed"}})
    assert made["status"]["phase"] == "Pending"


def test_a_jobs_selector_has_its_uid() -> None:
    job, errors = create("Job", "batch", spec={"template": {"spec": {"containers": [CONTAINER], "restartPolicy": "Never"}}})
    assert not errors
    assert job["spec"]["selector"]["matchLabels"] == {"batch.kubernetes.io/controller-uid": "u-1"}
    labels = job["spec"]["template"]["metadata"]["labels"]
    assert labels["job-name"] == labels["batch.kubernetes.io/job-name"] == "x"
    assert (job["spec"]["completions"], job["spec"]["backoffLimit"], job["spec"]["suspend"]) == (1, 6, False)
    changed = json.loads(json.dumps(job))
    changed["spec"]["template"]["spec"]["containers"][0]["image"] = "other"
    assert told(update(job, changed)[1]) == [("spec.template", "FieldValueInvalid")]


def test_restart_policy_always_is_invalid_for_a_job() -> None:
    _, errors = create("Job", "batch", spec={"template": {"spec": {"containers": [CONTAINER]}}})
    assert told(errors) == [("spec.template.spec.restartPolicy", "FieldValueRequired")]


def test_a_deployments_selector() -> None:
    good, errors = create("Deployment", "apps", spec={"selector": {"matchLabels": {"a": "b"}}, "template": TEMPLATE})
    assert not errors
    assert good["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": "25%", "maxSurge": "25%"}
    _, errors = create("Deployment", "apps", spec={"selector": {"matchLabels": {"a": "c"}}, "template": TEMPLATE})
    assert told(errors) == [("spec.template.metadata.labels", "FieldValueInvalid")]
    scaled = {**good, "spec": {**good["spec"], "replicas": 3}}
    made, errors = update(good, scaled)
    assert not errors
    assert made["metadata"]["generation"] == 2


def test_a_service_keeps_its_cluster_ip() -> None:
    service, errors = create("Service", spec={"ports": [{"port": 80}], "type": "NodePort"})
    assert not errors
    spec = service["spec"]
    assert spec["clusterIP"].startswith("10.")
    assert spec["clusterIPs"] == [spec["clusterIP"]]
    assert 30000 <= spec["ports"][0]["nodePort"] < 32768
    bare = {**service, "spec": {"ports": [{"port": 80}], "type": "NodePort"}}
    made, errors = update(service, bare)
    assert not errors
    assert made["spec"] == spec
    _, errors = update(service, {**service, "spec": {**spec, "clusterIP": "10.1.1.1", "clusterIPs": ["10.1.1.1"]}})
    assert told(errors) == [("spec.clusterIPs[0]", "FieldValueInvalid")]


def test_rules_of_a_secret() -> None:
    secret, errors = create("Secret", stringData={"a": "b"}, data={"a": "eA==", "c": "eA=="})
    assert not errors
    assert (secret["data"], secret["type"]) == ({"a": "Yg==", "c": "eA=="}, "Opaque")
    assert "stringData" not in secret
    _, errors = create("Secret", type="kubernetes.io/tls")
    assert told(errors) == [("data[tls.crt]", "FieldValueRequired"), ("data[tls.key]", "FieldValueRequired")]


def test_an_immutable_config_map() -> None:
    made, _ = create("ConfigMap", immutable=True, data={"a": "b"})
    _, errors = update(made, {**made, "immutable": False, "data": {}})
    assert told(errors) == [("immutable", "FieldValueForbidden"), ("data", "FieldValueForbidden")]


@pytest.mark.parametrize(
    ("metadata", "causes"),
    [
        ({"name": "Bad_Name"}, [("metadata.name", "FieldValueInvalid")]),
        ({"labels": {"a b": "c"}}, [("metadata.labels", "FieldValueInvalid")]),
        ({"labels": {"a": "b" * 64}}, [("metadata.labels", "FieldValueInvalid")]),
        ({"annotations": {"a": "x" * 262145}}, [("metadata.annotations", "FieldValueTooLong")]),
        ({"finalizers": ["plain"]}, [("metadata.finalizers[0]", "FieldValueInvalid")]),
        ({"finalizers": ["a b/c"]}, [("metadata.finalizers", "FieldValueInvalid")]),
        (
            {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": ""}]},
            [("metadata.ownerReferences.uid", "FieldValueInvalid")],
        ),
    ],
)
def test_rules_of_metadata(metadata: dict[str, Any], causes: list[tuple[str, str]]) -> None:
    assert told(create("ConfigMap", metadata=metadata)[1]) == causes


def test_finalizers_can_not_be_added_to_a_terminating_object() -> None:
    made, _ = create("ConfigMap", metadata={"finalizers": ["example.com/a"]})
    made["metadata"].update(deletionTimestamp=NOW, deletionGracePeriodSeconds=0)
    wanted = {**made, "metadata": {"name": "x", "namespace": "ns", "finalizers": ["example.com/b"]}}
    _, errors = update(made, wanted)
    assert told(errors) == [("metadata.finalizers", "FieldValueForbidden")] * 2


def test_rules_of_a_namespace() -> None:
    made, errors = create("Namespace")
    assert not errors
    assert made["metadata"]["labels"] == {"kubernetes.io/metadata.name": "x"}
    assert (made["spec"], made["status"]) == ({"finalizers": ["kubernetes"]}, {"phase": "Active"})
    assert told(create("Namespace", name="a.b")[1]) == [("metadata.name", "FieldValueInvalid")]


def test_other_kinds_that_carry_rules() -> None:
    ref = {"kind": "Nope", "name": "r"}
    assert told(create("RoleBinding", "rbac.authorization.k8s.io", roleRef=ref)[1]) == [("roleRef.kind", "FieldValueNotSupported")]
    assert told(create("PriorityClass", "scheduling.k8s.io", value=2_000_000_000)[1]) == [("value", "FieldValueForbidden")]
    assert told(create("Lease", "coordination.k8s.io", spec={"leaseDurationSeconds": 0})[1]) == [
        ("spec.leaseDurationSeconds", "FieldValueInvalid")
    ]
    node, errors = create("Node")
    assert not errors
    assert node["spec"]["taints"] == [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]


def test_uids_are_random_uuids() -> None:
    rng = random.Random()
    made = [new_uid(rng) for _ in range(1000)]
    assert len(set(made)) == 1000
    known = [uuid.UUID(one) for one in made]
    assert {(one.version, one.variant) for one in known} == {(4, uuid.RFC_4122)}
    assert [str(one) for one in known] == made
