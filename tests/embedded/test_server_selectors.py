"""Label and field selectors: the grammar of apimachinery."""

import pytest

from raycp.embedded.errors import StatusError
from raycp.embedded.selectors import exact_name, field_predicate, parse_fields, parse_label_dict, parse_labels
from raycp.embedded.store import StoredObject

LABELS = {"app": "web", "tier": "front", "n": "5", "example.com/x": "y"}


@pytest.mark.parametrize(
    ("text", "selected"),
    [
        ("app=web", True), ("app==web", True), ("app!=web", False), ("nope!=web", True), ("app", True), ("!app", False),
        ("!nope", True), ("app in (web,db)", True), ("app notin (web)", False), ("nope notin (a)", True),
        ("app in (db), tier", False), ("tier=front,n>4", True), ("n<5", False), ("example.com/x=y", True),
        (" app = web , tier in ( front ) ", True), ("nope=", False), ("app in (,web)", True), ("nope in ()", False),
    ],
)  # fmt: skip
def test_label_selectors(text: str, selected: bool) -> None:
    predicate = parse_labels(text)
    assert predicate is not None
    assert predicate(LABELS) is selected


@pytest.mark.parametrize("text", ["a b c", "=", "a in b", "a,", ",a", "a in (b", "-a", "a=b c", "a=!b", "x/y/z"])
def test_invalid_selectors_get_400(text: str) -> None:
    with pytest.raises(StatusError) as refused:
        parse_labels(text)
    assert refused.value.code == 400


def test_an_empty_selector_selects_all() -> None:
    assert parse_labels("") is None
    assert parse_labels("  ") is None
    assert parse_label_dict({})({"a": "b"})


def test_label_selector_objects() -> None:
    expressions = [{"key": "tier", "operator": "In", "values": ["front", "back"]}, {"key": "z", "operator": "DoesNotExist"}]
    assert parse_label_dict({"matchLabels": {"app": "web"}, "matchExpressions": expressions})(LABELS)
    assert not parse_label_dict({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]})(LABELS)


def record(raw: bytes) -> StoredObject:
    return StoredObject("ns1", "p", "u", 1, raw)


def test_field_selectors() -> None:
    pod = record(b'{"kind":"Pod","metadata":{},"spec":{"nodeName":"n1"},"status":{"phase":"Running"}}')
    for text, selected in (
        ("spec.nodeName=n1", True),
        ("spec.nodeName!=n1", False),
        ("spec.nodeName=n1,status.phase=Running", True),
        ("metadata.name=p,metadata.namespace=ns1", True),
        ("status.podIP=", True),
        ("spec.hostNetwork=false", True),
    ):
        predicate = field_predicate("", "pods", (), text)
        assert predicate is not None
        assert predicate(pod) is selected, text


def test_unknown_selector_fields_get_400() -> None:
    for plural in ("pods", "configmaps"):
        with pytest.raises(StatusError) as refused:
            field_predicate("", plural, (), "spec.nope=1")
        assert refused.value.code == 400


def test_selectable_fields_of_a_crd() -> None:
    predicate = field_predicate("g.example.com", "widgets", ("spec.color",), "spec.color=red")
    assert predicate is not None
    assert predicate(record(b'{"metadata":{},"spec":{"color":"red"}}'))
    assert not predicate(record(b'{"metadata":{}}'))


def test_escapes_and_names() -> None:
    assert parse_fields(r"metadata.name=a\,b\=c") == (("metadata.name", True, "a,b=c"),)
    assert exact_name("metadata.name=x,spec.y=1") == "x"
    assert exact_name("metadata.name!=x") == ""
    with pytest.raises(StatusError):
        parse_fields("nonsense")
