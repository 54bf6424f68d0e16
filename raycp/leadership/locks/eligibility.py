"""May a candidate acquire the lock? Pure: from what it has observed of the lock, and since when by its own clock.

No wall clock counts: every age is measured by the candidate's own clock from when it first observed the thing in question (as in
client-go's leader election). An acquisition writes over the very version that was judged, so a clock that jumps can only lose
against that write.
"""

import math

import msgspec

from raycp.leadership.epoch import Leadership
from raycp.leadership.locks.types import RESERVED, EpochFloor, Identity, Kind, PodRef

MISSING = 2.5
"""Seconds that candidates wait for the holder of a deleted lock: a living holder creates it again with its next proof."""

RECHECK_RECORD = 2.0
"""Seconds between two reads of the record of epochs while it excludes the candidate: only the lock's object is watched."""

KNOCK_SLACK = 1.0
"""Seconds beyond ``permit`` for a holder whose proof is late."""


class LockState(msgspec.Struct, frozen=True):
    """The lock's object. ``knock`` is a candidate's question to the holder, ``answer`` the last one that the holder answered;
    ``duration`` is a Lease's, in seconds; ``foreign`` says why the object is not this fleet's, and then no other field counts."""

    leadership: Leadership
    version: str = ""
    uid: str = ""
    owner: PodRef | None = None
    knock: str = ""
    answer: str = ""
    duration: float = 0.0
    foreign: str = ""


class Observation(msgspec.Struct, frozen=True):
    """What a candidate knows. Times are its own clock's.

    ``state``: the newest, None where there is no lock; ``seen``: when this version of it was first observed; ``released``: when
    this release was; ``knocked``: when the unanswered knock in it was; ``missing``: since when there is no lock; ``owner_ended``:
    the Pod that owns it was deleted or has ended; ``record``: who led last by the fleet's record of epochs; ``floor``: the highest
    epoch that led, by an object outside the fleet's namespace.
    """

    state: LockState | None
    seen: float
    released: float = math.inf
    knocked: float = math.inf
    missing: float = math.inf
    owner_ended: bool = False
    record: Leadership | None = None
    floor: EpochFloor | None = None


class Eligibility(msgspec.Struct, frozen=True):
    """``eligible``, with the seconds to wait after the write's answer (``wait``), or ``why`` not; ``recheck_at`` is when the same
    observation may have another answer, and ``knock`` whether to ask the holder for a sign of life."""

    eligible: bool
    wait: float = 0.0
    why: str = ""
    recheck_at: float = math.inf
    knock: bool = False


def eligibility(kind: Kind, where: str, seen: Observation, me: Identity, permit: float, now: float) -> Eligibility:
    """See the module. ``permit`` is the candidate's own, in seconds; ``where`` names the lock's object, for messages."""
    state, record = seen.state, seen.record
    if state is not None and state.foreign:
        return Eligibility(False, why=f"{where} {state.foreign}; remove it, or take it over with `raycp leader unlock`")
    for known in (record, state.leadership if state is not None else None):
        if known is not None and known.lock != kind and known.epoch and not known.released:
            why = (
                f"{known.holder} holds this fleet by lock {known.lock}, and this one is to use {kind}: "
                "use the same lock in both files; if that holder is dead, `raycp leader unlock`"
            )
            return Eligibility(False, why=why, recheck_at=now + RECHECK_RECORD)
    if state is None or not state.leadership.epoch or _behind(state.leadership, seen, me):
        return _missing(where, seen, me, permit, now)
    held = state.leadership
    # Not the holder's alone: it may have taken the lock of one with longer permits, and not have led yet.
    longest = max(permit, *(known.permit for known in (held, record, seen.floor) if known is not None))
    if held.released:
        ours = held.successor in ("", me.home, me.holder) or held.home == me.home
        until = seen.released + RESERVED
        if ours or now >= until:
            return Eligibility(True)
        return Eligibility(False, why=f"{where} is reserved for {held.successor} for {until - now:.0f} s more", recheck_at=until)
    if held.home == me.home:
        return Eligibility(True, wait=longest)
    if kind == "lease":
        until = seen.seen + state.duration
        if now >= until:
            return Eligibility(True, wait=max(0.0, seen.seen + longest - now))
        return Eligibility(False, why=f"{where} is held by {held.holder}, which renews it", recheck_at=until)
    silent = seen.knocked + longest + KNOCK_SLACK
    asking = seen.knocked < math.inf
    if kind == "ray":
        if now >= silent:
            return Eligibility(True)
        why = f"{where} is held by {held.holder}, which " + ("is asked for a sign of life" if asking else "lives")
        return Eligibility(False, why=why, recheck_at=silent, knock=not asking)
    if state.owner is not None and seen.owner_ended:
        return Eligibility(True, wait=longest)
    if state.owner is not None and me.pod is not None and state.owner.uid == me.pod.uid:
        # The candidate's own Pod lives, which proves nothing about the holder: it was another process in the same Pod.
        if now >= silent:
            return Eligibility(True)
        return Eligibility(False, why=f"{where} is held by {held.holder} in this Pod", recheck_at=silent, knock=not asking)
    if state.owner is not None:
        return Eligibility(False, why=f"{where} is held by {held.holder} for as long as its Pod {state.owner} exists")
    why = f"{where} is held by {held.holder}, for life, and no Pod owns it"
    if now >= silent:
        why += f"; it has not answered for {longest + KNOCK_SLACK:.0f} s or more: if it is dead, `raycp leader unlock`"
        return Eligibility(False, why=why)
    return Eligibility(False, why=why, recheck_at=silent, knock=not asking)


def _behind(held: Leadership, seen: Observation, me: Identity) -> bool:
    """Whether the lock is older than the record of epochs, or both are older than the floor: restored from a backup, while a holder
    may live."""
    record, floor = seen.record, seen.floor
    newest = max(held.pair, record.pair) if record is not None else held.pair
    if floor is not None and floor.pair > newest and (held.released or floor.home == me.home or floor.home != held.home):
        return True
    return record is not None and record.pair > held.pair and not record.released and record.home not in (me.home, held.home)


def _missing(where: str, seen: Observation, me: Identity, permit: float, now: float) -> Eligibility:
    state, record, floor = seen.state, seen.record, seen.floor
    until = (seen.missing if seen.state is None else seen.seen) + MISSING
    if floor is not None and (record is None or floor.pair > record.pair):
        # The record was deleted with its namespace, or restored with it: what it says of a release is not the last word.
        held = state.leadership if state is not None else None
        wait = max(permit, *(known.permit for known in (floor, record, held) if known is not None))
        if floor.home == me.home or now >= until:
            return Eligibility(True, wait=wait)
        why = f"{where} does not exist or is older than epoch {floor.epoch}, which has led; {floor.holder} has time to restore it"
        return Eligibility(False, why=why, recheck_at=until)
    if record is None or record.released:
        return Eligibility(True)
    wait = max(permit, record.permit, floor.permit if floor is not None else 0.0)
    if record.home == me.home or seen.owner_ended or now >= until:
        return Eligibility(True, wait=wait)
    what = "does not exist" if seen.state is None else "is older than the fleet's record of epochs, or can't be decoded"
    return Eligibility(False, why=f"{where} {what}; its holder {record.holder} has time to restore it", recheck_at=until)
