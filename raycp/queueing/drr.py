"""A ring of deficit round-robin: whose turn it is among the members that have something queued.

The unit of a deficit is the mean work time. A member pays one when it is served; at the end of the work the ring charges or
refunds the difference to what the work took. Beside its deficit, no member takes more than an equal part of the slots in use in
this ring while others wait, so that long work of one member does not fill all slots before its first end is seen.

A member whose gate is full leaves the ring and costs nothing until the gate lets it back in. (Source: Shreedhar and Varghese,
Efficient Fair Queuing using Deficit Round Robin, 1995.)
"""

import math
from collections import deque
from typing import Generic, TypeVar

MAX_DEBT = 16.0
"""The most, in mean work times, that one overlong piece of work counts against a member."""


class RingGate:
    """A limit on what is in flight behind it. Several members, of several rings, may share one gate."""

    __slots__ = ("in_flight", "limit")

    def __init__(self, limit: float = math.inf) -> None:
        self.in_flight = 0
        self.limit = limit


class RingMember:
    """One party of a ring. ``parked``: it stepped aside because its gate is full."""

    __slots__ = ("deficit", "gate", "in_flight", "in_ring", "parked", "queued")

    def __init__(self, gate: RingGate) -> None:
        self.gate = gate
        self.queued = 0
        self.in_flight = 0
        self.deficit = 0.0
        self.in_ring = False
        self.parked = False

    def step_aside(self) -> None:
        """The gate is full and the ring has removed the member; the gate's owner calls ``Ring.enter`` when there is room."""


M = TypeVar("M", bound=RingMember)


class Ring(Generic[M]):
    """Members in turn. Every operation is O(1), amortised over what was added.

    A search for the next piece of work begins with the first ``turn``; it ends with ``served`` or when ``turn`` returns None.
    ``active``: members with anything queued or in flight, in the ring or not; ``in_flight``: of all of them.
    """

    __slots__ = ("_patience", "_refused", "active", "in_flight", "members")

    def __init__(self) -> None:
        self.members: deque[M] = deque()
        self.active = 0
        self.in_flight = 0
        self._patience = -1
        self._refused = 0

    def enter(self, member: M) -> None:
        """Let ``member`` take part, unless it does or is parked."""
        if not member.in_ring and not member.parked:
            member.in_ring = True
            self.members.append(member)

    def added(self, member: M, enter: bool) -> None:
        """One more piece of work is queued at ``member``; ``enter``: it may be served."""
        if not member.queued and not member.in_flight:
            self.active += 1
        member.queued += 1
        if enter and not member.in_ring:
            self.enter(member)

    def discarded(self, member: M) -> None:
        """A piece of work that was queued at ``member`` has been withdrawn."""
        member.queued -= 1
        if not member.queued and not member.in_flight:
            self.active -= 1
            member.deficit = 0.0

    def turn(self, below: float) -> M | None:
        """The member whose turn it is, now the first of the ring; None if none may be served.

        ``below``: pass over members that hold as many slots or more. The caller answers with ``served``, ``skip`` or ``drop``.
        """
        members = self.members
        if self._patience < 0:
            self._patience = len(members)
            self._refused = 0
        while self._refused < len(members):
            member = members[0]
            if not member.queued:
                self.drop()
                member.deficit = min(member.deficit, 0.0)
                continue
            gate = member.gate
            if gate.in_flight >= gate.limit:
                self.drop()
                member.parked = True
                member.step_aside()
                continue
            if member.in_flight >= below:
                self.skip()
                continue
            if len(members) > 1:
                if member.deficit <= 0.0:
                    member.deficit += 1.0
                    if member.deficit <= 0.0:
                        self._refused = 0
                        members.rotate(-1)
                        continue
                if self._patience > 0 and member.in_flight * self.active > self.in_flight:
                    self._patience -= 1
                    members.rotate(-1)
                    continue
            return member
        self._patience = -1
        return None

    def served(self, member: M) -> None:
        """A piece of work of the first member was handed out: the search has ended."""
        self._patience = -1
        member.queued -= 1
        member.in_flight += 1
        self.in_flight += 1
        deficit = member.deficit - 1.0
        member.deficit = deficit if deficit > -MAX_DEBT else -MAX_DEBT
        if deficit <= 0.0:
            self.members.rotate(-1)

    def taken(self, member: M) -> None:
        """A piece of work of ``member`` was handed out outside of its turns; it pays for it like any other."""
        member.queued -= 1
        member.in_flight += 1
        self.in_flight += 1
        member.deficit = max(member.deficit - 1.0, -MAX_DEBT)

    def skip(self) -> None:
        """The first member may not be served in this search: try the next."""
        self._refused += 1
        self.members.rotate(-1)

    def drop(self) -> None:
        """The first member leaves the ring until it enters again."""
        self.members.popleft().in_ring = False

    def ended(self, member: M, extra: float) -> None:
        """A piece of work of ``member`` has ended; it took ``extra`` mean work times more than one (less if negative)."""
        deficit = member.deficit - extra
        member.deficit = -MAX_DEBT if deficit < -MAX_DEBT else 1.0 if deficit > 1.0 else deficit
        member.in_flight -= 1
        self.in_flight -= 1
        if not member.queued and not member.in_flight:
            self.active -= 1
            member.deficit = 0.0
