"""Field managers: owned fields after creates, updates and applies; the algebra of field sets."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from raycp.embedded.errors import StatusError
from raycp.embedded.managed import server_side_apply, track
from raycp.embedded.managed.apply import MOST_PROBLEMS
from raycp.embedded.managed.fieldset import Fields, difference, intersection, ordered, paths, recursive_difference, union
from raycp.embedded.resources import BUILTINS
from raycp.embedded.strategy import strategy

KINDS = {(info.group, info.kind): info for info in BUILTINS}
MAP, DEPLOYMENT, SERVICE = KINDS["", "ConfigMap"], KINDS["apps", "Deployment"], KINDS["", "Service"]


def config_map(**data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, **({"data": data} if data else {})}


def owners(obj: dict[str, Any]) -> dict[str, Any]:
    return {entry["manager"]: entry["fieldsV1"] for entry in obj["metadata"].get("managedFields", ())}


def apply(live: Any, patch: dict[str, Any], manager: str, force: bool = False, time: str = "T1") -> dict[str, Any]:
    return server_side_apply(MAP, live, json.loads(json.dumps(patch)), manager, force, time)


def test_a_withdrawn_field_leaves_what_nobody_owns_beside_it() -> None:
    """``addBackDanglingItems`` of structured-merge-diff: only what was applied before is removed."""
    labelled = {**config_map(), "metadata": {"name": "a", "labels": {"x": "1"}}}
    live = apply(None, labelled, "me")
    live["metadata"]["uid"] = "u"
    made = apply(live, config_map(), "me")
    assert {key: one for key, one in made["metadata"].items() if key != "managedFields"} == {"name": "a", "uid": "u"}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}
    live = server_side_apply(SERVICE, None, service, "me")
    live["spec"]["clusterIP"] = "10.0.0.1"  # no manager owns what the server itself has set
    made = server_side_apply(SERVICE, live, {key: one for key, one in service.items() if key != "spec"}, "me")
    assert (made["spec"]["clusterIP"], made["spec"].get("ports")) == ("10.0.0.1", None)


def test_an_applied_configuration_is_told_its_problems_but_not_without_end() -> None:
    wrong = {**config_map(), "data": {"a": 5}, "binaryData": [], "x": 1}
    with pytest.raises(StatusError) as refused:
        apply(None, wrong, "me")
    assert refused.value.code == 500
    assert refused.value.message == (
        "failed to create typed patch object (/a; /v1, Kind=ConfigMap): errors:\n"
        "  .data.a: expected string, got &value.valueUnstructured{Value:5}\n"
        "  .binaryData: expected map, got &value.valueUnstructured{Value:[]}\n"
        "  .x: field not declared in schema"
    )
    for many in ({f"x{number}": 1 for number in range(1000)}, {"data": {f"x{number}": 1 for number in range(1000)}}):
        with pytest.raises(StatusError) as refused:
            apply(None, {**config_map(), **many}, "me")
        assert refused.value.message.count("\n") == MOST_PROBLEMS


def test_fields_are_written_in_the_order_of_structured_merge_diff() -> None:
    """Clients compare them as text: e2e "should create an applied object if it does not already exist"."""
    pod = {"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "image": "i"}]}, "kind": "Pod", "apiVersion": "v1"}
    made = server_side_apply(KINDS["", "Pod"], None, pod, "me")
    text = '{"f:spec":{"f:containers":{"k:{\\"name\\":\\"c\\"}":{".":{},"f:image":{},"f:name":{}}}}}'
    assert json.dumps(made["metadata"]["managedFields"][0]["fieldsV1"], separators=(",", ":")) == text
    port = '{"containerPort":%d,"protocol":"%s"}'
    keys = ["k:" + port % each for each in ((80, "UDP"), (443, "TCP"), (80, "TCP"), (5, "TCP"))]
    mixed: Fields = {'v:"b"': {}, **{key: {"f:b": {}, "f:a": {}} for key in keys}, "f:z": {}, 'v:"a"': {}, ".": {}, "f:a": {}}
    found = ordered(mixed)
    assert list(found) == [".", "f:a", "f:z", keys[3], keys[2], keys[0], keys[1], 'v:"a"', 'v:"b"']
    assert list(found[keys[0]]) == ["f:a", "f:b"]
    assert found == mixed


def test_a_create_owns_the_fields_that_it_set() -> None:
    obj = config_map(a="1")
    track(MAP, None, obj, "me", "Update", "T1")
    assert obj["metadata"]["managedFields"] == [
        {
            "manager": "me",
            "operation": "Update",
            "apiVersion": "v1",
            "time": "T1",
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:data": {".": {}, "f:a": {}}},
        }
    ]


def test_structs_by_value_are_not_owned_but_their_fields_are() -> None:
    raw = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "a", "labels": {"x": "y"}},
        "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
        },
    }
    obj, _ = strategy(DEPLOYMENT).decode(json.dumps(raw).encode(), "application/json")
    track(DEPLOYMENT, None, obj, "me", "Update", "T1")
    fields = owners(obj)["me"]
    assert fields["f:metadata"] == {"f:labels": {".": {}, "f:x": {}}}
    assert "." not in fields["f:spec"]
    assert fields["f:spec"]["f:selector"] == {}
    assert fields["f:spec"]["f:strategy"]["f:rollingUpdate"]["."] == {}
    container = fields["f:spec"]["f:template"]["f:spec"]["f:containers"]['k:{"name":"c"}']
    assert container.keys() >= {".", "f:name", "f:image", "f:resources"}
    assert "f:status" not in fields


def test_an_update_owns_the_fields_that_it_changes() -> None:
    old = config_map(a="1", b="1")
    track(MAP, None, old, "me", "Update", "T1")
    new = config_map(a="2", b="1", c="1")
    track(MAP, old, new, "you", "Update", "T2")
    assert owners(new) == {"me": {"f:data": {".": {}, "f:b": {}}}, "you": {"f:data": {"f:a": {}, "f:c": {}}}}
    last = config_map(c="1")
    track(MAP, new, last, "third", "Update", "T3")
    assert owners(last) == {"me": {"f:data": {}}, "you": {"f:data": {"f:c": {}}}}


def test_an_update_without_changes_keeps_times() -> None:
    old = config_map(a="1")
    track(MAP, None, old, "me", "Update", "T1")
    new = config_map(a="1")
    track(MAP, old, new, "you", "Update", "T2")
    assert new == old


def test_entries_of_many_updaters_are_merged() -> None:
    obj = config_map(a="0")
    track(MAP, None, obj, "m0", "Update", "T00")
    for index in range(1, 15):
        new = config_map(**obj["data"], **{f"k{index}": "1"})
        track(MAP, obj, new, f"m{index}", "Update", f"T{index:02}")
        obj = new
    entries = obj["metadata"]["managedFields"]
    assert len(entries) == 10
    assert "ancient-changes" in {entry["manager"] for entry in entries}


def test_managed_fields_can_be_reset() -> None:
    old = config_map(a="1")
    track(MAP, None, old, "me", "Update", "T1")
    new = config_map(a="2")
    new["metadata"]["managedFields"] = [{}]
    track(MAP, old, new, "you", "Update", "T2")
    assert "managedFields" not in new["metadata"]


def test_apply_creates_updates_and_removes() -> None:
    live = apply(None, config_map(a="1"), "me")
    assert owners(live) == {"me": {"f:data": {"f:a": {}}}}
    live = apply(live, config_map(b="2"), "me", time="T2")
    assert live["data"] == {"b": "2"}
    assert owners(live) == {"me": {"f:data": {"f:b": {}}}}
    live = apply(live, config_map(), "me")
    assert "data" not in live


def test_apply_conflicts_unless_forced() -> None:
    live = apply(None, config_map(a="1"), "me")
    with pytest.raises(StatusError) as refused:
        apply(live, config_map(a="2"), "you")
    assert refused.value.code == 409
    assert refused.value.details is not None
    assert refused.value.details["causes"] == [
        {"reason": "FieldManagerConflict", "message": 'conflict with "me"', "field": ".data.a"}
    ]
    same = apply(live, config_map(a="1"), "you")
    assert owners(same) == {"me": {"f:data": {"f:a": {}}}, "you": {"f:data": {"f:a": {}}}}
    forced = apply(live, config_map(a="2"), "you", force=True)
    assert forced["data"] == {"a": "2"}
    assert owners(forced) == {"you": {"f:data": {"f:a": {}}}}
    shared = apply(same, config_map(), "you")
    assert shared["data"] == {"a": "1"}, "another still owns it"


def test_apply_merges_lists_by_their_keys() -> None:
    def service(*ports: dict[str, Any]) -> dict[str, Any]:
        return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": list(ports)}}

    live = server_side_apply(SERVICE, None, service({"name": "a", "port": 80}), "me", False, "T1")
    live = server_side_apply(SERVICE, live, service({"name": "b", "port": 81}), "you", False, "T2")
    assert [port["port"] for port in live["spec"]["ports"]] == [80, 81]
    live = server_side_apply(SERVICE, live, service(), "me", False, "T3")
    assert [port["port"] for port in live["spec"]["ports"]] == [81]


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ({"ports": [{"name": "x"}, {"name": "y"}]}, 500),
        ({"ports": "x"}, 500),
        ({"nope": 1}, 500),
        ({"type": 7}, 500),
    ],
)
def test_apply_requires_typed_objects(spec: dict[str, Any], code: int) -> None:
    patch = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": spec}
    with pytest.raises(StatusError) as refused:
        server_side_apply(SERVICE, None, patch, "me", False, "T1")
    assert refused.value.code == code
    with pytest.raises(StatusError) as refused:
        server_side_apply(SERVICE, None, {"metadata": {"name": "s"}}, "me", False, "T1")
    assert refused.value.code == 400


def test_apply_refuses_managed_fields() -> None:
    patch = config_map()
    patch["metadata"]["managedFields"] = [{"manager": "x", "operation": "Apply"}]
    with pytest.raises(StatusError) as refused:
        apply(None, patch, "me")
    assert refused.value.code == 400


def _close(node: Fields) -> Fields:
    """Generated nodes in normal form: one that has only ``.`` is a leaf."""
    inner = {key: _close(one) for key, one in node.items()}
    return {} if set(inner) == {"."} else inner


def _node(children: some.SearchStrategy[Fields]) -> some.SearchStrategy[Fields]:
    return some.dictionaries(some.sampled_from(["f:a", "f:b", 'k:{"n":"x"}', 'v:"y"']), children, max_size=3).flatmap(
        lambda below: some.booleans().map(lambda here: {".": {}, **below} if here and below else below)
    )


SETS = (
    some.recursive(some.just({}), _node, max_leaves=8)
    .map(_close)
    .map(lambda node: {key: one for key, one in node.items() if key != "."})
)


@given(SETS, SETS)
def test_field_set_algebra(a: Fields, b: Fields) -> None:
    left, right = set(paths(a)), set(paths(b))
    assert set(paths(union(a, b))) == left | right
    assert set(paths(difference(a, b))) == left - right
    assert set(paths(intersection(a, b))) == left & right
    below = {path for path in left if not any(path == other or path.startswith((f"{other}.", f"{other}[")) for other in right)}
    assert set(paths(recursive_difference(a, b))) == below
