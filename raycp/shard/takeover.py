"""A standby's promotion: its ledger becomes what the primary's was, and it judges the events that the primary had not (law 6g).

The shard has its term already; it hands out nothing before the workers' roll-call.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from raycp.base.events import Event
from raycp.base.keys import GVK
from raycp.base.loop_names import LoopName
from raycp.base.loops import Loops
from raycp.protocol.frames import KeyProgress
from raycp.queueing import Saved
from raycp.shard.caches import Caches
from raycp.shard.events import EventHandler
from raycp.shard.ledger import Ledger
from raycp.shard.routes import Routes
from raycp.shard.standby import StandbyReplica
from raycp.shard.wakes import WakeExchange
from raycp.shard.watchers import PrimaryWatcher

log = logging.getLogger(__name__)

SOON = 1.0
"""Keys with a longer delay than this, in seconds, are restored after the others."""

CHUNK = 500

Delayed = tuple[KeyProgress, Saved]
KeptEvent = tuple[str, GVK, Event]


class TakeOver:
    """One promotion. ``followed`` (of ``run``): the clusters of the plan before, which the primary watched too; ``restored`` is
    called when the whole queue is here."""

    def __init__(
        self,
        replica: StandbyReplica,
        routes: Routes,
        caches: Caches,
        ledger: Ledger,
        events: EventHandler,
        wakes: WakeExchange,
        watcher: PrimaryWatcher,
        loops: Loops,
    ) -> None:
        self._replica = replica
        self._routes = routes
        self._caches = caches
        self._ledger = ledger
        self._events = events
        self._wakes = wakes
        self._watcher = watcher
        self._loops = loops
        self._told = False

    def run(self, followed: set[str], restored: Callable[[], None]) -> None:
        """See the module."""
        replica, ledger = self._replica, self._ledger
        replica.close()
        here = self._caches.clusters.keys() & followed
        controllers = set(self._routes.controllers)
        ledger.marks.take_over(
            [each for each in replica.marks if each.cluster in here],
            [each for each in replica.starts if each.cluster in here and each.controller in controllers],
            {
                key: [each for each in due if each.cluster in here]
                for key, due in replica.due.items()
                if key.controller in controllers
            },
        )
        for (cluster, kind), rv in replica.reached.items():
            if cluster in here:
                ledger.marks.observe(cluster, kind, rv)
        # Before the queue: what runs alone is never handed out otherwise. Keys of clusters that have left are nobody's.
        ledger.suspected({key: held for key, held in replica.suspicions(controllers).items() if key.cluster in here})
        known = replica.queue(controllers)
        # Delayed keys are restored later: they need no place in the queue before their time.
        soon = [each for each in known if each[1].delay < SOON]
        later = [each for each in known if each[1].delay >= SOON]
        failed, _ = self._restored(soon)
        later += failed
        ledger.adopt_notes({key: note for key, note in replica.notes.items() if key.controller in controllers})
        kept = replica.events()
        unjudged = self._judged(kept)
        for key in replica.wakes:
            self._wakes.wake(key, "owned", True)
        for cluster, kind, informer in self._caches.informers():
            if informer.synced and (cluster, kind) not in replica.reached:
                # No primary has judged this list; its events were kept and have been judged above.
                self._events.listed(cluster, kind)
                self._watcher.replayed(cluster, kind, False)
        log.info(
            "promoted: %d keys queued or in work, %d delayed, %d changes the primary had not judged, %d wakes",
            len(soon), len(later), len(kept), len(replica.wakes),
        )  # fmt: skip
        if later or unjudged:
            self._loops.supervise(partial(self._finish, later, unjudged, restored), LoopName.DELAYED_KEYS)
        else:
            restored()

    async def _finish(self, later: list[Delayed], unjudged: list[KeptEvent], restored: Callable[[], None]) -> None:
        """Restore these keys and judge these events; what is done is removed from the lists. What raises is tried again, and holds
        nothing else back, nor ``restored``: it is called after the first attempt, and once more when the rest is here. Raises the
        last such exception."""
        failed: list[Delayed] = []
        problem: Exception | None = None
        while later:
            chunk = later[:CHUNK]
            refused, error = self._restored(chunk)
            del later[: len(chunk)]
            failed += refused
            problem = error or problem
            await asyncio.sleep(0.001)
        later += failed
        unjudged[:] = self._judged(unjudged)
        if not self._told or (problem is None and not unjudged):
            restored()
            self._told = True
        if problem is not None:
            raise problem
        if unjudged:
            raise RuntimeError(f"{len(unjudged)} changes that the primary had not judged can't be judged")

    def _restored(self, keys: list[Delayed]) -> tuple[list[Delayed], Exception | None]:
        """Restore the keys; those that can't be restored, and the last reason."""
        try:
            self._ledger.restore(keys)
        except Exception:
            log.warning("%d keys can't be restored at once: they are restored one by one", len(keys), exc_info=True)
        else:
            return [], None
        failed: list[Delayed] = []
        problem: Exception | None = None
        for each in keys:
            try:
                self._ledger.restore([each])
            except Exception as error:
                failed.append(each)
                problem = error
        return failed, problem

    def _judged(self, events: list[KeptEvent]) -> list[KeptEvent]:
        """Judge the events; those that can't be judged."""
        failed = []
        for cluster, kind, event in events:
            try:
                self._events.handle(cluster, kind, [event])
            except Exception:
                log.exception("a change of %s in cluster %s can't be judged yet", kind, cluster)
                failed.append((cluster, kind, event))
        return failed
