"""Questions to the leader: from the driver, from members, and from the leader of the fleet's other revision."""

from typing import Any

import msgspec

from raycp.leadership.permit import Grant
from raycp.protocol.control.members import RequestedKey
from raycp.protocol.control.question import Question
from raycp.protocol.plan import Fleet, Plan
from raycp.protocol.status import FleetStatus

# from the driver


class Apply(Question[None], frozen=True):
    """Make ``fleet`` the desired one. Error: ``REFUSED``."""

    fleet: Fleet


class StatusOf(Question[FleetStatus], frozen=True):
    """The fleet's status."""


class Switches(Question[list[dict[str, Any]]], frozen=True):
    """The history of promotions and hand-overs, oldest first."""


class HandoverResult(msgspec.Struct, rename="camel"):
    """The result for one shard. ``problem`` is empty where it was handed over; times in seconds."""

    shard: str
    to: str = ""
    drain: float = 0.0
    took: float = 0.0
    revoked: int = 0
    problem: str = ""


class HandOver(Question[list[HandoverResult]], frozen=True):
    """Hand these shards to their warm standbys, one after the other; all of them if empty. ``by``: who asks."""

    shards: list[str] = []
    by: str = ""


class Amended(msgspec.Struct, rename="camel", frozen=True):
    """``changed``: whether the fleet document was another before; ``generation``: of the one that holds now."""

    changed: bool
    generation: str


class SetPause(Question[Amended], frozen=True):
    """Begin no reconcile of these clusters and controllers any more, or again (``paused`` False). ``by``: who asks. Errors:
    ``NOT_FOUND``, ``REFUSED``."""

    paused: bool
    clusters: list[str]
    controllers: list[str]
    by: str = ""


class SetDrain(Question[Amended], frozen=True):
    """Move the Pods of jobs out of these members, or place some there again (``drained`` False). Errors: ``NOT_FOUND``,
    ``REFUSED``."""

    drained: bool
    clusters: list[str]
    by: str = ""


class ReconcileNow(Question[list[RequestedKey]], frozen=True):
    """See ``members.MakeDue``, which goes to the primary of the cluster's shard. Errors: ``NOT_FOUND``, ``BUSY``."""

    cluster: str
    kind: str
    namespace: str
    name: str
    controller: str = ""
    by: str = ""


class Down(Question[None], frozen=True):
    """Drain and end all members; the caller ends the leader."""


class Dismiss(Question[None], frozen=True):
    """``Down`` for a standby fleet. Error: ``REFUSED`` if it leads."""


class Stand(Question[None], frozen=True):
    """Stand by, as ``fleet``, for the fleet in Ray namespace ``namespace``. Error: ``REFUSED``."""

    fleet: Fleet
    namespace: str


class StandbyStatus(msgspec.Struct, rename="camel"):
    """A standby fleet: its home (``leadership.Leadership.home``), and why it is not warm. Empty for an active fleet."""

    home: str = ""
    generation: str = ""
    warm: bool = False
    reasons: list[str] = []


class StandbyState(Question[StandbyStatus], frozen=True):
    """Whether this fleet stands by, and is warm."""


class FleetHandoverResult(msgspec.Struct, rename="camel"):
    """The result of handing over the whole fleet. ``problem`` is empty on success; times in seconds: ``drain`` until all work was
    acknowledged, ``took`` until the successor's workers could pull. ``cold``: shards that the successor starts with the
    watermark only."""

    to: str
    epoch: int = 0
    drain: float = 0.0
    took: float = 0.0
    revoked: int = 0
    shards: list[str] = []
    cold: list[str] = []
    problem: str = ""


class YieldTo(Question[FleetHandoverResult], frozen=True):
    """Hand the whole fleet to the standby fleet in Ray namespace ``namespace``."""

    namespace: str


# from members


class PermitRequest(Question[Grant], frozen=True):
    """``holder``, an actor's name, asks for leave to write (law 6c)."""

    holder: str


# from the leader of the other revision


class PlanAfter(Question[Plan | None], frozen=True):
    """The plan once it is newer than ``version``; None after ``members.WATCH_SECONDS`` without a newer one."""

    version: int


class Followers(Question[None], frozen=True):
    """The actors' names of the standbys that follow this fleet's primaries, for the plan: only members of the plan may connect."""

    members: list[str]


class Prepare(Question[None], frozen=True):
    """The hand-over begins: create and change the CustomResourceDefinitions that the new code needs. Error: ``REFUSED``."""


class DrainedPrimary(msgspec.Struct, array_like=True, frozen=True):
    """A drained primary: its actor's name, its term, and the last frame that it sent to its standbys."""

    member: str
    term: int
    seq: int


class FollowPrimaries(Question[list[str]], frozen=True):
    """Drained primaries by shard: the answer names the shards whose standby has received everything. Error: ``REFUSED``."""

    primaries: dict[str, DrainedPrimary]


class Lead(msgspec.Struct, array_like=True):
    """How a standby fleet comes to lead: ``before`` is the holder that led; ``drain`` and ``leaderless`` in seconds, so far."""

    before: str
    drain: float | None
    leaderless: float | None
    cause: str = "upgrade"


class TakeLead(Question[int], frozen=True):
    """The order to lead, to a standby fleet that the lock names; the answer is the epoch. Error: ``REFUSED``."""

    order: Lead


class Forget(Question[None], frozen=True):
    """The hand-over was given up."""
