"""The ledger: the only writer of a key's state.

A key's queue entry, SLI clock, watermark exceptions, reconciled version and timeline change together, by these transitions:

| transition | when |
|---|---|
| ``due`` | an event, a wake, a resync or a predecessor's state makes it due |
| ``deferred`` | an event arrived while a worker has it: judged when the work ends |
| ``pull`` and ``started`` | it is handed out |
| ``ended`` | its worker acknowledged: succeeded, failed, gave up, interrupted |
| ``returned`` | its hand-out did not arrive |
| ``not_started`` | it was pulled, and no task could be made of it |
| ``died``, ``excused`` | its worker died; that death had another cause than its work (law 11) |
| ``held``, ``released`` | a predecessor's hand-out of it still runs (law 6g) |
| ``dropped``, ``drop_cluster``, ``drop_controller`` | there is nothing left to reconcile |

Guarantees: laws 1 and 2 (with the queue), the clocks of law 9, and that a key stays an exception of the watermark from the change
that made it due until a reconcile that started after that change has succeeded. ``on_change`` is called for each key that changed.
Whatever fails in a transition, no key stays in work: it goes back to the queue with an error.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from random import Random

import msgspec

from raycp.base.clock import Clock
from raycp.base.events import Source
from raycp.base.keys import GVK, RequestKey
from raycp.base.selections import selection_of
from raycp.base.tasks import Done, Outcome, Task
from raycp.base.text import message_of
from raycp.classify import Reason, Verdict, begins_deletion
from raycp.protocol.frames import KeyNote, KeyProgress, Suspicion
from raycp.queueing import Item, Saved
from raycp.queueing.protocol import Queue
from raycp.shard.handouts import Deferred, Handout, WakeBook
from raycp.shard.notes import KeyNotes
from raycp.shard.quarantine import Quarantine
from raycp.shard.routes import Route
from raycp.shard.suspects import Death
from raycp.shard.watermarks import Watermarks
from raycp.slo import COUNTED_AT_ONCE, Kind, SliClocks, SloTracker, Timelines

log = logging.getLogger(__name__)

Change = tuple[str, GVK, int]
"""Cluster, kind and resourceVersion of a changed object."""

Drops = Callable[[RequestKey], bool]
"""Whether a key is to be forgotten."""

_END = {Outcome.RETRY: "failed", Outcome.PERMANENT: "gave_up", Outcome.INTERRUPTED: "returned"}


class Ledger:
    """See the module. ``judge`` is called for each deferred event, once its key is no longer in work."""

    def __init__(
        self,
        clock: Clock,
        rng: Random,
        queue: Queue,
        clocks: SliClocks,
        tracker: SloTracker,
        timelines: Timelines,
        kind_of: Callable[[str], GVK | None],
    ) -> None:
        self.queue = queue
        self.pull = queue.pull
        """See ``WorkQueue.pull``; each item must be ``started`` or ``dropped``."""
        self.clocks = clocks
        self.timelines = timelines
        self.marks = Watermarks()
        self.quarantine = Quarantine(clock, rng, queue, timelines)
        """The keys that run alone. Ask it; only the ledger changes it."""
        self.reconciled: dict[RequestKey, int] = {}
        self.working: dict[RequestKey, Handout] = {}
        """The open hand-out of each key that a worker has. Read it; only the ledger writes it."""
        self.notes = KeyNotes(clock)
        """What the last reconciles said of their inputs. Read it; only the ledger writes it."""
        self.on_change: Callable[[RequestKey], None] | None = None
        self.judge: Callable[[Deferred], None] = lambda deferred: None
        self.mapped: Callable[[Handout, Done], None] = lambda handout, done: None
        """Called at the end of a hand-out of a ``mapping`` key, before it counts as settled."""
        self.missed: Callable[[RequestKey], None] = lambda key: None
        """Called for a key whose reconcile ended and may not have seen a cluster that became usable meanwhile."""
        self.forgets: list[Callable[[Drops], None]] = [self._forget_reconciled, self.notes.drop, self.quarantine.forget_where]
        """Called when a cluster or controller has left."""
        self.wakes: WakeBook | None = None
        self._clock = clock
        self._tracker = tracker
        self._kind_of = kind_of
        self._open: dict[int, Handout] = {}

    def __len__(self) -> int:
        """Open hand-outs."""
        return len(self._open)

    def _changed(self, key: RequestKey) -> None:
        if self.on_change is not None:
            self.on_change(key)

    # due

    def due(
        self,
        key: RequestKey,
        verdict: Verdict,
        tier: str,
        *,
        delay: float = 0.0,
        kind: Kind | None = None,
        observed: float = 0.0,
        version: int = 0,
        source: str = "wake",
        rv: int = 0,
        why: str = "",
        change: Change | None = None,
    ) -> None:
        """Queue ``key`` in ``tier`` as ``verdict`` says, ready in ``delay`` seconds; ``kind`` starts an SLI clock at ``observed``.

        ``change`` makes the key an exception of the watermark, as ``exception`` does. ``rv``, ``source`` and ``why`` (how the
        tier was chosen) are for the timeline.
        """
        if change is not None:
            handout = self.working.get(key)
            if handout is not None:
                handout.due_again = True
            self.marks.due(key, *change)
        reason = verdict.reason.value
        if self.queue.add(key, tier=tier, priority=verdict.priority, delay=delay, reason=reason, real=verdict.real):
            ready_at = self._clock.now() + delay if delay else None
            self.clocks.queued(key, kind=kind, observed=observed, tier=tier, version=version, ready_at=ready_at, rv=rv)
        self.timelines.received(key, reason=reason, source=source, tier=tier, rv=rv, delay=delay, why=why)
        if self.quarantine.active:
            self.quarantine.made_due(key, verdict.real)
        self._changed(key)

    def exception(self, key: RequestKey, change: Change) -> None:
        """``change`` is not reconciled for ``key``, an owner in another shard, until that shard acknowledges its wake."""
        self.marks.due(key, *change)
        self._changed(key)

    def settled(self, key: RequestKey) -> None:
        """No change is unreconciled for ``key``."""
        self.marks.settled(key)
        self._changed(key)

    def deferred(self, handout: Handout, event: Deferred) -> None:
        """Keep an event about a key in work until its hand-out ends; until then it may make the key due."""
        handout.deferred.append(event)
        key = handout.task.key
        self.marks.due(key, event.cluster, event.kind, event.event.obj.rv)
        self._changed(key)

    def retier(self, tier_of: Callable[[RequestKey], tuple[str, str] | None]) -> int:
        """The tier rules have changed: move queued keys to the lanes that ``tier_of`` names, with its reason. Returns
        how many moved."""

        def choose(key: RequestKey) -> str | None:
            choice = tier_of(key)
            if choice is None:
                return None
            tier, why = choice
            self.clocks.retier(key, tier)
            self.timelines.record(key, "queued", tier=tier, why=f"the rules have changed: {why}")
            return tier

        return self.queue.retier(choose)

    # hand-outs

    def started(self, worker: str, item: Item, task: Task, rv: int) -> None:
        """``task`` was made of ``item`` for ``worker``, from its object at ``rv`` (0: there is none)."""
        key = item.key
        handout = self._open[task.id] = self.working[key] = Handout(worker, item, task, rv, self.notes.moves)
        self.clocks.handed_out(key)
        self.timelines.handed_out(key, worker=worker, attempt=item.attempt, waited=item.waited)
        if self.wakes is not None and self.wakes.incoming:
            handout.wakes = self.wakes.seen(key)
        self._changed(key)

    def dropped(self, worker: str, item: Item) -> None:
        """``item`` was pulled, and its controller or cluster has left: there is nothing to do."""
        self.queue.done(worker, item.key, id=item.id)
        self.quarantine.returned(item.key)
        self._changed(item.key)

    def ended(self, done: Done, version: int | None = None, reason: str = "") -> bool:
        """A hand-out has ended. ``version``: of the object as the reconcile's own writes left it (None: as handed out).
        ``reason``: of a requeue that is no error of the reconciler. False where no such hand-out is open."""
        handout = self._open.pop(done.id, None)
        if handout is None:
            return False
        try:
            self._close(handout, done, version, reason)
        except Exception as error:
            log.exception("the end of %s's hand-out could not be recorded", done.key)
            self._abandon(handout, f"internal: {message_of(error)}")
        return True

    def _close(self, handout: Handout, done: Done, version: int | None, reason: str) -> None:
        key, outcome, waiting = done.key, done.outcome, done.waiting
        if self.working.get(key) is handout:  # else its worker died while it waited for a write, and it is handed out again
            del self.working[key]
        is_object = selection_of(key) is None
        if not is_object:
            self.mapped(handout, done)
        delay = self._queue_again(handout, done, reason)
        if outcome is Outcome.INTERRUPTED:
            self.clocks.returned(key)
        else:
            self._count(key, done, delay)
            if outcome is not Outcome.RETRY and is_object:
                if handout.task.raw is None and outcome is Outcome.OK:
                    self.reconciled.pop(key, None)
                else:
                    self.reconciled[key] = handout.task.version if version is None else version
        if outcome is Outcome.PERMANENT or (outcome is Outcome.OK and not waiting):
            if not handout.due_again:
                self.marks.settled(key)
        elif outcome is not Outcome.INTERRUPTED and not reason and is_object:
            # A failing or waiting key stays an exception of the watermark, whatever made it due.
            self.marks.due(key, key.cluster, self._kind_of(key.controller) or GVK("", "", ""), handout.rv)
        if outcome is Outcome.INTERRUPTED and reason:  # no fault of the key's
            self.timelines.record(key, "returned", worker=handout.worker, reason=done.error)
        else:
            what = _END.get(outcome) or ("waiting" if waiting else "succeeded")
            self.timelines.ended(key, what, seconds=done.seconds, calls=done.calls, error=done.error, waiting=waiting)
        if delay is not None:
            self.timelines.delayed(key, seconds=delay, reason="retry" if done.error else "requeue_after")
        if handout.deferred:
            self._judge(handout, done)
        noted = outcome is not Outcome.OK or done.unusable or waiting or key in self.notes.by_key or key in self.notes.failing
        if (noted or done.requeue_after is not None) and self.notes.ended(done, handout.moves):
            self.missed(key)
        if handout.wakes is not None and self.wakes is not None:
            self.wakes.done(key, handout.wakes)
        if self.quarantine.active:
            if reason or outcome is Outcome.INTERRUPTED:
                self.quarantine.returned(key)
            else:
                self.quarantine.ended(key, outcome is not Outcome.RETRY)
        self._changed(key)

    def not_started(self, worker: str, item: Item, identity: int, error: str) -> None:
        """``item`` was pulled, and no task of it went to ``worker``: it is tried again after its backoff. ``identity``: of the
        task, which may have been recorded as started."""
        handout = self._open.pop(identity, None)
        if handout is not None:
            self._abandon(handout, error)
            return
        self._again(worker, item, error)

    def _abandon(self, handout: Handout, error: str) -> None:
        """End a hand-out of which a transition has failed: the key is tried again, the events kept for its end are judged."""
        key = handout.task.key
        if self.working.get(key) is handout:
            del self.working[key]
        self._again(handout.worker, handout.item, error)
        self.clocks.returned(key)
        for deferred in handout.deferred:
            try:
                self.judge(deferred)
            except Exception:
                log.exception("an event about %s could not be judged", key)
        if handout.wakes is not None and self.wakes is not None:
            self.wakes.done(key, handout.wakes)

    def _again(self, worker: str, item: Item, error: str) -> None:
        self.queue.retry(worker, item.key, id=item.id, error=error)
        self.quarantine.returned(item.key)
        self.timelines.ended(item.key, "failed", seconds=0.0, calls=[], error=error)
        self._changed(item.key)

    def recover_strays(self) -> list[RequestKey]:
        """Return what the queue counts as handed out and no hand-out is open for: there is none unless a transition was lost."""
        known = {handout.item.id for handout in self._open.values()}
        strays = [(worker, key, number) for worker, key, number in self.queue.running() if number not in known]
        for worker, key, number in strays:
            self.queue.interrupted(worker, key, id=number)
            self.quarantine.returned(key)
            self.clocks.returned(key)
            self._changed(key)
        return [key for _, key, _ in strays]

    def returned(self, identity: int, error: str) -> None:
        """A hand-out ended without an acknowledgement: it did not arrive at its living worker."""
        handout = self._open.get(identity)
        if handout is not None:
            self.ended(Done(identity, handout.task.key, Outcome.INTERRUPTED, 0.0, error=error), reason=Reason.INTERRUPTED)

    def keys_of(self, handouts: Iterable[int]) -> dict[int, RequestKey]:
        """The keys of those of these hand-outs that are open, in their order."""
        return {identity: self._open[identity].task.key for identity in sorted(handouts) if identity in self._open}

    def died(self, death: Death, handouts: Mapping[int, RequestKey], foreign: Mapping[str, RequestKey]) -> None:
        """A worker's process is dead for certain (law 6f): its keys return, and law 11 says which of them run alone from now on.
        ``handouts`` as ``keys_of`` returns them; ``foreign``: keys that it had from earlier primaries, by the reason why each is
        held."""
        findings = self.quarantine.died(death, list(handouts.values()), list(foreign.values()))
        # From the last to the first, each to the front of its lane: they keep their order.
        for identity, key in reversed([*handouts.items()]):
            finding = findings.get(key)
            if finding is not None and finding.backoff is not None:
                done = Done(identity, key, Outcome.RETRY, 0.0, retry_after=finding.backoff, error=finding.reason)
            else:
                done = Done(identity, key, Outcome.INTERRUPTED, 0.0, error="its worker died")
                self.notes.suspected(done, finding)
            self.ended(done, reason=Reason.WORKER_LOST)
        for why, key in foreign.items():
            self.released(key, why)
        self.queue.forget_worker(death.worker)

    def excused(self, worker: str) -> None:
        """The death of ``worker``, past or to come, has another cause than its work: it accuses no key."""
        for key in self.quarantine.excuse(worker):
            self._changed(key)

    def _queue_again(self, handout: Handout, done: Done, reason: str) -> float | None:
        """Give the key back to the queue; the seconds until it is ready again, None where it does not wait."""
        key, worker, identity = done.key, handout.worker, handout.item.id
        if done.outcome is Outcome.RETRY:
            why = reason or "error"
            return self.queue.retry(worker, key, id=identity, retry_after=done.retry_after, reason=why, error=done.error)
        if done.outcome is Outcome.INTERRUPTED:
            self.queue.interrupted(worker, key, id=identity, reason=reason or Reason.INTERRUPTED)
        elif done.outcome is Outcome.OK and done.requeue_after is not None:
            self.queue.requeue(worker, key, done.requeue_after, id=identity, tier=done.tier)
            return done.requeue_after
        else:
            self.queue.done(worker, key, id=identity)
        return None

    def _count(self, key: RequestKey, done: Done, delay: float | None) -> None:
        api = sum([call.seconds for call in done.calls])
        ok, permanent = done.outcome is Outcome.OK, done.outcome is Outcome.PERMANENT
        samples = self.clocks.done(key, ok, work=done.seconds, api=api, waiting=done.waiting, permanent=permanent)
        taken = self._tracker.taken
        taken += samples
        if len(taken) >= COUNTED_AT_ONCE:
            self._tracker.count()
        if done.outcome is Outcome.RETRY and delay is not None:
            self.clocks.delayed(key, self._clock.now() + delay)

    def _judge(self, handout: Handout, done: Done) -> None:
        """Judge the events observed while the key was in work, except the echoes of its own writes. Its own deletion counts."""
        own = {(write.cluster, write.uid, write.rv) for write in done.writes if write.rv}
        deleted = {(write.cluster, write.uid) for write in done.writes if write.deleted}
        for deferred in handout.deferred:
            event, cluster = deferred.event, deferred.cluster
            uid = event.obj.meta.uid
            echo = (cluster, uid) in deleted if event.new is None else (cluster, uid, event.obj.rv) in own
            if not echo or event.source is Source.OVERTAKEN:
                self.judge(deferred)
            elif isinstance(deferred.route, Route) and begins_deletion(event):
                self.judge(deferred._replace(event=msgspec.structs.replace(event, source=Source.OWN_WRITE)))

    # new code

    def forgive(self, controller: str) -> list[RequestKey]:
        """The controller has new code: no failure of its keys counts any more. Returns the keys that had failed or given up."""
        found = [*self.queue.forgive(controller), *self.notes.gave_up(controller), *self.quarantine.forgive(controller)]
        for key in found:
            self._changed(key)
        return list(dict.fromkeys(found))

    # the replica on a standby

    def known_keys(self) -> list[RequestKey]:
        """Every key that has state."""
        queued = (saved.key for saved in self.queue.snapshot())
        return list({*self.reconciled, *queued, *self.marks.due_keys(), *self.quarantine.suspects.keys(), *self.notes.by_key})

    def progress(self, keys: list[RequestKey]) -> list[KeyProgress]:
        """The state of ``keys``, as a standby keeps it."""
        saved = {each.key: each for each in self.queue.snapshot(keys)}
        clocks = {each.key: each for each in self.clocks.export(keys)}
        due, held, note = self.marks.due_of, self.quarantine.export, self.notes.by_key.get
        return [
            KeyProgress(key, self.reconciled.get(key), saved.get(key), clocks.get(key), due(key), held(key), note(key))
            for key in keys
        ]

    def suspected(self, suspicions: Mapping[RequestKey, Suspicion]) -> None:
        """Take over what a predecessor held against these keys; before ``restore``."""
        self.quarantine.adopt(suspicions)

    def restore(self, replicas: Iterable[tuple[KeyProgress, Saved]]) -> None:
        """Take over a predecessor's queue and clocks; the ages in ``Saved`` are as of now."""
        known = list(replicas)
        self.queue.restore([saved for _, saved in known])
        self.clocks.adopt([progress.clocks for progress, _ in known if progress.clocks is not None])
        for progress, saved in known:
            if saved.worker:
                self.clocks.returned(progress.key)

    def adopt_notes(self, notes: Mapping[RequestKey, KeyNote]) -> None:
        """Take over what a predecessor's reconciles said of their inputs."""
        for key, note in notes.items():
            self.notes.adopt(key, note)

    # law 6g

    def held(self, key: RequestKey, why: str, timeout: float) -> None:
        """A predecessor's hand-out still runs: don't hand the key out until ``released``, or ``timeout`` seconds."""
        self.queue.hold(key, why, timeout=timeout)
        self._changed(key)

    def released(self, key: RequestKey, why: str) -> None:
        """That hand-out has ended."""
        self.queue.release(key, why)
        self._changed(key)

    # drops

    def drop_cluster(self, cluster: str) -> None:
        """The cluster leaves this shard."""
        self.queue.remove_cluster(cluster)
        self.clocks.drop_where(cluster=cluster)
        self.marks.drop_cluster(cluster)
        for forget in self.forgets:
            forget(lambda key: key.cluster == cluster)

    def drop_controller(self, controller: str) -> None:
        """The controller has left the fleet."""
        self.queue.remove_controller(controller)
        self.clocks.drop_where(controller=controller)
        self.marks.drop_controller(controller)
        for forget in self.forgets:
            forget(lambda key: key.controller == controller)

    def void(self, cluster: str, kind: GVK, controllers: Iterable[str]) -> None:
        """The cluster was replaced or restored (law 7): no object of ``kind`` counts as reconciled for ``controllers``."""
        changed = self.marks.void(cluster, kind)
        for name in controllers:
            self.marks.restart(name, cluster)
            self._forget_reconciled(lambda key, name=name: key.controller == name and key.cluster == cluster)  # type: ignore[misc]
        for key in changed:
            self._changed(key)

    def forget_version(self, key: RequestKey) -> None:
        """The object of ``key`` is deleted: its namesake is another object."""
        self.reconciled.pop(key, None)

    def _forget_reconciled(self, drops: Drops) -> None:
        for key in [key for key in self.reconciled if drops(key)]:
            del self.reconciled[key]
