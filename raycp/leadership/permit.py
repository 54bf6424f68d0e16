"""Leave to write for a while: who may grant it, when it ends, and what a successor has to wait for (law 6). Pure.

The way of a permit: the leader proves to itself that it still leads (``Proof``), a holder (shard, worker) asks, the leader
answers with a ``Grant`` that its proof covers and notes it (``Ledger``), the holder turns it into a ``Permit``.

Guarantees, if clocks of two hosts run at the same rate (none needs to show the same time):

1. A permit ends at the holder's clock reading taken *before the request was sent* plus what was granted, so at the latest
   when the leader's book says so.
2. No permit outlives (the leader's last read of the record was sent) + ``permit``: a successor that has recorded itself knows
   that all permits of its predecessor have ended ``permit`` later, whatever was granted and never heard of.
3. A holder that the leader has barred is granted nothing; when its entry in the book has ended, it does not write.

All times are seconds of the own process's ``Clock`` (``CLOCK_BOOTTIME``: a suspended machine's permits end).
"""

import msgspec


class Ask(msgspec.Struct, frozen=True, array_like=True):
    """A holder asks: its name."""

    holder: str


class Grant(msgspec.Struct, frozen=True, array_like=True):
    """The leader's answer. ``seconds`` from when the question was sent; 0 with ``refused`` saying why. ``terms``: shard ->
    newest term, so that whoever holds a permit knows which primaries are history (law 6g)."""

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

    An answer of an older incarnation than known is ignored: it may come from a leader that does not know of its succession.
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


class Ledger:
    """The leader's book of permits.

    ``recorded``: when this incarnation was recorded (the write's answer was there). Holders that were never heard of are
    taken as permitted until ``silent`` (``permit`` by default; the longest that was granted before) after that (law 6d), unless
    ``fresh``: a new epoch, which has no holders yet.
    """

    def __init__(self, permit: float, recorded: float, *, fresh: bool = False, silent: float = 0.0) -> None:
        self._permit = permit
        self._silent_until = recorded if fresh else recorded + max(permit, silent)
        self._ends: dict[str, float] = {}
        self._barred: dict[str, str] = {}

    @property
    def permit(self) -> float:
        """How long is granted at most, in seconds."""
        return self._permit

    def set_permit(self, permit: float) -> None:
        """Grant for so long from now on; a longer one has been recorded before."""
        self._permit = permit

    @property
    def silent_until(self) -> float:
        """When the permits of holders never heard of have ended."""
        return self._silent_until

    def grant(self, holder: str, proof: Proof, now: float, epoch: int, incarnation: int, terms: dict[str, int]) -> Grant:
        """Answer ``holder`` and note it."""
        why = self._barred.get(holder, "")
        seconds = 0.0 if why else min(self._permit, proof.covers(now, self._permit))
        if not why and not seconds:
            why = "the leader could not make sure that it still leads"
        if seconds:
            # Counted from now, which is later than when the holder sent its question: never too short.
            self._ends[holder] = max(self._ends.get(holder, 0.0), now + seconds)
        return Grant(seconds, epoch, incarnation, terms, why)

    def bar(self, holder: str, why: str) -> None:
        """Grant ``holder`` nothing more."""
        self._barred.setdefault(holder, why)

    def barred(self, holder: str) -> bool:
        """Whether ``holder`` was barred."""
        return holder in self._barred

    def ends(self, holder: str) -> float:
        """When ``holder``'s last permit has ended for certain."""
        return max(self._ends.get(holder, 0.0), self._silent_until)

    def known(self, holder: str) -> bool:
        """Whether ``holder`` was ever granted anything by this incarnation."""
        return holder in self._ends

    def forget(self, holder: str) -> None:
        """Its process is gone for certain."""
        self._ends.pop(holder, None)
        self._barred.pop(holder, None)
