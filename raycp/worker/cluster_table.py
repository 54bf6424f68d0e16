"""``ClusterTable``: every cluster of the plan, for ``ctx.clusters``, and the shard that watches it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from raycp.protocol.frames import ClusterState
from raycp.protocol.plan import Plan
from raycp.sdk.backend import ClusterInfo


class ReportsStates(Protocol):
    """A link to a shard, as the table needs it."""

    @property
    def states(self) -> Mapping[str, ClusterState]:
        """The shard's clusters, as it last reported them."""
        ...


class ClusterTable:
    """Written on the actor's loop, read on the user loop: each mapping is replaced as a whole.

    ``infos`` holds what the plan says of each cluster, with its reachability as its shard last reported it; ``shards`` its shard;
    ``members`` the member clusters of each shard that has some.
    """

    def __init__(self, links: Mapping[str, ReportsStates]) -> None:
        self.infos: Mapping[str, ClusterInfo] = {}
        self.shards: Mapping[str, str] = {}
        self.members: Mapping[str, tuple[str, ...]] = {}
        self._links = links
        self._planned: list[ClusterInfo] = []

    def update(self, plan: Plan) -> None:
        """Take over a newer plan."""
        # An unschedulable cluster has no room for new Pods: placement avoids it, and the Pods in it go on.
        spec = plan.fleet.doc.spec
        closed = {cluster.name for cluster in spec.clusters if cluster.unschedulable}
        drained = {cluster.name for cluster in spec.clusters if cluster.drain}
        taints = {cluster.name: tuple(cluster.taints) for cluster in spec.clusters}
        self._planned = [
            ClusterInfo(
                cluster.name,
                cluster.role,
                cluster.labels,
                free_pods=0 if cluster.name in closed else None,
                draining=cluster.name in drained,
                permit=spec.leader.permit,
                taints=taints.get(cluster.name, ()),
            )
            for cluster in plan.clusters
        ]
        self.shards = {cluster.name: cluster.shard for cluster in plan.clusters}
        members: dict[str, tuple[str, ...]] = {}
        for cluster in plan.clusters:
            if cluster.role == "member":
                members[cluster.shard] = (*members.get(cluster.shard, ()), cluster.name)
        self.members = members
        self.refresh()

    def refresh(self) -> None:
        """Take over the states that the shards report now."""
        infos = {}
        for info in self._planned:
            state = self.state(info.name)
            if state is None:
                infos[info.name] = replace(info, reachable=False, synced=False, reason="its shard is not connected")
            else:
                infos[info.name] = replace(
                    info, reachable=state.reachable, synced=state.synced, reason=state.reason, clock_ahead=state.clock_ahead,
                    voided=state.voided,
                )
        self.infos = infos

    def state(self, cluster: str) -> ClusterState | None:
        """The state that the cluster's shard last reported; None where the shard is not connected."""
        link = self._links.get(self.shards.get(cluster, ""))
        return link.states.get(cluster) if link is not None else None
