"""Settings of the fleet's own processes: Ray, leader, shards, workers, observer, state, time limits."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from raycp.config.controllers import BackoffSpec
from raycp.config.names import DnsLabel, Labels
from raycp.config.strict import InvalidValue, Strict
from raycp.config.units import Duration, PositiveDuration

_SECRET = re.compile(
    r"(passw(or)?d|secret|token|credential|api_?key|private_?key|^otel_exporter_otlp_(\w+_)?headers$)", re.IGNORECASE
)
_REFERENCE = re.compile(r"_(file|path|dir|name|mode)$", re.IGNORECASE)


def _no_secrets(env: dict[str, str]) -> dict[str, str]:
    for key in env:
        if _SECRET.search(key) and not _REFERENCE.search(key):
            raise InvalidValue(
                f"has {key}, which looks like a secret; environment variables of Ray jobs are readable by everyone",
                "mount the secret as a file on the nodes and pass its path, as NAME_FILE or NAME_PATH",
                secret=True,
            )
    return env


class RaySpec(Strict):
    """The Ray cluster that hosts the fleet."""

    address: str = "auto"
    """`auto`: the running Ray, or a new one if there is none; `local`: always a new one; or `HOST:PORT` of a head."""
    namespace: str | None = Field(default=None, min_length=1)
    """Ray namespace of the fleet's actors; `raycp-` and the fleet's name by default."""
    env: Annotated[dict[str, str], AfterValidator(_no_secrets)] = {}
    """Environment variables of the fleet's actors. No secrets: anyone who reaches Ray's API reads them."""
    num_cpus: int | None = Field(default=None, ge=1)
    """CPUs of a Ray that raycp starts; by default those of the machine, at least 4, since actors mostly wait."""


class RayLock(Strict):
    """Held by the named detached leader actor as long as it answers, and recorded in the hub (ConfigMap `raycp-FLEET-leader`)."""


class ConfigMapLock(Strict):
    """Leader for life in the hub cluster: a ConfigMap `raycp-FLEET-lock`, which standbys watch."""

    namespace: DnsLabel | None = None
    """Its namespace; `state.namespace` by default. The leader's Pod owns the lock if it is in the same namespace of the
    hub cluster and has POD_NAMESPACE, POD_NAME and POD_UID in its environment (downward API)."""


class LeaseLock(Strict):
    """A Lease `raycp-FLEET` of coordination.k8s.io in the hub cluster: for fleets that span several Ray clusters."""

    namespace: DnsLabel | None = None
    """Its namespace; `state.namespace` by default."""
    duration: PositiveDuration = 6.0
    """Time without a change, on the watcher's clock, after which the lease may be taken; whole seconds, rounded up. The
    successor then waits until the holder's permit has expired."""
    renew: PositiveDuration = 1.0
    """How often the holder renews the lease, to prove that it still leads. At most half of `duration` and of `leader.permit`."""


class LockSpec(Strict):
    """Where leadership is held: exactly one of the three."""

    ray: RayLock | None = None
    """In Ray; the default."""
    config_map: ConfigMapLock | None = None
    """In a ConfigMap of the hub cluster, for life."""
    lease: LeaseLock | None = None
    """In a Lease of the hub cluster, for as long as it is renewed: for fleets that span Ray clusters."""

    @property
    def kind(self) -> Literal["ray", "configMap", "lease"]:
        """The name of the lock that is set."""
        if self.config_map is not None:
            return "configMap"
        return "lease" if self.lease is not None else "ray"


class HandoverSpec(Strict):
    """The hand-over from one fleet or actor to its warm successor."""

    grace: Duration = 0.05
    """Time for running reconciles to finish before they are revoked. Their keys are handed over as interrupted, not
    failed."""
    timeout: PositiveDuration = 30.0
    """Time after which a hand-over is aborted, and the old holder continues."""


class LeaderSpec(Strict):
    """Leader election, and how long a permit to write lasts."""

    lock: LockSpec = LockSpec()
    """Where leadership is held."""
    permit: PositiveDuration = 6.0
    """How long a shard or worker may write without contact to the leader: the bound on the gap of a node that is cut off.
    A longer permit survives longer outages of the cluster that holds the lock, and lengthens that gap."""
    backoff: BackoffSpec = BackoffSpec()
    """Delays between attempts to become leader."""
    handover: HandoverSpec = HandoverSpec()
    """Time limits of a hand-over."""


class ShardsSpec(Strict):
    """The processes that watch clusters and hold queues."""

    standby: int = Field(default=1, ge=0, le=3)
    """Warm standbys of each shard, on other nodes if there are any. 0: a dead shard is rebuilt by listing again."""
    clusters_per_shard: int = Field(default=8, ge=1)
    """Clusters per shard process."""
    node_labels: Labels = {}
    """Labels of the Ray nodes that host shards (`ray start --labels`). Empty: any."""


class WorkersSpec(Strict):
    """The processes that run reconcilers. `tiers.*.workers` has their number."""

    slots: int = Field(default=32, ge=1, le=4096)
    """Concurrent reconciles of one process."""
    threads: int | None = Field(default=None, ge=1, le=4096)
    """Threads for reconcilers that are plain `def`; as many as slots by default."""
    cpus: float = Field(default=0.25, ge=0, le=64)
    """CPUs that Ray reserves for one process."""
    node_labels: Labels = {}
    """Labels of the Ray nodes that host workers (`ray start --labels`). Empty: any."""


class StateSpec(Strict):
    """The state that the fleet keeps in its hub cluster, in ConfigMaps `raycp-FLEET-*`."""

    namespace: DnsLabel = "raycp-system"
    """Their namespace; created if it does not exist."""
    watermark: PositiveDuration = 1.0
    """How often watermarks (the progress of each cluster and kind) are written."""
    checkpoint: PositiveDuration = 10.0
    """How often metric sums and SLO windows are written."""


class TimeoutsSpec(Strict):
    """Time limits of the whole fleet."""

    sync_deadline: PositiveDuration = 30.0
    """Time after which a member cluster that is not synced is reported, and no longer delays the fleet's readiness."""
    spread: Duration = 60.0
    """Time over which system work of a start or resync is randomly spread; at most nine tenths of `resync`."""
    reconcile: PositiveDuration = 60.0
    """Time after which a reconcile is cancelled and counts as failed."""
    drain: Duration = 30.0
    """How long running reconciles may take to finish when a cluster, worker or fleet is removed."""
    ready: PositiveDuration = 120.0
    """How long `raycp run` and `raycp submit` wait for the fleet to be ready."""
    list: PositiveDuration = 60.0
    """Deadline of one page of a list."""
    watch_silence: PositiveDuration = 90.0
    """Time without any event or bookmark after which a watch counts as stalled and is reopened."""
