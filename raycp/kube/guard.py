"""The fence at the client: what is asked immediately before a write leaves this process (law 6e)."""

from collections.abc import Callable, Mapping

import msgspec


class WriteStamp(msgspec.Struct, frozen=True):
    """Leave to write now: ``headers`` to add (epoch, shard, term), and the ``budget`` in seconds that remains of the
    permit; the request carries ``?timeout=`` below it, so that the server gives up in time too. None: no bound.
    """

    headers: Mapping[str, str] = {}
    budget: float | None = None


WriteGuard = Callable[[], WriteStamp]
"""Returns a stamp, or raises ``Fenced``."""
