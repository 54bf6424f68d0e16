"""Workers that die again and again: shown as a problem. Each is replaced at once all the same: most of their keys are innocent."""

from collections import deque

from raycp.base.problems import ProblemCode, ProblemOwner, Subject
from raycp.protocol.members import Member

WITHIN = 60.0
"""Seconds within which deaths are counted, and for which the problem is shown after the last one."""

DEATHS = 3
"""Deaths of one pool's workers within that time that make a crash loop; in a larger pool, as many as it has workers."""


class CrashLoops:
    """One per leader. Times as ``Clock.now()``."""

    def __init__(self) -> None:
        self._deaths: dict[str, deque[tuple[float, Member]]] = {}

    def died(self, member: Member, now: float) -> None:
        """A worker of a pool has died, and nothing else is known to be the cause."""
        self._deaths.setdefault(member.tier, deque(maxlen=1000)).append((now, member))

    def problems(self, sizes: dict[str, int], now: float) -> dict[Subject, str]:
        """What a user should know. ``sizes``: how many workers each pool has."""
        found: dict[Subject, str] = {}
        for pool, deaths in self._deaths.items():
            while deaths and now - deaths[0][0] > WITHIN:
                deaths.popleft()
            if len(deaths) >= max(DEATHS, sizes.get(pool, 0)):
                found[ProblemCode.CRASH_LOOP, ProblemOwner(member=f"pool {pool}")] = (
                    f"{len(deaths)} of its workers have died within {WITHIN:.0f} s, the last one was {deaths[-1][1]}: each is "
                    "replaced at once, and the objects that were in flight at two deaths run alone (suspects); the workers' logs "
                    "have the cause"
                )
        return found
