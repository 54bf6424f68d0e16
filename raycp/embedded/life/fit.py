"""Whether a node can run a Pod: kube-scheduler's filters that need no other Pods' placement, in its wording. Pure.

NodeUnschedulable, NodeName, TaintToleration, NodeAffinity (``nodeSelector`` and required terms), NodeResourcesFit,
NodePorts. Not supported: inter-Pod affinity, topology spread, volumes (see ``docs/embedded.md``).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from raycp.embedded.life.seams import PartialMetadata
from raycp.embedded.quota.podtotals import combined
from raycp.embedded.strategy.scalars import milli, parse_integer


class Toleration(msgspec.Struct, rename="camel"):
    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""
    toleration_seconds: int | None = None


class Taint(msgspec.Struct, rename="camel"):
    key: str = ""
    value: str = ""
    effect: str = ""


class NodeSelectorRequirement(msgspec.Struct):
    key: str = ""
    operator: str = "In"
    values: list[str] | None = None


class Term(msgspec.Struct, rename="camel"):
    match_expressions: list[NodeSelectorRequirement] | None = None
    match_fields: list[NodeSelectorRequirement] | None = None


class NodeTerms(msgspec.Struct, rename="camel"):
    node_selector_terms: list[Term] | None = None


class NodeAffinity(msgspec.Struct):
    required: NodeTerms | None = msgspec.field(default=None, name="requiredDuringSchedulingIgnoredDuringExecution")


class Affinity(msgspec.Struct, rename="camel"):
    node_affinity: NodeAffinity | None = None


class Resources(msgspec.Struct):
    requests: dict[str, str | int | float] | None = None


class Port(msgspec.Struct, rename="camel"):
    host_port: int = 0
    protocol: str = "TCP"


class Container(msgspec.Struct, rename="camel"):
    resources: Resources | None = None
    ports: list[Port] | None = None
    restart_policy: str = ""


class PodObjectSpec(msgspec.Struct, rename="camel"):
    node_name: str = ""
    node_selector: dict[str, str] | None = None
    affinity: Affinity | None = None
    tolerations: list[Toleration] | None = None
    containers: list[Container] | None = None
    init_containers: list[Container] | None = None
    overhead: dict[str, str | int | float] | None = None
    scheduler_name: str = "default-scheduler"
    scheduling_gates: list[Any] | None = None
    priority: int = 0
    preemption_policy: str = ""


class PodStatus(msgspec.Struct, rename="camel"):
    phase: str = ""
    start_time: str | None = None


class PodObject(msgspec.Struct):
    """The part of a Pod that the scheduler reads."""

    metadata: PartialMetadata = msgspec.field(default_factory=PartialMetadata)
    spec: PodObjectSpec = msgspec.field(default_factory=PodObjectSpec)
    status: PodStatus = msgspec.field(default_factory=PodStatus)


decode_pod = msgspec.json.Decoder(PodObject).decode


class Condition(msgspec.Struct, rename="camel"):
    type: str = ""
    status: str = ""


class NodeSpec(msgspec.Struct):
    unschedulable: bool = False
    taints: list[Taint] | None = None


class NodeStatus(msgspec.Struct):
    allocatable: dict[str, str | int | float] | None = None
    capacity: dict[str, str | int | float] | None = None
    conditions: list[Condition] | None = None


class NodeObject(msgspec.Struct):
    """The part of a node that the scheduler reads."""

    metadata: PartialMetadata = msgspec.field(default_factory=PartialMetadata)
    spec: NodeSpec = msgspec.field(default_factory=NodeSpec)
    status: NodeStatus = msgspec.field(default_factory=NodeStatus)


decode_node = msgspec.json.Decoder(NodeObject).decode


@dataclass
class Room:
    """A node and the amounts in use, in thousandths."""

    name: str
    labels: Mapping[str, str]
    taints: list[Taint]
    unschedulable: bool
    allocatable: dict[str, int]
    used: dict[str, int] = field(default_factory=dict)
    pods: int = 0
    ports: set[tuple[str, int]] = field(default_factory=set)

    def take(self, asks: "Asks") -> None:
        for name, amount in asks.amounts:
            self.used[name] = self.used.get(name, 0) + amount
        self.pods += 1
        self.ports.update(asks.ports)

    def free(self, asks: "Asks") -> None:
        for name, amount in asks.amounts:
            self.used[name] = self.used.get(name, 0) - amount
        self.pods -= 1
        self.ports.difference_update(asks.ports)

    def load(self) -> float:
        """The node's load from 0 to 1: the mean over cpu, memory and Pods."""
        parts = [self.pods * 1000 / max(1, self.allocatable.get("pods", 1))]
        parts += [self.used.get(name, 0) / max(1, self.allocatable.get(name, 1)) for name in ("cpu", "memory")]
        return sum(parts) / len(parts)


class Asks(msgspec.Struct, frozen=True):
    """The amounts that a Pod requests, in thousandths, and its host ports."""

    amounts: tuple[tuple[str, int], ...]
    ports: frozenset[tuple[str, int]]


def room_of(node: NodeObject) -> Room:
    amounts = node.status.allocatable or node.status.capacity or {}
    return Room(
        node.metadata.name,
        node.metadata.labels or {},
        node.spec.taints or [],
        node.spec.unschedulable,
        {name: milli(value) for name, value in amounts.items()},
    )


def asks_of(spec: PodObjectSpec) -> Asks:
    """What a Pod takes of a node: its containers' requests, and overhead."""
    inits = [(_requests(one), one.restart_policy == "Always") for one in spec.init_containers or ()]
    amounts = combined(map(_requests, spec.containers or ()), inits)
    for name, value in (spec.overhead or {}).items():
        amounts[name] = amounts.get(name, 0) + milli(value)
    ports = frozenset((p.protocol, p.host_port) for c in spec.containers or () for p in c.ports or () if p.host_port)
    return Asks(tuple(sorted((name, amount) for name, amount in amounts.items() if amount)), ports)


def _requests(container: Container) -> dict[str, int]:
    requests = container.resources.requests if container.resources is not None else None
    return {name: milli(value) for name, value in (requests or {}).items()}


def obstacle(room: Room, spec: PodObjectSpec, asks: Asks) -> str | None:
    """Why the node can't run the Pod, in kube-scheduler's words; None if it can."""
    if room.unschedulable and not tolerated(Taint("node.kubernetes.io/unschedulable", "", "NoSchedule"), spec.tolerations):
        return "node(s) were unschedulable"
    for taint in room.taints:
        if taint.effect in ("NoSchedule", "NoExecute") and not tolerated(taint, spec.tolerations):
            return f"node(s) had untolerated taint(s) {{{taint.key}: {taint.value}}}"
    if not selects(room, spec):
        return "node(s) didn't match Pod's node affinity/selector"
    if asks.ports & room.ports:
        return "node(s) didn't have free ports for the requested pod ports"
    if (room.pods + 1) * 1000 > room.allocatable.get("pods", 0):
        return "Too many pods"
    for name, amount in asks.amounts:
        if room.used.get(name, 0) + amount > room.allocatable.get(name, 0):
            return f"Insufficient {name}"
    return None


def tolerated(taint: Taint, tolerations: Iterable[Toleration] | None) -> bool:
    """Whether any toleration covers the taint."""
    for toleration in tolerations or ():
        if toleration.effect and toleration.effect != taint.effect:
            continue
        if toleration.key and toleration.key != taint.key:
            continue
        if toleration.operator == "Exists" or (toleration.key and toleration.value == taint.value):
            return True
    return False


def selects(room: Room, spec: PodObjectSpec) -> bool:
    """``nodeSelector`` and the required terms of node affinity (any term, all of its expressions)."""
    for key, value in (spec.node_selector or {}).items():
        if room.labels.get(key) != value:
            return False
    required = spec.affinity.node_affinity.required if spec.affinity and spec.affinity.node_affinity else None
    if required is None:
        return True
    for term in required.node_selector_terms or ():
        if not term.match_expressions and not term.match_fields:
            continue
        if all(_meets(r, room.labels) for r in term.match_expressions or ()) and all(
            _meets(r, {"metadata.name": room.name}) for r in term.match_fields or ()
        ):
            return True
    return False


def _meets(requirement: NodeSelectorRequirement, labels: Mapping[str, str]) -> bool:
    have, values = labels.get(requirement.key), requirement.values or []
    match requirement.operator:
        case "In":
            return have in values
        case "NotIn":
            return have not in values
        case "Exists":
            return have is not None
        case "DoesNotExist":
            return have is None
        case "Gt" | "Lt":
            try:
                number, bound = parse_integer(have or ""), parse_integer(values[0])
            except (ValueError, IndexError):
                return False
            return number > bound if requirement.operator == "Gt" else number < bound
    return False


def explain(total: int, obstacles: Mapping[str, int]) -> str:
    """The message of PodScheduled=False.

    For example ``0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.``
    """
    if not total:
        return "no nodes available to schedule pods"
    reasons = ", ".join(sorted(f"{count} {reason}" for reason, count in obstacles.items()))
    return f"0/{total} nodes are available: {reasons}."
