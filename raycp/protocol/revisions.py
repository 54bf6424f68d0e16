"""A fleet may live twice on one Ray cluster, in two *colours*: one leads, the other stands by to take over (blue/green).

A colour is a Ray namespace: ``raycp-NAME`` or ``raycp-NAME.b``, in turn at each upgrade. Embedded clusters belong to the fleet, not
to a colour: their actors are in ``raycp-NAME`` always, and only the colour that leads makes and ends them.
"""

PREFIX = "raycp-"
SECOND = ".b"
"""No fleet's name has a dot."""

GENERATIONS = 10_000
"""Each colour's generations begin so much above those of the one it follows: names of members are never used by two colours."""


def base_of(namespace: str) -> str:
    """The fleet's own namespace, of either colour's."""
    return namespace.removesuffix(SECOND)


def other_of(namespace: str) -> str:
    """The namespace of the other colour."""
    return namespace.removesuffix(SECOND) if namespace.endswith(SECOND) else namespace + SECOND


def fleet_of(namespace: str) -> str:
    """The fleet's name."""
    return base_of(namespace).removeprefix(PREFIX)
