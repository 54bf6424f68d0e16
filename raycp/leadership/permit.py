"""Permits to write for a few seconds: who grants one, when it ends, and what a successor has to wait for (law 6). Pure.

The path of a permit: the leader proves that it still leads (``Proof``), a holder (shard, worker) asks, the leader answers with a
``Grant`` that its proof covers and records it (``PermitLedger``), the holder turns it into a ``Permit``.

Guarantees, if the clocks of two hosts run at the same rate (they need not show the same time):

1. A permit ends at the holder's clock reading taken *before the request was sent* plus what was granted, so not later than the
   leader's ledger says.
2. No permit outlives (the leader's last read of the record was sent) + ``permit``: a successor that is recorded knows that
   all permits of its predecessor have ended ``permit`` later, whatever was granted.
3. A holder that the leader has barred is granted nothing; when its entry in the ledger has ended, it does not write.

All times are seconds of the own process's ``Clock`` (``CLOCK_BOOTTIME``: a suspended machine's permits end).
"""

import msgspec


class Grant(msgspec.Struct, frozen=True, array_like=True):
    """The leader's answer. ``seconds`` from when the question was sent; 0 with ``refused`` saying why. ``terms``: shard ->
    newest term, so that the holder refuses primaries of older terms (law 6g)."""

    seconds: float
    epoch: int = 0
    incarnation: int = 0
    terms: dict[str, int] = {}
    refused: str = ""


class Permit(msgspec.Struct, frozen=True):
    """What a holder may do until ``until``; replaced as a whole, so that any thread may read it."""

    until: float = float("-inf")
    epoch: int = 0
    incarnation: int = 0
    refused: str = "no permit has been granted yet"

    def left(self, now: float) -> float:
        """Seconds that remain, 0 when it has ended."""
        return max(0.0, self.until - now)


def take(before: Permit, grant: Grant, asked: float) -> Permit:
    """The permit after ``grant`` was answered to a question sent at ``asked``.

    An answer of an older incarnation than known is ignored: that leader may not know of its successor.
    A refusal ends nothing that was granted: its end is known to the leader.
    """
    if (grant.epoch, grant.incarnation) < (before.epoch, before.incarnation):
        return before
    until = before.until if grant.epoch == before.epoch else float("-inf")
    if grant.seconds > 0:
        until = max(until, asked + grant.seconds)
    return Permit(until, grant.epoch, grant.incarnation, grant.refused)


class Proof(msgspec.Struct, frozen=True):
    """The leader's knowledge that it is the current incarnation: its last successful read of the record was sent at
    ``read_sent``."""

    read_sent: float

    def covers(self, now: float, permit: float) -> float:
        """Seconds from ``now`` for which anything may be granted."""
        return max(0.0, self.read_sent + permit - now)


class PermitLedger:
    """The permits that a leader has granted.

    ``recorded``: when the answer to the write that recorded this incarnation was received. Unknown holders count as permitted
    until ``silent`` seconds after that (``permit`` by default; the longest permit that was granted before; law 6d), unless
    ``fresh``: a new epoch, which has no holders yet.
    """

    def __init__(self, permit: float, recorded: float, *, fresh: bool = False, silent: float = 0.0) -> None:
        self._permit = permit
        self._silent_until = recorded if fresh else recorded + max(permit, silent)
        self._ends: dict[str, float] = {}
        self._barred: dict[str, str] = {}

    @property
    def permit(self) -> float:
        """The longest grant, in seconds."""
        return self._permit

    def shorten(self, permit: float, now: float) -> float:
        """Grant no longer permits than these from now on; the seconds until the last longer one has ended, whoever granted it."""
        self._permit = min(permit, self._permit)
        return max(0.0, max(self._silent_until, *self._ends.values(), now) - now)

    def set_permit(self, permit: float) -> None:
        """Grant permits of that length from now on; the hub must have recorded a longer one before."""
        self._permit = permit

    @property
    def silent_until(self) -> float:
        """When the permits of unknown holders have ended."""
        return self._silent_until

    def grant(self, holder: str, proof: Proof, now: float, epoch: int, incarnation: int, terms: dict[str, int]) -> Grant:
        """Answer ``holder`` and record the grant."""
        why = self._barred.get(holder, "")
        seconds = 0.0 if why else min(self._permit, proof.covers(now, self._permit))
        if not why and not seconds:
            why = "the leader could not confirm that it still leads"
        if seconds:
            # Counted from now, which is later than when the holder sent its question: never too short.
            self._ends[holder] = max(self._ends.get(holder, 0.0), now + seconds)
        return Grant(seconds, epoch, incarnation, terms, why)

    def bar(self, holder: str, why: str) -> None:
        """Grant ``holder`` nothing from now on."""
        self._barred.setdefault(holder, why)

    def barred(self, holder: str) -> bool:
        """Whether ``holder`` was barred."""
        return holder in self._barred

    def ends(self, holder: str) -> float:
        """When ``holder``'s last permit has ended for certain."""
        return max(self._ends.get(holder, 0.0), self._silent_until)

    def known(self, holder: str) -> bool:
        """Whether this incarnation has granted ``holder`` a permit."""
        return holder in self._ends

    def forget(self, holder: str) -> None:
        """``holder``'s process is dead for certain."""
        self._ends.pop(holder, None)
        self._barred.pop(holder, None)
