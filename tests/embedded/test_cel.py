"""CEL in Kubernetes' dialect: libraries, types with cel-go's words, estimated costs, and the rules of CRDs.

Expected costs are those of ``TestCostEstimation`` (apiextensions-apiserver, pkg/apiserver/schema/cel/compilation_test.go); texts
are those of cel-go's checker/errors.go; rules of CRDs as in Kubernetes' test/e2e/apimachinery/crd_validation_rules.go.
"""

from typing import Any

import pytest

from raycp.embedded.strategy.budget import validation_budget
from raycp.embedded.strategy.cel import CelError, CelRefused, check_expression, compile_rule
from raycp.embedded.strategy.cel.checker import Environment
from raycp.embedded.strategy.cel.declared import declare
from raycp.embedded.strategy.cel.estimate import estimate
from raycp.embedded.strategy.schema_nodes import NO_OLD
from raycp.embedded.strategy.schema_rules import RuleSet
from tests.embedded.test_objects_custom import accept, create, definition, widgets

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer"}
TYPED: Schema = {
    "type": "object",
    "properties": {
        "x": WHOLE,
        "s": TEXT,
        "r": {"type": "number"},
        "l": {"type": "array", "items": TEXT},
        "m": {"type": "object", "additionalProperties": WHOLE},
        "t": {"type": "string", "format": "date-time"},
        "d": {"type": "string", "format": "duration"},
        "b": {"type": "string", "format": "byte"},
        "o": {"type": "object", "properties": {"a": {"type": "boolean"}}},
        "either": {"x-kubernetes-int-or-string": True},
        "hidden": {"x-kubernetes-preserve-unknown-fields": True},
    },
}


@pytest.mark.parametrize(
    ("literal", "why"),
    [
        ("9223372036854775808", "invalid int literal"),
        ("-9223372036854775809", "invalid int literal"),
        ("0xffffffffffffffffff", "invalid int literal"),
        ("9" * 5000, "invalid int literal"),
        ("18446744073709551616u", "invalid uint literal"),
        ("1e999", "invalid double literal"),
        (r"'\ud800'", "invalid unicode code point"),
        (r"'\U0011ffff'", "invalid unicode code point"),
        ("duration('99999999h')", "invalid duration argument"),
    ],
)
def test_literals_that_no_value_has(literal: str, why: str) -> None:
    """Each is an error of the expression: as one of the server, it would fail whatever it is asked for."""
    with pytest.raises(CelRefused, match=why):
        check_expression(f"{literal} == {literal}", Environment({}))


def environment(schema: Schema, root: bool = False) -> Environment:
    declared = declare(schema, root)
    assert declared is not None
    named = declared.named("selfType")
    return Environment({"self": named.type, "oldSelf": named.type}, named.objects())


LIBRARIES = [
    "url('https://user@example.com:80/a b?k=v&k=w').getHost() == 'example.com:80' && url('/p').getHostname() == ''",
    "url('https://[::1]:80/').getHostname() == '::1' && url('https://h/').getPort() == '' && "
    "url('https://h/x?k=1').getQuery()['k'] == ['1']",
    "isURL('https://a/b') && isURL('/a') && !isURL('../a') && !isURL('') && url('https://a/b').getScheme() == 'https'",
    "ip('::1').family() == 6 && ip('127.0.0.1').isLoopback() && !isIP('1.2.3') && ip.isCanonical('127.0.0.1') && "
    "!ip.isCanonical('::0')",
    "!isIP('::ffff:1.2.3.4') && ip('10.0.0.1').isGlobalUnicast() && !ip('255.255.255.255').isGlobalUnicast()",
    "ip('fe80::1').isLinkLocalUnicast() && ip('224.0.0.1').isLinkLocalMulticast() && ip('0.0.0.0').isUnspecified()",
    "cidr('192.168.0.0/24').containsIP('192.168.0.1') && cidr('10.0.0.0/8').containsCIDR(cidr('10.1.0.0/16'))",
    "!cidr('10.0.0.0/8').containsCIDR('0.0.0.0/0') && !cidr('::/0').containsIP(ip('1.1.1.1')) && !isCIDR('10.0.0.0/33')",
    "cidr('192.168.1.5/24').ip() == ip('192.168.1.5') && string(cidr('192.168.1.5/24').masked()) == '192.168.1.0/24'",
    "quantity('1Gi') == quantity('1024Mi') && quantity('1').add(1).compareTo(quantity('2')) == 0 && quantity('50k').isInteger()",
    "quantity('1').sub(quantity('2')).sign() == -1 && !isQuantity('1 G') && quantity('100m').asApproximateFloat() == 0.1",
    "quantity('1G').isLessThan(quantity('1Gi')) && quantity('5').asInteger() == 5 && !quantity('500m').isInteger()",
    "semver('1.2.3').isGreaterThan(semver('1.2.3-rc.2')) && semver('1.0.0-rc.2').isLessThan(semver('1.0.0-rc.10'))",
    "semver('v01.2', true).minor() == 2 && !isSemver('v1.2.3') && isSemver('v1', true) && "
    "semver('1.0.0+a').compareTo(semver('1.0.0')) == 0",
    "!format.dns1123Label().validate('a-b').hasValue() && format.dns1123Label().validate('A').value().size() == 1",
    "format.named('uuid').value().validate('x').value()[0] == 'does not match the UUID format' && !format.named('nope').hasValue()",
    "!format.dns1035LabelPrefix().validate('a-').hasValue() && format.dns1035Label().validate('a-').hasValue()",
    "sets.contains([1, 2, 3], [2]) && sets.equivalent([1, 1], [1]) && !sets.intersects([1], [2]) && sets.contains([], [])",
    "[3, 1, 2].sort() == [1, 2, 3] && ['bb', 'a'].sortBy(x, size(x)) == ['a', 'bb'] && [1, 2].reverse() == [2, 1]",
    "[1, 2, 3].slice(1, 3) == [2, 3] && [[1], [2]].flatten() == [1, 2] && [1, 1, 2].distinct() == [1, 2] && "
    "lists.range(2) == [0, 1]",
    "[2, 1].min() == 1 && [1.5, 2.0].sum() == 3.5 && ['a', 'b'].isSorted() && ['a', 'b', 'a'].lastIndexOf('a') == 2",
    "'a1b22'.findAll('[0-9]+') == ['1', '22'] && 'a1b22'.findAll('[0-9]+', 1) == ['1'] && 'abc'.find('x') == ''",
    "'%s is %d of %.1f %x %%'.format(['a', 3, 2.55, 255]) == 'a is 3 of 2.5 ff %' && '%s'.format([[1, 'b']]) == '[1, b]'",
    "'-'.lowerAscii().charAt(0) == '-' && 'tacocat'.lastIndexOf('a', 4) == 1 && strings.quote('a\"') == '\"a\\\\\"\"'",
    "duration('90m').getMinutes() == 90 && timestamp('2026-03-01T10:30:00Z').getHours('+02:00') == 12",
    "timestamp('2026-03-01T10:30:00Z').getDayOfWeek() == 0 && timestamp('2026-03-01T10:30:00Z').getMonth() == 2",
    "timestamp(0).getFullYear() == 1970 && int(timestamp('1970-01-01T00:00:05Z')) == 5 && "
    "type(dyn(duration('1s'))) != type(dyn(1))",
    "{'a': 1}.all(k, v, k == 'a' && v == 1) && [1, 2].exists(i, v, i == 1 && v == 2) && [1].existsOne(i, v, v == 1)",
    "[1, 2].transformList(i, v, i + v) == [1, 3] && {'a': 1}.transformMap(k, v, v + 1) == {'a': 2}",
    "[1, 2, 3].transformList(i, v, v > 1, v) == [2, 3] && {'a': 'b'}.transformMapEntry(k, v, {v: k}) == {'b': 'a'}",
    "optional.of(1).optMap(x, x + 1).value() == 2 && !optional.none().hasValue() && "
    "optional.none().or(optional.of(2)).orValue(0) == 2",
    "{'a': {'b': 1}}.?a.?b.orValue(0) == 1 && [1][?3].orValue(7) == 7 && [?optional.none(), 2] == [2] && "
    "{?'a': optional.of(1)}.size() == 1",
    "1u + 2u == 3u && 2 > 1u && 1.0 >= 1 && uint(3) / 2u == 1u && -7 % 3 == -1",
    "'%d %s %f %s %s'.format([1, 'abc', 1.0, duration('1m'), timestamp('2000-01-01T00:00:00.000Z')]) == "
    "'1 abc 1.000000 60s 2000-01-01T00:00:00Z'",
    "'%e'.format([3.14]) == '3.140000×10⁰⁰' && '%o %o %b'.format([7, 8, 9]) == '7 10 1001' && "
    "string(10.49) == '10.49' && string(10.0) == '10'",
    "type(duration('1s')) == google.protobuf.Duration && type(dyn(timestamp(0))) == google.protobuf.Timestamp && "
    "string(duration('90m')) == '5400s'",
    "type('a') == string && type([]) == list && type(1u) == uint && type(null) == null_type",
    "'tacocat'.substring(4) == 'cat' && 'tacocat'.substring(7) == '' && 'hello'.charAt(5) == '' && 'TÉ'.lowerAscii() == 'tÉ'",
    "'a b c'.split(' ', 0) == [] && 'a b c'.split(' ', 2) == ['a', 'b c'] && 'abc'.split('', 2) == ['a', 'bc']",
    "''.split('') == [] && ''.split(',') == [''] && 'a,b'.split(',', -1) == ['a', 'b']",
    "'hello mellow'.indexOf('ello', 20) == -1 && 'hello mellow'.lastIndexOf('ello', 6) == 1 && "
    "'hello mellow'.lastIndexOf('ello', 20) == -1 && ''.lastIndexOf('x') == -1 && 'abc'.lastIndexOf('') == 3",
    "'hello'.replace('l', 'w', 1) == 'hewlo' && 'hello'.replace('l', '', 9223372036854775807) == 'heo'",
    "-9223372036854775808 < 0 && int('+5') == 5 && bool('T') && !bool('F') && 'té'.upperAscii() == 'Té'",
    "uint('18446744073709551615') == 18446744073709551615u",
    "{1: 2}[1] == 2 && {1: 2}[dyn(1u)] == 2 && 1 in {1: 2} && !(dyn(1) in {true: 1}) && [1, 2][dyn(1.0)] == 2",
    "b'\\xff'.size() == 1 && b'\\u00ff'.size() == 2 && '\\xff' == 'ÿ'",
]


@pytest.mark.parametrize("rule", LIBRARIES)
def test_libraries_and_macros_of_kubernetes(rule: str) -> None:
    assert check_expression(rule, Environment({})).result.name in ("bool", "dyn")
    assert compile_rule(rule).holds(None) is True


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ("ip('1.2.3.4.5') == ip('1.1.1.1')", 'IP Address "1.2.3.4.5" parse error during conversion from string'),
        ("ip('fe80::1%eth0').family() == 6", 'IP address "fe80::1%eth0" with zone value is not allowed'),
        ("cidr('10.0.0.0').prefixLength() == 8", "network address parse error during conversion from string"),
        ("quantity('x').sign() == 0", "quantities must match the regular expression"),
        ("optional.none().value()", "optional.none() dereference"),
        ("[1].slice(0, 3) == []", "cannot slice(0, 3), list is length 1"),
        ("[1, 'a'].sort() == []", "list elements must have the same type"),
        ("'%d'.format(['a']) == ''", "error during formatting"),
        ("'%.2000f'.format([1.0]) == ''", "exceeds maximum allowed precision"),
        ("1u - 2u == 0u", "unsigned integer overflow"),
        ("timestamp('2026-01-01T00:00:00Z').getHours('Nowhere/Else') == 1", "unknown time zone Nowhere/Else"),
        ("'tacocat'.substring(-1) == ''", "index out of range: -1"),
        ("'tacocat'.substring(8) == ''", "index out of range: 8"),
        ("'tacocat'.substring(2, 1) == ''", "invalid substring range. start: 2, end: 1"),
        ("'abc'.indexOf('b', -1) == 1", "index out of range: -1"),
        ("'abc'.lastIndexOf('b', -1) == 1", "index out of range: -1"),
        ("int('1_0') == 10", 'strconv.ParseInt: parsing "1_0": invalid syntax'),
        ("int(' 1') == 1", "invalid syntax"),
        ("int('9223372036854775808') == 1", "value out of range"),
        (f"int('{'9' * 5000}') == 1", "value out of range"),
        ("uint('+5') == 5u", "strconv.ParseUint"),
        ("double('1_0') == 10.0", "strconv.ParseFloat"),
        ("string(b'\\xff') == ''", "invalid UTF-8 in bytes"),
        ("-9223372036854775808 / -1 == 0", "integer overflow"),
        ("timestamp('9999-12-31T23:59:59Z') + duration('1h') == timestamp(0)", "timestamp overflow"),
        ("duration('2562047h') + duration('2562047h') == duration('1h')", "duration overflow"),
        ("dyn('x') + duration('1h') == timestamp(0)", "no such overload"),
        ("dyn({}) - timestamp(0) == duration('1h')", "no such overload"),
        ("-dyn({'a': 1}) == 1", "no such overload"),
        ("lists.range(dyn('x')) == []", "no such overload"),
        ("timestamp(0).getHours('-99:99') == 1", "no such overload"),
    ],
)
def test_what_libraries_refuse(rule: str, why: str) -> None:
    with pytest.raises(CelError) as refused:
        compile_rule(rule).holds(None)
    assert why in str(refused.value)


@pytest.mark.parametrize(
    ("rule", "place", "why"),
    [
        ("self.z == 100", "1:5", "undefined field 'z'"),
        ("self.x > '1'", "1:8", "found no matching overload for '_>_' applied to '(int, string)'"),
        ("'a' + self.x", "1:5", "found no matching overload for '_+_' applied to '(string, int)'"),
        ("self.s.startsWith(1)", "1:18", "found no matching overload for 'startsWith' applied to 'string.(int)'"),
        ("self.l.all(i, i == 1)", "1:17", "found no matching overload for '_==_' applied to '(string, int)'"),
        (
            "self.x.all(i, true)",
            "1:5",
            "expression of type 'int' cannot be range of a comprehension (must be list, map, or dynamic)",
        ),
        ("self.x.y == 1", "1:7", "type 'int' does not support field selection"),
        ("[1, 'a'].size() > 0", "1:5", "expected type 'int' but found 'string'"),
        ("self.s.matches(')')", "1:16", "invalid matches argument"),
        ("duration('1d') == self.d", "1:10", "invalid duration argument"),
        ("timestamp('1000-00-00T00:00:00Z') == self.t", "1:11", "invalid timestamp argument"),
        ("self.x && true", "1:5", "expected type 'bool' but found 'int'"),
        ("other == 1", "1:1", "undeclared reference to 'other' (in container '')"),
        ("self.s.frobnicate()", "1:18", "undeclared reference to 'frobnicate' (in container '')"),
        ("self.hidden == 1", "1:5", "undefined field 'hidden'"),
        ("has(self.o.q)", "1:4", "undefined field 'q'"),
        ("self.m.all(k, k > 1)", "1:17", "found no matching overload for '_>_' applied to '(string, int)'"),
        ("self.?o.?q.orValue(true)", "1:8", "undefined field 'q'"),
        ("self.t > self.d", "1:8", "found no matching overload for '_>_' applied to '(timestamp, duration)'"),
        ("self.o == null || self.x == null", "1:26", "found no matching overload for '_==_' applied to '(int, null)'"),
    ],
)
def test_types_are_checked_with_the_words_of_cel_go(rule: str, place: str, why: str) -> None:
    with pytest.raises(CelRefused) as refused:
        check_expression(rule, environment(TYPED))
    first = str(refused.value).splitlines()
    assert first[0] == f"compilation failed: ERROR: <input>:{place}: {why}"
    assert first[1:3] == [f" | {rule}", " | " + "." * (int(place[2:]) - 1) + "^"]


@pytest.mark.parametrize(
    "rule",
    [
        "self.either == 3 || self.either == 'a' || type(self.either) == string",
        "self.t - self.t < duration('1h') && self.d > duration('1s') && size(self.b) > 1",
        "self.r > 1 && self.x < 1.5 && self.r * 2.0 > 1.0",
        "self.?o.?a.orValue(false) && self.o.a && has(self.o.a) && self == oldSelf",
        "self.l.map(i, size(i)).sum() > 2 && self.l + [] == [] && self.m['a'] == 1",
        "size(self.s) == 0 || format.dns1123Label().validate(self.s) == null || self.o == null",
        "self.l.exists(i, i in ['a']) && dyn(self.x) == 'a' && [] == self.l",
        "self.l.filter(i, i != '').transformMap(i, v, size(v)).all(k, k > 1)",
    ],
)
def test_expressions_that_fit_their_types(rule: str) -> None:
    assert check_expression(rule, environment(TYPED)).result.name == "bool"


def test_the_root_of_a_resource_has_its_names_only() -> None:
    whole = environment({"type": "object", "properties": {}}, root=True)
    assert check_expression("self.metadata.name.size() > 0 && self.kind == self.apiVersion", whole).result.name == "bool"
    with pytest.raises(CelRefused, match="undefined field 'labels'"):
        check_expression("self.metadata.labels['a'] == ''", whole)


def array(items: Schema, most: int | None = None) -> Schema:
    return {"type": "array", "items": items, **({"maxItems": most} if most is not None else {})}


@pytest.mark.parametrize(
    ("schema", "rule", "cost"),
    [
        (array({"type": "number"}), "self.all(x, true)", 4_718_591),
        (array(TEXT, 20), "self.all(x, true)", 62),
        (array({"type": "boolean"}), "self.all(x, true)", 1_887_437),
        ({"type": "object", "additionalProperties": {"type": "number"}}, "self.all(x, true)", 1_348_169),
        ({"type": "object", "additionalProperties": TEXT}, "self.all(x, x.contains(self[x]))", 2_752_507),
        (TEXT, "self.contains('test')", 314_574),
        ({"type": "string", "maxLength": 10}, "self.contains('test')", 5),
        (TEXT, 'size(self + "hello") > size("hello")', 314_578),
        (array(TEXT), "self[1] == self[1]", 314_577),
        (TEXT, "matches(self, '^[a-z]+$')", 2),  # cel-go charges a search to the method only
    ],
)
def test_estimated_costs(schema: Schema, rule: str, cost: int) -> None:
    declared = declare(schema)
    assert declared is not None
    named = declared.named("selfType")
    assert estimate(check_expression(rule, Environment({"self": named.type}, named.objects())), named) == cost


# ---- rules of CRDs


def refusals(spec: Schema) -> list[tuple[str, str, str]]:
    return [(one.field, one.type, one.message) for one in accept(definition(spec))[1]]


HERE = "spec.validation.openAPIV3Schema.properties[spec]"


def test_a_rule_that_names_no_property_is_refused() -> None:
    ((field, kind, message),) = refusals(
        {"type": "object", "x-kubernetes-validations": [{"rule": "self.z == 100"}], "properties": {"x": WHOLE}}
    )
    assert (field, kind) == (f"{HERE}.x-kubernetes-validations[0].rule", "FieldValueInvalid")
    assert message == (
        'Invalid value: apiextensions.ValidationRule{Rule:"self.z == 100", Message:"", MessageExpression:"", '
        'Reason:(*apiextensions.FieldValueErrorReason)(nil), FieldPath:"", OptionalOldSelf:(*bool)(nil)}: '
        "compilation failed: ERROR: <input>:1:5: undefined field 'z'\n | self.z == 100\n | ....^"
    )


def test_a_rule_that_may_cost_too_much_is_refused() -> None:
    inner = {**array(TEXT), "x-kubernetes-validations": [{"rule": "self.all(s, s == 'string constant')"}]}
    one, worst, whole = refusals({"type": "object", "properties": {"x": array(inner)}})
    hint = (
        "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    )
    rule = f"{HERE}.properties[x].items.x-kubernetes-validations[0].rule"
    assert one == (rule, "FieldValueForbidden", f"Forbidden: estimated rule cost exceeds budget by factor of more than 100x {hint}")
    assert worst[:2] == (rule, "FieldValueForbidden")
    assert whole[0] == "spec.validation.openAPIV3Schema"
    assert "estimated rule cost total for entire OpenAPIv3 schema exceeds budget by factor of more than 100x" in whole[2]
    bounded = {**array({"type": "string", "maxLength": 10}, 10), "x-kubernetes-validations": inner["x-kubernetes-validations"]}
    assert refusals({"type": "object", "properties": {"x": array(bounded, 10)}}) == []


def test_bounds_of_the_name_count_where_all_of_the_metadata_is_declared() -> None:
    """``WithTypeAndObjectMeta``, apiextensions-apiserver: else name and generateName are texts without bounds."""
    named = {"type": "string", "maxLength": 253}

    def most(**names: Any) -> int:
        properties = {"apiVersion": TEXT, "kind": TEXT, "metadata": {"type": "object", "properties": names}}
        root = declare({"type": "object", "properties": properties}, root=True)
        assert root is not None
        return root.fields["metadata"].fields["name"].most

    assert most() == most(name=named) > 1_000_000
    assert most(name=named, generateName=named) == 4 * 253


def test_a_stored_crd_whose_rules_cost_too_much_can_still_be_changed() -> None:
    from raycp.embedded import crds

    inner = {**array(TEXT, 2_000), "x-kubernetes-validations": [{"rule": "self.all(s, s == self[0])"}]}
    crd, errors = accept(definition({"type": "object", "properties": {"x": inner}}))
    assert [one.message.partition(" exceeds")[0] for one in errors][:1] == ["Forbidden: estimated rule cost"]
    found: list[Any] = []
    crds.validate_update({**crd, "metadata": {**crd["metadata"], "labels": {"a": "b"}}}, crd, found)
    assert not [one for one in found if one.message.startswith("Forbidden: estimated rule cost ")]


E2E = {
    "type": "object",
    "x-kubernetes-validations": [
        {"rule": "self.x + self.y > 0"},
        {"rule": "self.large.all(x, self.large.all(y, y == x))"},
    ],
    "properties": {"x": WHOLE, "y": WHOLE, "large": array(WHOLE, 725)},
}


def test_a_resource_whose_rule_costs_too_much_is_refused() -> None:
    info = widgets(E2E)
    assert create(info, {"x": 1, "y": 0, "large": [2, 2]})[2] == []
    messages = [one.message for one in create(info, {"large": [20] * 725})[2]]
    assert messages[0] == 'Invalid value: "object": no such key: x evaluating rule: self.x + self.y > 0'
    assert messages[1].startswith(
        "Invalid value: \"object\": 'operation cancelled: actual cost limit exceeded': no further validation"
    )
    assert messages[1].endswith("due to call cost exceeds limit for rule: self.large.all(x, self.large.all(y, y == x))")


@pytest.mark.parametrize(
    ("rule", "where", "why"),
    [
        ({"rule": "self.x == 1", "fieldPath": ".nope"}, "fieldPath", 'Invalid value: ".nope": must be a valid path'),
        ({"rule": "self.x == 1", "reason": "Because"}, "reason", 'Unsupported value: "Because"'),
        ({"rule": "self.x ==\n1"}, "message", "Required value: message must be specified if rule contains line breaks"),
        ({"rule": "self.x"}, "rule", "cel expression must evaluate to a bool"),
        (
            {"rule": "self.x == 1", "messageExpression": "self.x"},
            "messageExpression",
            "messageExpression must evaluate to a string",
        ),
        (
            {"rule": "self.x == 1", "messageExpression": "self.z"},
            "messageExpression",
            "messageExpression compilation failed: ERROR: <in",
        ),
        ({"rule": "self.x == 1", "optionalOldSelf": True}, "optionalOldSelf", "may not be set if oldSelf is not used in rule"),
        ({"rule": "self.l.all(a, a == oldSelf.s)", "messageExpression": "'a'"}, "rule", ""),
    ],
)
def test_the_form_of_a_rule(rule: Schema, where: str, why: str) -> None:
    found = refusals({**TYPED, "x-kubernetes-validations": [rule]})
    if not why:
        assert found == [] or all("cost" in message for _, _, message in found)
        return
    assert [(field, why in message) for field, _, message in found] == [(f"{HERE}.x-kubernetes-validations[0].{where}", True)]


def test_old_values_must_be_correlatable() -> None:
    items = {"type": "string", "maxLength": 5, "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}
    ((field, _, message),) = refusals({"type": "object", "properties": {"l": array(items, 5)}})
    assert field.endswith("items.x-kubernetes-validations[0].rule")
    assert message.endswith(f"oldSelf cannot be used on the uncorrelatable portion of the schema within {HERE}.properties[l]")


def told(schema: Schema, value: Any, old: Any = NO_OLD) -> list[tuple[str, str, str]]:
    found: list[Any] = []
    with validation_budget():
        RuleSet(schema).check(value, old, "spec", found)
    return [(one.field, one.type, one.message) for one in found]


def test_reasons_paths_and_messages() -> None:
    rule = {
        "rule": "self.x > 1",
        "messageExpression": "'x is ' + string(self.x)",
        "fieldPath": ".x",
        "reason": "FieldValueRequired",
    }
    assert told({**TYPED, "x-kubernetes-validations": [rule]}, {"x": 1}) == [
        ("spec.x", "FieldValueRequired", "Required value: x is 1")
    ]
    rule = {"rule": "self.x > 1", "message": "too small", "messageExpression": "self.s", "reason": "FieldValueForbidden"}
    assert told({**TYPED, "x-kubernetes-validations": [rule]}, {"x": 1}) == [
        ("spec", "FieldValueForbidden", "Forbidden: too small")
    ]
    assert told({**WHOLE, "x-kubernetes-validations": [{"rule": "self > 1"}]}, 1) == [
        ("spec", "FieldValueInvalid", "Invalid value: 1: failed rule: self > 1")
    ]
    rule = {"rule": "self.x > 1", "messageExpression": "'two\\nlines'"}
    assert told({**TYPED, "x-kubernetes-validations": [rule]}, {"x": 1})[0][2] == "Invalid value: failed rule: self.x > 1"


def test_optional_old_values() -> None:
    rule = {"rule": "self >= oldSelf.orValue(5)", "optionalOldSelf": True}
    schema = {**WHOLE, "x-kubernetes-validations": [rule]}
    assert told(schema, 5) == []
    assert len(told(schema, 4)) == 1
    assert told(schema, 4, 3) == []
    assert len(told(schema, 2, 3)) == 1


def test_values_are_of_their_formats_types() -> None:
    rule = "self.t > timestamp('2026-01-01T00:00:00Z') && self.d == duration('60s') && self.b == b'hi' && self.r / 2.0 == 0.5"
    schema = {**TYPED, "x-kubernetes-validations": [{"rule": rule}]}
    assert told(schema, {"t": "2026-01-02T00:00:00Z", "d": "1m", "b": "aGk=", "r": 1}) == []
    assert len(told(schema, {"t": "2025-01-02T00:00:00Z", "d": "1m", "b": "aGk=", "r": 1})) == 1
