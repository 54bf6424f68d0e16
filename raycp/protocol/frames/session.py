"""The begin of a connection: ``Hello``, and ``Welcome`` or ``Refusal``."""

from enum import StrEnum

import msgspec

from raycp.base.keys import RequestKey
from raycp.base.protocol_version import PROTOCOL


class Hello(msgspec.Struct, tag="hello", array_like=True):
    """First frame of a connection. ``token`` is the fleet's secret; ``in_flight`` are keys of this shard still running here.

    ``role`` is the caller's ``Role``; version 1 says ``teller`` on connections to the observer.
    """

    token: str
    member: str
    role: str
    host: str
    port: int
    prefer: str = ""
    in_flight: list[tuple[int, RequestKey]] = []
    protocol: int = PROTOCOL
    """Absent in version 1, which is read the same."""
    answers: bool = False
    """Whether it answers ``LivenessQuery``."""


class RefusalCode(StrEnum):
    """Why a connection was refused."""

    WRONG_TOKEN = "wrong_token"
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
    """What a shard knows of a cluster, for placement and ``ctx.clusters``. ``breaker`` as ``Isolation.state_of`` says it."""

    name: str
    role: str
    labels: dict[str, str]
    reachable: bool
    synced: bool
    reason: str = ""
    breaker: str = "closed"


class Welcome(msgspec.Struct, tag="welcome", array_like=True):
    """The shard's answer to ``Hello``."""

    shard: str
    epoch: int
    term: int
    clusters: list[ClusterState]


class Clusters(msgspec.Struct, tag="clusters", array_like=True):
    """A change of the shard's cluster states."""

    clusters: list[ClusterState]
