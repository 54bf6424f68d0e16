"""A key's clocks as they are sent to another process: to the standby, and at a hand-over."""

import msgspec

from raycp.base.keys import RequestKey
from raycp.slo.sample import Kind


class ChangeState(msgspec.Struct, array_like=True, gc=False):
    """A pending change sent to another process: ``age`` in seconds when it was exported."""

    kind: Kind
    version: int
    age: float
    lag: float
    times: int
    base: list[float]
    charged: list[str]
    rv: int = 0


class KeyState(msgspec.Struct, array_like=True, gc=False):
    """One key's clocks sent to another process; ``wall`` is the Unix time at which the ages were taken."""

    key: RequestKey
    tier: str
    attempts: int
    spent: list[float]
    waiting: str
    changes: list[ChangeState]
    wall: float
