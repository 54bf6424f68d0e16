"""Tier rules: evaluation, order, and refused rules."""

import json

import pytest

from raycp.base.objects import Meta, Obj
from raycp.classify import RuleError, TierRules
from raycp.classify.fieldpath import FieldReader, parse_path
from raycp.config.tiers import TiersSpec


def compiled(*rules, default="standard", controllers=None) -> TierRules:
    return TierRules.compile(TiersSpec.model_validate({"rules": list(rules), "default": default}), controllers)


def obj(body=None, **meta) -> Obj:
    return Obj(Meta(name="x", **meta), json.dumps(body or {}).encode(), 1, 1)


RULES = (
    {"when": {"controller": "echo", "label": {"team": "*"}}, "tier": "high"},
    {"when": {"label": {"raycp.io/qos-tier": "critical"}}, "tier": "critical"},
    {"when": {"annotation": {"urgent": ["yes", "true"]}}, "tier": "critical"},
    {"when": {"priorityClass": "system-cluster-critical"}, "tier": "critical"},
    {"when": {"field": {"spec.replicas": "0"}}, "tier": "background"},
    {"when": {"namespace": ["prod-*", "live"]}, "tier": "high"},
    {"when": {"cluster": {"region": ["east", "west"]}, "namespace": "edge"}, "tier": "critical"},
    {"tierFrom": {"field": "spec.qosTier"}},
    {"tierFrom": {"annotation": "example.org/tier"}},
)


@pytest.mark.parametrize(
    ("thing", "controller", "expected"),
    [
        (obj(), "k", "standard"),
        (obj(labels={"team": "a"}), "echo", "high"),
        (obj(labels={"team": "a"}), "other", "standard"),
        (obj(labels={"raycp.io/qos-tier": "critical", "team": "a"}), "echo", "high"),
        (obj(labels={"raycp.io/qos-tier": "critical"}), "k", "critical"),
        (obj(annotations={"urgent": "true"}), "k", "critical"),
        (obj(annotations={"urgent": "no"}), "k", "standard"),
        (obj({"spec": {"priorityClassName": "system-cluster-critical"}}), "k", "critical"),
        (obj({"spec": {"template": {"spec": {"priorityClassName": "system-cluster-critical"}}}}), "k", "critical"),
        (obj({"spec": {"replicas": 0}}), "k", "background"),
        (obj({"spec": {"replicas": 1}}), "k", "standard"),
        (obj(namespace="prod-eu"), "k", "high"),
        (obj(namespace="live"), "k", "high"),
        (obj(namespace="product"), "k", "standard"),
        (obj(namespace="edge"), "k", "critical"),
        (obj({"spec": {"qosTier": "background"}}), "k", "background"),
        (obj({"spec": "not a mapping"}), "k", "standard"),
        (obj(annotations={"example.org/tier": "high"}), "k", "high"),
    ],
)
def test_the_first_rule_that_holds_decides(thing, controller, expected):
    choice = compiled(*RULES).tier_of(thing, controller, {"region": "east"})
    assert choice.tier == expected
    assert choice.problem is None
    assert choice.reason


def test_an_unknown_tier_gives_the_default_and_a_problem():
    choice = TierRules.compile(TiersSpec()).tier_of(obj(labels={"raycp.io/qos-tier": "gold"}), "k")
    assert choice.tier == "standard"
    assert "'gold'" in choice.problem
    assert "raycp.io/qos-tier" in choice.problem
    assert "critical, high, standard, background" in choice.problem
    nonsense = compiled({"tierFrom": {"label": "t"}}, default="high").tier_of(obj(labels={"t": "x" * 500}), "k")
    assert nonsense.tier == "high"
    assert len(nonsense.problem) < 200


def test_tier_of_decodes_no_body_without_a_wanted_field(monkeypatch: pytest.MonkeyPatch):
    read: list[bytes] = []
    monkeypatch.setattr(FieldReader, "read", lambda self, raw: read.append(raw) or {})
    rules = compiled({"when": {"priorityClass": "gold"}, "tier": "high"}, {"tierFrom": {"field": "spec.qosTier"}})
    assert rules.tier_of(obj({"spec": {"image": "qosTier"}}), "k").tier == "standard"
    assert len(read) == 1  # the text occurs, though not as a field
    assert rules.tier_of(obj({"spec": {"image": "nginx", "priority": 5}}), "k").tier == "standard"
    assert len(read) == 1


@pytest.mark.parametrize("key", ["a<b", "a&b", "größe"])
def test_a_field_whose_name_may_be_escaped_is_found(key):
    rules = compiled({"when": {"field": {f"spec['{key}']": "1"}}, "tier": "high"})
    body = json.dumps({"spec": {key: 1}}).replace("<", "\\u003c").replace("&", "\\u0026").encode()
    assert rules.tier_of(Obj(Meta(name="x"), body, 1, 1), "k").tier == "high"


def test_a_broken_body_never_raises():
    rules = compiled({"tierFrom": {"field": "spec.qosTier"}})
    assert rules.tier_of(Obj(Meta(name="x"), b"\xff{", 1, 1), "k").tier == "standard"
    assert rules.tier_of(Obj(Meta(name="x"), b"[1]", 1, 1), "k").tier == "standard"


@pytest.mark.parametrize(
    ("rules", "path"),
    [
        (({"when": {}, "tier": "high"}, {"when": {"namespace": "a"}, "tier": "critical"}), "spec.tiers.rules[1]"),
        (
            (
                {"when": {"namespace": "prod-*"}, "tier": "high"},
                {"when": {"namespace": "prod-eu", "label": {"a": "b"}}, "tier": "critical"},
            ),
            "spec.tiers.rules[1]",
        ),
        (
            (
                {"when": {"label": {"a": "*"}}, "tier": "high"},
                {"when": {"label": {"a": ["b", "c"]}}, "tier": "critical"},
            ),
            "spec.tiers.rules[1]",
        ),
        (({"tierFrom": {"label": "a"}}, {"tierFrom": {"label": "a"}}), "spec.tiers.rules[1]"),
        (({"when": {"field": {"spec..x": "1"}}, "tier": "high"},), "spec.tiers.rules[0].when.field.spec..x"),
        (({"when": {"label": {"a": []}}, "tier": "high"},), "spec.tiers.rules[0].when.label.a"),
        (({"when": {"controller": "ehco"}, "tier": "high"},), "spec.tiers.rules[0].when.controller"),
        (({"when": {"namespace": "a"}},), "spec.tiers.rules[0]"),
        (({"tierFrom": {}},), "spec.tiers.rules[0].tierFrom"),
    ],
)
def test_a_rule_that_cannot_match_is_refused_with_its_path(rules, path):
    with pytest.raises(RuleError) as refused:
        compiled(*rules, controllers=["echo"])
    assert [where for where, _ in refused.value.problems] == [path]
    assert str(refused.value).startswith(path)


def test_rules_that_only_overlap_are_accepted():
    compiled(
        {"when": {"label": {"a": "b"}}, "tier": "high"},
        {"when": {"label": {"a": "*"}}, "tier": "critical"},
        {"when": {"namespace": "a"}, "tierFrom": {"label": "x"}},
        {"when": {"namespace": "a"}, "tierFrom": {"label": "y"}},
        {"when": {"namespace": "a"}, "tier": "background"},
        {"when": {}, "tier": "standard"},
    )


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("spec", ("spec",)),
        ("spec.a.b", ("spec", "a", "b")),
        ("metadata.labels['a.b/c'].d", ("metadata", "labels", "a.b/c", "d")),
        ('metadata.labels["x"]', ("metadata", "labels", "x")),
    ],
)
def test_parse_path(text, parts):
    assert parse_path(text) == parts


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a..b", "a[0]", "a['b'", "a['b']c", "a.['b']"])
def test_parse_path_refuses_other_texts(text):
    with pytest.raises(ValueError, match="is no path"):
        parse_path(text)


def test_fields_are_read_out_of_a_large_object():
    body = {"spec": {"x": [{"deep": i} for i in range(5_000)], "class": "A", "flag": True, "n": 3, "m": {"a.b": "c"}}}
    reader = FieldReader([("spec", "class"), ("spec", "flag"), ("spec", "n"), ("spec", "m", "a.b"), ("spec", "x"),
                          ("status", "y")])  # fmt: skip
    assert reader.read(json.dumps(body).encode()) == {
        ("spec", "class"): "A",
        ("spec", "flag"): "true",
        ("spec", "n"): "3",
        ("spec", "m", "a.b"): "c",
    }
