"""What clusters have room for: ``CapacitySummary``, a compact account of a cluster by groups of alike nodes.

A summary is what a shard sends instead of nodes and Pods. Units are those of ``quantities``.
"""

from collections.abc import Mapping

import msgspec

from raycp.base.quantities import PODS, added, fits_times
from raycp.scheduling.labels import TaintSpec, TolerationSpec, untolerated

MAX_PODS = 110
"""Pods of a node, by default (the kubelet's ``maxPods``)."""


class RoomBin(msgspec.Struct, array_like=True):
    """``nodes`` nodes of a group with this much ``free`` each."""

    free: dict[str, int]
    nodes: int


class NodeGroup(msgspec.Struct, array_like=True):
    """Nodes of one shape: equal ``allocatable``, ``labels`` and ``taints``. ``bins`` hold those that take new Pods (ready, not
    cordoned); ``nodes`` counts all of them."""

    allocatable: dict[str, int]
    labels: dict[str, str]
    taints: list[TaintSpec]
    nodes: int
    bins: list[RoomBin]

    def takes(self, node_selector: Mapping[str, str], tolerations: tuple[TolerationSpec, ...], unknown: frozenset[str]) -> bool:
        """Whether Pods with these may run here. ``unknown``: label keys that the summary leaves out, taken to match."""
        if any(key not in unknown and self.labels.get(key) != value for key, value in node_selector.items()):
            return False
        return not self.taints or untolerated(self.taints, tolerations) is None


class PodCount(msgspec.Struct, array_like=True):
    """``count`` Pods that request this much each."""

    requests: dict[str, int]
    count: int


class CapacitySummary(msgspec.Struct):
    """The capacity of one cluster.

    ``groups``: its nodes. ``pending``: Pods without a node, by what they request; whoever plans subtracts them from the room.
    ``jobs``: Pods of admitted jobs that are there, by the job's uid; they are in no other account here, as whoever plans knows them
    by their jobs' records, and can ask what would be without them. All other Pods with a node, those of DaemonSets included, take
    room of the groups. ``unknown_labels``: keys of node labels with too many values to be summarised. ``declared``: from the
    fleet file, not observed.
    """

    cluster: str
    groups: list[NodeGroup] = []
    pending: list[PodCount] = []
    jobs: dict[str, int] = {}
    unknown_labels: list[str] = []
    declared: bool = False

    def room(self, requests: Mapping[str, int], node_selector: Mapping[str, str], tolerations: tuple[TolerationSpec, ...]) -> int:
        """How many more Pods with these fit: for each node by itself, so that scattered remainders do not add up to one Pod."""
        unknown = frozenset(self.unknown_labels)
        total = 0
        for group in self.groups:
            if group.takes(node_selector, tolerations, unknown):
                total += sum(each.nodes * fits_times(each.free, requests) for each in group.bins)
        return total

    def allocatable(self) -> dict[str, int]:
        """Of all its nodes together."""
        total: dict[str, int] = {}
        for group in self.groups:
            total = added(total, group.allocatable, group.nodes)
        return total


class DeclaredNodes(msgspec.Struct, frozen=True):
    """``nodes`` alike nodes, as the fleet file declares them (``clusters[].capacity``)."""

    nodes: int
    allocatable: dict[str, int]
    labels: dict[str, str] = {}
    taints: tuple[TaintSpec, ...] = ()


def declared_capacity(cluster: str, groups: list[DeclaredNodes]) -> CapacitySummary:
    """The summary of a cluster whose nodes can't be listed: as declared, with no Pods but those that the scheduler reserves. A node
    that does not say how many Pods it takes, takes ``MAX_PODS``."""
    made = []
    for each in groups:
        allocatable = {PODS: MAX_PODS, **each.allocatable}
        made.append(NodeGroup(allocatable, each.labels, list(each.taints), each.nodes, [RoomBin(allocatable, each.nodes)]))
    return CapacitySummary(cluster, made, declared=True)
