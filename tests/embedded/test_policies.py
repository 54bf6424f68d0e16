"""Admission policies on a cluster in this process (``apiserver/pkg/admission/plugin/policy``)."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from raycp.config.embedded import EmbeddedControllers, EmbeddedSpec
from raycp.embedded.auth import User
from raycp.embedded.cluster import EmbeddedCluster
from raycp.embedded.errors import StatusError
from raycp.embedded.options import WriteOptions

VALIDATING = "validatingadmissionpolicies.admissionregistration.k8s.io"
BINDINGS = "validatingadmissionpolicybindings.admissionregistration.k8s.io"
ALICE = User("alice", ("dev", "system:authenticated"))
ALL = {"resourceRules": [{"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*", "*/*"]}]}
MAPS = {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["configmaps"]}]}


@pytest.fixture
async def cluster() -> Any:
    made = EmbeddedCluster("policies", EmbeddedSpec(controllers=EmbeddedControllers.none()))
    for name, labels in (("ns", {"team": "a"}), ("other", {})):
        await made.api.create("namespaces", {"metadata": {"name": name, "labels": labels}})
    return made


async def policy(cluster: EmbeddedCluster, spec: dict[str, Any], binding: dict[str, Any] | None = None, name: str = "p") -> None:
    await cluster.api.create(VALIDATING, {"metadata": {"name": name}, "spec": {"matchConstraints": MAPS, **spec}})
    bound = {"policyName": name, "validationActions": ["Deny"], **(binding or {})}
    await cluster.api.create(BINDINGS, {"metadata": {"name": f"{name}-b"}, "spec": bound})


def write(
    cluster: EmbeddedCluster, data: dict[str, str], ns: str = "ns", labels: dict[str, str] | None = None, user: User = ALICE
) -> list[str]:
    """The warnings of a create. Raises ``StatusError``."""
    maps = cluster.registry.find("", "v1", "configmaps")
    assert maps is not None
    obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "m-", "labels": labels or {}}, "data": data}
    draft = cluster.pipeline.draft_create(maps, ns, obj, WriteOptions(manager="test"))
    warnings: list[str] = []
    cluster.pipeline.finish(cluster.verbs.guarded(draft, user, warnings))
    return warnings


def denial(cluster: EmbeddedCluster, data: dict[str, str], **more: Any) -> str:
    with pytest.raises(StatusError) as refused:
        write(cluster, data, **more)
    return refused.value.message.partition(" denied request: ")[2]


async def until(found: Callable[[], Any]) -> Any:
    """What ``found`` returns once that is something, within so many turns of the event loop."""
    for _ in range(1_000):
        value = found()
        if value:
            return value
        await asyncio.sleep(0)
    raise AssertionError("it did not come")


async def test_without_a_binding_no_write_is_looked_at(cluster: EmbeddedCluster) -> None:
    draft = cluster.pipeline.draft_create(
        cluster.registry.find("", "v1", "configmaps"),  # type: ignore[arg-type]
        "ns",
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}},
        WriteOptions(),
    )
    assert cluster.verbs.guarded(draft, ALICE, []) is draft
    await cluster.api.create(
        VALIDATING, {"metadata": {"name": "p"}, "spec": {"matchConstraints": MAPS, "validations": [{"expression": "false"}]}}
    )
    assert cluster.verbs.guarded(draft, ALICE, []) is draft


async def test_actions_of_a_binding(cluster: EmbeddedCluster, caplog: pytest.LogCaptureFixture) -> None:
    spec = {"validations": [{"expression": "false", "message": "never"}]}
    await policy(cluster, spec, {"validationActions": ["Warn", "Audit"]})
    with caplog.at_level(logging.INFO, logger="raycp.embedded.policies.verdicts"):
        warnings = write(cluster, {})
    assert warnings == ["Validation failed for ValidatingAdmissionPolicy 'p' with binding 'p-b': never"]
    assert "validation.policy.admission.k8s.io/validation_failure" in caplog.text
    assert '"expressionIndex":0' in caplog.text


async def test_selectors_and_excluded_rules(cluster: EmbeddedCluster) -> None:
    excluded = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["configmaps"]}]
    constraints = {**MAPS, "objectSelector": {"matchLabels": {"check": "yes"}}, "excludeResourceRules": excluded}
    spec = {"matchConstraints": constraints, "validations": [{"expression": "false"}]}
    await policy(cluster, spec, {"matchResources": {"namespaceSelector": {"matchLabels": {"team": "a"}}}})
    assert write(cluster, {}) == []
    assert write(cluster, {}, ns="other", labels={"check": "yes"}) == []
    assert denial(cluster, {}, labels={"check": "yes"}) == "failed expression: false"


async def test_another_version_of_a_resource_matches_unless_exactly_one_is_asked_for(cluster: EmbeddedCluster) -> None:
    rules = [{"apiGroups": ["autoscaling"], "apiVersions": ["v1"], "operations": ["*"], "resources": ["horizontalpodautoscalers"]}]
    validations = [{"expression": "object.apiVersion == 'autoscaling/v1' && object.spec.targetCPUUtilizationPercentage < 50"}]
    await policy(cluster, {"matchConstraints": {"resourceRules": rules}, "validations": validations})
    metric = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}
    scaler = {"metadata": {"name": "h"}, "spec": {"scaleTargetRef": target, "maxReplicas": 2, "metrics": [metric]}}
    with pytest.raises(StatusError, match="failed expression"):
        await cluster.api.create("horizontalpodautoscalers.v2.autoscaling", scaler, "ns")
    found = cluster.api.get(VALIDATING, "", "p")
    assert found is not None
    found["spec"]["matchConstraints"]["matchPolicy"] = "Exact"
    await cluster.api.update(VALIDATING, found)
    await cluster.api.create("horizontalpodautoscalers.v2.autoscaling", scaler, "ns")


async def test_parameters(cluster: EmbeddedCluster) -> None:
    kind = {"apiVersion": "v1", "kind": "ConfigMap"}
    spec = {
        "paramKind": kind,
        "matchConditions": [{"name": "no-params", "expression": "!has(object.metadata.labels.limit)"}],
        "validations": [
            {"expression": "size(object.data) <= int(params.data.most)", "messageExpression": "'most: ' + params.data.most"}
        ],
    }
    await policy(cluster, spec, {"paramRef": {"name": "limits", "namespace": "other", "parameterNotFoundAction": "Deny"}})
    assert denial(cluster, {"a": "1"}) == (
        "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"
    )
    found = cluster.api.get(BINDINGS, "", "p-b")
    assert found is not None
    found["spec"]["paramRef"] = {"selector": {"matchLabels": {"limit": "yes"}}, "parameterNotFoundAction": "Allow"}
    found = await cluster.api.update(BINDINGS, found)
    assert write(cluster, {"a": "1"}) == []
    limits = {"metadata": {"name": "limits", "labels": {"limit": "yes"}}, "data": {"most": "1"}}
    await cluster.api.create("configmaps", limits, "ns")
    assert write(cluster, {"a": "1"}) == []
    assert denial(cluster, {"a": "1", "b": "2"}) == "most: 1"
    assert write(cluster, {"a": "1", "b": "2"}, ns="other") == []


async def test_errors_follow_the_failure_policy(cluster: EmbeddedCluster) -> None:
    await policy(cluster, {"validations": [{"expression": "object.data.missing == 'x'"}]})
    assert denial(cluster, {"a": "1"}) == "expression 'object.data.missing == 'x'' resulted in error: no such key: missing"
    found = cluster.api.get(VALIDATING, "", "p")
    assert found is not None
    found["spec"]["failurePolicy"] = "Ignore"
    await cluster.api.update(VALIDATING, found)
    assert write(cluster, {"a": "1"}) == []


async def test_expressions_may_cost_so_much_and_no_more(cluster: EmbeddedCluster) -> None:
    heavy = "object.data.l.split('').all(x, object.data.l.split('').all(y, x == y))"
    await policy(cluster, {"validations": [{"expression": heavy}]})
    assert denial(cluster, {"l": "a" * 2_000}).endswith("resulted in error: operation cancelled: actual cost limit exceeded")


async def test_variables_are_evaluated_when_they_are_used(cluster: EmbeddedCluster) -> None:
    variables = [
        {"name": "broken", "expression": "object.data.missing"},
        {"name": "keys", "expression": "object.data.map(k, k)"},
        {"name": "count", "expression": "variables.keys.size()"},
    ]
    await policy(
        cluster, {"variables": variables, "validations": [{"expression": "variables.count < 2 || variables.broken == ''"}]}
    )
    assert write(cluster, {"a": "1"}) == []
    assert 'composited variable "broken" fails to evaluate: no such key: missing' in denial(cluster, {"a": "1", "b": "2"})


async def test_the_request_and_the_authorizer(cluster: EmbeddedCluster) -> None:
    validations = [
        {"expression": "request.userInfo.username == 'alice' && 'dev' in request.userInfo.groups", "message": "who"},
        {"expression": "authorizer.group('').resource('configmaps').namespace('ns').check('delete').allowed()", "message": "may"},
        {"expression": "authorizer.requestResource.check('create').allowed()", "message": "here"},
        {
            "expression": "request.resource.resource == 'configmaps' && request.operation == 'CREATE' && oldObject == null",
            "message": "what",
        },
        {"expression": "namespaceObject.metadata.labels['team'] == 'a'", "message": "where"},
    ]
    await policy(cluster, {"validations": validations})
    assert write(cluster, {}) == []
    assert denial(cluster, {}, user=User("bob")) == "who"


async def test_audit_annotations(cluster: EmbeddedCluster, caplog: pytest.LogCaptureFixture) -> None:
    annotations = [
        {"key": "size", "valueExpression": "string(size(object.data))"},
        {"key": "none", "valueExpression": "has(object.data.x) ? 'x' : ''"},
    ]
    await policy(cluster, {"auditAnnotations": annotations})
    with caplog.at_level(logging.INFO, logger="raycp.embedded.policies.verdicts"):
        write(cluster, {"a": "1"})
    assert "{'p/size': '1'}" in caplog.text


async def test_deletions_and_collections(cluster: EmbeddedCluster) -> None:
    expression = "request.operation != 'DELETE' || oldObject.metadata.name != 'kept'"
    await policy(cluster, {"validations": [{"expression": expression, "reason": "Forbidden"}]})
    await cluster.api.create("configmaps", {"metadata": {"name": "kept"}}, "ns")
    with pytest.raises(StatusError) as refused:
        await cluster.api.delete("configmaps", "ns", "kept")
    assert (refused.value.code, refused.value.reason) == (403, "Forbidden")
    assert cluster.api.get("configmaps", "ns", "kept") is not None


async def test_a_crd_goes_with_its_objects_whatever_policies_say(cluster: EmbeddedCluster) -> None:
    """Its finalizer deletes them without admission (apiextensions-apiserver, pkg/controller/finalizer)."""
    from raycp.embedded.crdstatus import CrdStatus

    controller = CrdStatus(cluster.registry, cluster.pipeline, cluster.api)
    controller.start()
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
    spec = {"group": "example.com", "scope": "Namespaced", "names": {"plural": "toys", "kind": "Toy"}, "versions": [version]}
    crds = "customresourcedefinitions.apiextensions.k8s.io"
    await cluster.api.create(crds, {"metadata": {"name": "toys.example.com"}, "spec": spec})
    await until(lambda: cluster.registry.find("example.com", "v1", "toys"))
    await cluster.api.create("toys.example.com", {"metadata": {"name": "t"}}, "ns")
    rule = {"apiGroups": ["example.com"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*"]}
    refusal = {"matchConstraints": {"resourceRules": [rule]}, "validations": [{"expression": "request.operation != 'DELETE'"}]}
    await policy(cluster, refusal)
    with pytest.raises(StatusError, match="failed expression"):
        await cluster.api.delete("toys.example.com", "ns", "t")
    await cluster.api.delete(crds, "", "toys.example.com")
    await until(lambda: cluster.api.get(crds, "", "toys.example.com") is None)
    controller.stop()


async def test_a_mutation_can_not_set_what_the_server_sets(cluster: EmbeddedCluster) -> None:
    """``rest.BeforeCreate`` and the check of the namespace come after admission on a real server."""
    operations = [
        '[JSONPatch{op: "add", path: "/metadata/deletionTimestamp", value: "2020-01-01T00:00:00Z"},'
        'JSONPatch{op: "add", path: "/metadata/uid", value: "mine"}, JSONPatch{op: "replace", path: "/kind", value: "Pod"}]',
        '[JSONPatch{op: "replace", path: "/metadata/namespace", value: "other"}]',
    ]
    await mutation(cluster, patched(operations[0]))
    made = await deployment(cluster)
    assert made["kind"] == "Deployment"
    assert "deletionTimestamp" not in made["metadata"]
    assert made["metadata"]["uid"] != "mine"
    await mutation(cluster, patched(operations[1]), name="moves")
    with pytest.raises(StatusError, match="does not match the namespace sent on the request"):
        await deployment(cluster, "e")
    assert cluster.api.get("deployments.apps", "other", "e") is None


async def test_policies_are_under_no_policy(cluster: EmbeddedCluster) -> None:
    await policy(cluster, {"matchConstraints": ALL, "validations": [{"expression": "false"}]})
    with pytest.raises(StatusError):
        write(cluster, {})
    await cluster.api.delete(BINDINGS, "", "p-b")
    assert write(cluster, {}) == []


@pytest.mark.parametrize(
    ("spec", "field", "why"),
    [
        ({}, "spec.validations", "validations or auditAnnotations must contain at least one item"),
        ({"validations": [{"expression": "1"}]}, "spec.validations[0].expression", "must evaluate to bool but got int"),
        ({"validations": [{"expression": "request.foo == ''"}]}, "spec.validations[0].expression", "undefined field 'foo'"),
        (
            {"validations": [{"expression": "params.x"}]},
            "spec.validations[0].expression",
            "undeclared reference to 'params' (in container '')",
        ),
        (
            {"validations": [{"expression": "variables.a"}], "variables": [{"name": "b", "expression": "1"}]},
            "spec.validations[0].expression",
            "undefined field 'a'",
        ),
        (
            {"validations": [{"expression": "true", "messageExpression": "authorizer.path('/').check('get').reason()"}]},
            "spec.validations[0].messageExpression",
            "undeclared reference to 'authorizer'",
        ),
        (
            {"auditAnnotations": [{"key": "k", "valueExpression": "1"}]},
            "spec.auditAnnotations[0].valueExpression",
            "must evaluate to one of [string null] but got int",
        ),
        (
            {"validations": [{"expression": "'" + "a" * 30_000 + "' != ''"}] * 2},
            "spec.validations[1].expression",
            "the expressions of a policy may have 50000 characters together",
        ),
        ({"validations": [{"expression": "true", "reason": "Nope"}]}, "spec.validations[0].reason", "Unsupported value"),
        (
            {"validations": [{"expression": "true"}], "matchConstraints": {}},
            "spec.matchConstraints.resourceRules",
            "Required value",
        ),
        ({"validations": [{"expression": "true"}], "failurePolicy": "Maybe"}, "spec.failurePolicy", "Unsupported value"),
    ],
)
async def test_invalid_policies_are_refused(cluster: EmbeddedCluster, spec: dict[str, Any], field: str, why: str) -> None:
    with pytest.raises(StatusError) as refused:
        await cluster.api.create(VALIDATING, {"metadata": {"name": "p"}, "spec": {"matchConstraints": MAPS, **spec}})
    causes = {one["field"]: one["message"] for one in (refused.value.details or {})["causes"]}
    assert why in causes[field]


async def test_invalid_bindings_are_refused(cluster: EmbeddedCluster) -> None:
    spec = {"policyName": "", "validationActions": ["Deny", "Warn"], "paramRef": {"name": "a", "selector": {}}}
    with pytest.raises(StatusError) as refused:
        await cluster.api.create(BINDINGS, {"metadata": {"name": "b"}, "spec": spec})
    assert {one["field"] for one in (refused.value.details or {})["causes"]} == {
        "spec.policyName",
        "spec.validationActions",
        "spec.paramRef.name",
        "spec.paramRef.selector",
        "spec.paramRef.parameterNotFoundAction",
    }


async def test_types_of_a_crd_are_checked(cluster: EmbeddedCluster) -> None:
    from raycp.embedded.crdstatus import CrdStatus
    from raycp.embedded.policies.typechecks import TypeChecks

    spec = {"type": "object", "properties": {"replicas": {"type": "integer"}}}
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema}
    names = {"plural": "crontabs", "kind": "CronTab"}
    crd = {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version]}
    started: list[Any] = [CrdStatus(cluster.registry, cluster.pipeline, cluster.api), TypeChecks(cluster.registry, cluster.api)]
    for one in started:
        one.start()
    await cluster.api.create(
        "customresourcedefinitions.apiextensions.k8s.io", {"metadata": {"name": "crontabs.example.com"}, "spec": crd}
    )
    await until(lambda: cluster.registry.find("example.com", "v1", "crontabs"))
    rules = [{"apiGroups": ["example.com"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["crontabs"]}]
    validations = [
        {"expression": "object.spec.replicas > 1 && object.metadata.labels['a'] == ''"},
        {"expression": "object.spec.replicas > '1'"},
        {"expression": "object.spec.maxRetries < 10"},
    ]
    await policy(cluster, {"matchConstraints": {"resourceRules": rules}, "validations": validations})
    made = await until(lambda: (cluster.api.get(VALIDATING, "", "p") or {}).get("status"))
    found = made["typeChecking"]["expressionWarnings"]
    assert [one["fieldRef"] for one in found] == ["spec.validations[1].expression", "spec.validations[2].expression"]
    assert found[0]["warning"].startswith("example.com/v1, Kind=CronTab: ERROR: <input>:1:22: found no matching overload for '_>_'")
    assert "undefined field 'maxRetries'" in found[1]["warning"]
    for one in started:
        one.stop()


# ---- mutating policies

MUTATING = "mutatingadmissionpolicies.admissionregistration.k8s.io"
MUTATING_BINDINGS = "mutatingadmissionpolicybindings.admissionregistration.k8s.io"
DEPLOYMENTS = {"resourceRules": [{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["*"], "resources": ["deployments"]}]}


def applied(expression: str) -> dict[str, Any]:
    return {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}


def patched(expression: str) -> dict[str, Any]:
    return {"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}


async def mutation(cluster: EmbeddedCluster, *mutations: dict[str, Any], name: str = "m", **spec: Any) -> None:
    whole = {"matchConstraints": DEPLOYMENTS, "mutations": list(mutations), **spec}
    await cluster.api.create(MUTATING, {"metadata": {"name": name}, "spec": whole})
    await cluster.api.create(MUTATING_BINDINGS, {"metadata": {"name": f"{name}-b"}, "spec": {"policyName": name}})


async def deployment(cluster: EmbeddedCluster, name: str = "d") -> dict[str, Any]:
    labels = {"app": "a"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
    return await cluster.api.create("deployments.apps", {"metadata": {"name": name}, "spec": spec}, "ns")


async def test_an_apply_configuration(cluster: EmbeddedCluster) -> None:
    """As test/e2e/apimachinery/mutatingadmissionpolicy.go, and a container that is added."""
    await mutation(
        cluster,
        applied('Object{metadata: Object.metadata{annotations: {"mutated-by": "admission-policy"}}}'),
        applied(
            "Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{containers: ["
            'Object.spec.template.spec.containers{name: "side", image: "s"},'
            'Object.spec.template.spec.containers{name: "c", '
            'imagePullPolicy: object.metadata.annotations["mutated-by"] == "" ? "" : "Never"}'
            "]}}}}"
        ),
    )
    made = await deployment(cluster)
    assert made["metadata"]["annotations"] == {"mutated-by": "admission-policy"}
    containers = {one["name"]: one for one in made["spec"]["template"]["spec"]["containers"]}
    assert containers["c"]["image"] == "i"
    assert containers["c"]["imagePullPolicy"] == "Never"
    assert containers["side"]["terminationMessagePath"] == "/dev/termination-log"
    made["spec"]["replicas"] = 3
    del made["metadata"]["annotations"]
    assert (await cluster.api.update("deployments.apps", made))["metadata"]["annotations"] == {"mutated-by": "admission-policy"}


async def test_a_json_patch(cluster: EmbeddedCluster) -> None:
    await mutation(
        cluster,
        patched(
            'has(object.metadata.labels) ? [] : [JSONPatch{op: "add", path: "/metadata/labels", value: {"a": "b"}},'
            'JSONPatch{op: "add", path: "/metadata/labels/" + jsonpatch.escapeKey("x/y"), value: string(object.spec.replicas)},'
            'JSONPatch{op: "replace", path: "/spec/replicas", value: variables.twice},'
            'JSONPatch{op: "add", path: "/spec/template/spec/securityContext", '
            "value: Object.spec.template.spec.securityContext{runAsNonRoot: true}}]"
        ),
        patched('[JSONPatch{op: "test", path: "/spec/replicas", value: 1}, JSONPatch{op: "remove", path: "/metadata/labels"}]'),
        variables=[{"name": "twice", "expression": "object.spec.replicas * 2"}],
    )
    made = await deployment(cluster)
    assert made["metadata"]["labels"] == {"a": "b", "x/y": "2"}
    assert made["spec"]["replicas"] == 4
    assert made["spec"]["template"]["spec"]["securityContext"] == {"runAsNonRoot": True}


async def test_a_policy_sees_what_others_changed_if_it_asks_for_it(cluster: EmbeddedCluster) -> None:
    copied = applied('Object{metadata: Object.metadata{annotations: {"seen": has(object.metadata.labels) ? "labels" : "none"}}}')
    labelled = applied('Object{metadata: Object.metadata{labels: {"l": "1"}}}')
    await mutation(cluster, copied, name="a", reinvocationPolicy="IfNeeded")
    await mutation(cluster, labelled, name="b")
    assert (await deployment(cluster))["metadata"]["annotations"] == {"seen": "labels"}
    found = cluster.api.get(MUTATING, "", "a")
    assert found is not None
    found["spec"]["reinvocationPolicy"] = "Never"
    await cluster.api.update(MUTATING, found)
    assert (await deployment(cluster, "e"))["metadata"]["annotations"] == {"seen": "none"}


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (
            applied("Object{spec: Object.metadata{}}"),
            'type mismatch: unexpected type name "Object.metadata", expected "Object.spec"',
        ),
        (applied("Object{spec: Object.spec{nope: 1}}"), "failed to convert patch object to typed object"),
        (
            applied("Object{spec: Object.spec{selector: Object.spec.selector{}}}"),
            "may not mutate atomic arrays, maps or structs: .spec.selector",
        ),
        (patched('[JSONPatch{op: "remove", path: "/spec/nope"}]'), "JSON Patch: "),
        (applied("Object{metadata: Object.metadata{name: object.spec.nope}}"), "resulted in error: no such key: nope"),
    ],
)
async def test_mutations_that_fail(cluster: EmbeddedCluster, broken: dict[str, Any], why: str) -> None:
    await mutation(cluster, broken)
    with pytest.raises(StatusError) as refused:
        await deployment(cluster)
    assert (refused.value.code, refused.value.reason) == (403, "Invalid")
    assert refused.value.message.startswith("policy 'm' with binding 'm-b' denied request: ")
    assert why in refused.value.message
    found = cluster.api.get(MUTATING, "", "m")
    assert found is not None
    found["spec"]["failurePolicy"] = "Ignore"
    await cluster.api.update(MUTATING, found)
    assert (await deployment(cluster))["spec"]["replicas"] == 2


@pytest.mark.parametrize(
    ("spec", "field", "why"),
    [
        ({"mutations": []}, "spec.mutations", "mutations must contain at least one item"),
        ({"mutations": [{"patchType": "Other"}]}, "spec.mutations[0].patchType", "Unsupported value"),
        (
            {"mutations": [{"patchType": "JSONPatch"}]},
            "spec.mutations[0].jsonPatch",
            "must be specified when patchType is JSONPatch",
        ),
        (
            {"mutations": [applied("Object.spec{}")]},
            "spec.mutations[0].applyConfiguration.expression",
            "must evaluate to Object but got Object.spec",
        ),
        (
            {"mutations": [patched("[JSONPatch{nope: 1}]")]},
            "spec.mutations[0].jsonPatch.expression",
            "undefined field 'nope'",
        ),
        ({"reinvocationPolicy": "Always"}, "spec.reinvocationPolicy", "Unsupported value"),
    ],
)
async def test_invalid_mutating_policies_are_refused(cluster: EmbeddedCluster, spec: dict[str, Any], field: str, why: str) -> None:
    whole = {"matchConstraints": DEPLOYMENTS, "mutations": [applied("Object{}")], **spec}
    with pytest.raises(StatusError) as refused:
        await cluster.api.create(MUTATING, {"metadata": {"name": "p"}, "spec": whole})
    causes = {one["field"]: one["message"] for one in (refused.value.details or {})["causes"]}
    assert why in causes[field]
