"""The two revisions of a fleet on one Ray cluster: the active fleet, and a standby fleet that takes over (blue/green).

A revision has a Ray namespace: ``raycp-NAME`` and ``raycp-NAME.b``, in turn at each upgrade. Embedded clusters belong to the fleet,
not to a revision: their actors are always in ``raycp-NAME``, and only the active fleet creates and ends them.
"""

SECOND = ".b"
"""No fleet's name has a dot."""

GENERATIONS = 10_000
"""Offset of a revision's generations above those of the one that it follows: no member's name is ever used by two revisions."""


def base_of(namespace: str) -> str:
    """The base namespace of the fleet, from the namespace of either revision."""
    return namespace.removesuffix(SECOND)


def other_of(namespace: str) -> str:
    """The namespace of the other revision."""
    return namespace.removesuffix(SECOND) if namespace.endswith(SECOND) else namespace + SECOND
