"""What a clock tells when it stops."""

from typing import Literal

import msgspec

from raycp.base.keys import RequestKey

Kind = Literal["user", "away", "backlog", "system"]
"""Whose change it was: a user's, seen live; a user's, made while nobody watched; an object that was there before the
fleet
ever was; or the system's own (resync, poll, owned change, timer)."""

JUDGED: frozenset[str] = frozenset({"user", "away"})
"""The kinds that objectives judge: changes that a user made. The others are counted apart."""


class Segments(msgspec.Struct, array_like=True, gc=False):
    """Where the time went, in seconds.

    ``watch_lag``: from the change at the API server, as far as it is known, until it was queued; ``delay``: backoff
    or a delay of the
    system's; ``queue``: ready, and not handed out; ``dispatch``: handed out, but not in the reconciler (transport
    both ways);
    ``work``: in the reconciler, without ``api``: its API requests.
    """

    watch_lag: float = 0.0
    delay: float = 0.0
    queue: float = 0.0
    dispatch: float = 0.0
    work: float = 0.0
    api: float = 0.0


SEGMENTS = Segments.__struct_fields__


class Sample(msgspec.Struct, gc=False):
    """One change (or ``times`` coalesced ones) done, or given up with ``ok=False``.

    ``seconds`` is received → done without ``waited``, the time that reconcilers declared as waiting for quota or
    capacity
    (``waiting`` names the last such wait). ``charged`` names objectives that have counted it as missed already, while
    it was open.
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
