"""How the clusters of a fleet are reached: by the fleet file, or by what an embedded cluster reported."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from raycp.config import FleetDoc
from raycp.config.clusters import ClusterSpec
from raycp.kube import ConnectSpec
from raycp.member.limits import REQUESTS_AT_ONCE, answer_limits, breaker_policy
from raycp.protocol.plan import ClusterPlan, Fleet, Plan


def reachable(plan: Plan, endpoints: Mapping[str, ConnectSpec]) -> dict[str, ConnectSpec]:
    """The connection of each cluster; of embedded ones only while they are up, i.e. in ``endpoints``. Limits are those of the fleet
    file as it is now."""
    return {
        cluster.name: msgspec.structs.replace(endpoints[cluster.name], **_limits(cluster))
        if cluster.embedded is not None
        else connection(plan.fleet, cluster.name)
        for cluster in plan.fleet.doc.spec.clusters
        if cluster.embedded is None or cluster.name in endpoints
    }


def embedded_endpoints(clusters: Iterable[ClusterPlan], doc: FleetDoc) -> dict[str, ConnectSpec]:
    """The connections of the embedded clusters in a plan."""
    return {
        cluster.name: cluster.connect
        for cluster in clusters
        if cluster.connect is not None and doc.cluster(cluster.name).embedded is not None
    }


def connection(fleet: Fleet, name: str) -> ConnectSpec:
    """The connection of a cluster that is not embedded."""
    spec = fleet.doc.cluster(name)
    return ConnectSpec(
        name=name,
        mode=spec.mode if spec.mode != "embedded" else "direct",
        path=spec.kubeconfig.path if spec.kubeconfig else None,
        context=spec.kubeconfig.context if spec.kubeconfig else None,
        insecure=spec.insecure_skip_tls_verify,
        **_limits(spec),
    )


def _limits(spec: ClusterSpec) -> dict[str, Any]:
    return {
        "qps": spec.qps or 0.0,
        "burst": spec.burst or 0,
        "max_in_flight": spec.max_in_flight or REQUESTS_AT_ONCE,
        "breaker": breaker_policy(spec.breaker),
        "limits": answer_limits(spec.limits),
        "timeout": spec.request_timeout,
    }
