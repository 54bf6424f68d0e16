"""Between a worker and a shard: tasks, acknowledgements, reads, own writes, tokens."""

from enum import StrEnum

import msgspec

from raycp.base.keys import RequestKey
from raycp.base.tasks import ApiCall, Child, Done, Task, Written

TOKEN_PATIENCE = 10.0
"""Seconds after which a ``TokenRequest`` is answered without tokens: a worker that has fallen silent keeps no place."""


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
    """Last words of a worker that ends itself because these tasks block it, or where it is not ``certain``, because one of its
    tasks does (law 11)."""

    ids: list[int]
    error: str
    certain: bool = True


class LivenessQuery(msgspec.Struct, tag="liveness_query", array_like=True):
    """Whether user code lets the worker answer. Answered by ``LivenessReply``, from the loop on which reconciles run."""

    number: int


class LivenessReply(msgspec.Struct, tag="liveness", array_like=True):
    """The answer to the ``LivenessQuery`` of that number."""

    number: int


class Fold(msgspec.Struct, tag="fold", array_like=True):
    """Own writes of ``writer`` for the shard of the objects written (law 8). Answered by ``Reply``."""

    id: int
    writes: list[Written]
    writer: RequestKey


class Read(msgspec.Struct, tag="read", array_like=True):
    """A read from the cache. ``op`` is get, list, owned, owners, uids or more; answered by ``Reply`` with a list of ``Child``.

    ``name`` is the object's name for get and the owner's uid for owned. ``clusters`` empty means all of the shard's. ``limit``:
    bytes that the answer may have (0, and at most: ``pages.PAGE``), but for one object. ``more`` goes on with what ``Reply.token``,
    given as ``name``, left; ``task_token`` names the children that a task left. ``references``, for owned: the cluster is the
    owner's own, where owner references in ``namespace`` (empty: any) count. The answer to ``owners`` and ``uids`` is no object but
    rows, see ``raycp.sdk.backend.CacheRead``.
    """

    id: int
    op: str
    clusters: list[str]
    kinds: list[str]
    namespace: str = ""
    name: str = ""
    selector: str = ""
    limit: int = 0
    references: bool = False


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


class ReplyCode(StrEnum):
    """How a question of a worker ended."""

    OK = "ok"
    UNWATCHED = "unwatched"
    """The cache does not hold that kind of that cluster, or only a part of it: read live."""
    INVALID = "invalid"
    """The question can't be answered by any shard, e.g. a selector that can't be parsed."""
    TOO_LARGE = "too_large"
    """An object of the answer is larger than ``pages.LARGEST``."""
    FAILED = "failed"
    """The shard failed on this question, or has forgotten the rest of that answer: ask again."""


class Reply(msgspec.Struct, tag="reply", array_like=True):
    """Answer to ``Fold``, ``Read`` and ``TokenRequest``. ``error`` is empty on success, else its text, with ``code`` for programs;
    ``unknown_clusters`` names clusters that could not be read; ``tokens`` were granted. ``left``: bytes that the answer has beyond
    ``found``, to be read with ``token``. ``foreign`` as in ``Task``, to an owned read."""

    id: int
    found: list[Child] = []
    unknown_clusters: list[str] = []
    error: str = ""
    tokens: int = 0
    code: ReplyCode = ReplyCode.OK
    token: str = ""
    left: int = 0
    foreign: list[str] = []


def task_token(identity: int) -> str:
    """What the children that the task of this id left are read by."""
    return f"task {identity}"
