"""Own writes that list and watch have not reached yet."""

from raycp.base.events import Event, EventType, Source
from raycp.base.objects import Obj
from raycp.cache.indexes import Key

_TOMBSTONE_SECONDS = 60.0


class FoldedWrites:
    """The own writes of one object that are ahead of the watch: ``version`` is the newest, ``own`` are all of them. ``before``: the
    object as list and watch have it so far; None where they have not shown it."""

    __slots__ = ("before", "own", "version")

    def __init__(self, before: Obj | None, version: int) -> None:
        self.before = before
        self.version = version
        self.own = {version}

    def overtakes(self, obj: Obj) -> bool:
        """Whether ``obj``, which the watch shows, is a state that others have made and the writes have hidden."""
        return obj.rv not in self.own and self.skips(obj)

    def skips(self, listed: Obj) -> bool:
        """Whether a list that shows ``listed`` may pass over such a state, since the writes hide all up to ``listed``: it does not
        say how the object came to this, even by a write of ours."""
        if not 0 < listed.rv < self.version:
            return False
        return self.before is None or self.before.meta.uid != listed.meta.uid or self.before.rv < listed.rv


def overtaken(before: Obj | None, current: Obj, now: float) -> Event:
    """Others have changed the object between these two states, and own writes have hidden it."""
    if before is None or before.meta.uid != current.meta.uid:
        return Event(EventType.ADDED, Source.OVERTAKEN, None, current, now)
    return Event(EventType.MODIFIED, Source.OVERTAKEN, before, current, now)


class PendingWrites:
    """Versions folded into a store ahead of the watch, and deletions whose late events must be ignored."""

    __slots__ = ("ahead", "tombstones")

    def __init__(self) -> None:
        self.ahead: dict[Key, FoldedWrites] = {}
        self.tombstones: dict[str, tuple[int, float]] = {}
        """version of the deletion (0: unknown) and when it was folded, by the uid of the object"""

    def reached(self, rv: int) -> None:
        """List or watch have reached ``rv``."""
        self.ahead = {key: ahead for key, ahead in self.ahead.items() if ahead.version > rv}

    def folded(self, key: Key, before: Obj | None, version: int) -> None:
        """A write was folded whose watch event has not arrived."""
        ahead = self.ahead.get(key)
        if ahead is None:
            self.ahead[key] = FoldedWrites(before, version)
        else:
            ahead.own.add(version)
            ahead.version = max(ahead.version, version)

    def listed(self, rv: int, now: float) -> None:
        """A list at ``rv`` is in the store: drop the tombstones that it makes unnecessary, and old ones."""
        self.tombstones = {
            uid: (version, when)
            for uid, (version, when) in self.tombstones.items()
            if (version == 0 or version > rv) and now - when < _TOMBSTONE_SECONDS
        }

    def clear(self) -> None:
        self.ahead.clear()
        self.tombstones.clear()
