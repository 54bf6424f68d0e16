"""How much of each cluster and of each controller may be in flight (law 5)."""

import math

from raycp.queueing.fair import ClusterLoad, ControllerLoad
from raycp.queueing.policy import QueuePolicy

PAUSED = "paused"
"""Why nothing of a cluster is handed out which the policy pauses."""


class Limits:
    """Clusters and controllers that have been seen, by name."""

    __slots__ = ("_policy", "clusters", "controllers")

    def __init__(self, policy: QueuePolicy) -> None:
        self._policy = policy
        self.clusters: dict[str, ClusterLoad] = {}
        self.controllers: dict[str, ControllerLoad] = {}

    def cluster(self, name: str) -> ClusterLoad:
        """The cluster, new with its policy's limit."""
        found = self.clusters.get(name)
        if found is None:
            found = self.clusters[name] = ClusterLoad(name, self._of_cluster(name))
            found.paused = name in self._policy.paused_clusters
        return found

    def controller(self, name: str) -> ControllerLoad:
        """The controller, new with its policy's concurrency."""
        found = self.controllers.get(name)
        if found is None:
            found = self.controllers[name] = ControllerLoad(name, self._of_controller(name))
        return found

    def override(self, name: str, in_flight: int | None, why: str) -> None:
        """Limit a cluster further than the policy does; None: no further."""
        cluster = self.cluster(name)
        cluster.override, cluster.why = in_flight, why
        self._apply(cluster)

    def set_policy(self, policy: QueuePolicy) -> None:
        """Apply another policy's limits; what stood aside steps in where there is room now."""
        self._policy = policy
        for cluster in self.clusters.values():
            self._apply(cluster)
        for controller in self.controllers.values():
            controller.limit = self._of_controller(controller.name)
            controller.all_in()

    def blocked(self) -> dict[str, str]:
        """Clusters of which nothing may be in flight, and why."""
        return {name: PAUSED if cluster.paused else cluster.why for name, cluster in self.clusters.items() if cluster.limit == 0}

    def _apply(self, cluster: ClusterLoad) -> None:
        limit = self._of_cluster(cluster.name)
        cluster.paused = cluster.name in self._policy.paused_clusters
        cluster.limit = limit if cluster.override is None else min(cluster.override, limit)
        if cluster.in_flight < cluster.limit:
            cluster.step_in()

    def _of_controller(self, name: str) -> float:
        return 0 if name in self._policy.paused_controllers else self._policy.concurrency.get(name, math.inf)

    def _of_cluster(self, name: str) -> float:
        if name in self._policy.paused_clusters:
            return 0
        limit = self._policy.cluster_limits.get(name, self._policy.cluster_in_flight)
        return math.inf if limit is None else limit
