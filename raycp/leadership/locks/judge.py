"""May a candidate take the lock? Pure: what it has seen of the lock, and since when by its own clock, in; a verdict out.

Nobody's wall clock counts: every age is measured by the candidate's own clock from when it first saw the thing in question (as
client-go's leader election does), and a taking is a write over the very version that was judged, so a clock that jumps can only
lose against that write.
"""

import math

import msgspec

from raycp.leadership.epoch import Leadership
from raycp.leadership.locks.types import RESERVED, Identity, Kind, PodRef

MISSING = 2.5
"""A lock that vanished under a living holder is made again by its next proof, within a second: candidates give it so long."""

UNWATCHED = 2.0
"""How often the record of epochs is looked at, in seconds, where it says no: only the lock is watched."""

KNOCK_SLACK = 1.0
"""Beyond ``permit``, for a holder whose proof is late."""


class State(msgspec.Struct, frozen=True):
    """The lock's object. ``knock`` is a candidate's question to the holder, ``answer`` the last one that was answered;
    ``duration`` is a Lease's, in seconds; ``stranger`` says why the object is not ours, and then nothing else counts."""

    leadership: Leadership
    version: str = ""
    uid: str = ""
    owner: PodRef | None = None
    knock: str = ""
    answer: str = ""
    duration: float = 0.0
    stranger: str = ""


class Sight(msgspec.Struct, frozen=True):
    """What a candidate knows. Times are its own clock's.

    ``state``: the newest, None where there is no lock; ``seen``: when this version of it was first seen; ``released``: when this
    release was; ``knocked``: when the unanswered knock in it was; ``missing``: since when there is none; ``owner_gone``: the Pod
    that owns it does not exist any more, or has ended; ``source``: who led last by the fleet's record of epochs.
    """

    state: State | None
    seen: float
    released: float = math.inf
    knocked: float = math.inf
    missing: float = math.inf
    owner_gone: bool = False
    source: Leadership | None = None


class Verdict(msgspec.Struct, frozen=True):
    """``take`` with what then has to be waited for (``wait``, seconds from the write's answer), or ``why`` not; ``again`` is
    the time at which the same sight is worth another look, and ``knock`` whether the holder is to be asked for a sign of life."""

    take: bool
    wait: float = 0.0
    why: str = ""
    again: float = math.inf
    knock: bool = False


def judge(kind: Kind, where: str, sight: Sight, me: Identity, permit: float, now: float) -> Verdict:
    """See the module. ``permit`` is the candidate's own, ``where`` the lock's object, for messages."""
    state, source = sight.state, sight.source
    if state is not None and state.stranger:
        return Verdict(False, why=f"{where} {state.stranger}; remove it, or take it over with `raycp leader unlock`")
    for known in (source, state.leadership if state is not None else None):
        if known is not None and known.lock != kind and known.epoch and not known.released:
            why = (
                f"{known.holder} holds this fleet by lock {known.lock}, and this one is to use {kind}: "
                "use the same lock in both files; if that holder is gone for good, `raycp leader unlock`"
            )
            return Verdict(False, why=why, again=now + UNWATCHED)
    if state is None or not state.leadership.epoch or _behind(state.leadership, source, me):
        return _missing(where, sight, me, permit, now)
    held = state.leadership
    longest = max(permit, held.permit)
    if held.released:
        ours = held.successor in ("", me.home, me.holder) or held.home == me.home
        until = sight.released + RESERVED
        if ours or now >= until:
            return Verdict(True)
        return Verdict(False, why=f"{where} is kept for {held.successor} for {until - now:.0f} s more", again=until)
    if held.home == me.home:
        return Verdict(True, wait=longest)
    if kind == "lease":
        until = sight.seen + state.duration
        if now >= until:
            return Verdict(True, wait=max(0.0, sight.seen + longest - now))
        return Verdict(False, why=f"{where} is held by {held.holder}, which renews it", again=until)
    silent = sight.knocked + longest + KNOCK_SLACK
    asking = sight.knocked < math.inf
    if kind == "ray":
        if now >= silent:
            return Verdict(True)
        why = f"{where} is held by {held.holder}, which " + ("is asked for a sign of life" if asking else "lives")
        return Verdict(False, why=why, again=silent, knock=not asking)
    if state.owner is not None and sight.owner_gone:
        return Verdict(True, wait=longest)
    if state.owner is not None and me.pod is not None and state.owner.uid == me.pod.uid:
        # Our own Pod lives, which says nothing of the holder: it was another process in it.
        if now >= silent:
            return Verdict(True)
        return Verdict(False, why=f"{where} is held by {held.holder} in this Pod", again=silent, knock=not asking)
    if state.owner is not None:
        return Verdict(False, why=f"{where} is held by {held.holder} for as long as its Pod {state.owner} exists")
    why = f"{where} is held by {held.holder}, for life, and no Pod owns it"
    if now >= silent:
        why += f"; it has not answered for {longest + KNOCK_SLACK:.0f} s or more: if it is gone for good, `raycp leader unlock`"
        return Verdict(False, why=why)
    return Verdict(False, why=why, again=silent, knock=not asking)


def _behind(held: Leadership, source: Leadership | None, me: Identity) -> bool:
    """Whether the lock is older than the record of epochs: restored from a backup, under a holder that may live."""
    return source is not None and source.pair > held.pair and not source.released and source.home not in (me.home, held.home)


def _missing(where: str, sight: Sight, me: Identity, permit: float, now: float) -> Verdict:
    source = sight.source
    if source is None or source.released:
        return Verdict(True)
    wait = max(permit, source.permit)
    until = (sight.missing if sight.state is None else sight.seen) + MISSING
    if source.home == me.home or sight.owner_gone or now >= until:
        return Verdict(True, wait=wait)
    what = "is not there" if sight.state is None else "is older than the fleet's record of epochs, or spoilt"
    return Verdict(False, why=f"{where} {what}; its holder {source.holder} is given time to restore it", again=until)
