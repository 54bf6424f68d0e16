"""Sends the clusters' states to workers, the leader and other shards when one changes."""

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from raycp.base.clock import Clock
from raycp.metrics.recorder import FlightRecorder
from raycp.protocol.frames import Clusters, ClusterState, Unsendable, Welcome, encode, pages
from raycp.shard.report import ShardReporter

LOST_AFTER = 10.0
"""Seconds after its first report in which a cluster must have been reached once; else it counts as lost: a predecessor may have
reached it."""

ANNOUNCE = 0.1
"""Seconds after a worker's connection until keys that found a cluster of this shard unusable are requeued: the worker had no
connection, and may have told them so."""


class ClusterStates:
    """One shard's. ``moved`` is called for a cluster that is reachable (True) or became unreachable (False), after the workers have
    been sent its state, and with whether it has become so; ``changed`` after each change."""

    def __init__(
        self,
        clock: Clock,
        reporter: ShardReporter,
        broadcast: Callable[[list[bytes]], None],
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
        self._announcing = False

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

    def announce_soon(self) -> None:
        """A worker has connected: ``announce``, once for all that connect now."""
        if not self._announcing:
            self._announcing = True
            asyncio.get_running_loop().call_later(ANNOUNCE, self._announced)

    def _announced(self) -> None:
        self._announcing = False
        self.announce(lost=False)

    def _send(self, states: list[ClusterState]) -> None:
        now = self._clock.now()
        before = {state.name: state for state in self._sent}
        self._sent = states
        self._broadcast(cluster_frames(states))
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


def cluster_frames(states: Sequence[ClusterState]) -> list[bytes]:
    """The encoded ``Clusters`` frames of ``states``."""
    return list(pages(states, lambda part, last: Clusters(list(part), not last), _weigh, _without_labels))


def welcome_frames(shard: str, epoch: int, term: int, states: Sequence[ClusterState]) -> list[bytes]:
    """The encoded ``Welcome``, and the frames with the states that do not fit in it."""
    bodies = cluster_frames(states)
    if len(bodies) == 1:
        try:
            return [encode(Welcome(shard, epoch, term, list(states)))]
        except Unsendable:
            pass
    return [encode(Welcome(shard, epoch, term, [], True)), *bodies]


def _weigh(state: ClusterState) -> int:
    return 200 + len(state.reason) + sum(len(key) + len(value) for key, value in state.labels.items())


def _without_labels(state: ClusterState, why: str) -> ClusterState:
    return msgspec.structs.replace(state, labels={}, reason=f"its labels can't be sent: {why[:200]}")
