"""The whole fleet file."""

import json
from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import Field

from raycp.config.channels import ChannelsSpec
from raycp.config.clusters import ClusterSpec
from raycp.config.controllers import RESYNC, ControllerSpec
from raycp.config.names import FleetName, Labels
from raycp.config.observer import ObserverSpec
from raycp.config.pauses import PausedSpec
from raycp.config.runtime import (
    LeaderSpec,
    RaySpec,
    ShardsSpec,
    StateSpec,
    TimeoutsSpec,
    WorkersSpec,
)
from raycp.config.strict import Strict
from raycp.config.tiers import SloObjective, TiersSpec
from raycp.config.traces import TracesSpec

API_VERSION = "raycp.io/v1alpha1"


class FleetMeta(Strict):
    """The fleet's name and labels."""

    name: FleetName
    """Part of the names of its Ray namespace and of its ConfigMaps; at most 40 characters."""
    labels: Labels = {}
    """Shown in its status and on its metrics' info series."""


class FleetSpec(Strict):
    """The desired fleet."""

    ray: RaySpec = RaySpec()
    """The Ray cluster that hosts it."""
    clusters: list[ClusterSpec] = Field(min_length=1)
    """Its Kubernetes clusters: one hub and members."""
    controllers: list[ControllerSpec] = Field(min_length=1)
    """What it reconciles."""
    tiers: TiersSpec = TiersSpec()
    """How its slots are shared between tiers of urgency."""
    slo: list[SloObjective] = []
    """Its latency objectives."""
    leader: LeaderSpec = LeaderSpec()
    """Leader election, and how long a permit to write lasts."""
    shards: ShardsSpec = ShardsSpec()
    """The processes that watch clusters."""
    workers: WorkersSpec = WorkersSpec()
    """The processes that run reconcilers."""
    channels: ChannelsSpec = ChannelsSpec()
    """The connections between its processes."""
    observer: ObserverSpec = ObserverSpec()
    """The process that serves metrics and status."""
    traces: TracesSpec | None = None
    """Traces of changes, for OpenTelemetry."""
    paused: PausedSpec = PausedSpec()
    """What it leaves alone for now."""
    state: StateSpec = StateSpec()
    """The state that it keeps in the hub."""
    timeouts: TimeoutsSpec = TimeoutsSpec()
    """Time limits."""


class FleetDoc(Strict):
    """A fleet file."""

    api_version: Literal["raycp.io/v1alpha1"]
    """The version of this format."""
    kind: Literal["Fleet"]
    """What the file describes."""
    metadata: FleetMeta
    """The fleet's name and labels."""
    spec: FleetSpec
    """The desired fleet."""

    @property
    def name(self) -> str:
        """The fleet's name."""
        return self.metadata.name

    @property
    def ray_namespace(self) -> str:
        """The Ray namespace of its actors."""
        return self.spec.ray.namespace or f"raycp-{self.name}"

    @property
    def hub(self) -> ClusterSpec:
        """The hub cluster; the only cluster of a one-cluster fleet, whatever its role says."""
        if len(self.spec.clusters) == 1:
            return self.spec.clusters[0]
        return next(cluster for cluster in self.spec.clusters if cluster.role == "hub")

    @property
    def members(self) -> Sequence[ClusterSpec]:
        """The member clusters; in a one-cluster fleet that cluster, which is then both."""
        if len(self.spec.clusters) == 1:
            return self.spec.clusters
        return [cluster for cluster in self.spec.clusters if cluster.role == "member"]

    @property
    def lock_place(self) -> dict[str, str]:
        """Where leadership is held, by the fields that determine it."""
        lock = self.spec.leader.lock
        own = lock.config_map or lock.lease
        place = {
            "spec.leader.lock": lock.kind,
            "spec.state.namespace": self.spec.state.namespace,
            "the hub, spec.clusters[].role": self.hub.name,
        }
        if own is not None:
            place[f"spec.leader.lock.{lock.kind}.namespace"] = own.namespace or self.spec.state.namespace
        return place

    def moved_lock(self, other: Self) -> str:
        """Why a running fleet can't change to ``other``: the lock of its current leader would move. Empty if it can."""
        new = other.lock_place
        for field, value in self.lock_place.items():
            if new.get(field) != value:
                changed = f"is {value!r} in the running fleet" + (f", and {new[field]!r} here" if field in new else "")
                return f"{field} {changed}: a running fleet can't change it; take it down with `raycp down`, then `raycp run`"
        return ""

    def cluster(self, name: str) -> ClusterSpec:
        """The cluster of that name. Raises ``KeyError``."""
        for cluster in self.spec.clusters:
            if cluster.name == name:
                return cluster
        raise KeyError(name)

    def clusters_of(self, controller: ControllerSpec, on: Literal["hub", "members"]) -> list[ClusterSpec]:
        """The clusters of a controller that declares ``on``: the hub or the members, filtered by its selector."""
        candidates: Sequence[ClusterSpec] = [self.hub] if on == "hub" else self.members
        return [cluster for cluster in candidates if controller.selects(cluster.all_labels)]

    def resync(self, controller: ControllerSpec, declared: float | None = None) -> float:
        """Seconds between two reconciles of an unchanged object, 0 for never: from the file, the controller, or 10 h."""
        for wanted in (controller.resync, declared):
            if wanted is not None:
                return wanted
        return RESYNC

    def spread(self, controller: ControllerSpec, declared_resync: float | None = None) -> float:
        """Seconds over which a controller's system work is spread: at most nine tenths of its resync."""
        wanted = self.spec.timeouts.spread if controller.spread is None else controller.spread
        resync = self.resync(controller, declared_resync)
        return min(wanted, resync * 0.9) if resync else wanted

    def reconcile_timeout(self, controller: ControllerSpec, declared: float | None = None) -> float:
        """Seconds that a reconcile may take: of the controller in the file, else as it declares, else the fleet's."""
        return controller.reconcile_timeout or declared or self.spec.timeouts.reconcile

    def canonical(self) -> str:
        """The content in canonical form: JSON with all defaults filled in, keys sorted, durations in seconds."""
        return json.dumps(self.model_dump(mode="json", by_alias=True), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_canonical(cls, text: str) -> Self:
        """Parse the output of ``canonical``, also of another version: unknown fields are left out.

        Raises ``pydantic.ValidationError``.
        """
        content: Any = json.loads(text)
        return cls.model_validate(content, by_alias=True, by_name=False, extra="ignore")
