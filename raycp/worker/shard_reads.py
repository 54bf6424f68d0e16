"""``ShardReads``: cache reads, answered by the shards; a kind that no shard watches is read from the API server.

Answers come in pages: the first one small and unasked for, the others after ``TaskMemory`` has accounted for all of them.
"""

import asyncio
from collections.abc import Hashable, Sequence

import msgspec

from raycp.base.objects import Meta
from raycp.base.owner_marks import ClaimProof, MarkKeys
from raycp.base.tasks import Child, Task
from raycp.kube import ApiError, Unreachable, decode_answer
from raycp.member.clients import Clients
from raycp.protocol.frames import LARGEST, LARGEST_TASK, PAGE, Read, Reply, ReplyCode, task_token
from raycp.sdk.backend import CacheRead
from raycp.sdk.owner import NO_KEYS, OWNER_UID, proof_of
from raycp.worker.cluster_table import ClusterTable
from raycp.worker.own_credentials import own_fault
from raycp.worker.questions import ShardQuestions
from raycp.worker.refusals import TaskTooLarge
from raycp.worker.task_memory import TaskMemory

FIRST = PAGE // 4
"""Bytes of the first page of an answer, before it is known how many there are."""


class _Items(msgspec.Struct):
    items: list[msgspec.Raw] | None = None


class _Marked(msgspec.Struct):
    metadata: Meta


class _OwnerMeta(msgspec.Struct):
    uid: str = ""


class _OwnerObject(msgspec.Struct):
    metadata: _OwnerMeta


class ShardReads:
    """One per worker. Lives on the user loop."""

    def __init__(self, clusters: ClusterTable, questions: ShardQuestions, clients: Clients, memory: TaskMemory) -> None:
        self._clusters = clusters
        self._questions = questions
        self._clients = clients
        self._memory = memory

    async def read(self, task: Task, query: CacheRead, marks: MarkKeys | None) -> list[Child]:
        """See ``Backend.read``; ``marks`` prove whose children objects are. Raises ``NoRoom`` where the answer is too much for this
        worker, ``TaskTooLarge`` where an object of it is for any."""
        cluster, kind = query.cluster, str(query.kind)
        shard = self._clusters.shards.get(cluster, "")
        reply = await self._questions.ask(
            cluster,
            lambda identity: Read(
                identity, query.op, [cluster], [kind], query.namespace, query.name, query.selector, FIRST, query.references
            ),
        )
        if reply.code is ReplyCode.UNWATCHED and query.op not in ("owners", "uids"):
            return await self._read_live(task, query, marks)
        if reply.unknown_clusters or (reply.error and reply.code is not ReplyCode.TOO_LARGE):
            raise Unreachable(f"cluster {cluster}: {reply.error or 'its cache is not filled yet'}", sent=False)
        _check(reply)
        if reply.left:
            self._memory.take(memory_key(task), reply.left)
        return await self._rest(shard, reply)

    async def complete(self, task: Task, kinds: Sequence[str] | None) -> None:
        """Read what ``task`` did not bring: what it left in its own shard, and the children of ``kinds`` in clusters of others,
        which are asked even without any kind, and not with None.

        Clusters that can't be read are added to ``task.unknown_clusters``. Raises ``TaskTooLarge``, ``NoRoom``, and ``Unreachable``
        for the task's own shard.
        """
        others = [(shard, names) for shard, names in self._clusters.members.items() if shard != task.shard]
        found: list[tuple[str, Reply]] = []
        if others and kinds is not None and task.raw is not None:
            uid = msgspec.json.decode(task.raw, type=_OwnerObject).metadata.uid
            replies = await asyncio.gather(*(self._owned(*other, kinds, uid) for other in others))
            for (shard, names), reply in zip(others, replies, strict=True):
                task.unknown_clusters.extend(names if reply is None else reply.unknown_clusters)
                if reply is not None:
                    task.foreign += reply.foreign
                    found.append((shard, reply))
        left = task.rest + sum(reply.left for _, reply in found)
        if left:
            if left > LARGEST_TASK:
                raise TaskTooLarge(f"object and children have {left} bytes; a reconcile is given {LARGEST_TASK} at most")
            await self._memory.reserve(memory_key(task), left)
        if task.rest:
            more = Reply(0, token=task_token(task.id), left=task.rest)
            rest = await self._rest(task.shard, more)
            if task.partial:
                task.raw, rest = rest[0].raw, rest[1:]
            task.children.extend(rest)
        for shard, reply in found:
            try:
                task.children.extend(await self._rest(shard, reply))
            except Unreachable:
                task.unknown_clusters.extend(self._clusters.members.get(shard, ()))

    async def _owned(self, shard: str, clusters: Sequence[str], kinds: Sequence[str], uid: str) -> Reply | None:
        """The first page of the children in ``clusters``; None where the shard can't say. Raises ``TaskTooLarge``."""
        try:
            reply = await self._questions.ask_shard(
                shard, lambda identity: Read(identity, "owned", list(clusters), list(kinds), "", uid, "", FIRST)
            )
            _check(reply)
        except Unreachable:
            return None
        return reply

    async def _rest(self, shard: str, first: Reply) -> list[Child]:
        """All of an answer of which ``first`` is the first page. Raises ``Unreachable``, ``TaskTooLarge``."""
        found, token = first.found, first.token
        while token:
            name = token
            reply = await self._questions.ask_shard(shard, lambda identity: Read(identity, "more", [], [], "", name, "", PAGE))  # noqa: B023
            _check(reply)
            found += reply.found
            token = reply.token
        return found

    async def _read_live(self, task: Task, query: CacheRead, marks: MarkKeys | None) -> list[Child]:
        controller = task.key.controller
        try:
            return await self._live(controller, query, marks)
        except (ApiError, Unreachable) as error:
            raise own_fault(controller, query.cluster, self._clients.user(query.cluster, controller), error) or error from None

    async def _live(self, controller: str, query: CacheRead, marks: MarkKeys | None) -> list[Child]:
        client = await self._clients.get(query.cluster, controller)
        resource = await client.resource(query.kind)
        if query.op == "get":
            try:
                answer = await client.request("GET", resource.path(query.namespace or None, query.name))
            except ApiError as error:
                if error.status == 404:
                    return []
                raise
            return [Child(query.cluster, str(query.kind), answer.body)]
        selector, owned = query.selector, query.op == "owned"
        if owned and marks is None:
            raise Unreachable(f"cluster {query.cluster}: {NO_KEYS}", sent=False)
        if owned:
            selector = ",".join(part for part in (f"{OWNER_UID}={query.name}", query.selector) if part)
        found: list[Child] = []
        head = {"apiVersion": query.kind.api_version, "kind": query.kind.kind}
        answer = await client.request(
            "GET", resource.path(query.namespace or None), query={"labelSelector": selector} if selector else None
        )
        for item in decode_answer(answer.body, _Items, f"list {query.kind}").items or []:
            fields = {**head, **decode_answer(item, dict[str, msgspec.Raw], f"list {query.kind}")}
            if owned:
                meta = decode_answer(item, _Marked, f"list {query.kind}").metadata
                if proof_of(meta, query.cluster, query.kind, marks, client.skew)[1] is ClaimProof.NONE:
                    continue
            found.append(Child(query.cluster, str(query.kind), msgspec.json.encode(fields)))
        return found


def memory_key(task: Task) -> Hashable:
    """The holder of what a task reads, in ``TaskMemory``."""
    return task.shard, task.id


def _check(reply: Reply) -> None:
    """Raises ``TaskTooLarge`` or ``Unreachable`` for a read that the shard did not answer."""
    if reply.code is ReplyCode.TOO_LARGE:
        raise TaskTooLarge(f"{reply.error}; the largest object that is sent has {LARGEST} bytes")
    if reply.error:
        raise Unreachable(reply.error, sent=False)
