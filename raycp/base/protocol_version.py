"""The version of everything that processes of a fleet exchange or store: frames, control messages, plans, reports, records.

A reader understands its own version and the previous one. What is absent says version 1.
"""

PROTOCOL = 2
PREVIOUS = 1


class IncompatibleVersion(ValueError):
    """A message or record has a protocol version that this raycp does not understand; the text names both and the remedy."""


def check_protocol(found: int, what: str) -> None:
    """Accept this version and the previous one. Raises ``IncompatibleVersion``."""
    if found not in (PREVIOUS, PROTOCOL):
        raise IncompatibleVersion(
            f"{what} has protocol version {found}, and this raycp understands {PREVIOUS} and {PROTOCOL}: "
            "run the same release of raycp in all processes of the fleet (`raycp down`, then `raycp run`)"
        )
