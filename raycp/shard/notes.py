"""What the last reconcile of each key said of its inputs: the clusters that it found unusable, what it waits for, and whether it
gave up. When one of those changes, the key is due (law 13). And which reconciles failed (``failures``).

The keys of a cluster that is lost are found by what their controllers declare; those that depend on its return are found here,
since each reconcile reports what it has read. Most keys have no note.
"""

from collections.abc import Callable

from raycp.base.clock import Clock
from raycp.base.keys import RequestKey
from raycp.base.tasks import AWAITS_CLUSTERS, Done, Outcome
from raycp.protocol.frames import KeyNote
from raycp.shard.failures import Failures
from raycp.shard.haste import Haste
from raycp.shard.suspects import Finding, Level


class KeyNotes:
    """One shard's; the ledger alone writes it. ``moves`` counts how often a cluster has become usable."""

    def __init__(self, clock: Clock) -> None:
        self.moves = 0
        self.failures = Failures(clock)
        self.failing = self.failures.by_key
        self.haste = Haste(clock)
        self.on_loop: Callable[[Done], None] = lambda fault: None
        """Called for a key that is found to ask for another reconcile for ever."""
        self.by_key: dict[RequestKey, KeyNote] = {}
        """The keys that have a note."""
        self._moved: dict[str, int] = {}
        self.orphaning: set[RequestKey] = set()
        """Keys whose object was deleted with propagation policy Orphan: the API server takes the finalizer that says so off again,
        often before the key is handed out."""

    def ended(self, done: Done, since: int) -> bool:
        """Note the end of a reconcile that began at ``since`` (``moves``). True where a cluster that it depends on has become
        usable meanwhile: the reconcile may not have seen that."""
        if done.outcome is Outcome.INTERRUPTED:
            return False  # it has decided nothing
        fault = self.haste.fault(done) if done.requeue_after is not None else None
        if fault is not None and done.key not in self.failing:
            self.on_loop(fault)
        self.failures.ended(fault or done)
        gave_up = done.outcome is Outcome.PERMANENT
        waits = done.waiting in AWAITS_CLUSTERS
        if not (done.unusable or waits or gave_up):
            self.by_key.pop(done.key, None)
            return False
        self.by_key[done.key] = KeyNote(done.waiting if waits else "", tuple(done.unusable), gave_up)
        if since == self.moves:
            return False
        return waits or any(self._moved.get(cluster, 0) > since for cluster in done.unusable)

    def suspected(self, done: Done, finding: Finding | None) -> None:
        """The worker of ``done`` died, and the key is suspected of it: a failure, though nobody knows yet."""
        if finding is not None and finding.level is Level.SUSPECT:
            self.failures.ended(Done(done.id, done.key, Outcome.RETRY, 0.0, error=finding.reason, error_class="WorkerDied"))

    def usable(self, cluster: str, *, returned: bool = True) -> list[RequestKey]:
        """``cluster`` is usable: the keys that found it otherwise; and those that wait for any, where it has ``returned``."""
        self.moves += 1
        self._moved[cluster] = self.moves
        return [key for key, note in self.by_key.items() if (returned and note.waiting) or cluster in note.unusable]

    def waiting(self) -> list[RequestKey]:
        """The keys that wait for a cluster, or for room in one."""
        return [key for key, note in self.by_key.items() if note.waiting]

    def gave_up(self, controller: str) -> list[RequestKey]:
        """The keys of a controller that gave up."""
        return [key for key, note in self.by_key.items() if note.gave_up and key.controller == controller]

    def adopt(self, key: RequestKey, note: KeyNote) -> None:
        """Take over a predecessor's note."""
        self.by_key[key] = note

    def drop(self, drops: Callable[[RequestKey], bool]) -> None:
        """Forget the keys for which ``drops`` is true."""
        for key in [key for key in self.by_key if drops(key)]:
            del self.by_key[key]
        self.orphaning = {key for key in self.orphaning if not drops(key)}
        self.failures.drop(drops)
        self.haste.drop(drops)
