"""The events from the previous content of a store to that of a list."""

from collections.abc import Iterator, Mapping

from raycp.base.events import Event, EventType, Source
from raycp.base.objects import Obj, same_version
from raycp.cache.indexes import Key

SLICE = 32
"""Objects of a list that are decoded or compared before other tasks get their turn: about 1 ms. A change passes the event loop
several times on its path, and waits for up to one slice each time.
"""

EMITTED = 8
"""Events that are emitted before other tasks get their turn: about 1 ms too, since each is classified, queued and recorded."""


class Difference:
    """Deletions first, then additions and changes; unchanged objects emit nothing. Each event is emitted once, by ``slices`` or
    ahead of them by ``early``. Takes over the dict ``old``.

    ``by_content``: the list is of another cluster, so that equal versions may stand for different objects.
    """

    def __init__(self, old: dict[Key, Obj], new: Mapping[Key, Obj], source: Source, *, by_content: bool) -> None:
        self._old = old
        self._new = dict(new)
        self._source = source
        self._by_content = by_content

    def slices(self, now: float) -> Iterator[list[Event]]:
        for deletions, keys in ((True, list(self._old)), (False, list(self._new))):
            for start in range(0, len(keys), SLICE):
                events: list[Event] = []
                for key in keys[start : start + SLICE]:
                    events += self._deleted(key, now) if deletions else self._changed(key, now)
                    if len(events) >= EMITTED:
                        yield events
                        events = []
                yield events

    def early(self, key: Key, now: float) -> list[Event]:
        """The events of ``key`` that are still to come, since an own write of it is about to be emitted."""
        return self._deleted(key, now) + self._changed(key, now)

    def _deleted(self, key: Key, now: float) -> list[Event]:
        old, new = self._old.get(key), self._new.get(key)
        if old is None or (new is not None and new.meta.uid == old.meta.uid):
            return []
        del self._old[key]
        return [Event(EventType.DELETED, self._source, old, None, now)]

    def _changed(self, key: Key, now: float) -> list[Event]:
        new = self._new.pop(key, None)
        if new is None:
            return []
        old = self._old.pop(key, None)
        if old is None:
            return [Event(EventType.ADDED, self._source, None, new, now)]
        if same_version(old, new) and (not self._by_content or old.version == new.version):
            return []
        return [Event(EventType.MODIFIED, self._source, old, new, now)]
