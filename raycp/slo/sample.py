"""The measurement of a stopped clock."""

from typing import Literal

import msgspec

from raycp.base.keys import RequestKey

Kind = Literal["user", "away", "backlog", "system"]
"""Origin of a change: a user's, observed live; a user's, made while no shard was watching; an object that existed before
the fleet's first start; or the system's own (resync, poll, owned change, timer)."""

JUDGED: frozenset[str] = frozenset({"user", "away"})
"""The kinds that count for objectives: changes made by users. The others are counted separately."""


class Segments(msgspec.Struct, array_like=True, gc=False):
    """Where the time went, in seconds.

    ``watch_lag``: from the change at the API server, if that time is known, until it was queued; ``delay``: backoff or a
    system delay; ``queue``: ready, and not handed out; ``dispatch``: handed out, but not in the reconciler (transport both
    ways); ``work``: in the reconciler, without ``api``: its API requests.
    """

    watch_lag: float = 0.0
    delay: float = 0.0
    queue: float = 0.0
    dispatch: float = 0.0
    work: float = 0.0
    api: float = 0.0


SEGMENTS = Segments.__struct_fields__


class Sample(msgspec.Struct, gc=False):
    """One change (or ``times`` coalesced ones) that was reconciled, or failed permanently (``ok=False``).

    ``seconds`` is the time from received to done without ``waited``, the time that reconcilers declared as waiting for
    quota or capacity (``waiting`` names the last such wait). ``charged`` names the objectives that counted it as missed
    while it was still open. ``rv`` is the object's resourceVersion after the (first) change, 0 if unknown.
    """

    key: RequestKey
    tier: str
    kind: Kind
    seconds: float
    waited: float
    ok: bool
    attempts: int
    segments: Segments
    times: int = 1
    waiting: str = ""
    charged: frozenset[str] = frozenset()
    rv: int = 0

    @property
    def change(self) -> str:
        """The change's id: its cluster, and the resourceVersion that it made there, which no other change has. Empty where that is
        not known."""
        return f"{self.key.cluster}@{self.rv}" if self.rv else ""
