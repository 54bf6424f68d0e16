"""Kubernetes' e2e specs of CRDValidationRatcheting: an update may keep what a later schema would refuse."""

import itertools
import json

import pytest
from e2e_typed import JSON, Object, Refused, TypedClient, until

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
PLACES = {"field", "struct.field", "list[0].field", "list[1].field"}


class Ratchet:
    """A CRD whose schema changes, and one object of it that is applied."""

    _numbers = itertools.count(1)

    def __init__(self, typed: TypedClient) -> None:
        self._typed = typed
        self._plural = f"e2e-test-{next(self._numbers)}-crds"
        self._changes = itertools.count(1)
        names = {"plural": self._plural, "singular": self._plural[:-1], "kind": "RatchetTest", "listKind": "RatchetTestList"}
        self._group = f"{self._plural}.example.com"
        crd: Object = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"}
        crd["metadata"] = {"name": f"{self._plural}.{self._group}"}
        schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
        crd["spec"] = {"group": self._group, "scope": "Namespaced", "names": names, "versions": [version]}
        typed.create(CRDS, crd)
        self.own = f"{CRDS}/{crd['metadata']['name']}"
        until(lambda: "Established" in str(typed.get(self.own)["status"].get("conditions")), "the CRD is not established")

    def apply(self, name: str, obj: Object) -> Object:
        """Raises ``Refused``."""
        metadata = {"namespace": "default", **obj.get("metadata", {}), "name": name}
        body = {**obj, "apiVersion": f"{self._group}/v1", "kind": "RatchetTest", "metadata": metadata}
        path = f"/apis/{self._group}/v1/namespaces/default/{self._plural}/{name}?fieldManager=manager"
        applied: Object = self._typed.ask("PATCH", path, json.dumps(body).encode(), "application/apply-patch+yaml", JSON)
        return applied

    def change(self, properties: Object) -> None:
        """A new schema, in force: a field that it alone refuses says so."""
        sentinel = f"schema-{next(self._changes)}"
        schema = {"type": "object", "properties": {**properties, "sentinel": {"type": "string", "enum": [sentinel]}}}
        new = {"openAPIV3Schema": schema}
        self._typed.change(self.own, lambda crd: crd["spec"]["versions"][0].update(schema=new))
        # never stored: its metadata is wrong as well
        metadata = {"finalizers": ["unqualified-finalizer"], "labels": {"#inv/($%)/alid=": ">htt$://"}}
        tried = {"metadata": metadata, "sentinel": "another"}
        until(lambda: sentinel in self._refusal(tried), "the schema is not in force")

    def _refusal(self, obj: Object) -> str:
        try:
            self.apply("sentinel-resource", obj)
        except Refused as refused:
            return str(refused)
        raise AssertionError("the sentinel was accepted")


@pytest.fixture
def ratchet(typed: TypedClient) -> Ratchet:
    return Ratchet(typed)


ENUM = {"enum": ["good"]}
RULE = {"x-kubernetes-validations": [{"rule": 'self == "good"'}]}


def correlatable(field: Object) -> Object:
    """Properties whose old and new values belong together, each with ``field``, of strings, in them."""
    inner = {"field": {"type": "string", **field}, "otherField": {"type": "string"}}
    keyed = {"type": "object", "properties": {"key": {"type": "string"}, **inner}, "required": ["key"]}
    return {
        **inner,
        "struct": {"type": "object", "properties": inner},
        "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["key"], "items": keyed},
        "map": {"type": "object", "additionalProperties": {"type": "object", "properties": inner}},
    }


def filled(**fields: str) -> Object:
    return {
        **fields,
        "struct": fields,
        "list": [{"key": "foo", **fields}, {"key": "bar", **fields}],
        "map": {"foo": fields, "bar": fields},
    }


def uncorrelatable(items: Object) -> Object:
    of = {"type": "array", "items": {"type": "string", **items}}
    return {"atomicArray": of, "setArray": {**of, "x-kubernetes-list-type": "set"}}


LABELLED = {"metadata": {"labels": {"foo": "bar"}}}
BOTH_KINDS = pytest.mark.parametrize("check", [ENUM, RULE], ids=["JSONSchema", "CRD Validation Rule"])


@BOTH_KINDS
def test_must_not_fail_to_update_a_resource_due_to_errors_on_unchanged_correlatable_fields(ratchet: Ratchet, check: Object) -> None:
    ratchet.apply("test-resource", filled(field="bad"))
    ratchet.change(correlatable(check))
    ratchet.apply("test-resource", {**filled(field="bad"), **LABELLED})
    grown = filled(field="bad", otherField="doesntmatter")
    grown["list"].append({"key": "baz", "field": "good", "otherField": "doesntmatter"})
    found = ratchet.apply("test-resource", grown)
    assert found["struct"] == {"field": "bad", "otherField": "doesntmatter"}
    assert found["list"] == grown["list"]


@BOTH_KINDS
def test_must_fail_to_update_a_resource_due_to_errors_on_unchanged_uncorrelatable_fields(ratchet: Ratchet, check: Object) -> None:
    values = ["foo", "bar", "baz"]
    ratchet.apply("test-resource", {"setArray": values, "atomicArray": values})
    ratchet.change(uncorrelatable(check))
    values = [*values, "good"]
    with pytest.raises(Refused) as refused:
        ratchet.apply("test-resource", {"setArray": values, "atomicArray": values, **LABELLED})
    assert "atomicArray" in str(refused.value)
    assert "setArray" in str(refused.value)


@BOTH_KINDS
def test_must_fail_to_update_a_resource_due_to_errors_on_changed_fields(ratchet: Ratchet, check: Object) -> None:
    ratchet.apply("test-resource", filled(field="good"))
    ratchet.change(correlatable(check))
    with pytest.raises(Refused) as refused:
        ratchet.apply("test-resource", filled(field="bad"))
    of_map = {"map[foo].field", "map[bar].field"} if check is RULE else {"map.foo.field", "map.bar.field"}
    assert places(refused.value) >= PLACES | of_map


def places(refused: Refused) -> set[str]:
    return {each["field"] for each in refused.status["details"]["causes"]}


def bounded(rule: Object) -> Object:
    """``correlatable`` for a rule that costs much."""
    made = correlatable({"maxLength": 5, "x-kubernetes-validations": [rule]})
    made["list"]["maxItems"] = made["map"]["maxProperties"] = 5
    return made


def test_must_not_ratchet_errors_raised_by_transition_rules(ratchet: Ratchet) -> None:
    ratchet.apply("test-resource", filled(field="foo"))
    ratchet.change(bounded({"rule": "self != oldSelf"}))
    with pytest.raises(Refused) as refused:
        ratchet.apply("test-resource", {**filled(field="foo"), **LABELLED})
    assert places(refused.value) >= PLACES | {"map[foo].field", "map[bar].field"}


def test_must_evaluate_a_crd_validation_rule_with_oldself_nil_for_new_values_when_optionaloldself_is_true(ratchet: Ratchet) -> None:
    ratchet.change(bounded({"rule": "!oldSelf.hasValue() || self != oldSelf.value()", "optionalOldSelf": True}))
    ratchet.apply("test-resource", filled(field="foo"))
    with pytest.raises(Refused) as refused:
        ratchet.apply("test-resource", {**filled(field="foo"), **LABELLED})
    assert places(refused.value) >= PLACES | {"map[foo].field", "map[bar].field"}
    ratchet.apply("test-resource", filled(field="new"))
