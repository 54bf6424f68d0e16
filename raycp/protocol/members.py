"""Names of actors: fleet, role, place and generation (never used again: ``get_if_exists`` returns old code)."""

from enum import StrEnum
from typing import NamedTuple

from raycp.protocol.report import Report

SEPARATOR = "::"

QUARANTINE = "quarantine"
"""What stands for a tier in the place of a worker that runs suspects only."""


class Role(StrEnum):
    """What an actor of a fleet is."""

    LEADER = "leader"
    SHARD = "shard"
    """A shard's primary."""
    STANDBY = "standby"
    WORKER = "worker"
    OBSERVER = "observer"
    EMBEDDED = "embedded"


class Slot(NamedTuple):
    """What a successor takes over: a role and a place.

    ``place`` is a shard's id, a shard's id and a number for a standby (``0/1``), a pool's tier and a number for a worker
    (``standard/0``), or for a worker that runs the suspects of a shard, that shard's id (``quarantine/0``), a cluster's name for an
    embedded one, else the role's name.
    """

    role: Role
    place: str

    @classmethod
    def of_shard(cls, shard: str) -> "Slot":
        """The primary of ``shard``."""
        return cls(Role.SHARD, shard)

    @classmethod
    def of_standby(cls, shard: str, number: int) -> "Slot":
        """The standby of that number."""
        return cls(Role.STANDBY, f"{shard}/{number}")

    @classmethod
    def of_worker(cls, tier: str, number: int) -> "Slot":
        """The worker of that number in the pool of ``tier``."""
        return cls(Role.WORKER, f"{tier}/{number}")

    @classmethod
    def of_quarantine(cls, shard: str) -> "Slot":
        """The worker that runs the suspects of ``shard``, one at a time, and nothing else (law 11)."""
        return cls(Role.WORKER, f"{QUARANTINE}/{shard}")

    @classmethod
    def of_embedded(cls, cluster: str) -> "Slot":
        """The actor of an embedded cluster."""
        return cls(Role.EMBEDDED, cluster)

    @property
    def shard(self) -> str:
        """The shard of a primary or standby; empty for other roles."""
        return self.place.split("/")[0] if self.role in (Role.SHARD, Role.STANDBY) else ""

    @property
    def tier(self) -> str:
        """The tier of a worker's pool, ``QUARANTINE`` for one outside of the pools; empty for other roles."""
        return self.place.split("/")[0] if self.role is Role.WORKER else ""

    @property
    def quarantine(self) -> str:
        """The shard whose suspects this worker runs; empty for other members."""
        tier, _, shard = self.place.partition("/")
        return shard if self.role is Role.WORKER and tier == QUARANTINE else ""

    @property
    def number(self) -> int:
        """The number of a worker or standby; 0 for other roles, and where the place has none."""
        _, _, number = self.place.partition("/")
        return int(number) if self.role in (Role.WORKER, Role.STANDBY) and number.isdigit() else 0

    def __str__(self) -> str:
        return f"{self.role} {self.place}"


OBSERVER_SLOT = Slot(Role.OBSERVER, "observer")


class Member(NamedTuple):
    """One actor of a fleet: role and place as in ``Slot``.

    A standby keeps its name when it is promoted. The leader alone always has generation 0: Ray restarts it under its name.
    """

    role: Role
    place: str
    generation: int

    @property
    def slot(self) -> Slot:
        """What a successor takes over."""
        return Slot(self.role, self.place)

    @property
    def shard(self) -> str:
        """See ``Slot.shard``."""
        return self.slot.shard

    @property
    def tier(self) -> str:
        """See ``Slot.tier``."""
        return self.slot.tier

    @property
    def actor_name(self) -> str:
        """The name in Ray's namespace of the fleet."""
        return SEPARATOR.join(("raycp", self.role, self.place, f"g{self.generation}"))

    @property
    def process(self) -> str:
        """The process in words, as logs name it: ``worker standard/0 g3``, ``leader g0``."""
        place = f" {self.place}" if self.place != self.role else ""
        return f"{self.role}{place} g{self.generation}"

    @classmethod
    def parse(cls, actor_name: str) -> "Member | None":
        """The member of that name; None for an actor that is not a fleet's."""
        parts = actor_name.split(SEPARATOR)
        if len(parts) != 4 or parts[0] != "raycp" or not parts[3].startswith("g") or not parts[3][1:].isdigit():
            return None
        if parts[1] not in Role.__members__.values():
            return None
        return cls(Role(parts[1]), parts[2], int(parts[3][1:]))

    def __str__(self) -> str:
        return f"{self.role} {self.place} (generation {self.generation})"


def place_of(actor_name: str) -> str:
    """``worker standard/0``: what the member of that name is, for people."""
    member = Member.parse(actor_name)
    return str(member.slot) if member is not None else actor_name


LEADER = Member(Role.LEADER, "leader", 0)


WATCH_SECONDS = 4.0
"""Seconds for which a member holds a watch without a change; short, so that the end of an actor never waits long for it."""


class MemberState:
    """What is known of a member from its reports."""

    def __init__(self, member: Member, since: float = 0.0) -> None:
        self.member = member
        self.since = since
        """When it was first known here, by the own clock."""
        self.report = Report(pid=0, node="")
        self.fingerprint = ""
        self.spot = ""
        """The node that was requested when it was created."""
        self.handled: tuple[object, ...] = ()
        """What its last report said, as far as the leader acts on it."""
        self.configured = 0
        self.problem = "starting"
        self.refusal = ""
        """Why its last plan could not be given to it."""

    @property
    def warm(self) -> bool:
        """Whether it may take over: a standby is ready when it has received everything that its primary knows."""
        return self.report.ready and bool(self.report.port)

    @property
    def node(self) -> str:
        """Ray's id of its node; empty while it is not known."""
        return self.report.node_id or self.spot
