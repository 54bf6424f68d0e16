"""The replay from a watermark: which events of the past the handler gets."""

from raycp.base.events import Event, EventType, Source
from raycp.base.objects import Obj, same_version
from raycp.cache.store import Store

_EARLIER = 2_000
_LARGE = 64 << 10
"""Previous states that are kept, and the bytes of one: a server may say as much as it likes of the past."""


def replayed_events(store: Store, earlier: dict[str, Obj], kind: str, obj: Obj, now: float) -> list[Event]:
    """The events to emit for a watch event that is older than the list in ``store``.

    The deletion of an object that the list does not contain; and the last change of one that it contains, with the previous state
    as ``old`` if the replay has seen and kept it. ``earlier`` holds the previous states by uid, and is updated.
    """
    if kind == "BOOKMARK":
        return []
    meta = obj.meta
    before = earlier.pop(meta.uid, None)
    listed = store.get(meta.namespace, meta.name)
    if kind == "DELETED":
        return [Event(EventType.DELETED, Source.REPLAY, obj, None, now)] if listed is None else []
    if listed is not None and listed.meta.uid == meta.uid and same_version(listed, obj):
        type_ = EventType.ADDED if kind == "ADDED" else EventType.MODIFIED
        return [Event(type_, Source.REPLAY, before, listed, now)]
    if len(earlier) < _EARLIER and len(obj.raw) < _LARGE:
        earlier[meta.uid] = obj
    return []
