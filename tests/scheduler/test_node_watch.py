"""Nodes and Pods of a member, as capacity counts them."""

from typing import Any

import msgspec
import pytest

from raycp.base.objects import Obj
from raycp.kube.codec import decode_object
from raycp.scheduler.nodes import read_node, read_pod_state


def obj(kind: str, labels: dict[str, str] | None = None, **parts: Any) -> Obj:
    meta = {"name": "x", "namespace": "default", "uid": "u", "resourceVersion": "1", "labels": labels or {}}
    return decode_object(msgspec.json.encode({"apiVersion": "v1", "kind": kind, "metadata": meta, **parts}))


def node(ready: str = "True", **spec: Any) -> Obj:
    status = {"allocatable": {"cpu": "3920m", "nvidia.com/gpu": "8"}, "conditions": [{"type": "Ready", "status": ready}]}
    return obj("Node", {"zone": "a"}, spec=spec, status=status)


def pod(phase: str = "Running", labels: dict[str, str] | None = None, **spec: Any) -> Obj:
    containers = [{"name": "main", "resources": {"requests": {"cpu": "500m"}}}]
    return obj("Pod", labels, spec={"containers": containers, **spec}, status={"phase": phase})


def test_a_node_takes_pods_when_it_is_ready_and_not_cordoned() -> None:
    found = read_node(node())
    assert found is not None
    assert (found.allocatable, found.labels, found.takes_pods) == ({"cpu": 3920, "nvidia.com/gpu": 8}, {"zone": "a"}, True)
    taints = [
        {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"},
        {"key": "gpu", "value": "a100", "effect": "NoSchedule"},
        {"key": "odd", "effect": "Sometimes"},
    ]
    for broken in (node("False"), node("Unknown"), node(unschedulable=True, taints=taints)):
        state = read_node(broken)
        assert state is not None
        assert not state.takes_pods
    assert [str(taint) for taint in state.taints] == ["gpu=a100:NoSchedule"]


@pytest.mark.parametrize("allocatable", [{"cpu": "many"}, {"cpu": {"a": 1}}, []])
def test_a_node_that_can_not_be_read_counts_as_gone(allocatable: Any) -> None:
    assert read_node(obj("Node", status={"allocatable": allocatable})) is None


def test_a_pod_takes_room_until_it_has_ended() -> None:
    bound = read_pod_state(pod(nodeName="n"))
    assert bound is not None
    assert (bound.requests, bound.node, bound.job) == ({"pods": 1, "cpu": 500}, "n", "")
    pending = read_pod_state(pod("Pending"))
    assert pending is not None
    assert pending.node == ""
    assert read_pod_state(pod("Succeeded")) is None
    assert read_pod_state(pod("Failed")) is None
    assert read_pod_state(obj("Pod", spec={"containers": 7})) is None


def test_the_room_of_an_admitted_jobs_pods_is_known_by_its_record() -> None:
    labels = {"raycp.io/owner-uid": "j"}
    plain, admitted = read_pod_state(pod(labels=labels)), read_pod_state(pod(labels=labels | {"raycp.io/queue": ""}))
    assert plain is not None
    assert admitted is not None
    assert (plain.job, admitted.job) == ("", "j")
