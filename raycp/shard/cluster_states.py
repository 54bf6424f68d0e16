"""Sends the clusters' states to workers, the leader and other shards when one changes."""

from collections.abc import Callable, Sequence

import msgspec

from raycp.protocol.frames import Clusters, ClusterState, Unsendable, Welcome, encode, pages
from raycp.shard.report import ShardReporter


class ClusterStates:
    """One shard's. ``recovered`` is called for a cluster that answers again, ``changed`` after each change."""

    def __init__(
        self,
        reporter: ShardReporter,
        broadcast: Callable[[list[bytes]], None],
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
        self._broadcast(cluster_frames(states))
        for state in states:
            if state.reachable and before.get(state.name) is False:
                self._recovered(state.name)
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
