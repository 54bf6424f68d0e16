"""The begin of a connection: ``Hello``, and ``Welcome`` or ``Refusal``; and what a worker holds, reported while it lasts."""

from enum import StrEnum

import msgspec

from raycp.base.keys import RequestKey


class Hello(msgspec.Struct, tag="hello", array_like=True):
    """First frame of a connection whose ends are authenticated (``channels.handshake``). ``role`` is the caller's ``Role``;
    ``in_flight`` are keys of this shard still running here.
    """

    member: str
    role: str
    host: str
    port: int
    prefer: str = ""
    in_flight: list[tuple[int, RequestKey]] = []
    answers: bool = False
    """Whether it answers ``LivenessQuery``."""
    more: bool = False
    """``HelloPart`` frames follow."""


class HelloPart(msgspec.Struct, tag="hello-part", array_like=True):
    """Further keys of ``Hello.in_flight``."""

    in_flight: list[tuple[int, RequestKey]]
    more: bool = False


class Held(msgspec.Struct, tag="held", array_like=True):
    """What a worker has of a shard, once a second: ``ids`` of the hand-outs that run there or whose acknowledgement is unsent.

    ``outstanding`` is the credit that it gave and has not got back, spent or not. ``frames`` counts the frames that it has received
    on this connection. ``more``: the next frame has further ids.
    """

    frames: int
    outstanding: int
    ids: list[int]
    more: bool = False


class RefusalCode(StrEnum):
    """Why a connection was refused."""

    NOT_AUTHENTICATED = "not_authenticated"
    NOT_A_MEMBER = "not_a_member"
    """The receiver's plan does not name the caller."""
    INCOMPATIBLE_VERSION = "incompatible_version"
    NOT_PRIMARY = "not_primary"
    """The standby has not received the plan that promotes it, or never will: try again, at the primary of the newest plan."""
    WRONG_ROLE = "wrong_role"
    """Members of the caller's role have no business here."""
    OTHER = "other"


class Refusal(msgspec.Struct, tag="refused", array_like=True):
    """The connection is refused, and closed."""

    reason: str
    code: RefusalCode = RefusalCode.OTHER


class ClusterState(msgspec.Struct, array_like=True):
    """What a shard knows of a cluster, for placement and ``ctx.clusters``. ``breaker`` as ``Isolation.state_of`` says it;
    ``clock_ahead``: seconds that its server's wall clock is ahead of ours. ``voided``: Unix time at which its cache became void for
    the last time (law 7), 0 for never in this process."""

    name: str
    role: str
    labels: dict[str, str]
    reachable: bool
    synced: bool
    reason: str = ""
    breaker: str = "closed"
    clock_ahead: float = 0.0
    voided: float = 0.0


class Welcome(msgspec.Struct, tag="welcome", array_like=True):
    """The shard's answer to ``Hello``."""

    shard: str
    epoch: int
    term: int
    clusters: list[ClusterState]
    more: bool = False
    """``Clusters`` frames with further ones follow."""


class Clusters(msgspec.Struct, tag="clusters", array_like=True):
    """The shard's cluster states, after a change. ``more``: the next frame has further ones."""

    clusters: list[ClusterState]
    more: bool = False
