"""Events: the changes that a cache reports to its handlers after applying them."""

from enum import StrEnum

import msgspec

from raycp.base.objects import Obj


class EventType(StrEnum):
    """The type of a change."""

    ADDED = "added"
    MODIFIED = "modified"
    DELETED = "deleted"


class Source(StrEnum):
    """How the cache learned of a change."""

    INITIAL = "initial"
    """the first list of this reflector"""
    RELIST = "relist"
    """a later list, after a 410 or a lost connection"""
    REPLAY = "replay"
    """a watch from the watermark up to the list's version"""
    WATCH = "watch"
    """the live watch"""
    OWN_WRITE = "own-write"
    """the answer of one of our writes, applied before its watch event arrived"""
    OVERTAKEN = "overtaken"
    """the live watch, with a change by others that an own write had hidden: the write came later, and was applied earlier"""
    RESYNC = "resync"
    """no change: the periodic resync"""


LIVE = frozenset({Source.WATCH, Source.OWN_WRITE, Source.OVERTAKEN})
"""Changes that were made while somebody watched."""


class Event(msgspec.Struct, frozen=True, gc=False):
    """One change of one object in one cluster.

    ``old`` is None for ADDED; ``new`` is None for DELETED. ``observed`` is the shard's ``Clock.now()`` when the bytes
    arrived. A recreation (another uid) is reported as DELETED, then ADDED.
    """

    type: EventType
    source: Source
    old: Obj | None
    new: Obj | None
    observed: float

    @property
    def obj(self) -> Obj:
        """The newest known form of the object."""
        found = self.new if self.new is not None else self.old
        assert found is not None
        return found
