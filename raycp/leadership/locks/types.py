"""What all locks speak of: who wants one, who has it, why one has to wait. Values only; the contract is ``Lock``."""

from collections.abc import AsyncIterator, Callable
from typing import Literal, Protocol

import msgspec

from raycp.leadership.epoch import Acquisition, Leadership

Kind = Literal["ray", "configMap", "lease"]

RESERVED = 10.0
"""For so many seconds after a release only the named successor, or the one who released, may acquire; then anyone. Counted by each
candidate's own clock from when it first saw the release."""


class PodRef(msgspec.Struct, frozen=True):
    """A Pod: its name alone does not tell it from a namesake that was made later."""

    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Identity(msgspec.Struct, frozen=True):
    """Who wants to lead.

    ``holder`` names the leader's process, and changes with each of its restarts; ``home`` names the fleet instance (a Ray
    namespace of a Ray cluster with its actors) and stays: a leader that comes back to its living fleet finds its own lock by it.
    ``pod`` is the Pod that the process runs in, if it runs in one.
    """

    holder: str
    home: str
    pod: PodRef | None = None


class Waiting(msgspec.Struct, frozen=True):
    """Why a candidate does not lead. ``why`` is one sentence for the user, with a remedy where there is one; ``holder`` is who
    leads as far as is known; ``since`` Unix seconds of its epoch's start."""

    why: str
    holder: str = ""
    since: float = 0.0


class Confirmed(msgspec.Struct, frozen=True):
    """An answer to a proof: who leads as recorded. ``wait``: nothing may be granted for so many seconds, since somebody else
    may have been granted leave meanwhile (the lock had been restored from a backup)."""

    leadership: Leadership
    wait: float = 0.0


class Holding(msgspec.Struct, frozen=True):
    """What is in the lock. ``pod`` owns it where there is one; ``stranger`` says why the object is not a lock of this fleet."""

    leadership: Leadership
    pod: PodRef | None = None
    stranger: str = ""


class LockProblem(Exception):
    """The lock can't be used: the object is somebody else's, or a right is missing. The message has the remedy."""


class Lock(Protocol):
    """One fleet's lock. Not for use by several candidates at once: each has its own.

    All calls raise ``KubeError`` (no answer, refused), ``LockProblem``, and ``Conflict`` where others wrote faster time and again.
    """

    kind: Kind
    """``ray``, ``configMap`` or ``lease``."""

    where: str
    """Its object, for messages: ``ConfigMap raycp-system/raycp-NAME-leader``."""

    every: float
    """Seconds between two proofs."""

    async def acquire(
        self, me: Identity, permit: float, living_epoch: int = 0, told: Callable[[Waiting], None] | None = None
    ) -> Acquisition:
        """Wait until ``me`` is the holder; cancel it to give up. ``told`` hears why it has to wait, whenever that changes.

        ``permit``: how long leave to write lasts that this leader will grant; ``living_epoch``: the epoch of the members found
        alive, 0 for none. The answer's epoch is higher than any that was held before, or ``living_epoch`` where the same home goes
        on; its incarnation is always higher. No write may be permitted before ``Acquisition.wait`` seconds have passed.
        """
        ...

    async def confirm(self, mine: Leadership) -> Confirmed:
        """The holder's proof: ask the lock's home whether ``mine`` still leads. Somebody else in the answer: it does not.

        What is true of the answer was true when the question was sent. A lock that was deleted is made again.
        """
        ...

    async def release(self, mine: Leadership, successor: str = "") -> None:
        """Give it up, to ``successor`` (a candidate's ``home`` or ``holder``) for ``RESERVED`` seconds, or to anyone.

        To be called when nobody holds a permit of ``mine`` any more, and after the last proof: the next epoch begins without a
        wait. Where somebody else leads already nothing happens.
        """
        ...

    async def amend(self, mine: Leadership, permit: float) -> Leadership:
        """Record another ``permit``: before longer ones are granted, or after the last longer one has ended."""
        ...

    async def holder(self) -> Holding | None:
        """What is in the lock now; None where there is none."""
        ...

    def watch(self) -> AsyncIterator[Holding | None]:
        """What is in the lock: now, and with each change. Never ends; what goes wrong is tried again with backoff."""
        ...

    async def unlock(self, told: str) -> Holding | None:
        """By hand: free the lock of a holder that is gone for good, or of a stranger's object, and tell what was there. A holder
        that lives makes it again with its next proof; the next candidate gives it time for that, and waits for the permits that may
        live. ``told`` says who did it."""
        ...
