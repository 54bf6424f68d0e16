"""The contract of all locks, ``Lock``, and its values: candidates, holders, the reason to wait."""

from collections.abc import AsyncIterator, Callable
from typing import Literal, Protocol

import msgspec

from raycp.leadership.epoch import Acquisition, Leadership

Kind = Literal["ray", "configMap", "lease"]

RESERVED = 10.0
"""Seconds after a release in which only the named successor, or the fleet that released, may acquire. Counted by each candidate's
own clock from when it first observed the release."""


class PodRef(msgspec.Struct, frozen=True):
    """A Pod; the uid distinguishes it from a later one of the same name."""

    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Identity(msgspec.Struct, frozen=True):
    """A candidate.

    ``holder`` names the leader's process, and changes with each of its restarts; ``home`` names the fleet instance (a Ray
    namespace of a Ray cluster with its actors) and stays: a restarted leader of a living fleet finds its own lock by it.
    ``pod`` is the process's Pod, if it has one.
    """

    holder: str
    home: str
    pod: PodRef | None = None


class Waiting(msgspec.Struct, frozen=True):
    """Why a candidate does not lead. ``why`` is one sentence for the user, with a remedy where there is one; ``holder`` is the
    leader as far as is known; ``since`` Unix seconds of its epoch's start."""

    why: str
    holder: str = ""
    since: float = 0.0


class Confirmed(msgspec.Struct, frozen=True):
    """The answer to a proof: who leads as recorded. ``wait``: no permit may be granted for so many seconds, since another leader
    may have granted some meanwhile (the lock was restored from a backup)."""

    leadership: Leadership
    wait: float = 0.0


class Holding(msgspec.Struct, frozen=True):
    """The content of the lock. ``pod`` owns it where there is one; ``foreign`` says why the object is not a lock of this fleet."""

    leadership: Leadership
    pod: PodRef | None = None
    foreign: str = ""


class EpochFloor(msgspec.Struct, frozen=True, omit_defaults=True):
    """The highest epoch and incarnation that led; of the newest leader, ``permit`` in seconds, its process and its home."""

    epoch: int
    incarnation: int
    permit: float = 0.0
    holder: str = ""
    home: str = ""

    @property
    def pair(self) -> tuple[int, int]:
        """See ``Leadership.pair``."""
        return self.epoch, self.incarnation

    @classmethod
    def of(cls, led: Leadership) -> "EpochFloor":
        """The floor that ``led`` sets."""
        return cls(led.epoch, led.incarnation, led.permit, led.holder, led.home)

    def raised(self, known: "EpochFloor | None") -> "EpochFloor":
        """This one, and at least ``known``."""
        if known is None:
            return self
        newest = self if self.pair > known.pair or (self.pair == known.pair and self.home == known.home) else known
        epoch, incarnation = max(self.epoch, known.epoch), max(self.incarnation, known.incarnation)
        return msgspec.structs.replace(newest, epoch=epoch, incarnation=incarnation)


class FloorStore(Protocol):
    """Where a fleet's floor stands. Raises ``KubeError``; ``LockProblem`` for a missing right."""

    async def read(self) -> EpochFloor | None:
        """The floor; None for none."""
        ...

    async def raise_to(self, floor: EpochFloor) -> EpochFloor | None:
        """Make it at least ``floor``, with compare-and-set; the floor before. Raises ``Conflict``, too."""
        ...


class LockProblem(Exception):
    """The lock can't be used: the object is foreign, or a right is missing. The message has the remedy."""


class Lock(Protocol):
    """One fleet's lock. Each candidate has its own instance.

    All calls raise ``KubeError`` (no answer, refused), ``LockProblem``, and ``Conflict`` where other clients wrote first several
    times in a row.
    """

    kind: Kind
    """``ray``, ``configMap`` or ``lease``."""

    where: str
    """Its object, for messages: ``ConfigMap raycp-system/raycp-NAME-leader``."""

    every: float
    """Seconds between two proofs."""

    async def acquire(
        self, me: Identity, permit: float, living_epoch: int = 0, waits: Callable[[Waiting], None] | None = None
    ) -> Acquisition:
        """Wait until ``me`` is the holder; cancel it to give up. ``waits`` receives the reason to wait, whenever it changes.

        ``permit``: the length of the permits that this leader will grant, in seconds; ``living_epoch``: the epoch of the members
        found alive, 0 for none. The answer's epoch is higher than any that was held before, or ``living_epoch`` where the same home
        continues; its incarnation is always higher. No write may be permitted before ``Acquisition.wait`` seconds have passed.
        """
        ...

    async def confirm(self, mine: Leadership) -> Confirmed:
        """The holder's proof: read from the lock whether ``mine`` still leads. It does not where the answer has another leader.

        The answer was true when the request was sent. A deleted lock is created again.
        """
        ...

    async def release(self, mine: Leadership, successor: str = "") -> None:
        """Give it up, to ``successor`` (a candidate's ``home`` or ``holder``) for ``RESERVED`` seconds, or to anyone.

        Call it when every permit of ``mine`` has ended, and after the last proof: the next epoch begins without a wait. Does
        nothing where another leader holds it already.
        """
        ...

    async def amend(self, mine: Leadership, permit: float) -> Leadership:
        """Record another ``permit``: before longer ones are granted, or after the last longer one has ended."""
        ...

    async def keep_floor(self, mine: Leadership) -> None:
        """Make sure that the floor of the epochs stands on its cluster-scoped object, too; ``mine`` leads."""
        ...

    async def holder(self) -> Holding | None:
        """The content of the lock; None where there is none."""
        ...

    def watch(self) -> AsyncIterator[Holding | None]:
        """The content of the lock, now and after each change. Never ends; failures are retried with backoff."""
        ...

    async def unlock(self, by: str) -> Holding | None:
        """By hand: free the lock of a dead holder, or of a foreign object; the content it had. A living holder creates it again
        with its next proof; the next candidate waits for that, and for the permits that may be valid. ``by`` names the user."""
        ...
