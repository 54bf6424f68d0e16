"""The fence at the client: called immediately before a write leaves this process (law 6e)."""

from collections.abc import Callable, Mapping

import msgspec


class WriteStamp(msgspec.Struct, frozen=True):
    """Permission to write now: ``headers`` to add (epoch, shard, term), and the ``budget``, the seconds that remain of the
    permit. The request carries a ``?timeout=`` below it, so that the server gives up in time as well. None: no bound.
    """

    headers: Mapping[str, str] = {}
    budget: float | None = None


WriteGuard = Callable[[], WriteStamp]
"""Returns a stamp, or raises ``Fenced``."""

HeaderSource = Callable[[], Mapping[str, str]]
"""Called immediately before each send of a request, a repeated one included: headers to add."""
