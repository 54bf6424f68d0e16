"""Nodes and Pods of a cluster, as the accumulator of ``raycp.scheduling`` takes them."""

from typing import Any

import msgspec

from raycp.base.objects import Obj
from raycp.base.quantities import parse_resources
from raycp.controllers.batchjob.pods import QUEUE
from raycp.scheduling.accumulator import NodeState, PodState
from raycp.scheduling.labels import TaintSpec
from raycp.scheduling.podrequests import pod_requests
from raycp.sdk.owner import OWNER_UID


class _Condition(msgspec.Struct):
    type: str = ""
    status: str = ""


class _NodeTaint(msgspec.Struct):
    key: str = ""
    value: str = ""
    effect: str = ""


class _NodeSpec(msgspec.Struct):
    unschedulable: bool = False
    taints: list[_NodeTaint] | None = None


class _NodeStatus(msgspec.Struct):
    allocatable: dict[str, Any] = {}
    conditions: list[_Condition] | None = None


class _Node(msgspec.Struct):
    spec: _NodeSpec = msgspec.field(default_factory=_NodeSpec)
    status: _NodeStatus = msgspec.field(default_factory=_NodeStatus)


class _PodStatus(msgspec.Struct):
    phase: str = ""


class _Pod(msgspec.Struct):
    spec: dict[str, Any] = {}
    status: _PodStatus = msgspec.field(default_factory=_PodStatus)


_nodes = msgspec.json.Decoder(_Node)
_pods = msgspec.json.Decoder(_Pod)
_KEEPS_AWAY = ("NoSchedule", "NoExecute", "PreferNoSchedule")


def read_node(obj: Obj) -> NodeState | None:
    """The node; None where it can't be read, and counts as gone. One that is not ready or cordoned takes no Pods: so does the
    scheduler of Kubernetes, by the taints ``node.kubernetes.io/not-ready`` and ``unschedulable``, which are left out therefore."""
    try:
        node = _nodes.decode(obj.raw)
        allocatable = parse_resources(node.status.allocatable)
    except Exception:  # law 12: it comes from outside, and whatever is wrong with it is its own
        return None
    ready = any(each.type == "Ready" and each.status == "True" for each in node.status.conditions or ())
    taints = tuple(
        TaintSpec(each.key, each.value, each.effect)  # type: ignore[arg-type]
        for each in node.spec.taints or ()
        if each.effect in _KEEPS_AWAY and not each.key.startswith("node.kubernetes.io/")
    )
    return NodeState(allocatable, dict(obj.meta.labels or {}), taints, ready and not node.spec.unschedulable)


def read_pod_state(obj: Obj) -> PodState | None:
    """The Pod; None for one that has ended, and takes no room, or can't be read."""
    try:
        pod = _pods.decode(obj.raw)
        if pod.status.phase in ("Succeeded", "Failed"):
            return None
        requests = pod_requests(pod.spec)
    except Exception:  # law 12: it comes from outside, and whatever is wrong with it is its own
        return None
    labels = obj.meta.labels or {}
    return PodState(requests, pod.spec.get("nodeName") or "", labels.get(OWNER_UID, "") if QUEUE in labels else "")
