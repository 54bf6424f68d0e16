"""Own writes that list and watch have not reached yet."""

from raycp.cache.indexes import Key

_TOMBSTONE_SECONDS = 60.0


class PendingWrites:
    """Versions folded into a store ahead of the watch, and deletions whose late events must be ignored."""

    __slots__ = ("ahead", "tombstones")

    def __init__(self) -> None:
        self.ahead: dict[Key, int] = {}
        """folded version by key"""
        self.tombstones: dict[str, tuple[int, float]] = {}
        """version of the deletion (0: unknown) and when it was folded, by the uid of the object"""

    def reached(self, rv: int) -> None:
        """List or watch have reached ``rv``."""
        self.ahead = {key: ahead for key, ahead in self.ahead.items() if ahead > rv}

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
