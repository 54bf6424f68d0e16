"""The payloads between a shard and a worker, as msgpack (``msgspec``): tasks to the worker, their outcomes back."""

import re
from enum import StrEnum

import msgspec

from raycp.base.keys import RequestKey


class Child(msgspec.Struct, array_like=True, gc=False):
    """An owned object that travels with its owner's task: ``kind`` is ``str(GVK)``, ``raw`` its JSON."""

    cluster: str
    kind: str
    raw: bytes


FOREIGN_SHOWN = 5

UNKNOWN_QUEUE = "?"
"""``Task.queue`` while the fleet's queues are not listed."""


class Task(msgspec.Struct, array_like=True, gc=False):
    """One hand-out of one key.

    ``epoch``, ``shard``, ``term`` identify the primary that handed it out (law 6b) and go into every write. ``raw`` is the object,
    None if it is deleted; ``version`` the version that the reconcile sees. ``attempt`` counts from 1. ``waited`` is the time in
    seconds between being ready and being handed out. ``unknown_clusters`` names clusters whose children are unknown at the moment
    (not synced, not reachable): no child seen there does not mean that there is none. ``tokens`` is the number of tokens of its
    cluster's client budget that it carries; the worker requests more when it needs them. ``fleet`` is the fleet document
    (``Fleet.sequence``) that the shard knows: the reconcile must not decide by an older one.

    The task of a ``mapping`` key (``raycp.base.selections``) carries the watched object, and as children the states of it that no
    map function has seen.

    ``rest``: bytes of further children, which the worker reads in pages when it has room for them; with ``partial``, ``raw`` has
    only the object's kind and metadata, and the first of the rest is the object. ``refused`` says why object or children can't be
    handed to any worker: ``raw`` has no more then either, and the author's function is not called.

    ``foreign`` names objects that claim to be children and are not (``raycp.base.owner_marks``): ``FOREIGN_SHOWN`` of each shard at
    most, as ``cluster/namespace/name``. ``orphans``: the object was deleted with propagation policy Orphan.
    ``queue``: the queue that admits the object's work; empty where none does, ``UNKNOWN_QUEUE`` while that is not known.
    ``change``: the id of the change whose trace this hand-out belongs to (``raycp.metrics.traces``); empty where it is not traced.
    """

    id: int
    key: RequestKey
    tier: str
    reason: str
    attempt: int
    epoch: int
    shard: str
    term: int
    version: int
    waited: float
    raw: bytes | None
    children: list[Child] = []
    unknown_clusters: list[str] = []
    tokens: int = 0
    fleet: int = 0
    rest: int = 0
    partial: bool = False
    refused: str = ""
    foreign: list[str] = []
    orphans: bool = False
    queue: str = ""
    change: str = ""


_VERSION = re.compile(r"[\w.-]{1,64}", re.ASCII)
"""A resourceVersion that may stand in a header: it is opaque, and a server may send anything."""


class _Metadata(msgspec.Struct, gc=False):
    resourceVersion: str = ""


class _Versioned(msgspec.Struct, gc=False):
    metadata: _Metadata


def change_of(task: Task) -> str:
    """The id of the change that the reconcile sees, ``east-1@48213``: the cluster, and the resourceVersion of the watch event.
    Timeline (`raycp why`), exemplars, log and writes have the same. Empty for a deleted object, and where the object can't be
    read."""
    if task.raw is None:
        return ""
    try:
        version = msgspec.json.decode(task.raw, type=_Versioned).metadata.resourceVersion
    except (msgspec.MsgspecError, ValueError, RecursionError):  # a text that is no UTF-8 is a ValueError
        return ""
    return f"{task.key.cluster}@{version}" if _VERSION.fullmatch(version) else ""


class Outcome(StrEnum):
    """How a reconcile ended."""

    OK = "ok"
    RETRY = "retry"
    """an error: again, with backoff"""
    PERMANENT = "permanent"
    """no retry until the object changes"""
    INTERRUPTED = "interrupted"
    """revoked before its end (hand-over, drain): again at once, not a failure"""


class Written(msgspec.Struct, array_like=True, gc=False):
    """A write of ours that the API server has answered. ``raw`` is the answered object, None for a deletion or where the
    shard of that cluster has already taken it in and only has to reach (``uid``, ``rv``)."""

    cluster: str
    kind: str
    namespace: str
    name: str
    uid: str
    rv: int
    raw: bytes | None
    deleted: bool = False


class ApiCall(msgspec.Struct, array_like=True, gc=False):
    """One API request of a reconcile, for the object's timeline and the cluster's health.

    ``status`` is the HTTP status; 0: no answer (refused, broken, too late); -1: it was not sent (fence, open breaker, cancelled).
    ``seconds`` is its duration, ``retry_after`` the pause that a 429 requested, in seconds.
    """

    verb: str
    cluster: str
    path: str
    status: int
    seconds: float
    retry_after: float | None = None


CLUSTER = "cluster"
CAPACITY = "capacity"
AWAITS_CLUSTERS = frozenset({CLUSTER, CAPACITY})
"""``Done.waiting`` of a key that waits for a cluster, or for room in one: it is requeued as soon as one answers again, joins the
fleet, or changes its labels."""


class Done(msgspec.Struct, array_like=True, gc=False):
    """The acknowledgement of a ``Task``.

    ``requeue_after`` in seconds (None: not asked); ``tier`` only where the result names one; ``retry_after`` in seconds
    overrides the backoff; ``seconds`` is work time; ``waiting`` names what the object waits for (quota, capacity), which is
    counted apart in the SLI. ``used`` and ``unused`` are lent tokens of the key's cluster that were used, or are not needed.
    ``error`` is a text, ``error_class`` its class: an exception's name, ``ApiError 403``, or a word of ``raycp.sdk.outcome``.
    ``unusable`` names the clusters that the reconcile found unreachable or not synced: it is requeued when they are usable.
    ``wakes`` are the keys to which a map function mapped a watched object.
    ``too_large``: it was not reconciled, because the object or its children are larger than what a worker takes.
    """

    id: int
    key: RequestKey
    outcome: Outcome
    seconds: float
    requeue_after: float | None = None
    tier: str | None = None
    retry_after: float | None = None
    error: str = ""
    waiting: str = ""
    writes: list[Written] = []
    calls: list[ApiCall] = []
    used: int = 0
    unused: int = 0
    error_class: str = ""
    unusable: list[str] = []
    wakes: list[RequestKey] = []
    too_large: bool = False
