"""``watches=`` and ``reachability=``: what can be declared, and what a map function may return."""

from typing import Any

import msgspec
import pytest

from raycp.base.clock import VirtualClock
from raycp.base.keys import GVK, RequestKey
from raycp.base.selections import every, mapping
from raycp.base.tasks import Child, Done, Outcome, Task
from raycp.sdk import (
    ALL,
    Controller,
    DefinitionError,
    ObjectKey,
    Session,
    WatchedKind,
    controller,
    owned,
    run_reconcile,
    watch,
)
from raycp.sdk.map_functions import MOST, mapping_of


def declared(**options: Any) -> Controller:
    @controller("v1/ConfigMap", **options)
    async def sample(ctx: Any, obj: Any) -> None: ...

    return sample


def test_a_watch_has_a_field_or_a_map_function() -> None:
    by_field = watch("v1/Secret", field="spec.volumes[*].secret.secretName", on="hub", labels={"app": "x"})
    assert by_field == WatchedKind(GVK("", "v1", "Secret"), "hub", "app=x", "spec.volumes[*].secret.secretName")
    assert declared(watches=[by_field, watch("v1/Node", to=list)]).watches[1].to is list


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, "give field="),
        ({"field": "spec.name", "to": list}, "give field="),
        ({"to": "spec.name"}, "is no function"),
        ({"field": "spec[0]"}, "is no path"),
        ({"to": list, "namespace_field": "spec.namespace"}, "goes with field="),
        ({"to": list, "on": "members"}, "neither"),
        ({"to": list, "labels": {"a": "not valid"}}, "label"),
    ],
)
def test_what_is_no_watch_is_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(DefinitionError, match=problem):
        watch("v1/Secret", **options)


@pytest.mark.parametrize("watches", ["v1/Secret", ["v1/Secret"], [owned("v1/Secret")]])
def test_watches_are_a_list_of_watches(watches: Any) -> None:
    with pytest.raises(DefinitionError, match="watches= is a list"):
        declared(watches=watches)


def test_reachability_is_read_by_controllers_with_children_in_members_unless_they_say_otherwise() -> None:
    children = [owned("v1/Pod", on="members")]
    assert not declared().reachability
    assert declared(on="hub", owns=children).reachability
    assert not declared(on="hub", owns=children, reachability=False).reachability
    found = declared(reachability="status.clusters[*].name")
    assert (found.reachability, found.reachability_of) == (True, ("status.clusters[*].name",))
    assert declared(reachability=True).reachability_of == ()
    with pytest.raises(DefinitionError, match="is no path"):
        declared(reachability=["status.clusters[0]"])


class Nothing:
    """A ``Backend`` that no map function may need."""

    clusters: Any = {}
    marks = None


async def mapped(function: Any, *states: dict[str, Any] | None, on: str = "same") -> tuple[Done, list[RequestKey]]:
    """Run the map function of a watch on the object as it is and on earlier states."""
    sample = declared(watches=[watch("v1/Secret", to=function, on=on)])  # type: ignore[arg-type]
    now, *earlier = [msgspec.json.encode(state) if state is not None else None for state in states]
    key = mapping("sample", "east", 0, "ns", "s")
    children = [Child("east", "v1/Secret", raw) for raw in earlier if raw is not None]
    task = Task(1, key, "standard", "watched", 1, 1, "0", 1, 0, 0.0, now, children)
    runner, found = mapping_of(sample, task)
    return await run_reconcile(Session(runner, task, Nothing(), VirtualClock())), found  # type: ignore[arg-type]


def secret(**labels: str) -> dict[str, Any]:
    return {"metadata": {"name": "s", "namespace": "ns", "labels": labels}}


def by_label(obj: dict[str, Any]) -> list[str]:
    return [obj["metadata"]["labels"]["for"]]


async def test_a_map_function_maps_the_object_and_its_earlier_states() -> None:
    done, found = await mapped(by_label, secret(**{"for": "b"}), secret(**{"for": "a"}), secret(**{"for": "b"}))
    assert done.outcome is Outcome.OK
    assert found == [RequestKey("sample", "east", "ns", "b"), RequestKey("sample", "east", "ns", "a")]
    _, found = await mapped(by_label, None, secret(**{"for": "a"}))
    assert found == [RequestKey("sample", "east", "ns", "a")], "a deleted one was something before"


async def test_keys_may_be_elsewhere_or_all() -> None:
    def many(obj: dict[str, Any]) -> list[str | ObjectKey]:
        return ["a", ObjectKey("other", "b"), ObjectKey("", "scoped"), ObjectKey("team", ALL), ObjectKey(ALL, ALL, "west")]

    _, found = await mapped(many, secret())
    assert found == [
        RequestKey("sample", "east", "ns", "a"),
        RequestKey("sample", "east", "other", "b"),
        RequestKey("sample", "east", "", "scoped"),
        every("sample", "east", "team"),
        every("sample", "west"),
    ]
    _, found = await mapped(by_label, secret(**{"for": "a"}), on="hub")
    assert found == [RequestKey("sample", ALL, "ns", "a")], "in every cluster of the controller"


async def test_more_keys_than_a_frame_should_carry_are_all() -> None:
    _, found = await mapped(lambda obj: [f"n{number}" for number in range(MOST + 1)], secret())
    assert found == [every("sample", "east")]


@pytest.mark.parametrize(
    "result",
    ["a", None, 7, [7], [""], ["a/b"], [ObjectKey("ns", "")], [ObjectKey(ALL, "a")], [("ns", "a")], [ObjectKey("ns", 7)]],  # type: ignore[arg-type]
)
async def test_what_is_no_list_of_keys_fails_and_says_so(result: Any) -> None:
    done, found = await mapped(lambda obj: result, secret())
    assert done.outcome is Outcome.RETRY
    assert "the map function" in done.error
    assert found == []


async def test_a_map_function_that_raises_fails_with_its_line() -> None:
    def wrong(obj: dict[str, Any]) -> list[str]:
        raise ZeroDivisionError("on purpose")

    done, found = await mapped(wrong, secret())
    assert done.outcome is Outcome.RETRY
    assert "ZeroDivisionError: on purpose" in done.error
    assert "test_sdk_watches.py" in done.error
    assert found == []


def test_a_key_without_a_map_function_is_refused() -> None:
    sample = declared(watches=[watch("v1/Secret", field="data.secret")])
    for key in (mapping("sample", "east", 0, "ns", "s"), mapping("sample", "east", 4, "ns", "s"), every("sample", "east")):
        task = Task(1, key, "standard", "watched", 1, 1, "0", 1, 0, 0.0, None)
        with pytest.raises(ValueError, match="has no map function"):
            mapping_of(sample, task)
