"""Custom resources: CRDs, structural schemas, CEL, printer columns, OpenAPI."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from raycp.embedded import crdconditions
from raycp.embedded.ages import duration
from raycp.embedded.errors import FieldError, StatusError
from raycp.embedded.jsonpath import json_path
from raycp.embedded.openapi import OpenApi
from raycp.embedded.patches import MERGE_PATCH, STRATEGIC, apply_patch
from raycp.embedded.resources import BUILTINS, ResourceInfo, resource_for_crd
from raycp.embedded.strategy import strategy
from raycp.embedded.strategy.cel import CelError, CelRefused, compile_rule
from raycp.embedded.table import table_columns, table_row

KINDS = {(info.group, info.kind): info for info in BUILTINS}
NOW = "2026-01-01T00:00:00Z"
CRD = KINDS["apiextensions.k8s.io", "CustomResourceDefinition"]


def definition(spec: dict[str, Any], **version: Any) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {"spec": spec, "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
    }
    one = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}, **version}
    names = {"plural": "widgets", "kind": "Widget"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [one]},
    }


def accept(crd: dict[str, Any]) -> tuple[dict[str, Any], list[FieldError]]:
    own = strategy(CRD)
    made, _ = own.decode(json.dumps(crd).encode(), "application/json", "Strict")
    own.prepare_create(made, "T", None)
    return made, own.validate(made)


def widgets(spec: dict[str, Any], **version: Any) -> ResourceInfo:
    made, errors = accept(definition(spec, **version))
    assert not errors
    made["status"] = crdconditions.status_of(made, [], "T")
    return resource_for_crd(made, "v1")


def create(info: ResourceInfo, spec: Any, validation: str = "Warn") -> tuple[dict[str, Any], list[str], list[FieldError]]:
    raw = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": spec, "status": {"a": 1}}
    own = strategy(info)
    made, warnings = own.decode(json.dumps(raw).encode(), "application/json", validation)
    own.prepare_create(made, NOW, "ns")
    return made, warnings, own.validate(made)


SIZED = {
    "type": "object",
    "required": ["size"],
    "properties": {
        "size": {"type": "integer", "minimum": 1, "maximum": 10},
        "color": {"type": "string", "enum": ["red", "blue"], "default": "red"},
        "list": {"type": "array", "items": {"type": "string", "minLength": 1}, "maxItems": 2},
        "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        "port": {"x-kubernetes-int-or-string": True},
        "maybe": {"type": "string", "nullable": True},
        "keyed": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
            "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}},
        },
        "labels": {"type": "object", "additionalProperties": {"type": "string", "pattern": "^[a-z]+$"}},
    },
}


def test_pruning_and_defaulting() -> None:
    made, warnings, errors = create(widgets(SIZED), {"size": 3, "extra": 1, "any": {"x": 1}, "port": "http", "maybe": None})
    assert not errors
    assert warnings == ['unknown field "spec.extra"']
    assert made["spec"] == {"size": 3, "any": {"x": 1}, "port": "http", "maybe": None, "color": "red"}
    with pytest.raises(StatusError):
        create(widgets(SIZED), {"size": 3, "extra": 1}, "Strict")


@pytest.mark.parametrize(
    ("spec", "field", "reason"),
    [
        ({}, "spec.size", "FieldValueRequired"),
        ({"size": 0}, "spec.size", "FieldValueInvalid"),
        ({"size": "x"}, "spec.size", "FieldValueTypeInvalid"),
        ({"size": 1.5}, "spec.size", "FieldValueTypeInvalid"),
        ({"size": 2, "color": "green"}, "spec.color", "FieldValueNotSupported"),
        ({"size": 2, "list": ["a", "b", "c"]}, "spec.list", "FieldValueTooMany"),
        ({"size": 2, "list": ["a", ""]}, "spec.list[1]", "FieldValueInvalid"),
        ({"size": 2, "port": True}, "spec.port", "FieldValueTypeInvalid"),
        ({"size": 2, "keyed": [{"name": "a"}, {"name": "a"}]}, "spec.keyed[1]", "FieldValueDuplicate"),
        ({"size": 2, "labels": {"a": "B"}}, "spec.labels.a", "FieldValueInvalid"),
        (7, "spec", "FieldValueTypeInvalid"),
    ],
)
def test_validation_errors_have_causes(spec: Any, field: str, reason: str) -> None:
    assert [(e.field, e.type) for e in create(widgets(SIZED), spec)[2]] == [(field, reason)]


def test_unchanged_invalid_values_do_not_block_an_update() -> None:
    info = widgets(SIZED)
    own = strategy(info)
    old, _, _ = create(info, {"size": 11})
    new = {**old, "metadata": {**old["metadata"], "labels": {"a": "b"}}}
    assert own.validate(own.prepare_update(new, old, None), old) == []
    worse = {**old, "spec": {"size": 12}}
    assert own.validate(own.prepare_update(worse, old, None), old) != []


def test_status_and_generation() -> None:
    info = widgets(SIZED, subresources={"status": {}})
    own = strategy(info)
    old, _, _ = create(info, {"size": 1})
    assert "status" not in old
    made = own.prepare_update({**old, "spec": {"size": 9}, "status": {"r": 1}}, old, "status")
    assert (made["spec"], made["status"], made["metadata"]["generation"]) == (old["spec"], {"r": 1}, 1)
    made = own.prepare_update({**old, "metadata": dict(old["metadata"]), "spec": {"size": 9}}, old, None)
    assert made["metadata"]["generation"] == 2
    plain, _, _ = create(widgets(SIZED), {"size": 1})
    assert plain["status"] == {"a": 1}


RULES: list[dict[str, Any]] = [
    {"rule": "self.size <= self.max", "message": "size must not exceed max"},
    {"rule": "self.max == oldSelf.max", "message": "max is immutable"},
]


def test_cel_rules_of_a_crd() -> None:
    number = {"type": "integer"}
    info = widgets({"type": "object", "x-kubernetes-validations": RULES, "properties": {"size": number, "max": number}})
    assert [(e.field, e.type) for e in create(info, {"size": 3, "max": 2})[2]] == [("spec", "FieldValueInvalid")]
    old, _, errors = create(info, {"size": 1, "max": 2})
    assert not errors
    own = strategy(info)
    new = own.prepare_update(apply_patch(info, MERGE_PATCH, old, b'{"spec":{"max":9}}'), old, None)
    found = own.validate(new, old)
    assert [e.field for e in found] == ["spec"]
    assert "max is immutable" in found[0].message


@pytest.mark.parametrize(
    ("rule", "value", "result"),
    [
        ("self.all(x, x > 0)", [1, 2], True),
        ("self.exists(x, x == 'a')", ["b"], False),
        ("self.filter(x, x > 1).map(x, x * 2) == [4]", [1, 2], True),
        ("has(self.a) ? self.a.startsWith('x') : true", {}, True),
        ("self.a.b.size() == 2 && 'k' in self.a.b", {"a": {"b": {"k": 1, "l": 2}}}, True),
        ("self.a / 2 == 2 && self.a % 2 == 1", {"a": 5}, True),
        ("!(self.s.matches('^a+$')) || self.s.lowerAscii() != self.s", {"s": "aa"}, False),
        ("duration('1h') > duration('59m') && timestamp('2026-01-01T00:00:00Z') < timestamp('2026-01-02T00:00:00Z')", {}, True),
        ("self.missing == 1 || true", {}, True),
        ('self[0] == "\\u0041"', ["A"], True),
        ("self.__namespace__ == 'n' && self.a__dash__b == 1", {"namespace": "n", "a-b": 1}, True),
    ],
)
def test_cel_expressions(rule: str, value: Any, result: bool) -> None:
    assert compile_rule(rule).holds(value) is result


@pytest.mark.parametrize("rule", ["self.a <", "isURL(self)", "other == 1", "self.all(x)", "'unclosed"])
def test_unsupported_cel_is_refused(rule: str) -> None:
    with pytest.raises(CelRefused):
        compile_rule(rule)
    spec = {"type": "object", "x-kubernetes-validations": [{"rule": rule}], "properties": {}}
    fields = [error.field for error in accept(definition(spec))[1]]
    assert fields == ["spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule"]


def test_cel_evaluation_errors() -> None:
    with pytest.raises(CelError):
        compile_rule("self.a == 1").holds({})


@pytest.mark.parametrize(
    ("change", "field", "reason"),
    [
        ({"metadata": {"name": "other.example.com"}}, "metadata.name", "FieldValueInvalid"),
        ({"scope": "Galaxy"}, "spec.scope", "FieldValueNotSupported"),
        ({"versions": []}, "spec.versions", "FieldValueRequired"),
        ({"storage": False}, "spec.versions", "FieldValueInvalid"),
        ({"schema": None}, "spec.versions[0].schema.openAPIV3Schema", "FieldValueRequired"),
    ],
)
def test_invalid_crds_are_refused(change: dict[str, Any], field: str, reason: str) -> None:
    crd = definition(SIZED)
    for key, value in change.items():
        if key == "metadata":
            crd["metadata"] = value
        elif key in ("scope", "versions"):
            crd["spec"][key] = value
        else:
            crd["spec"]["versions"][0][key] = value
    assert (field, reason) in [(e.field, e.type) for e in accept(crd)[1]]


@pytest.mark.parametrize(
    ("schema", "tail"),
    [
        ({}, "properties[spec].type"),
        ({"type": "array"}, "properties[spec].items"),
        ({"type": "object", "properties": {"a": {"type": "string", "default": 7}}}, "properties[spec].properties[a].default"),
        (
            {"type": "array", "items": {"type": "object"}, "x-kubernetes-list-type": "map"},
            "properties[spec].x-kubernetes-list-map-keys",
        ),
        ({"type": "string", "pattern": "("}, "properties[spec].pattern"),
    ],
)
def test_schemas_must_be_structural(schema: dict[str, Any], tail: str) -> None:
    assert f"spec.validation.openAPIV3Schema.{tail}" in [e.field for e in accept(definition(schema))[1]]


def test_crd_names_are_accepted_once() -> None:
    first, _ = accept(definition(SIZED))
    assert first["status"] == {"conditions": None, "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": ["v1"]}
    first["status"] = crdconditions.status_of(first, [], "T")
    assert [(c["type"], c["status"]) for c in first["status"]["conditions"]] == [("NamesAccepted", "True"), ("Established", "True")]
    assert crdconditions.status_of(first, [], "T2") == first["status"]
    second = json.loads(json.dumps(first))
    second["metadata"]["name"] = "gadgets.example.com"
    second["spec"]["names"].update(plural="gadgets", singular="gadget")
    second["status"] = {}
    status = crdconditions.status_of(second, [first], "T")
    assert [(c["type"], c["status"]) for c in status["conditions"]] == [("NamesAccepted", "False"), ("Established", "False")]


def test_strategic_patches_are_not_for_custom_resources() -> None:
    with pytest.raises(StatusError) as refused:
        apply_patch(widgets(SIZED), STRATEGIC, {}, b"{}")
    assert refused.value.code == 415


def test_printer_columns() -> None:
    columns = [
        {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]
    info = widgets(SIZED, additionalPrinterColumns=columns)
    assert [column["name"] for column in table_columns(info)] == ["Name", "Size", "Age"]
    obj = {"metadata": {"name": "w", "creationTimestamp": "1970-01-01T00:00:00Z"}, "spec": {"size": 3}}
    assert table_row(info, obj, 130.0) == ["w", 3, "2m10s"]


def test_table_rows_match_their_columns() -> None:
    for info in BUILTINS:
        if "list" in info.verbs:
            obj = {
                "apiVersion": info.api_version,
                "kind": info.kind,
                "metadata": {"name": "x", "creationTimestamp": "1970-01-01T00:00:00Z"},
            }
            assert len(table_row(info, obj, 0.0)) == len(table_columns(info)), info


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".a.b", [1]),
        (".l[*].n", ["x", "y"]),
        (".l[-1].n", ["y"]),
        ('.l[?(@.n=="x")].v', [7]),
        (".m['a.b']", [2]),
        (".m.a\\.b", [2]),
        (".nope", []),
    ],
)
def test_json_paths(path: str, found: list[Any]) -> None:
    obj = {"a": {"b": 1}, "l": [{"n": "x", "v": 7}, {"n": "y"}], "m": {"a.b": 2}}
    assert json_path(obj, path) == found


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (119, "119s"), (125, "2m5s"), (3600, "60m"), (90000, "25h"), (864000, "10d")]
)
def test_durations(seconds: int, text: str) -> None:
    assert duration(seconds) == text


def test_openapi() -> None:
    info = widgets(SIZED)
    documents = OpenApi([*BUILTINS, info])
    index = documents.index()["paths"]
    assert index["apis/example.com/v1"]["serverRelativeURL"].startswith("/openapi/v3/apis/example.com/v1?hash=")
    for name in ("api/v1", "apis/apps/v1", "apis/example.com/v1"):
        raw = documents.document(name)
        assert raw is not None
        document = json.loads(raw)
        schemas = document["components"]["schemas"]
        text = raw.decode()
        for pointer in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
            assert pointer in schemas
    patch = document["paths"]["/apis/example.com/v1/namespaces/{namespace}/widgets/{name}"]["patch"]
    assert patch["x-kubernetes-group-version-kind"] == {"group": "example.com", "version": "v1", "kind": "Widget"}
    assert "fieldValidation" in [parameter["name"] for parameter in patch["parameters"]]
    assert documents.document("apis/nope/v1") is None


def test_openapi_survives_the_parser_of_client_go() -> None:
    """kube-openapi's types leave out what is empty, so that what has it is another document when it is read again."""
    documents = OpenApi([*BUILTINS, widgets(SIZED)])

    def empty(value: Any, path: str) -> Iterator[str]:
        if value in ([], {}) and not path.endswith(("default", "securityDefinitions")):
            yield path
        for key, one in value.items() if type(value) is dict else enumerate(value) if type(value) is list else ():
            yield from empty(one, f"{path}/{key}")

    for name in documents.index()["paths"]:
        found = json.loads(documents.document(name) or b"")
        schemas = found["components"]["schemas"]
        bare = [name for name, schema in schemas.items() if not schema]
        assert not bare
        assert list(empty(found["paths"], "paths")) == []
        assert [path for path in empty(schemas, "") if path.rsplit("/", 1)[1] in ("required", "properties", "enum", "items")] == []


def test_swagger_has_no_more_than_it_can_express() -> None:
    schema = {
        "type": "object",
        "required": ["size", "none"],
        "properties": {
            "size": {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]},
            "none": {"type": "string", "nullable": True},
            "rest": {"type": "object", "x-kubernetes-preserve-unknown-fields": True, "properties": {"a": {"type": "string"}}},
            "sub": {"type": "object", "x-kubernetes-embedded-resource": True, "properties": {"spec": {"type": "object"}}},
        },
    }
    documents = OpenApi([*BUILTINS, widgets(schema)])
    v2 = json.loads(documents.v2())
    assert v2["swagger"] == "2.0"
    spec = v2["definitions"]["com.example.v1.Widget"]["properties"]["spec"]
    assert spec["required"] == ["size"]
    fields = spec["properties"]
    assert fields["size"] == {"x-kubernetes-int-or-string": True}
    assert fields["none"] == {}
    assert fields["rest"] == {"x-kubernetes-preserve-unknown-fields": True}
    assert set(fields["sub"]["properties"]) == {"apiVersion", "kind", "metadata", "spec"}
    assert fields["sub"]["required"] == ["kind", "apiVersion"]
    assert v2["definitions"]["io.k8s.apimachinery.pkg.util.intstr.IntOrString"] == {"type": "string", "format": "int-or-string"}
    v3 = json.loads(documents.document("apis/example.com/v1") or b"")["components"]["schemas"]["com.example.v1.Widget"]
    assert v3["properties"]["spec"]["properties"]["rest"]["properties"] == {"a": {"type": "string"}}
