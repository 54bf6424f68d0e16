"""Sends the clusters' states to workers, the leader and other shards when one changes."""

from collections.abc import Callable

from raycp.base.clock import Clock
from raycp.metrics.recorder import FlightRecorder
from raycp.protocol.frames import Clusters, ClusterState, Message
from raycp.shard.report import ShardReporter

LOST_AFTER = 10.0
"""Seconds after its first report in which a cluster must have been reached once; else it counts as lost: a predecessor may have
reached it."""


class ClusterStates:
    """One shard's. ``moved`` is called for a cluster that is reachable (True) or became unreachable (False), after the workers have
    been sent its state, and with whether it has become so; ``changed`` after each change."""

    def __init__(
        self,
        clock: Clock,
        reporter: ShardReporter,
        broadcast: Callable[[Message], None],
        moved: Callable[[str, bool, bool], None],
        changed: Callable[[], None],
        recorder: FlightRecorder,
    ) -> None:
        self._clock = clock
        self._reporter = reporter
        self._broadcast = broadcast
        self._moved = moved
        self._changed = changed
        self._recorder = recorder
        self._sent: list[ClusterState] = []
        self._reachable: dict[str, bool] = {}
        """As last reported to ``moved``."""
        self._since: dict[str, float] = {}

    def send(self) -> None:
        """A cluster connected, synced, or failed."""
        self._send(self._reporter.states())

    def check(self) -> None:
        """Send states that changed without an event: a silent watch, or one that receives again."""
        states = self._reporter.states()
        if states != self._sent or self._reachable.keys() != {state.name for state in states}:
            self._send(states)

    def announce(self, *, lost: bool) -> None:
        """Report the reachable clusters to ``moved`` again, as a worker that has just connected may have taken them for
        unreachable; and with ``lost`` the others too, as a predecessor's report may have died with it."""
        self.check()
        for state in self._sent:
            if state.reachable or lost:
                self._moved(state.name, state.reachable, False)

    def _send(self, states: list[ClusterState]) -> None:
        now = self._clock.now()
        before = {state.name: state for state in self._sent}
        self._sent = states
        self._broadcast(Clusters(states))
        names = {state.name for state in states}
        self._reachable = {name: known for name, known in self._reachable.items() if name in names}
        self._since = {name: self._since.get(name, now) for name in names}
        for state in states:
            old = before.get(state.name)
            if old is None or (old.reachable, old.synced, old.breaker) != (state.reachable, state.synced, state.breaker):
                facts = {"reachable": state.reachable, "synced": state.synced, "breaker": state.breaker, "reason": state.reason}
                self._recorder.note("cluster", state.name, urgent=True, **facts)
            known = self._reachable.get(state.name)
            if known is None and not state.reachable and now - self._since[state.name] < LOST_AFTER:
                continue  # it is being connected to
            if known != state.reachable:
                self._reachable[state.name] = state.reachable
                self._moved(state.name, state.reachable, known is not None)
        self._changed()
