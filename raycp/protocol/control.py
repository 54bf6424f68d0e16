"""Control messages: what the leader asks of members, members of the leader, and commands of both."""

import msgspec


class Drain(msgspec.Struct, array_like=True):
    """To the primary: stop handing out. ``limit``: after so many seconds without a successor it goes on by itself. ``final``: the
    successor is of another epoch, so the permit is given up too."""

    grace: float
    limit: float
    final: bool = False


class Drained(msgspec.Struct, array_like=True):
    """Its answer: ``seq`` of the last frame to the standbys, and how many reconciles had to be revoked."""

    seq: int
    revoked: int


class Lead(msgspec.Struct, array_like=True):
    """The order to lead, to a fleet that stands by. ``drain`` and ``leaderless`` in seconds, so far; ``before`` is who led."""

    before: str
    drain: float | None
    leaderless: float | None
    cause: str = "upgrade"


class HandoverResult(msgspec.Struct, rename="camel"):
    """What became of one shard. ``problem`` is empty where it was handed over; times in seconds."""

    shard: str
    to: str = ""
    drain: float = 0.0
    took: float = 0.0
    revoked: int = 0
    problem: str = ""


HANDED_OVER = "this colour of the fleet has handed over"
"""In the error of a leader that is about to end: the other one is to be asked."""


class StandbyStatus(msgspec.Struct, rename="camel"):
    """What a leader that stands by tells of itself: its home (``leadership.Leadership.home``), and why it is not warm."""

    home: str = ""
    generation: str = ""
    warm: bool = False
    reasons: list[str] = []


class FleetHandoverResult(msgspec.Struct, rename="camel"):
    """What became of it. ``problem`` is empty where the fleet was handed over; times in seconds: ``drain`` until all work was
    acknowledged, ``took`` until the successor's workers were told to pull. ``cold``: shards that the successor starts with the
    watermark only."""

    to: str
    epoch: int = 0
    drain: float = 0.0
    took: float = 0.0
    revoked: int = 0
    shards: list[str] = []
    cold: list[str] = []
    problem: str = ""


class DrainedPrimary(msgspec.Struct, array_like=True):
    """A primary that has been drained: who it is, and the last frame that it told its standbys."""

    member: str
    term: int
    seq: int
