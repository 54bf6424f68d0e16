"""Sends the clusters' states to workers, the leader and other shards when one changes."""

from collections.abc import Callable

from raycp.protocol.frames import Clusters, ClusterState, Message
from raycp.shard.report import ShardReporter


class ClusterStates:
    """One shard's. ``recovered`` is called for a cluster that answers again, ``changed`` after each change."""

    def __init__(
        self,
        reporter: ShardReporter,
        broadcast: Callable[[Message], None],
        recovered: Callable[[str], None],
        changed: Callable[[], None],
    ) -> None:
        self._reporter = reporter
        self._broadcast = broadcast
        self._recovered = recovered
        self._changed = changed
        self._sent: list[ClusterState] = []

    def send(self) -> None:
        """A cluster connected, synced, or failed."""
        self._send(self._reporter.states())

    def check(self) -> None:
        """Send states that changed without an event: a silent watch, or one that receives again."""
        states = self._reporter.states()
        if states != self._sent:
            self._send(states)

    def _send(self, states: list[ClusterState]) -> None:
        before = {state.name: state.reachable for state in self._sent}
        self._sent = states
        self._broadcast(Clusters(states))
        for state in states:
            if state.reachable and before.get(state.name) is False:
                self._recovered(state.name)
        self._changed()
