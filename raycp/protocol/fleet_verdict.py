"""``FleetVerdict``: the fleet's state in one sentence (made by ``raycp.protocol.verdict``)."""

from enum import StrEnum

import msgspec


class VerdictLevel(StrEnum):
    """How bad it is. The first two where ``/readyz`` says ``ok``, the others as it says."""

    READY = "ready"
    FAILING = "failing"
    """The fleet is ready, and objects fail."""
    DEGRADED = "degraded"
    NOT_READY = "not-ready"


class FleetVerdict(msgspec.Struct, frozen=True):
    """``word`` and ``text`` are the sentence, ``details`` what else is wrong or known, the worst first."""

    level: VerdictLevel
    word: str
    text: str
    details: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.word}: {self.text}"
