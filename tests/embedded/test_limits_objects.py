"""What one request may cost: bodies, patches and expressions that would end the process, fill its memory or stop it are refused."""

import json
from typing import Any

import pytest

from raycp.embedded.errors import StatusError
from raycp.embedded.jsonpath import Visits, json_path
from raycp.embedded.patches import JSON_PATCH, apply_patch, json_patch, parse_apply
from raycp.embedded.strategy import schema_checks
from raycp.embedded.strategy.budget import validation_budget
from raycp.embedded.strategy.cel import CelRefused, CostExceeded, compile_rule
from raycp.embedded.strategy.decode import parse_json, parse_yaml
from raycp.embedded.strategy.depth import MAX_DEPTH
from raycp.embedded.strategy.expressions import PATTERN_LIMIT, RULE_LIMIT
from raycp.embedded.strategy.kinds.cluster import crds
from raycp.embedded.strategy.patterns import MatchTooCostly, Pattern, PatternRefused
from raycp.embedded.strategy.scalars import Malformed, canonical_quantity, parse_duration, parse_quantity
from raycp.embedded.strategy.schema_nodes import NO_OLD
from raycp.embedded.strategy.schema_rules import RuleSet
from raycp.embedded.strategy.yamldoc import MAX_VALUES

pytestmark = pytest.mark.timeout(60)
"""An expression without a bound would run for hours."""


def nested(depth: int) -> Any:
    value: Any = 1
    for number in range(depth):
        value = {"a": value} if number % 2 else [value]
    return value


# ---- bodies


@pytest.mark.parametrize("opener", [b"[", b"{a: ", b"- ", b"{? ", b"? - "])
def test_deeply_nested_yaml_is_refused(opener: bytes) -> None:
    with pytest.raises(StatusError, match=r"max depth of 200|map key") as caught:
        parse_yaml(opener * 50_000)
    assert caught.value.code == 400


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 600, 50_000])
def test_deeply_nested_json_is_refused(depth: int) -> None:
    body = b"[" * depth + b"]" * depth
    for read in (parse_json, parse_apply):
        with pytest.raises(StatusError) as caught:
            read(body)
        assert caught.value.code == 400


def test_depth_at_the_limit_is_read_in_both_languages() -> None:
    value = nested(MAX_DEPTH)
    body = json.dumps(value).encode()
    assert parse_json(body) == value
    assert parse_yaml(body)[0] == value


def test_aliases_that_multiply_are_refused() -> None:
    lines = [b"a: &a [x,x,x,x,x,x,x,x,x]"]
    lines += [b"%c: &%c [%b]" % (c, c, b",".join([b"*%c" % (c - 1)] * 9)) for c in range(ord("b"), ord("j"))]
    with pytest.raises(StatusError, match="excessive aliasing"):
        parse_yaml(b"\n".join(lines))


def test_aliases_are_copies_and_add_their_depth() -> None:
    found, _ = parse_yaml(b"a: &a {x: [1]}\nb: *a\nc:\n  <<: *a\n  y: 2\n")
    assert found == {"a": {"x": [1]}, "b": {"x": [1]}, "c": {"x": [1], "true": 2}}
    found["a"]["x"].append(2)
    assert found["b"]["x"] == [1], "two fields of an object share nothing"
    deep = json.dumps(nested(MAX_DEPTH - 2))
    with pytest.raises(StatusError, match="max depth"):
        parse_yaml(b"- &a %b\n- [[[*a]]]" % deep.encode())
    with pytest.raises(StatusError, match="contains itself"):
        parse_yaml(b"&a [*a]")


def test_yaml_of_too_many_values_is_refused() -> None:
    with pytest.raises(StatusError, match="send it as JSON"):
        parse_yaml(b"- a\n" * (MAX_VALUES + 1))


# ---- JSON patch


def operation(op: str, path: str, **more: Any) -> dict[str, Any]:
    return {"op": op, "path": path, **more}


def test_copies_of_a_json_patch_are_bounded_by_their_size() -> None:
    patch = [operation("copy", "/data/b", **{"from": "/data/a"})]
    for _ in range(40):
        patch += [operation("copy", "/data/a/x", **{"from": "/data/b"}), operation("copy", "/data/b/x", **{"from": "/data/a"})]
    with pytest.raises(json_patch.JsonPatchFailed, match="accumulated size increase of copy is"):
        json_patch.apply({"data": {"a": {"y": "z" * 1000}}}, patch)


def test_copies_that_nest_are_refused_by_depth(kind: Any) -> None:
    patch = json.dumps([operation("copy", "/data/a", **{"from": "/data"}) for _ in range(300)]).encode()
    with pytest.raises(StatusError, match="max depth") as caught:
        apply_patch(kind, JSON_PATCH, {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {}, "data": {}}, patch)
    assert caught.value.code == 422


@pytest.fixture
def kind() -> Any:
    from raycp.embedded.registry import Registry
    from raycp.embedded.store import ObjectStore

    found = Registry(ObjectStore()).find("", "v1", "configmaps")
    assert found is not None
    return found.info


def test_a_json_patch_has_at_most_ten_thousand_operations(kind: Any) -> None:
    patch = json.dumps([operation("test", "/kind", value="ConfigMap")] * 10_001).encode()
    with pytest.raises(StatusError, match="maximum operations in a JSON patch is 10000, got 10001") as caught:
        apply_patch(kind, JSON_PATCH, {"kind": "ConfigMap", "metadata": {}}, patch)
    assert caught.value.code == 413


def test_operations_cost_no_copy_of_the_document() -> None:
    """10 000 moves of a large part, and 10 000 insertions into a long list: each was a copy of it."""
    document = {"a": {"large": [{"x": i} for i in range(20_000)]}, "list": list(range(50_000))}
    patch = [operation("move", "/b" if i % 2 == 0 else "/a", **{"from": "/a" if i % 2 == 0 else "/b"}) for i in range(5_000)]
    patch += [operation("add", "/list/0", value=i) for i in range(5_000)]
    made = json_patch.apply(document, patch)
    assert made["a"] is document["a"]
    assert len(made["list"]) == 55_000
    assert len(document["list"]) == 50_000


def test_an_index_is_a_number_of_go() -> None:
    for index in ("9" * 5_000, "²", "+1"):
        with pytest.raises(json_patch.JsonPatchFailed, match="invalid syntax"):
            json_patch.apply({"a": [1]}, [operation("remove", f"/a/{index}")])


# ---- patterns


def errors_of(schema: dict[str, Any], value: Any) -> list[str]:
    found: list[Any] = []
    with validation_budget():
        schema_checks.compile_check(schema)(value, NO_OLD, "spec", found)
    return [error.message for error in found]


def test_patterns_do_not_backtrack() -> None:
    schema = {"type": "string", "pattern": "^(a+)+$"}
    assert errors_of(schema, "a" * 50_000) == []
    (told,) = errors_of(schema, "a" * 50_000 + "b")
    assert "should match '^(a+)+$'" in told


@pytest.mark.parametrize("pattern", ["(?=a)b", r"(a)\1", "(?<!a)b", "a{1001}", "["])
def test_patterns_are_those_of_go(pattern: str) -> None:
    with pytest.raises(PatternRefused):
        Pattern(pattern)
    found: list[Any] = []
    schema = {"type": "object", "properties": {"x": {"type": "string", "anyOf": [{"pattern": pattern}]}}}
    crds.validate(crd(schema), found)
    assert [error.field for error in found] == ["spec.validation.openAPIV3Schema.properties[x].anyOf[0].pattern"]


def test_a_match_may_cost_so_much_and_no_more() -> None:
    """RE2 takes the product of pattern and text at worst, which is seconds here."""
    many = {"type": "array", "items": {"type": "string", "pattern": "^x|a.{1000}c$"}}
    assert errors_of(many, ["x"]) == []
    told = errors_of(many, ["ab" * 40_000] * 4)
    assert any("too large to be compared" in text for text in told)


def test_each_of_many_matches_is_paid_for() -> None:
    with validation_budget():
        assert len(Pattern("x").each("x" * 1_000)) == 1_000
        with pytest.raises(MatchTooCostly):
            Pattern("").each("x" * 1_000_000)


def crd(schema: dict[str, Any]) -> dict[str, Any]:
    names = {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    spec = {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version]}
    return {"metadata": {"name": "things.example.com"}, "spec": {**spec, "conversion": {"strategy": "None"}}}


def test_all_patterns_and_rules_of_a_crd_are_bounded() -> None:
    found: list[Any] = []
    one = {"type": "string", "pattern": ".{1,800}"}
    crds.validate(crd({"type": "object", "properties": {f"p{i}": one for i in range(PATTERN_LIMIT // 6_000)}}), found)
    assert "instructions together" in found[0].message
    assert len(found) == 1
    found = []
    rule = {"rule": "self == '" + "x" * 1_000 + "'"}
    fields = {f"p{i}": {"type": "string", "x-kubernetes-validations": [rule]} for i in range(RULE_LIMIT // 1_000 + 1)}
    crds.validate(crd({"type": "object", "properties": fields}), found)
    (only,) = found
    assert only.message == f"Forbidden: the CEL expressions of a CRD may have {RULE_LIMIT} characters together"


def test_lists_that_are_sets_and_enums_are_compared_by_lookup() -> None:
    """Each was quadratic: hours for a body of the largest size."""
    assert errors_of({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "integer"}}, list(range(60_000))) == []
    (told,) = errors_of({"type": "array", "x-kubernetes-list-type": "set", "items": {}}, [{"a": 1, "b": 2}, {"b": 2, "a": 1}])
    assert "Duplicate value" in told
    texts = [f"v{i}" for i in range(60_000)]
    assert errors_of({"type": "array", "items": {"type": "string", "enum": texts}}, texts) == []
    assert errors_of({"enum": [1, {"a": 1}]}, {"a": 1}) == []
    assert errors_of({"enum": [1, {"a": 1}]}, True) != []


# ---- CEL


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        ("self.all(x, self.all(y, self.all(z, x + y + z >= 0)))", list(range(400))),
        ("self.map(x, self.map(y, [x, y])).size() > 0", list(range(2_000))),
        ("self.replace('a', self).replace('a', self).size() > 0", "a" * 100_000),
        ("[self, self, self, self].map(x, x + x + x).join(self).size() > 0", "a" * 1_000_000),
        ("self.all(x, self == self)", list(range(20_000))),
        ("self.split('').all(x, self.matches('(a|aa)+$'))", "a" * 5_000),
        ("self.lastIndexOf(self + 'b') > 0", "a" * 100_000),
        ("self.map(x, 'y').map(x, self).isSorted() || self.all(x, self.all(y, self.sum() > x))", list(range(3_000))),
    ],
)
def test_a_rule_may_cost_so_much_and_no_more(rule: str, value: Any) -> None:
    with pytest.raises(CostExceeded):
        compile_rule(rule).holds(value)


def test_negation_is_evaluated_once() -> None:
    assert compile_rule("-(" * 40 + "self" + ")" * 40 + " == self").holds(3) is True


@pytest.mark.parametrize("rule", ["(" * 5_000 + "1" + ")" * 5_000, "+".join(["1"] * 20_000) + " > 0", "!" * 5_000 + "true"])
def test_a_rule_is_no_deeper_than_the_stack(rule: str) -> None:
    with pytest.raises(CelRefused, match="recursion limit"):
        compile_rule(rule)


def told(rules: list[str], value: Any) -> list[str]:
    found: list[Any] = []
    with validation_budget():
        RuleSet({"x-kubernetes-validations": [{"rule": rule} for rule in rules]}).check(value, NO_OLD, "spec", found)
    return [error.message for error in found]


def test_no_rule_runs_after_one_that_cost_too_much() -> None:
    heavy = "self.all(x, self.all(y, x + y >= 0))"
    (only,) = told([heavy, "false"], list(range(2_000)))
    assert "no further validation rules will be run due to call cost exceeds limit for rule: " + heavy in only
    spent = told([heavy] * 5 + ["false"], list(range(300)))
    assert spent[-1].endswith("validation failed due to running out of cost budget, no further validation rules will be run")
    assert len(spent) == 1


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("1e9999999999", str(2**63 - 1)),
        ("1e-9999999999", "1e-9"),
        ("9" * 1_000_000, str(2**63 - 1)),
        ("0." + "0" * 1_000_000 + "1", "1n"),
        ("1." + "0" * 1_000_000 + "1", "1000000001n"),
        ("0e9999999999", "0"),
    ],
)
def test_a_quantity_is_computed_to_few_digits(text: str, canonical: str) -> None:
    """Each took minutes, in any Pod's requests: ``ParseQuantity`` caps them."""
    assert canonical_quantity(text) == canonical


def test_an_expression_is_no_longer_than_cel_go_takes() -> None:
    with pytest.raises(CelRefused, match=r"expression code point size exceeds limit: size: 100002, limit 100000"):
        compile_rule("'" + "a" * 100_000 + "'")


@pytest.mark.parametrize("parse", [parse_duration, parse_quantity])
def test_scalars_are_refused_in_linear_time(parse: Any) -> None:
    """Each took hours: the digits were split in all ways."""
    with pytest.raises(Malformed):
        parse("1" * 1_000_000 + "x")


def test_a_path_of_a_printer_column_leads_to_so_many_values_and_no_more() -> None:
    """``..a..a..a`` has a value for each way through nested maps: the author of a CRD stopped the server."""
    deep: Any = 1
    for _ in range(MAX_DEPTH - 2):
        deep = {"a": deep}
    wide = {"spec": {"items": [{"name": f"n{number}", "on": number % 2 == 0} for number in range(200)]}}
    for path in ("..a..a..a..a..a..a", "..a..*..a", ".a" + "..a" * 50, "[?(@..a..a..a == 1)]..a..a..a"):
        assert json_path(deep, path) == []
    assert len(json_path(deep, "..a")) == MAX_DEPTH - 2
    assert len(json_path(wide, ".spec.items[*].name")) == len(json_path(wide, "..name")) == 200
    assert json_path(wide, ".spec.items[?(@.name=='n7')].on") == [False]
    shared = Visits(1_000)
    assert len(json_path(wide, ".spec.items[*].name", shared)) == 200
    assert json_path(wide, ".spec.items[*].name", shared) == [], "the columns of a row share what is left"
