"""Names of actors: fleet, role, place and generation (never used again: ``get_if_exists`` returns old code)."""

import asyncio
from typing import NamedTuple

from raycp.protocol.report import Report

SEPARATOR = "::"


class Member(NamedTuple):
    """One actor of a fleet.

    ``role`` is leader, shard, standby, worker, observer or embedded; ``place`` says which: a shard's id, for a standby with its
    number (``0/1``), a pool and number (``standard/0``), a cluster's name. A standby keeps its name when it is promoted. The
    leader alone has generation 0 for ever: Ray restarts it under its name.
    """

    role: str
    place: str
    generation: int

    @property
    def slot(self) -> tuple[str, str]:
        """What a successor takes over: role and place."""
        return self.role, self.place

    @property
    def actor_name(self) -> str:
        """The name in Ray's namespace of the fleet."""
        return SEPARATOR.join(("raycp", self.role, self.place, f"g{self.generation}"))

    @classmethod
    def parse(cls, actor_name: str) -> "Member | None":
        """The member of that name; None for an actor that is not ours."""
        parts = actor_name.split(SEPARATOR)
        if len(parts) != 4 or parts[0] != "raycp" or not parts[3].startswith("g") or not parts[3][1:].isdigit():
            return None
        return cls(parts[1], parts[2], int(parts[3][1:]))

    def __str__(self) -> str:
        return f"{self.role} {self.place} (generation {self.generation})"


LEADER = Member("leader", "leader", 0)


WATCH_SECONDS = 4.0
"""How long a member may keep a watch without news; short, so that an actor's end never waits long for it."""


class MemberState:
    """What the leader knows of a member."""

    def __init__(self, member: Member, since: float = 0.0) -> None:
        self.member = member
        self.since = since
        """When this leader first knew of it, by its clock."""
        self.report = Report(pid=0, node="")
        self.fingerprint = ""
        self.spot = ""
        """The node that was asked for when it was made."""
        self.told: tuple[object, ...] = ()
        self.configured = 0
        self.problem = "starting"
        self.task: asyncio.Task[None] | None = None

    @property
    def warm(self) -> bool:
        """Whether it may take over: what a standby says when it has heard all that its primary knows."""
        return self.report.ready and bool(self.report.port)

    @property
    def node(self) -> str:
        """Ray's id of the node that it lives on, as far as known; empty if not."""
        return self.report.node_id or self.spot
