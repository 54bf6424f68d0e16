"""A cluster of the fleet file as the scheduler sees it before it runs."""

from raycp.base.quantities import PODS, parse_resources
from raycp.config.clusters import ClusterSpec
from raycp.config.declared import ClusterTaint
from raycp.scheduling.capacity import CapacitySummary, DeclaredNodes, declared_capacity
from raycp.scheduling.labels import taints_of
from raycp.scheduling.model import Candidate
from raycp.shard.capacity_reports import declared


def candidate_of_spec(cluster: ClusterSpec) -> Candidate:
    """Reachable, and open unless it is cordoned or drained."""
    refusal = "it is drained" if cluster.drain else "it is marked unschedulable" if cluster.unschedulable else ""
    return Candidate(cluster.name, cluster.all_labels, refusal=refusal, taints=taints_of(cluster.taints))


def capacity_of_spec(cluster: ClusterSpec) -> CapacitySummary | None:
    """Its ``capacity``, or the nodes of an embedded cluster; None where neither is given. Raises ``QuantityError``."""
    if cluster.capacity:
        return declared(cluster)
    if cluster.embedded is not None and cluster.embedded.nodes:
        node = cluster.embedded.node
        taints = [ClusterTaint.model_validate(each) for each in node.taints]
        allocatable = parse_resources({"cpu": node.cpu, "memory": node.memory, PODS: node.pods})
        groups = [DeclaredNodes(cluster.embedded.nodes, allocatable, node.labels, taints_of(taints))]
        return declared_capacity(cluster.name, groups)
    return None
