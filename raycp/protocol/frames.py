"""Messages between the members of a fleet, one msgpack frame each (``raycp.protocol.transport``).

A worker opens one connection to every shard and says ``Hello``; the shard answers ``Welcome``. ``Pull`` gives the shard credit
for so many tasks and carries acknowledgements; ``Tasks`` spends credit. A pull is thus a long-poll that costs one frame each
way, and the hand-out order stays the queue's. Shards connect to each other in the same way, for wakes (law 10) and reads.
"""

import msgspec

from raycp.base.keys import RequestKey
from raycp.base.tasks import ApiCall, Child, Done, Task, Written
from raycp.queueing import Saved
from raycp.slo.clocks import KeyState

TOKEN_PATIENCE = 10.0
"""An ask is answered after this long, with no token if there is none: a worker that has gone silent keeps no place. In seconds."""


class Hello(msgspec.Struct, tag="hello", array_like=True):
    """First frame of a connection. ``token`` is the fleet's secret; ``in_flight`` are keys of this shard still running here."""

    token: str
    member: str
    role: str
    host: str
    port: int
    prefer: str = ""
    in_flight: list[tuple[int, RequestKey]] = []


class ClusterState(msgspec.Struct, array_like=True):
    """What a shard knows of a cluster, for placement and ``ctx.clusters``. ``breaker`` as ``Isolation.state_of`` says it."""

    name: str
    role: str
    labels: dict[str, str]
    reachable: bool
    synced: bool
    reason: str = ""
    breaker: str = "closed"


class Welcome(msgspec.Struct, tag="welcome", array_like=True):
    """The shard's answer to ``Hello``."""

    shard: str
    epoch: int
    term: int
    clusters: list[ClusterState]


class Clusters(msgspec.Struct, tag="clusters", array_like=True):
    """A change of the shard's cluster states."""

    clusters: list[ClusterState]


class Pull(msgspec.Struct, tag="pull", array_like=True):
    """``credit`` more tasks are welcome; ``done`` are finished."""

    credit: int
    done: list[Done] = []


class Tasks(msgspec.Struct, tag="tasks", array_like=True):
    """Hand-outs."""

    tasks: list[Task]


class Revoke(msgspec.Struct, tag="revoke", array_like=True):
    """Stop these tasks: their next write is refused, they come back as interrupted."""

    ids: list[int]


class Culprit(msgspec.Struct, tag="culprit", array_like=True):
    """Last words of a worker that ends itself because these tasks block it: they come back with backoff and this error."""

    ids: list[int]
    error: str


class Fold(msgspec.Struct, tag="fold", array_like=True):
    """Own writes of ``writer`` for the shard of the objects written (law 8). Answered by ``Reply``."""

    id: int
    writes: list[Written]
    writer: RequestKey


class Read(msgspec.Struct, tag="read", array_like=True):
    """A read from the cache. ``op`` is get, list or owned; answered by ``Reply`` with a list of ``Child``.

    ``name`` is the object's name for get and the owner's uid for owned. ``clusters`` empty means all of the shard's.
    """

    id: int
    op: str
    clusters: list[str]
    kinds: list[str]
    namespace: str = ""
    name: str = ""
    selector: str = ""


class TokenRequest(msgspec.Struct, tag="ask", array_like=True):
    """A worker needs ``n`` tokens of a cluster's client budget; ``priority`` as in ``kube.budget``. Answered by ``Reply`` when
    there is one, or with none after a while."""

    id: int
    cluster: str
    n: int
    priority: int


class CallOutcome(msgspec.Struct, tag="fared", array_like=True):
    """How a worker's requests to clusters of this shard went that were made for keys of others: how many were answered, by
    cluster, and those that failed or were answered with 429."""

    answered: dict[str, int]
    failed: list[ApiCall]


class Reply(msgspec.Struct, tag="reply", array_like=True):
    """Answer to ``Fold``, ``Read`` and ``TokenRequest``. ``error`` is empty on success; ``unknown_clusters`` names clusters
    that could not be read; ``tokens`` were granted."""

    id: int
    found: list[Child] = []
    unknown_clusters: list[str] = []
    error: str = ""
    tokens: int = 0


class Wake(msgspec.Struct, tag="wake", array_like=True):
    """An owner in the receiver's clusters is due because a child changed in the sender's. ``real``: it changed while watched.
    ``seq`` rises per sender."""

    seq: int
    key: RequestKey
    reason: str
    real: bool = True


class KindListed(msgspec.Struct, tag="kind-listed", array_like=True, frozen=True):
    """``kind`` was listed in ``cluster`` without a complete replay: owners that may have children there are due."""

    seq: int
    cluster: str
    kind: str


class ClusterRecovered(msgspec.Struct, tag="cluster-recovered", array_like=True, frozen=True):
    """``cluster`` answers again: the hub's keys that wait for a cluster are due."""

    seq: int
    cluster: str


class Wakes(msgspec.Struct, tag="wakes", array_like=True):
    """What is due in the receiver's clusters; sent again until acknowledged (law 10)."""

    wakes: list[Wake | KindListed | ClusterRecovered]


class WakesDone(msgspec.Struct, tag="heard", array_like=True):
    """Wakes that were followed by a reconcile that started after them, or whose owner is gone."""

    seqs: list[int]


class Due(msgspec.Struct, array_like=True, frozen=True):
    """That changes of ``kind`` in ``cluster``, the first at version ``first`` and the last at ``last``, make a key due."""

    cluster: str
    kind: str
    first: int
    last: int


class KeyProgress(msgspec.Struct, array_like=True):
    """How a key stands at the primary: version reconciled, place in the queue, clocks, None where there is none; what it is due
    for."""

    key: RequestKey
    version: int | None = None
    saved: Saved | None = None
    clocks: KeyState | None = None
    due: list[Due] = []


class MarkedKind(msgspec.Struct, array_like=True, frozen=True):
    """A watermark that the primary has: its version (``Reached`` goes on from there) and until when it was fed by a predecessor."""

    cluster: str
    kind: str
    rv: int
    until: float


class ControllerStart(msgspec.Struct, array_like=True, frozen=True):
    """That a controller has taken over a cluster: see ``watermarks.Begun``."""

    controller: str
    cluster: str
    what: str
    rv: int


class Reached(msgspec.Struct, array_like=True):
    """The primary has judged all events of ``kind`` (``str(GVK)``) up to ``rv``."""

    cluster: str
    kind: str
    rv: int


class Progress(msgspec.Struct, tag="progress", array_like=True):
    """From a primary to its standbys. ``wakes`` are owners elsewhere that were woken and have not been heard of, ``heard`` those
    that have; ``complete`` ends the full account. ``marks`` and ``begun`` are told whole, and when they have changed."""

    seq: int
    changed: list[KeyProgress]
    reached: list[Reached]
    wakes: list[RequestKey]
    heard: list[RequestKey]
    complete: bool = False
    marks: list[MarkedKind] = []
    begun: list[ControllerStart] = []


class Stats(msgspec.Struct, tag="stats", array_like=True):
    """What a member tells the observer once a second: absolute values since its start. ``slo`` is empty but for shards."""

    member: str
    generation: int
    metrics: bytes
    slo: bytes = b""
    report: bytes = b""


class Question(msgspec.Struct, tag="question", array_like=True):
    """The observer asks a shard over the connection that the shard opened; answered by ``Answered``. A member that ends asks
    whether its last ``Stats`` were taken in."""

    id: int
    what: str
    arguments: list[str] = []


class Answered(msgspec.Struct, tag="answered", array_like=True):
    """JSON."""

    id: int
    body: bytes


class Refused(msgspec.Struct, tag="refused", array_like=True):
    """The connection is not wanted: wrong token, wrong shard."""

    reason: str


Message = (
    Hello
    | Welcome
    | Clusters
    | Pull
    | Tasks
    | Revoke
    | Culprit
    | Fold
    | Read
    | TokenRequest
    | CallOutcome
    | Reply
    | Wakes
    | WakesDone
    | Refused
    | Progress
    | Stats
    | Question
    | Answered
)

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """One frame: four bytes of length, then msgpack."""
    body = _encoder.encode(message)
    return len(body).to_bytes(4, "big") + body


def decode(body: bytes | memoryview) -> Message:
    """Raises ``msgspec.DecodeError`` for what is not one of our messages."""
    return _decoder.decode(body)
