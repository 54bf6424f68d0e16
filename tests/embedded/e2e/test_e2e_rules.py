"""Kubernetes' e2e specs of CustomResourceValidationRules: crd_validation_rules.go in test/e2e/apimachinery."""

from typing import Any

import pytest
from e2e_driver import E2eClient, Object, Refused
from e2e_fixtures import CRDS, crd_object, custom_kind


def _integers(most: int) -> Object:
    return {"type": "array", "maxItems": most, "items": {"type": "integer"}}


def _with_spec(**spec: Any) -> Object:
    return {"type": "object", "properties": {"spec": {"type": "object", **spec}}}


def _rules(*rules: str) -> list[Object]:
    return [{"rule": rule} for rule in rules]


SUMS = "self.firstArray.isSorted() && self.secondArray.isSorted() && ((self.firstArray.sum() + self.secondArray.sum()) % 2 == 0)"
RULED = _with_spec(
    properties={
        "x": {"type": "integer"},
        "y": {"type": "integer"},
        "firstArray": _integers(1000),
        "secondArray": _integers(1000),
        "largeArray": _integers(725),
    }
)
RULED["properties"]["spec"]["x-kubernetes-validations"] = _rules(
    "self.x + self.y > 0", SUMS, "self.largeArray.all(x, self.largeArray.all(y, y == x))"
)
RULED["properties"]["status"] = {
    "type": "object",
    "x-kubernetes-validations": _rules("self.health == 'ok' || self.health == 'unhealthy'"),
    "properties": {"health": {"type": "string"}},
}


async def test_rules_satisfied(e2e: E2eClient) -> None:
    """MUST NOT fail validation for create of a custom resource that satisfies the x-kubernetes-validations rules"""
    async with custom_kind(e2e, RULED, namespace=await e2e.namespace("crd-rules")) as kind:
        spec = {"x": 1, "y": 0, "firstArray": [3, 4], "secondArray": [5, 10], "largeArray": [2, 2]}
        made = await e2e.dynamic("POST", kind.path(), kind.object("cr-1", spec=spec))
        assert made["spec"] == spec


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        pytest.param(
            {"x": 0, "y": 0},
            "failed rule",
            id="MUST fail validation for create of a custom resource that does not satisfy the x-kubernetes-validations rules",
        ),
        pytest.param(
            {"largeArray": [20] * 725},
            "call cost exceeds limit",
            id="MUST fail create of a custom resource that exceeds the runtime cost limit for x-kubernetes-validations rule "
            "execution",
        ),
    ],
)
async def test_rules_not_satisfied(e2e: E2eClient, spec: Object, told: str) -> None:
    async with custom_kind(e2e, RULED, namespace=await e2e.namespace("crd-rules")) as kind:
        with pytest.raises(Refused) as refused:
            await e2e.dynamic("POST", kind.path(), kind.object("cr-1", spec=spec))
        assert refused.value.code == 422
        assert told in refused.value.message


EXPENSIVE = {
    "type": "array",
    "items": {
        "type": "array",
        "items": {"type": "string"},
        "x-kubernetes-validations": _rules("self.all(s, s == 'string constant')"),
    },
}
DEFINES = "MUST fail create of a custom resource definition that contains"


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        pytest.param(
            _with_spec(**{"properties": {"x": {"type": "integer"}}, "x-kubernetes-validations": _rules("self.z == 100")}),
            "undefined field 'z'",
            id=f"{DEFINES} a x-kubernetes-validations rule that refers to a property that do not exist",
        ),
        pytest.param(
            _with_spec(**{"x-kubernetes-validations": _rules("self = 42")}),
            "Syntax error",
            id=f"{DEFINES} an x-kubernetes-validations rule that contains a syntax error",
        ),
        pytest.param(
            _with_spec(properties={"x": EXPENSIVE}),
            "exceeds budget",
            id=f"{DEFINES} an x-kubernetes-validations rule that exceeds the estimated cost limit",
        ),
    ],
)
async def test_a_definition_with_a_bad_rule(e2e: E2eClient, schema: Object, told: str) -> None:
    with pytest.raises(Refused) as refused:
        await e2e.typed("POST", CRDS, crd_object(schema, ("v1beta1",), namespaced=True))
    assert refused.value.code == 422
    assert told in refused.value.message


async def test_a_transition_rule(e2e: E2eClient) -> None:
    """MUST fail update of a custom resource that does not satisfy a x-kubernetes-validations transition rule"""
    schema = _with_spec(properties={"num": {"type": "integer", "x-kubernetes-validations": _rules("self > oldSelf")}})
    async with custom_kind(e2e, schema, namespace=await e2e.namespace("crd-rules")) as kind:
        made = await e2e.dynamic("POST", kind.path(), kind.object("cr-1", spec={"num": 10}))
        worse = kind.object("cr-1", spec={"num": 9})
        worse["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"]
        with pytest.raises(Refused) as refused:
            await e2e.dynamic("PUT", kind.path("cr-1"), worse)
        assert refused.value.code == 422
        assert "failed rule" in refused.value.message
