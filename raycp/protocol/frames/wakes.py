"""Between shards: wakes of owners in another shard's clusters (law 10)."""

import msgspec

from raycp.base.keys import RequestKey


class Wake(msgspec.Struct, tag="wake", array_like=True):
    """An owner in the receiver's clusters is due because a child changed in the sender's; or the keys that ``key`` stands for
    (``raycp.base.selections``), because an object that they read did. ``real``: it changed while watched. ``seq`` rises per sender.
    """

    seq: int
    key: RequestKey
    reason: str
    real: bool = True


class KindListed(msgspec.Struct, tag="kind-listed", array_like=True, frozen=True):
    """``kind`` was listed in ``cluster`` without a complete replay: owners that may have children there are due."""

    seq: int
    cluster: str
    kind: str


class ClusterChanged(msgspec.Struct, tag="cluster-recovered", array_like=True, frozen=True):
    """``cluster`` has become unreachable, or is usable: keys whose decisions depend on that are due. ``returned``: it was not
    usable before; else it may only have seemed so to a worker. The tag is that of protocol version 1, which reports only returns.
    """

    seq: int
    cluster: str
    usable: bool = True
    returned: bool = True


class Wakes(msgspec.Struct, tag="wakes", array_like=True):
    """What is due in the receiver's clusters; sent again until acknowledged (law 10)."""

    wakes: list[Wake | KindListed | ClusterChanged]


class WakesDone(msgspec.Struct, tag="heard", array_like=True):
    """Wakes that were followed by a reconcile that started after them, or whose owner is deleted. The tag is that of protocol
    version 1."""

    seqs: list[int]
