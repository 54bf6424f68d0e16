"""``ShardReads``: cache reads, answered by the shards; a kind that no shard watches is read from the API server."""

import asyncio
from collections.abc import Sequence

import msgspec

from raycp.base.tasks import Child, Task
from raycp.kube import ApiError, Unreachable, decode_answer
from raycp.member.clients import Clients
from raycp.protocol.frames import Read, ReplyCode
from raycp.sdk.backend import CacheRead
from raycp.sdk.owner import OWNER_UID
from raycp.worker.cluster_table import ClusterTable
from raycp.worker.questions import ShardQuestions


class _Items(msgspec.Struct):
    items: list[msgspec.Raw] | None = None


class _OwnerMeta(msgspec.Struct):
    uid: str = ""


class _OwnerObject(msgspec.Struct):
    metadata: _OwnerMeta


class ShardReads:
    """One per worker. Lives on the user loop."""

    def __init__(self, clusters: ClusterTable, questions: ShardQuestions, clients: Clients) -> None:
        self._clusters = clusters
        self._questions = questions
        self._clients = clients

    async def read(self, query: CacheRead) -> list[Child]:
        """See ``Backend.read``."""
        cluster, kind = query.cluster, str(query.kind)
        reply = await self._questions.ask(
            cluster,
            lambda identity: Read(identity, query.op, [cluster], [kind], query.namespace, query.name, query.selector),
        )
        if reply.code is ReplyCode.UNWATCHED:
            return await self._read_live(query)
        if reply.error or reply.unknown_clusters:
            raise Unreachable(f"cluster {cluster}: {reply.error or 'its cache is not filled yet'}", sent=False)
        return reply.found

    async def complete_children(self, task: Task, kinds: Sequence[str]) -> None:
        """Add to ``task.children`` the children in clusters of other shards than ``task.shard``.

        Clusters that can't be read are added to ``task.unknown_clusters``.
        """
        shards, infos = self._clusters.shards, self._clusters.infos
        others = sorted(set(shards.values()) - {task.shard})
        if not others or task.raw is None:
            return
        uid = msgspec.json.decode(task.raw, type=_OwnerObject).metadata.uid

        async def ask(other: str) -> None:
            clusters = [name for name, info in infos.items() if shards.get(name) == other and info.role == "member"]
            if not clusters:
                return
            try:
                reply = await self._questions.ask(
                    clusters[0], lambda identity: Read(identity, "owned", clusters, list(kinds), "", uid)
                )
            except Unreachable:
                task.unknown_clusters.extend(clusters)
            else:
                task.children.extend(reply.found)
                task.unknown_clusters.extend(clusters if reply.error else reply.unknown_clusters)

        await asyncio.gather(*(ask(other) for other in others))

    async def _read_live(self, query: CacheRead) -> list[Child]:
        client = await self._clients.get(query.cluster)
        resource = await client.resource(query.kind)
        if query.op == "get":
            try:
                answer = await client.request("GET", resource.path(query.namespace or None, query.name))
            except ApiError as error:
                if error.status == 404:
                    return []
                raise
            return [Child(query.cluster, str(query.kind), answer.body)]
        selector = query.selector
        if query.op == "owned":
            selector = ",".join(part for part in (f"{OWNER_UID}={query.name}", query.selector) if part)
        found: list[Child] = []
        head = {"apiVersion": query.kind.api_version, "kind": query.kind.kind}
        answer = await client.request(
            "GET", resource.path(query.namespace or None), query={"labelSelector": selector} if selector else None
        )
        for item in decode_answer(answer.body, _Items, f"list {query.kind}").items or []:
            fields = {**head, **decode_answer(item, dict[str, msgspec.Raw], f"list {query.kind}")}
            found.append(Child(query.cluster, str(query.kind), msgspec.json.encode(fields)))
        return found
