"""Kubernetes' e2e specs of admission policies: validatingadmissionpolicy.go and mutatingadmissionpolicy.go of
test/e2e/apimachinery, of which the second is GA in 1.36 and asked as v1.

The specs wait half a minute until a policy holds, or try until it does; here it holds as soon as it is stored.
"""

from typing import Any

import pytest
from e2e_crds import crd_of, create_crd, delete_crd, unique
from e2e_driver import E2eClient, Object, Refused, collection, until
from e2e_operations import support_operations

API_VERSION = "admissionregistration.k8s.io/v1"
DEPLOYMENTS: Object = {"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]}
MARK = """
    Object{
        metadata: Object.metadata{
            annotations: {
                "mutated-by": "admission-policy"
            }
        }
    }"""


def path(kind: str) -> str:
    return f"/apis/{API_VERSION}/{kind.lower().removesuffix('y')}{'ies' if kind.endswith('y') else 's'}"


def constraints(label: str, rule: Object) -> Object:
    return {
        "resourceRules": [{**rule, "operations": ["CREATE", "UPDATE"]}],
        "namespaceSelector": {"matchLabels": {label: "true"}},
    }


async def create(e2e: E2eClient, kind: str, name: str, spec: Object) -> Object:
    body = {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": f"{name}.example.com"}, "spec": spec}
    made: Object = await e2e.typed("POST", path(kind), body)
    return made


async def bind(e2e: E2eClient, kind: str, label: str, policy: Object, **more: Any) -> None:
    selector = {"namespaceSelector": {"matchLabels": {label: "true"}}}
    spec = {"policyName": policy["metadata"]["name"], "matchResources": selector, **more}
    await create(e2e, kind, f"{label}.binding", spec)


async def marked_namespace(e2e: E2eClient, base: str) -> tuple[str, str]:
    """A namespace of one spec, and the label that it alone has."""
    label = unique(base)
    return await e2e.namespace(base, **{label: "true", "pod-security.kubernetes.io/enforce": "baseline"}), label


def workload(kind: str, name: str, replicas: int, **annotations: str) -> Object:
    labels = {"app": "nginx"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "nginx", "image": "nginx:latest"}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "labels": labels, "annotations": annotations},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
    }


async def submit(e2e: E2eClient, namespace: str, obj: Object) -> Object:
    """Create a workload, and delete it again."""
    where = collection("apps/v1", namespace, f"{obj['kind'].lower()}s")
    made: Object = await e2e.typed("POST", where, obj)
    await e2e.typed("DELETE", f"{where}/{obj['metadata']['name']}")
    return made


async def type_checked(e2e: E2eClient, policy: Object) -> list[Object]:
    """The warnings about a policy, once its expressions have been checked."""

    async def checked() -> Any:
        found = await e2e.typed("GET", f"{path('ValidatingAdmissionPolicy')}/{policy['metadata']['name']}")
        return (found.get("status") or {}).get("typeChecking") is not None and found

    found = await until(checked, "the type check is complete")
    warnings: list[Object] = found["status"]["typeChecking"].get("expressionWarnings") or []
    return warnings


async def judged(e2e: E2eClient, name: str, spec: Object, allowed: int) -> None:
    """With this policy one replica is refused as invalid, ``allowed`` are not, nor is a ReplicaSet."""
    namespace, label = await marked_namespace(e2e, name)
    spec = {"matchConstraints": constraints(label, DEPLOYMENTS), **spec}
    spec["validations"] = [{**each, "expression": each["expression"].replace("$NS", namespace)} for each in spec["validations"]]
    policy = await create(e2e, "ValidatingAdmissionPolicy", f"{label}.policy", spec)
    await bind(e2e, "ValidatingAdmissionPolicyBinding", label, policy, validationActions=["Deny"])
    with pytest.raises(Refused) as refused:
        await submit(e2e, namespace, workload("Deployment", "marker-deployment", 1))
    assert (refused.value.code, refused.value.reason) == (422, "Invalid")
    await submit(e2e, namespace, workload("Deployment", "replicated", allowed))
    await submit(e2e, namespace, workload("ReplicaSet", "non-replicated", 1))


async def test_should_validate_against_a_deployment(e2e: E2eClient) -> None:
    validations = [
        {"expression": "object.spec.replicas > 1", "messageExpression": "'wants replicas > 1, got ' + object.spec.replicas"},
        {"expression": "namespaceObject.metadata.name == '$NS'", "message": "Other namespaces should not be allowed."},
    ]
    await judged(e2e, "validate", {"validations": validations}, 2)


async def test_should_allow_expressions_to_refer_variables(e2e: E2eClient) -> None:
    variables = [
        {"name": "replicas", "expression": "object.spec.replicas"},
        {"name": "oddReplicas", "expression": "variables.replicas % 2 == 1"},
    ]
    validations = [{"expression": "variables.replicas > 1"}, {"expression": "variables.oddReplicas"}]
    await judged(e2e, "variables", {"variables": variables, "validations": validations}, 3)


async def test_should_type_check_validation_expressions(e2e: E2eClient) -> None:
    label = unique("typed")

    async def warnings(name: str, **validation: str) -> list[Object]:
        spec = {"matchConstraints": constraints(label, DEPLOYMENTS), "validations": [validation]}
        return await type_checked(e2e, await create(e2e, "ValidatingAdmissionPolicy", f"{label}.{name}", spec))

    assert await warnings("correct-policy", expression="object.spec.replicas > 1") == []
    message = "'wants replicas > 1, got ' + object.spec.replicas"
    first, second = await warnings("confused-policy", expression="object.spec.replicas > '1'", messageExpression=message)
    assert first["fieldRef"] == "spec.validations[0].expression"
    assert "found no matching overload for '_>_' applied to '(int, string)'" in first["warning"]
    assert second["fieldRef"] == "spec.validations[0].messageExpression"
    assert "found no matching overload for '_+_' applied to '(string, int)'" in second["warning"]


async def test_should_type_check_a_crd(e2e: E2eClient) -> None:
    label = unique("crd")
    fields = {"cronSpec": {"type": "string"}, "image": {"type": "string"}, "replicas": {"type": "integer"}}
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": fields}}}
    crd = await create_crd(e2e, crd_of(f"stable.{label}.com", "crontab", {"v1": schema}, kind="CronTab", shortNames=["ct"]))
    group = crd["spec"]["group"]

    async def published() -> bool:
        return f"apis/{group}/v1" in (await e2e.dynamic("GET", "/openapi/v3"))["paths"]

    await until(published, "the CRD is published")

    async def warnings(name: str, *expressions: str) -> list[Object]:
        rule = {"apiGroups": [group], "apiVersions": ["v1"], "resources": ["crontabs"]}
        spec = {"matchConstraints": constraints(label, rule), "validations": [{"expression": each} for each in expressions]}
        return await type_checked(e2e, await create(e2e, "ValidatingAdmissionPolicy", f"{label}.{name}", spec))

    assert await warnings("correct-crd-policy", "object.spec.replicas > 1") == []
    first, second = await warnings("confused-crd-policy", "object.spec.replicas > '1'", "object.spec.maxRetries < 10")
    assert first["fieldRef"] == "spec.validations[0].expression"
    assert "found no matching overload for '_>_' applied to '(int, string)'" in first["warning"]
    assert second["fieldRef"] == "spec.validations[1].expression"
    assert "undefined field 'maxRetries'" in second["warning"]
    await delete_crd(e2e, crd)


async def mutated(e2e: E2eClient, name: str, **annotations: str) -> Object:
    """The annotations of a Deployment that a policy marks."""
    namespace, label = await marked_namespace(e2e, name)
    spec = {
        "matchConstraints": constraints(label, DEPLOYMENTS),
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": MARK}}],
        "reinvocationPolicy": "Never",
    }
    policy = await create(e2e, "MutatingAdmissionPolicy", f"{label}.policy", spec)
    await bind(e2e, "MutatingAdmissionPolicyBinding", label, policy)
    made = await submit(e2e, namespace, workload("Deployment", "test-deployment", 2, **annotations))
    found: Object = made["metadata"]["annotations"]
    return found


async def test_should_mutate_a_deployment(e2e: E2eClient) -> None:
    assert (await mutated(e2e, "mutate"))["mutated-by"] == "admission-policy"


async def test_should_mutate_a_deployment_with_annotations(e2e: E2eClient) -> None:
    """The stored source is older than this spec: what it asserts is taken from its name."""
    found = await mutated(e2e, "annotated", own="kept")
    assert found == {"own": "kept", "mutated-by": "admission-policy"}


MATCHED: Object = {"matchConstraints": {"resourceRules": [{**DEPLOYMENTS, "operations": ["CREATE"]}]}}
POLICY: Object = {**MATCHED, "validations": [{"expression": "object.spec.replicas <= 100"}]}
MUTATION: Object = {
    **MATCHED,
    "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": MARK}}],
    "reinvocationPolicy": "Never",
}
BINDING: Object = {"policyName": "replicalimit-policy.example.com"}
IGNORED, FAILING = {"failurePolicy": "Ignore"}, {"failurePolicy": "Fail"}
WARNING, DENYING = {"validationActions": ["Warn"]}, {"validationActions": ["Deny"]}


@pytest.mark.parametrize(
    ("kind", "spec", "patch", "update", "status"),
    [
        ("ValidatingAdmissionPolicy", POLICY, IGNORED, FAILING, True),
        ("ValidatingAdmissionPolicyBinding", {**BINDING, **DENYING}, WARNING, DENYING, False),
        ("MutatingAdmissionPolicy", MUTATION, IGNORED, FAILING, False),
        ("MutatingAdmissionPolicyBinding", BINDING, {}, {}, False),
    ],
)
async def test_should_support_api_operations(
    e2e: E2eClient, kind: str, spec: Object, patch: Object, update: Object, status: bool
) -> None:
    plural = path(kind).rpartition("/")[2]
    await support_operations(e2e, API_VERSION, kind, plural, spec, patch, update, status=status)
