"""How a primary and a standby handle the reports of their watched clusters (``watched_cluster.Watcher``)."""

from collections.abc import Callable

from raycp.base.events import Event
from raycp.base.keys import GVK
from raycp.shard.events import EventHandler
from raycp.shard.guard import ClusterGuard
from raycp.shard.inputs import Inputs
from raycp.shard.standby import StandbyReplica


class PrimaryWatcher:
    """Judges events; a listed kind makes the keys due that the watermark does not cover."""

    def __init__(self, events: EventHandler, guard: ClusterGuard, inputs: Inputs, changed: Callable[[str], None]) -> None:
        self.events = events.handle
        self.listed = events.listed
        self.replayed = inputs.replayed
        self.void = events.void
        self.accounted = guard.listed
        self.connected = guard.connected
        self.cluster_changed = changed


class StandbyWatcher:
    """Keeps events until the primary has judged them; the primary does everything else."""

    def __init__(self, replica: StandbyReplica, guard: ClusterGuard, changed: Callable[[str], None]) -> None:
        self.accounted = guard.listed
        self.connected = guard.connected
        self.cluster_changed = changed
        self._replica = replica

    def events(self, cluster: str, kind: GVK, events: list[Event]) -> None:
        """See ``StandbyReplica.keep``."""
        self._replica.keep(cluster, kind, events)

    def listed(self, cluster: str, kind: GVK) -> None:
        """The primary's list decides what is due."""

    def replayed(self, cluster: str, kind: GVK, complete: bool) -> None:
        """The primary replays."""

    def void(self, cluster: str, kind: GVK) -> None:
        """The primary voids its watermark."""
