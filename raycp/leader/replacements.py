"""Counts the members that ended and are to be replaced."""

from raycp.metrics import Counter, Family
from raycp.protocol.members import Role

DEATH = "death"
"""Its process ended, or its node was lost."""

SILENCE = "silence"
"""It was frozen or cut off until its permit had ended."""

MOVED = "moved"
"""It leaves a node that drains, or moves to a better one."""

CHANGED = "changed"
"""The fleet file asks for other resources or settings than it was created with."""

HANDED_OVER = "handed-over"
"""Its shard was handed to its standby."""


class Replacements:
    """One per leader. Members that are ended because fewer are wanted are not counted, nor is the end of a fleet."""

    def __init__(self, family: Family[Counter]) -> None:
        self._family = family
        for role in (Role.SHARD, Role.STANDBY, Role.WORKER, Role.OBSERVER, Role.EMBEDDED):
            for reason in (DEATH, SILENCE):
                family.labels(role.value, reason)  # 0 from the start: the first death is an increase

    def count(self, role: Role, reason: str) -> None:
        """The member of a slot of ``role`` is lost or given up."""
        self._family.labels(role.value, reason).inc()
