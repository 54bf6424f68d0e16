"""Folds a reconcile's own writes into the cache before its key is released (law 8)."""

from collections.abc import Callable

from raycp.base.clock import Clock
from raycp.base.events import Event
from raycp.base.keys import GVK, RequestKey
from raycp.base.tasks import Written
from raycp.protocol.frames import Fold, Reply, ReplyCode
from raycp.shard.caches import Caches

Handle = Callable[[str, GVK, list[Event], RequestKey | None], None]
"""``EventHandler.handle``."""


class OwnWrites:
    """One shard's. The changes of a fold are handled as events of the writer's own."""

    def __init__(self, shard: str, clock: Clock, caches: Caches, handle: Handle) -> None:
        self._shard = shard
        self._clock = clock
        self._caches = caches
        self._handle = handle

    def fold(self, write: Written, writer: RequestKey) -> bool:
        """Fold a write into the cache. False if its version has not arrived yet or its cluster is not this shard's."""
        if write.cluster not in self._caches:
            return False
        kind = GVK.parse(write.kind)
        informer = self._caches.informer(write.cluster, kind)
        if informer is None:
            return True
        if write.raw is None and not write.deleted:
            return informer.store.reached(write.namespace, write.name, write.uid, write.rv)
        events = informer.store.fold(write, self._clock.now())
        if events:
            self._handle(write.cluster, kind, events, writer)
        return True

    def fold_all(self, writes: list[Written], writer: RequestKey) -> bool:
        """Fold ``writes``. False if one that another shard could not confirm has not reached this cache yet."""
        seen = True
        for write in writes:
            if not self.fold(write, writer) and write.raw is None and not write.deleted:
                seen = False
        return seen

    def answer(self, fold: Fold) -> Reply:
        """Fold the writes of a key of another shard."""
        for write in fold.writes:
            if not self.fold(write, fold.writer):
                return Reply(fold.id, error=f"shard {self._shard} does not watch {write.cluster}", code=ReplyCode.UNWATCHED)
        return Reply(fold.id)
