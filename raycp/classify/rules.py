"""The table of docs/head-of-line.md as one pure function."""

import msgspec

from raycp.base.events import LIVE, Event, EventType, Source
from raycp.base.objects import same_version
from raycp.classify.verdict import Priority, Reason, Verdict


class Known(msgspec.Struct, frozen=True, gc=False):
    """The shard's knowledge of an event's object, for one controller.

    ``version_reconciled``: the version (``Obj.version``) of its last successful reconcile; None when it is not known,
    as after a crash without standby. ``covered``: the watermark says that the state with this resource version has been
    reconciled. ``has_watermark``: there is a watermark for this cluster and kind. ``first_start``: this controller has
    never run on this cluster, whatever a watermark of other controllers says. ``is_child``: the object is owned by the
    key's object, rather than being it. ``own_writer``: an ``OWN_WRITE`` was written by this very controller for this
    very key; a write of another controller is a change like any other. ``only_status``: nothing was due for the key when the
    watermark was taken, and the API server has recorded no write since except to the object's status.
    """

    version_reconciled: int | None = None
    covered: bool = False
    has_watermark: bool = False
    is_child: bool = False
    first_start: bool = False
    own_writer: bool = True
    only_status: bool = False
    is_watched: bool = False


CREATE = Verdict(True, Reason.CREATE, user=True, clock="live")
UPDATE = Verdict(True, Reason.UPDATE, user=True, clock="live")
DELETE = Verdict(True, Reason.DELETE, user=True, clock="live")
AWAY = Verdict(True, Reason.AWAY, Priority.AWAY, user=True, clock="away")
BACKLOG = Verdict(True, Reason.BACKLOG, Priority.BACKLOG, clock="backlog")
EXISTING = Verdict(True, Reason.EXISTING, Priority.SYSTEM, background=True, spread=True)
RESYNC = Verdict(True, Reason.RESYNC, Priority.SYSTEM, background=True, spread=True)
STATUS = Verdict(True, Reason.STATUS, Priority.STATUS, debounce=True)
OWNED = Verdict(True, Reason.OWNED)
OWNED_STATUS = Verdict(True, Reason.OWNED, debounce=True)
OWNED_AWAY = Verdict(True, Reason.OWNED_AWAY, Priority.OWNED_AWAY)
OWNED_BACKLOG = Verdict(True, Reason.BACKLOG, Priority.BACKLOG)
WOKEN = Verdict(True, Reason.OWNED, debounce=True)
WOKEN_AWAY = Verdict(True, Reason.OWNED_AWAY, debounce=True)
OWN_DELETION = Verdict(True, Reason.DELETE)
"""The key's own reconcile has begun its object's deletion: what remains to be done, such as finalizers, is the next one's."""

WATCHED = Verdict(True, Reason.WATCHED)
WATCHED_STATUS = Verdict(True, Reason.WATCHED, debounce=True)
WATCHED_AWAY = Verdict(True, Reason.WATCHED, Priority.OWNED_AWAY)
WATCHED_LISTED = Verdict(True, Reason.WATCHED, Priority.BACKLOG)
"""What the key's reconciles read was listed without a complete replay: whatever was missed, they have not seen it."""

CLUSTER_CHANGED = Verdict(True, Reason.CLUSTER, Priority.OWNED_AWAY, debounce=True)
FLEET_CHANGED = Verdict(True, Reason.FLEET, Priority.OWNED_AWAY, debounce=True)
NEW_CODE = Verdict(True, Reason.CODE, Priority.OWNED_AWAY, debounce=True)
"""These three concern many keys at once, all of them unchanged: they are paced (``pace_width``), and behind live changes."""

REQUESTED = Verdict(True, Reason.REQUESTED)
"""As urgent as a user's change, and none: no clock of the SLI starts."""

OWN_WRITE = Verdict(False, Reason.OWN_WRITE)
UNCHANGED = Verdict(False, Reason.UNCHANGED)


def classify(event: Event, known: Known) -> Verdict:
    """The verdict on this event for one controller's key.

    Guarantees: an event whose version differs from the reconciled one is always enqueued in its tier's lane, or, for
    the controller's own write, covered by the reconcile that wrote it; no object that is listed as already reconciled
    overtakes a change; deletions are never lost.
    """
    source = event.source
    if source is Source.OWN_WRITE and known.own_writer:
        mine = not (known.is_child or known.is_watched)
        return OWN_DELETION if mine and begins_deletion(event) else OWN_WRITE
    if known.is_watched:
        return _watched(event, known)
    if known.is_child:
        return _child(event, known)
    if source is Source.RESYNC:
        return RESYNC
    watching = source in LIVE
    if event.new is None or event.type is EventType.DELETED:
        return DELETE if watching else AWAY
    if source is Source.INITIAL:
        return _listed(event.new.version, known)
    old = event.old
    if watching:
        # A creation is a user's, even with the version that a namesake of it was reconciled at.
        if old is None or event.type is EventType.ADDED:
            return CREATE
        if old.version != event.new.version:
            return UPDATE
        return UNCHANGED if same_version(old, event.new) else STATUS
    return _caught_up(event, known)


def classify_wake(real: bool, *, watched: bool = False) -> Verdict:
    """An event of a child in another shard, or of an object that is ``watched`` there, concerns the key (law 10). ``real``: it
    changed while its shard watched."""
    if watched:
        return WATCHED if real else WATCHED_LISTED
    return WOKEN if real else WOKEN_AWAY


def begins_deletion(event: Event) -> bool:
    """Whether the object is deleted by this event, or is to be deleted from it on."""
    old, new = event.old, event.new
    if new is None:
        return True
    return new.meta.deletion_timestamp is not None and (old is None or old.meta.deletion_timestamp is None)


def _listed(version: int, known: Known) -> Verdict:
    """The object of a first list."""
    if known.version_reconciled is not None:
        return EXISTING if known.version_reconciled == version else AWAY
    if known.first_start or not known.has_watermark:
        return BACKLOG
    if known.covered:
        return EXISTING
    return STATUS if known.only_status else AWAY


def _caught_up(event: Event, known: Known) -> Verdict:
    """A re-list or a replay from the watermark: the object changed while no shard watched."""
    old, new = event.old, event.new
    assert new is not None
    if old is not None and same_version(old, new) and old.version == new.version:
        return UNCHANGED
    if known.version_reconciled == new.version or (old is not None and old.version == new.version):
        # Only the status changed. If the object is not reconciled yet, its key is queued already.
        return STATUS
    if old is None and known.version_reconciled is None:
        if known.first_start:
            return BACKLOG
        if known.covered:
            return EXISTING
        if known.only_status:
            return STATUS
    return AWAY


def _child(event: Event, known: Known) -> Verdict:
    source = event.source
    if source is Source.RESYNC:
        return UNCHANGED  # its owner is resynced itself
    old, new = event.old, event.new
    if source in LIVE:
        if old is None or new is None or old.version != new.version:
            return OWNED
        return UNCHANGED if same_version(old, new) else OWNED_STATUS
    if new is None or event.type is EventType.DELETED:
        return OWNED_AWAY
    if old is not None:
        return UNCHANGED if same_version(old, new) else OWNED_AWAY
    if known.covered:
        return UNCHANGED  # a reconcile of its owner has seen it
    if source is Source.INITIAL and (known.first_start or not known.has_watermark):
        return OWNED_BACKLOG
    return OWNED_AWAY


_OF_WATCHED = {OWNED: WATCHED, OWNED_STATUS: WATCHED_STATUS, OWNED_AWAY: WATCHED_AWAY}


def _watched(event: Event, known: Known) -> Verdict:
    """As a child's. A first list says nothing of what has changed: ``WATCHED_LISTED`` follows it."""
    return _OF_WATCHED.get(_child(event, known), UNCHANGED)
