"""Folds a reconcile's own writes into the cache before its key is released (law 8).

A server's answer is not believed: what is no object is left to the watch, and its key waits for that, bounded, as for any write
that could not be folded.
"""

import logging
from collections.abc import Callable

from raycp.base.clock import Clock
from raycp.base.events import Event
from raycp.base.keys import GVK, RequestKey
from raycp.base.tasks import Written
from raycp.base.text import message_of
from raycp.protocol.frames import Fold, Reply, ReplyCode
from raycp.shard.caches import Caches

log = logging.getLogger(__name__)

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
        try:
            return self._fold(write, writer)
        except Exception as error:
            log.warning("a write of %s could not be folded, its watch will bring it: %s", writer, message_of(error))
            return False

    def _fold(self, write: Written, writer: RequestKey) -> bool:
        kind = GVK.parse(write.kind)
        informer = self._caches.informer(write.cluster, kind)
        if informer is None:
            return True
        if write.raw is not None or write.deleted:
            events = informer.store.fold(write, self._clock.now())
            if events:
                self._handle(write.cluster, kind, events, writer)
            if write.deleted or write.rv:
                return True
        return informer.store.reached(write.namespace, write.name, write.uid, write.rv)

    def fold_all(self, writes: list[Written], writer: RequestKey) -> bool:
        """Fold ``writes``. False if one that could not be folded, here or by its object's shard, has not reached this cache yet."""
        seen = True
        for write in writes:
            if not self.fold(write, writer) and not write.deleted and (write.raw is None or write.cluster in self._caches):
                seen = False
        return seen

    def answer(self, fold: Fold) -> Reply:
        """Fold the writes of a key, of another shard or of this one."""
        unseen = [write for write in fold.writes if not self.fold(write, fold.writer)]
        if not unseen:
            return Reply(fold.id)
        return Reply(fold.id, error=f"shard {self._shard} has not seen {len(unseen)} writes", code=ReplyCode.UNWATCHED)
