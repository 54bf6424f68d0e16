"""A queue's content as it is handed over: to the warm successor, or in the standby's progress stream.

Times are ages and delays in seconds, since clocks of two hosts can't be compared.
"""

import msgspec

from raycp.base.keys import RequestKey


class Saved(msgspec.Struct, array_like=True, gc=False):
    """One key. ``delay``: seconds until it is ready, 0 if it is. ``age``: since it was added; ``ready_for``: since it
    was ready. ``worker``: who holds it, empty if nobody; such a key is passed on as interrupted, not as failed.
    ``holds``: why it is held, if it is. ``due``: whether there is anything to do (a key may be held, with nothing
    added)."""

    key: RequestKey
    tier: str
    priority: int
    reason: str
    real: bool
    delay: float
    age: float
    ready_for: float
    attempts: int
    retry: bool
    worker: str = ""
    holds: list[str] = []
    due: bool = True
    error: str = ""
