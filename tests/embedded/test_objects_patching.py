"""The patch types, tested with examples of their specifications."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from raycp.embedded.errors import StatusError
from raycp.embedded.patches import JSON_PATCH, MERGE_PATCH, STRATEGIC, apply_patch, json_patch, merge_patch
from raycp.embedded.resources import BUILTINS
from raycp.embedded.strategy import body_decoder, strategy

KINDS = {(info.group, info.kind): info for info in BUILTINS}
POD, MAP, NODE = KINDS["", "Pod"], KINDS["", "ConfigMap"], KINDS["", "Node"]


def pod() -> dict[str, Any]:
    spec = {
        "containers": [
            {"name": "a", "image": "x", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
            {"name": "b", "image": "y"},
        ],
        "volumes": [{"name": "v", "emptyDir": {}}],
    }
    meta = {"name": "p", "finalizers": ["e.com/a"]}
    made, _ = strategy(POD).decode(
        json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}).encode(), "application/json"
    )
    return made


def strategic(patch: Any) -> dict[str, Any]:
    return apply_patch(POD, STRATEGIC, pod(), json.dumps(patch).encode())


def test_lists_merge_by_key() -> None:
    made = strategic({"spec": {"containers": [{"name": "b", "image": "z"}, {"name": "c", "image": "n"}]}})
    assert [(c["name"], c["image"]) for c in made["spec"]["containers"]] == [("a", "x"), ("b", "z"), ("c", "n")]
    assert made["spec"]["containers"][2]["imagePullPolicy"] == "Always", "defaults come with a patch too"


def test_strategic_patch_directives() -> None:
    made = strategic({"spec": {"containers": [{"name": "a", "$patch": "delete"}]}})
    assert [c["name"] for c in made["spec"]["containers"]] == ["b"]
    made = strategic({"spec": {"containers": [{"name": "z", "image": "z"}, {"$patch": "replace"}]}})
    assert [c["name"] for c in made["spec"]["containers"]] == ["z"]
    order = [{"name": "b"}, {"name": "a"}]
    made = strategic({"spec": {"$setElementOrder/containers": order, "containers": [{"name": "a", "image": "q"}]}})
    assert [(c["name"], c["image"]) for c in made["spec"]["containers"]] == [("b", "y"), ("a", "q")]
    made = strategic({"metadata": {"finalizers": ["e.com/b"]}})
    assert made["metadata"]["finalizers"] == ["e.com/a", "e.com/b"]
    made = strategic({"metadata": {"$deleteFromPrimitiveList/finalizers": ["e.com/a"]}})
    assert "finalizers" not in made["metadata"]
    made = strategic({"spec": {"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/"}}]}})
    assert made["spec"]["volumes"] == [{"name": "v", "hostPath": {"path": "/", "type": ""}}]
    made = strategic({"spec": {"containers": [{"name": "a", "env": [{"name": "A", "$patch": "delete"}]}]}})
    assert made["spec"]["containers"][0]["env"] == [{"name": "B", "value": "2"}]


@pytest.mark.parametrize(
    "patch",
    [
        {"spec": {"containers": [{"image": "no-key"}]}},
        {"spec": {"$patch": "nonsense"}},
        [],
        7,
    ],
)
def test_malformed_strategic_patches(patch: Any) -> None:
    with pytest.raises(StatusError) as refused:
        strategic(patch)
    assert refused.value.code == 400


def test_patches_do_not_change_their_input() -> None:
    before = pod()
    shown = json.dumps(before)
    for media, patch in (
        (STRATEGIC, {"spec": {"containers": [{"name": "a", "image": "n"}]}, "metadata": {"labels": {"a": "b"}}}),
        (MERGE_PATCH, {"metadata": {"labels": {"a": "b"}}, "spec": {"hostname": "h"}}),
        (JSON_PATCH, [{"op": "remove", "path": "/spec/containers/0/env/0"}, {"op": "add", "path": "/spec/hostname", "value": "h"}]),
    ):
        made = apply_patch(POD, media, before, json.dumps(patch).encode())
        made["metadata"]["labels"] = {"changed": "after"}
        assert json.dumps(before) == shown


@pytest.mark.parametrize(
    ("media", "patch"),
    [
        (STRATEGIC, {"spec": {"containers": [{"name": "a", "resources": {"limits": {"cpu": "0.5"}}}]}}),
        (MERGE_PATCH, {"spec": {"containers": [{"name": "a", "image": "i", "resources": {"limits": {"cpu": "0.5"}}}]}}),
        (JSON_PATCH, [{"op": "add", "path": "/spec/containers/0/resources", "value": {"limits": {"cpu": "0.5"}}}]),
    ],
)
def test_what_a_patch_names_is_converted_and_the_rest_is_shared(media: str, patch: Any) -> None:
    before = pod()
    before["spec"]["affinity"] = {"nodeAffinity": {}}
    before["status"] = {"startTime": "as it is stored"}
    made = apply_patch(POD, media, before, json.dumps(patch).encode())
    assert made["spec"]["containers"][0]["resources"] == {"limits": {"cpu": "500m"}, "requests": {"cpu": "500m"}}
    assert made["status"] is before["status"]
    assert made["spec"]["affinity"] is before["spec"]["affinity"]
    with pytest.raises(StatusError, match="startTime"):
        apply_patch(POD, MERGE_PATCH, before, b'{"status":{"startTime":"never"}}')


@pytest.mark.parametrize(
    ("operations", "result"),
    [
        ([{"op": "add", "path": "/a", "value": 1}], {"l": [1, 2], "m": {"x": 1}, "a": 1}),
        ([{"op": "add", "path": "/l/-", "value": 3}], {"l": [1, 2, 3], "m": {"x": 1}}),
        ([{"op": "add", "path": "/l/0", "value": 0}], {"l": [0, 1, 2], "m": {"x": 1}}),
        ([{"op": "remove", "path": "/l/-1"}], {"l": [1], "m": {"x": 1}}),
        ([{"op": "replace", "path": "/m/x", "value": 2}], {"l": [1, 2], "m": {"x": 2}}),
        ([{"op": "move", "from": "/m/x", "path": "/y"}], {"l": [1, 2], "m": {}, "y": 1}),
        ([{"op": "copy", "from": "/m", "path": "/a~1b"}], {"l": [1, 2], "m": {"x": 1}, "a/b": {"x": 1}}),
        ([{"op": "test", "path": "/m", "value": {"x": 1}}], {"l": [1, 2], "m": {"x": 1}}),
    ],
)
def test_json_patch(operations: list[dict[str, Any]], result: dict[str, Any]) -> None:
    document = {"l": [1, 2], "m": {"x": 1}}
    assert json_patch.apply(document, operations) == result
    assert document == {"l": [1, 2], "m": {"x": 1}}


@pytest.mark.parametrize(
    ("patch", "code"),
    [
        ([{"op": "remove", "path": "/data/zz"}], 422),
        ([{"op": "zap", "path": "/data"}], 422),
        ([{"op": "test", "path": "/data/a", "value": "2"}], 422),
        ([{"op": "add", "path": "/nope/deep", "value": "2"}], 422),
        ([{"op": "add", "path": "/data/a", "value": 2}], 422),
        ({"a": 1}, 400),
        ([{"op": "add", "path": "/data/a", "value": "x"}] * 10_001, 413),
    ],
)
def test_json_patches_that_fail(patch: Any, code: int) -> None:
    current = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"a": "1"}}
    with pytest.raises(StatusError) as refused:
        apply_patch(MAP, JSON_PATCH, current, json.dumps(patch).encode())
    assert refused.value.code == code


def test_unknown_fields_in_patches() -> None:
    current = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}
    warnings: list[str] = []
    made = apply_patch(MAP, MERGE_PATCH, current, b'{"nope":1}', "Warn", warnings)
    assert (made, warnings) == (current, ['unknown field "nope"'])
    with pytest.raises(StatusError) as refused:
        apply_patch(MAP, MERGE_PATCH, current, b'{"nope":1}', "Strict")
    assert refused.value.code == 422


def test_a_patch_of_a_scale() -> None:
    scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d"}, "spec": {"replicas": 1}}
    decoder = body_decoder("autoscaling", "v1", "Scale")
    made = apply_patch(KINDS["apps", "Deployment"], MERGE_PATCH, scale, b'{"spec":{"replicas":3}}', into=decoder)
    assert made["spec"] == {"replicas": 3}


JSON_VALUES = some.recursive(
    some.none() | some.booleans() | some.integers() | some.text(max_size=3),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(
    some.dictionaries(some.text(max_size=2), JSON_VALUES, max_size=4),
    some.dictionaries(some.text(max_size=2), JSON_VALUES, max_size=4),
)
def test_merge_patch_is_idempotent(document: dict[str, Any], patch: dict[str, Any]) -> None:
    shown = json.dumps(document)
    once = merge_patch.apply(document, patch)
    assert merge_patch.apply(once, patch) == once
    assert json.dumps(document) == shown
