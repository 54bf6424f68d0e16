"""How much one cluster's answers may take of this process, whatever it sends: an answer need not have an end.

| what | limit | beyond it |
|---|---|---|
| status line, headers and trailers of an answer, and what else frames its body | ``header`` | the connection is dropped |
| a line of a stream | ``line`` | the same |
| the body of an answer | ``page`` | the same; a list goes on in smaller pages |
| all pages of a list | ``list`` | the list is given up, the cache stays |
| bodies that are being received, together | a quarter of ``memory`` | the connection is dropped |
| the caches of all kinds, with the lists that are to replace them | ``memory`` | list or watch ends, the cache stays |

All of that raises ``TooLarge``, which counts against the cluster's breaker.
"""

import msgspec

from raycp.kube.errors import TooLarge

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30


class AnswerLimits(msgspec.Struct, frozen=True):
    """Bytes; see the module."""

    header: int = 64 * KIB
    line: int = 8 * MIB
    page: int = 64 * MIB
    list: int = 2 * GIB
    memory: int = 1 * GIB


class ReceivedBytes:
    """The bodies that one client is receiving. A connection adds to ``held`` what arrives, and subtracts it when the body is handed
    over, or dropped."""

    def __init__(self, limits: AnswerLimits) -> None:
        self.limits = limits
        self.most = max(limits.page, limits.memory // 4)
        self.held = 0


def too_large(what: str, limit: int) -> TooLarge:
    """The error of an answer that is larger than ``limit`` bytes."""
    return TooLarge(f"{what} more than {shown(limit)}")


def shown(size: int) -> str:
    """Bytes for people: ``8 MiB``, ``1000 bytes``."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if size >= unit and size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size} bytes"
