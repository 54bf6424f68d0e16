"""Sends the clusters' states to workers, the leader and other shards when one changes."""

from collections.abc import Callable

from raycp.metrics.recorder import FlightRecorder
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
        recorder: FlightRecorder,
    ) -> None:
        self._reporter = reporter
        self._broadcast = broadcast
        self._recovered = recovered
        self._changed = changed
        self._recorder = recorder
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
        before = {state.name: state for state in self._sent}
        self._sent = states
        self._broadcast(Clusters(states))
        for state in states:
            old = before.get(state.name)
            if old is None or (old.reachable, old.synced, old.breaker) != (state.reachable, state.synced, state.breaker):
                facts = {"reachable": state.reachable, "synced": state.synced, "breaker": state.breaker, "reason": state.reason}
                self._recorder.note("cluster", state.name, urgent=True, **facts)
            if old is not None and state.reachable and not old.reachable:
                self._recovered(state.name)
        self._changed()
