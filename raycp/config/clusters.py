"""``spec.clusters``: which clusters there are, how each is reached, how hard it may be pressed."""

from typing import Literal

from pydantic import Field

from raycp.config.embedded import EmbeddedSpec
from raycp.config.names import DnsLabel, Labels
from raycp.config.strict import Strict
from raycp.config.units import PositiveDuration


class KubeconfigRef(Strict):
    """A kubeconfig file and the context in it. Read on each node where a shard or worker runs (design, section 7)."""

    path: str = Field(min_length=1)
    """File, on the node that hosts the actor; `~` is that node's home. A relative path counts from the fleet file."""
    context: str | None = None
    """Context in that file; its current one by default."""


class BreakerSpec(Strict):
    """When a cluster that fails is left alone for a while, so that it costs the others nothing."""

    failures: int = Field(default=5, ge=1)
    """Failed requests in a row (time-outs, refused connections, 5xx) that open the circuit."""
    min: PositiveDuration = 1.0
    """How long it stays open at first; then one probe is let through. Doubles with each failed probe."""
    max: PositiveDuration = 30.0
    """The longest that it stays open between two probes."""


class ClusterSpec(Strict):
    """One Kubernetes cluster. Exactly one of `kubeconfig`, `inCluster` and `embedded` says how it is reached."""

    name: DnsLabel
    """Its name in the fleet: in metrics, keys, actor names and placements."""
    role: Literal["hub", "member"] = "member"
    """The hub holds users' jobs and the fleet's own state; a fleet has one. A fleet's only cluster is hub and
    member."""
    labels: Labels = {}
    """What `controllers[].clusters` and a job's placement select by. `raycp.io/cluster` (its name) is always there."""
    kubeconfig: KubeconfigRef | None = None
    """Reached as this kubeconfig says: token, client certificate, exec plugin or OIDC. Rotated credentials are
    reread."""
    in_cluster: bool = False
    """Reached from within, by the service account of the Pod that hosts the actor."""
    embedded: EmbeddedSpec | None = None
    """Not reached but run: an API server in a process of the fleet. `{}` is enough."""
    insecure_skip_tls_verify: bool = False
    """Accept any server certificate. Whoever sits on the network path can then act as this cluster; warned at each
    start."""
    qps: float | None = Field(default=None, gt=0)
    """Requests per second that the fleet sends to it, all in all. By default no fixed limit: its own 429s set the
    pace."""
    burst: int | None = Field(default=None, ge=1)
    """Requests above `qps` that may go at once after a quiet time; twice `qps` by default."""
    max_in_flight: int | None = Field(default=None, ge=1)
    """Reconciles of this cluster's objects at the same time, over all workers. By default a quarter of the slots (half of
    them where there are two clusters, three quarters for the hub), so that a cluster that hangs never holds all."""
    request_timeout: PositiveDuration = 5.0
    """Deadline of one read or write (lists have `timeouts.list`). Must be shorter than `leader.permit`."""
    breaker: BreakerSpec = BreakerSpec()
    """The circuit breaker of this cluster."""
    unschedulable: bool = False
    """No new work is placed here; what is here goes on. Set it, apply, then remove the cluster, to drain it gently."""

    @property
    def mode(self) -> Literal["kubeconfig", "inCluster", "embedded"]:
        """How it is reached."""
        if self.embedded is not None:
            return "embedded"
        return "inCluster" if self.in_cluster else "kubeconfig"

    @property
    def all_labels(self) -> dict[str, str]:
        """Its labels with those that every cluster has: `raycp.io/cluster` and `raycp.io/role`."""
        return {**self.labels, "raycp.io/cluster": self.name, "raycp.io/role": self.role}
