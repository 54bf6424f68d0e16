"""Between shards: wakes of owners in another shard's clusters (law 10)."""

import msgspec

from raycp.base.keys import RequestKey


class Wake(msgspec.Struct, array_like=True):
    """An owner to reconcile because a child changed in another shard. ``seq`` rises per sender."""

    seq: int
    key: RequestKey
    reason: str
    real: bool = True


class Wakes(msgspec.Struct, tag="wakes", array_like=True):
    """Wakes for owners in the receiver's clusters; sent again until acknowledged."""

    wakes: list[Wake]


class WakesDone(msgspec.Struct, tag="heard", array_like=True):
    """Wakes that were followed by a reconcile that started after them, or whose owner does not exist."""

    seqs: list[int]
