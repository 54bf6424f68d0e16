"""Conditions, merge patches, owner marks, CRDs, loading of modules, and that the documentation runs."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from raycp.base.keys import GVK
from raycp.base.owner_marks import MarkKeys
from raycp.sdk import ControllerLoadError, conditions, load_controllers
from raycp.sdk.crd import SchemaError, cel, crd_for, structural
from raycp.sdk.owner import Ownership, mark, owner_key, ownership
from raycp.sdk.patches import merge_diff
from raycp.sdk.results import Retry

ROOT = Path(__file__).parents[2]


def test_a_condition_keeps_its_transition_time_until_its_status_changes() -> None:
    found: list[dict[str, Any]] = []
    assert conditions.set(found, "Ready", False, "Starting", now=1000.0)
    assert not conditions.set(found, "Ready", False, "Starting", now=2000.0)
    assert conditions.set(found, "Ready", False, "Waiting", now=2000.0)
    assert conditions.parse_time(found[0]["lastTransitionTime"]) == 1000
    assert conditions.set(found, "Ready", True, "Done", now=3000.0)
    assert conditions.parse_time(found[0]["lastTransitionTime"]) == 3000
    assert conditions.is_true(found, "Ready")
    for type, reason in (("not good", "X"), ("Ready", ""), ("Ready", "two words")):
        with pytest.raises(ValueError):
            conditions.set(found, type, True, reason, now=0.0)


VALUES = st.recursive(
    st.integers() | st.text(max_size=3) | st.booleans(),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3) | st.lists(inner, max_size=2),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3)


def merged(target: Any, patch: Any) -> Any:
    """RFC 7386, section 2."""
    if not isinstance(patch, dict):
        return patch
    target = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        else:
            target[key] = merged(target.get(key), value)
    return target


@given(OBJECTS, OBJECTS)
def test_a_merge_diff_leads_from_old_to_new(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert merged(old, merge_diff(old, new, replace=True)) == new
    assert merge_diff(new, new, replace=True) == {}


def test_owner_marks() -> None:
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "o", "namespace": "ns", "uid": "u"}}
    keys, pod = MarkKeys({"k": bytes(32)}, "k"), GVK("", "v1", "Pod")
    head = {"apiVersion": "v1", "kind": "Pod"}
    near = mark({**head, "metadata": {"namespace": "ns"}}, owner, "a", "a", None)
    assert near["metadata"]["ownerReferences"][0]["controller"] is True
    assert mark(near, owner, "a", "a", None)["metadata"]["ownerReferences"] == near["metadata"]["ownerReferences"]
    assert ownership(near, pod, owner, "a", "a", None) is Ownership.REFERENCED
    assert ownership(near, pod, owner, "a", "b", keys) is Ownership.NONE, "in another cluster its uid is anyone's word"
    for cluster, namespace in (("b", "ns"), ("a", "other")):
        made = {**head, "metadata": {"name": "p", "namespace": namespace}}
        far = mark(made, owner, "a", cluster, keys)
        assert "ownerReferences" not in far["metadata"]
        assert ownership(far, pod, owner, "a", cluster, keys) is Ownership.MARKED
        assert ownership(far, pod, owner, "a", "c", keys) is Ownership.NONE
        assert ownership(far, pod, owner, "a", cluster, None) is Ownership.NONE
        assert owner_key(far["metadata"]["annotations"]) == ("a", "ns", "o")
        with pytest.raises(Retry, match="not known yet"):
            mark({**made}, owner, "a", cluster, None)
        with pytest.raises(ValueError, match=r"metadata\.name"):
            mark({**head, "metadata": {"namespace": namespace, "generateName": "p-"}}, owner, "a", cluster, keys)
    elsewhere = {**head, "metadata": {**near["metadata"], "namespace": "other"}}
    assert ownership(elsewhere, pod, owner, "a", "a", keys) is Ownership.NONE, "an owner reference does not leave its namespace"
    assert owner_key({"raycp.io/owner": "nonsense"}) is None


class Part(BaseModel):
    share: float = Field(gt=0, description="how much")


class Whole(BaseModel):
    """A whole."""

    name: str | None = None
    count: int = Field(gt=0)
    parts: list[Part] = []
    port: int | str = 80
    free: dict[str, Any] = {}
    labels: dict[str, str] = Field(default_factory=dict, json_schema_extra=cel("size(self) < 5", "too many"))


class Tree(BaseModel):
    children: list["Tree"] = []


class Choice(BaseModel):
    either: Part | Whole


def test_a_model_becomes_a_structural_schema() -> None:
    schema = structural(Whole)
    assert schema["properties"]["name"] == {"type": "string", "nullable": True}
    assert schema["properties"]["count"] == {"type": "integer", "minimum": 1}
    assert schema["properties"]["port"] == {"x-kubernetes-int-or-string": True, "default": 80}
    assert schema["properties"]["free"]["x-kubernetes-preserve-unknown-fields"] is True
    share = schema["properties"]["parts"]["items"]["properties"]["share"]
    assert (share["minimum"], share["exclusiveMinimum"]) == (0, True)
    assert schema["properties"]["labels"]["x-kubernetes-validations"][0]["message"] == "too many"
    assert schema["required"] == ["count"]
    with pytest.raises(SchemaError, match=r"children\[\].*contains itself"):
        structural(Tree)
    with pytest.raises(SchemaError, match="either"):
        structural(Choice)
    made = crd_for(Whole, group="example.com", version="v1", kind="Policy")
    assert made["metadata"]["name"] == "policies.example.com"


def test_modules_that_can_not_be_loaded_say_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    head = "from raycp import controller\n"
    reconciler = "@controller('v1/Pod', name='same')\nasync def fn(ctx, obj): ...\n"
    (tmp_path / "c3_needs.py").write_text(head + "import c3_missing_dependency\n")
    (tmp_path / "c3_broken.py").write_text(head + "def f(:\n")
    (tmp_path / "c3_empty.py").write_text(head)
    (tmp_path / "c3_exits.py").write_text("import sys\nsys.exit(1)\n")
    (tmp_path / "c3_one.py").write_text(head + reconciler)
    (tmp_path / "c3_two.py").write_text(head + reconciler)
    (tmp_path / "c3_kind.py").write_text(head + "@controller('Pod')\nasync def fn(ctx, obj): ...\n")
    for use, message in {
        "c3_nowhere": "no module named 'c3_nowhere'",
        "c3_needs": r"c3_missing_dependency.*c3_needs.py, line 2",
        "c3_kind": r"'Pod' is not VERSION/Kind.*c3_kind.py, line 2: @controller",
        "c3_broken": r"c3_broken.py, line 2",
        "c3_empty": "has no controller",
        "c3_exits": "SystemExit",
        "c3_one:other": "no controller named 'other'",
        "not a module": "is not the name of a module",
    }.items():
        with pytest.raises(ControllerLoadError, match=message):
            load_controllers([use])
    with pytest.raises(ControllerLoadError, match="give one of them another name="):
        load_controllers(["c3_one", "c3_two"])
    assert [c.name for c in load_controllers(["c3_one", "c3_one:same", "raycp.controllers.batchjob"])] == [
        "same",
        "batchjob",
        "batchjob-sweep",
    ]


def test_the_examples_load(monkeypatch: pytest.MonkeyPatch) -> None:
    from raycp.config import load

    for name, wanted in (("echo", ["echo"]), ("expiry", ["expire-configmaps", "expire-secrets"])):
        monkeypatch.syspath_prepend(ROOT / "examples" / name)
        assert [controller.name for controller in load_controllers([name])] == wanted
        assert load.load_fleet(ROOT / "examples" / name / "fleet.yaml").spec.controllers[0].use == name


@pytest.mark.parametrize("page", ["writing-a-controller.md", "batchjob.md"])
def test_the_code_in_the_documentation_runs(page: str) -> None:
    import yaml

    from raycp.controllers.batchjob.specs import read_spec

    text = (ROOT / "docs" / page).read_text()
    space: dict[str, Any] = {"__name__": "documentation"}
    for block in re.findall(r"```python\n(.*?)```", text, re.S):
        exec(compile(block, page, "exec"), space)
    for block in re.findall(r"```yaml\n(.*?)```", text, re.S):
        found = yaml.safe_load(block)
        if found.get("kind") == "BatchJob":
            assert read_spec(found).completions == found["spec"]["completions"], "and it breaks no rule"
