"""How the fleet itself runs: Ray, leader, shards, workers, observer, state, time limits."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from raycp.config.controllers import BackoffSpec
from raycp.config.names import DnsLabel, Labels
from raycp.config.strict import Refused, Strict
from raycp.config.units import Duration, PositiveDuration

_SECRET = re.compile(r"(passw(or)?d|secret|token|credential|api_?key|private_?key)", re.IGNORECASE)
_REFERENCE = re.compile(r"_(file|path|dir|name|mode)$", re.IGNORECASE)


def _no_secrets(env: dict[str, str]) -> dict[str, str]:
    for key in env:
        if _SECRET.search(key) and not _REFERENCE.search(key):
            raise Refused(
                f"has {key}, which looks like a secret; environment variables of Ray jobs are readable by everyone",
                "mount the secret as a file on the nodes and pass its path, as NAME_FILE or NAME_PATH",
                secret=True,
            )
    return env


class RaySpec(Strict):
    """The Ray cluster that hosts the fleet."""

    address: str = "auto"
    """`auto`: the Ray at hand, one of its own if there is none; `local`: always one of its own; or `HOST:PORT` of a
    head."""
    namespace: str | None = Field(default=None, min_length=1)
    """Ray namespace of the fleet's actors; `raycp-` and the fleet's name by default."""
    env: Annotated[dict[str, str], AfterValidator(_no_secrets)] = {}
    """Environment variables of the fleet's actors. No secrets: anyone who reaches Ray's API reads them."""
    num_cpus: int | None = Field(default=None, ge=1)
    """CPUs that a Ray of its own reports; by default what the machine has, and at least 4, since actors mostly wait."""


class RayLock(Strict):
    """The named detached leader actor, for as long as it answers, recorded in the hub (ConfigMap `raycp-FLEET-leader`)."""


class ConfigMapLock(Strict):
    """Leader for life in the hub cluster: a ConfigMap `raycp-FLEET-lock`, watched rather than polled."""

    namespace: DnsLabel | None = None
    """Its namespace; `state.namespace` by default. The leader's Pod owns the lock where that Pod is in the same namespace of the
    hub cluster and has POD_NAMESPACE, POD_NAME and POD_UID in its environment (downward API)."""


class LeaseLock(Strict):
    """A Lease `raycp-FLEET` of coordination.k8s.io in the hub cluster: for fleets that span several Ray clusters."""

    namespace: DnsLabel | None = None
    """Its namespace; `state.namespace` by default."""
    duration: PositiveDuration = 6.0
    """A lease that did not change for this long may be taken, by the clock of whoever watches it; whole seconds, rounded up.
    The successor waits for what is left of the holder's permit then."""
    renew: PositiveDuration = 1.0
    """How often the holder renews: its proof that it still leads. At most half of `duration` and of `leader.permit`."""


class LockSpec(Strict):
    """Where leadership is held. One of the three."""

    ray: RayLock | None = None
    """In Ray; the default."""
    config_map: ConfigMapLock | None = None
    """In a ConfigMap of the hub cluster, for life."""
    lease: LeaseLock | None = None
    """In a Lease of the hub cluster, for as long as it is renewed: for fleets that span Ray clusters."""

    @property
    def kind(self) -> Literal["ray", "configMap", "lease"]:
        """Which of the three."""
        if self.config_map is not None:
            return "configMap"
        return "lease" if self.lease is not None else "ray"


class HandoverSpec(Strict):
    """The change from one fleet, or one actor, to its warm successor."""

    grace: Duration = 0.05
    """What running reconciles get to end before they are revoked; their keys are passed on as interrupted, not
    failed."""
    timeout: PositiveDuration = 30.0
    """A hand-over that takes longer is given up, and the old holder goes on."""


class LeaderSpec(Strict):
    """Who leads, and for how long a right to write lasts."""

    lock: LockSpec = LockSpec()
    """Where leadership is held."""
    permit: PositiveDuration = 6.0
    """How long a shard or worker may write without news from the leader: the bound on the gap of a node that is cut
    off.
    A longer one rides out longer outages of the lock's home, and lengthens that gap."""
    backoff: BackoffSpec = BackoffSpec()
    """Waiting times between attempts to become leader."""
    handover: HandoverSpec = HandoverSpec()
    """Time limits of a hand-over."""


class ShardsSpec(Strict):
    """The processes that watch clusters and hold queues."""

    standby: int = Field(default=1, ge=0, le=3)
    """Warm copies of each shard, on other nodes where there are some. 0: a dead shard is rebuilt by listing again."""
    clusters_per_shard: int = Field(default=8, ge=1)
    """Clusters that one process watches."""
    node_labels: Labels = {}
    """Labels of the Ray nodes that host shards (`ray start --labels`). Empty: any."""


class WorkersSpec(Strict):
    """The processes that run reconcilers. How many there are says `tiers.*.workers`."""

    slots: int = Field(default=32, ge=1, le=4096)
    """Reconciles at the same time in one process."""
    threads: int | None = Field(default=None, ge=1, le=4096)
    """Threads for reconcilers that are plain `def`; as many as slots by default."""
    cpus: float = Field(default=0.25, ge=0, le=64)
    """CPUs that Ray sets aside for one process."""
    node_labels: Labels = {}
    """Labels of the Ray nodes that host workers (`ray start --labels`). Empty: any."""


class ObserverSpec(Strict):
    """The one HTTP face: metrics, health, status page, JSON API."""

    host: str = "127.0.0.1"
    """Address to listen on. `0.0.0.0` lets others scrape it; it shows names of objects, and asks nobody who they
    are."""
    port: int = Field(default=9464, ge=0, le=65535)
    """Port to listen on; 0 takes a free one, which `raycp status` shows."""


class StateSpec(Strict):
    """What the fleet keeps in its hub cluster, in ConfigMaps `raycp-FLEET-*`."""

    namespace: DnsLabel = "raycp-system"
    """Their namespace; made if it does not exist."""
    watermark: PositiveDuration = 1.0
    """How often it is written how far each cluster and kind has been seen and reconciled."""
    checkpoint: PositiveDuration = 10.0
    """How often sums of metrics and SLO windows are written."""


class TimeoutsSpec(Strict):
    """Time limits of the whole fleet."""

    sync_deadline: PositiveDuration = 30.0
    """A member cluster not listed after this long is reported, and no longer holds back the fleet's readiness."""
    spread: Duration = 60.0
    """System work of a start or resync is spread over this time at random, and over at most nine tenths of `resync`."""
    reconcile: PositiveDuration = 60.0
    """A reconcile that takes longer is stopped and counts as failed."""
    drain: Duration = 30.0
    """How long running reconciles may take to end when a cluster, worker or fleet is taken away."""
    ready: PositiveDuration = 120.0
    """How long `raycp run` and `raycp submit` wait for the fleet to be ready."""
    list: PositiveDuration = 60.0
    """Deadline of one page of a list."""
    watch_silence: PositiveDuration = 90.0
    """A watch that tells nothing, not even a bookmark, for this long is taken for stalled and opened again."""
