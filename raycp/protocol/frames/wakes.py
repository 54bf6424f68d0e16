"""Between shards: wakes of owners in another shard's clusters (law 10), and what the scheduler wants to know."""

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


class CapacityWanted(msgspec.Struct, tag="capacity-wanted", array_like=True, frozen=True):
    """The scheduler, in the hub's shard, wants to know the capacity of the receiver's members. It asks again while it does; ``by``
    is another one for each process that asks, which knows nothing yet."""

    seq: int
    by: str


class CapacityChanged(msgspec.Struct, tag="capacity", array_like=True, frozen=True):
    """What a member of the sender has room for: ``summary`` is a ``CapacitySummary`` of ``raycp.scheduling`` as msgpack, empty
    where it is not known, and ``reason`` says why. Only such members are told of as are wanted."""

    seq: int
    cluster: str
    summary: bytes
    reachable: bool
    reason: str = ""


class Wakes(msgspec.Struct, tag="wakes", array_like=True):
    """What is due in the receiver's clusters; sent again until acknowledged (law 10)."""

    wakes: list[Wake | KindListed | ClusterChanged | CapacityWanted | CapacityChanged]


class WakesDone(msgspec.Struct, tag="heard", array_like=True):
    """Wakes that were followed by a reconcile that started after them, or whose owner is deleted. The tag is that of protocol
    version 1."""

    seqs: list[int]
