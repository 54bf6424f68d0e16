"""``spec.clusters``: the fleet's clusters, how to connect to each, and limits on requests."""

from typing import Literal

from pydantic import Field

from raycp.config.declared import CapacitySpec, ClusterTaint
from raycp.config.embedded import EmbeddedSpec
from raycp.config.names import DnsLabel, Labels
from raycp.config.strict import Strict
from raycp.config.units import PositiveDuration, Size


class KubeconfigRef(Strict):
    """A kubeconfig file and the context in it. Read on each node where a shard or worker runs."""

    path: str = Field(min_length=1, pattern="[^:]")
    """File on the node that hosts the actor; `~` is that node's home. A relative path is relative to the fleet file. Several files
    joined by `:` are merged as in `KUBECONFIG`."""
    context: str | None = None
    """Context in that file; by default its current one."""


class BreakerSpec(Strict):
    """When requests to a failing cluster are suspended, so that it does not slow down the other clusters."""

    failures: int = Field(default=5, ge=1)
    """Failed requests in a row that open the circuit: no connection, no answer in time, 401, 502 to 504, no API server's answer."""
    min: PositiveDuration = 1.0
    """How long the circuit stays open at first; then one probe is sent. Doubles with each failed probe."""
    max: PositiveDuration = 10.0
    """The longest time between two probes, and so about the longest until a cluster that is back is found."""


class AnswerLimitsSpec(Strict):
    """How large a cluster's answers may be, so that a server that sends without end costs its own cluster only."""

    header: Size = Field(default=64 << 10, ge=4 << 10)
    """Headers and trailers of one answer."""
    line: Size = Field(default=8 << 20, ge=64 << 10)
    """One line of a watch, and so one object in it. etcd holds objects of 1.5 MiB by default."""
    page: Size = Field(default=64 << 20, ge=64 << 10)
    """One answer: a page of a list, or an object. Where a page of 500 objects is larger, fewer are requested at a time."""
    list: Size = Field(default=2 << 30, ge=64 << 10)
    """All pages of one list together, as they are sent."""
    memory: Size = Field(default=1 << 30, ge=16 << 20)
    """The cluster's objects in the memory of one process (a shard, and each of its standbys), lists that are being read
    included; beyond it, the cache stays as it is. About 200 000 Pods of 4 kB. What is being received may take a quarter of
    it in addition."""


class ClusterSpec(Strict):
    """A Kubernetes cluster. Exactly one of `kubeconfig`, `inCluster` and `embedded` says how to connect to it."""

    name: DnsLabel
    """Its name in the fleet: in metrics, keys, actor names and placements."""
    role: Literal["hub", "member"] = "member"
    """The hub holds users' jobs and the fleet's own state; a fleet has one. A fleet's only cluster is both."""
    labels: Labels = {}
    """Labels by which `controllers[].clusters` and a job's placement select. `raycp.io/cluster` (its name) is always set."""
    kubeconfig: KubeconfigRef | None = None
    """Connect as this kubeconfig says: token, client certificate, exec plugin or OIDC. Rotated credentials are read again."""
    in_cluster: bool = False
    """Connect from within the cluster, with the service account of the Pod that hosts the actor."""
    embedded: EmbeddedSpec | None = None
    """Run the cluster: an API server in a process of the fleet. `{}` is enough."""
    insecure_skip_tls_verify: bool = False
    """Accept any server certificate. An attacker on the network path can then act as this cluster; each start logs a warning."""
    qps: float | None = Field(default=None, gt=0)
    """Requests per second of the whole fleet to this cluster. By default no fixed limit: the fleet slows down at 429 answers."""
    burst: int | None = Field(default=None, ge=1)
    """Requests that may be sent at once after an idle time; twice `qps` by default."""
    max_in_flight: int | None = Field(default=None, ge=1)
    """Concurrent reconciles of this cluster's objects over all workers. By default a quarter of the slots (half with two
    clusters, three quarters for the hub), so that a cluster that hangs never occupies all slots."""
    request_timeout: PositiveDuration = 5.0
    """Deadline of one read or write (lists have `timeouts.list`). Must be shorter than `leader.permit`."""
    breaker: BreakerSpec = BreakerSpec()
    """Circuit breaker of this cluster."""
    limits: AnswerLimitsSpec = AnswerLimitsSpec()
    """How large this cluster's answers may be, and its caches."""
    taints: list[ClusterTaint] = []
    """Taints of the cluster as a whole, against `placement.tolerations` of jobs."""
    capacity: list[CapacitySpec] = []
    """Its nodes, where raycp may not list them. Ignored where it may."""
    unschedulable: bool = False
    """Place no new work here; placed work continues."""
    drain: bool = False
    """Move the Pods of `BatchJob`s to other clusters, some at a time, and place no new ones here: `raycp drain`. Before a cluster
    is removed `raycp apply` does so too."""

    @property
    def mode(self) -> Literal["kubeconfig", "inCluster", "embedded"]:
        """How to connect: `kubeconfig`, `inCluster` or `embedded`."""
        if self.embedded is not None:
            return "embedded"
        return "inCluster" if self.in_cluster else "kubeconfig"

    @property
    def all_labels(self) -> dict[str, str]:
        """Its labels with those that every cluster has: `raycp.io/cluster` and `raycp.io/role`."""
        return {**self.labels, "raycp.io/cluster": self.name, "raycp.io/role": self.role}
