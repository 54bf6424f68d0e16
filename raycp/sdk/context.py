"""``Context``: all that a reconciler can see and do, for one reconcile of one object.

Reads (``get``, ``list``, ``children``) answer from the cache of the shard that watches the cluster; ``live`` asks the API
server. Writes (``raycp.sdk.writes``) are fenced (law 6): they carry the resourceVersion last seen, a changed object answers 409
Conflict, and the reconcile runs again on the new state. Every method takes ``cluster=`` to reach another cluster of the fleet;
the default is the object's own.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from raycp.base.keys import GVK, RequestKey
from raycp.base.tasks import Child
from raycp.sdk.backend import CacheRead, ChildOwner, ClusterInfo
from raycp.sdk.definition import selector_text
from raycp.sdk.event_recorder import event_for
from raycp.sdk.kinds import Labels, Objects, as_gvk
from raycp.sdk.live import Live
from raycp.sdk.session import Session
from raycp.sdk.writes import Writes

_DECODED_AT_ONCE = 256 * 1024
"""Bytes of children that are decoded before other reconciles get their turn: about 2 ms."""


@dataclass(frozen=True, slots=True)
class ReconcileRequest:
    """What this call is about. ``attempt`` counts from 1 and rises with each retry; ``reason`` is why the key was queued;
    ``version`` is the digest of the object's user-visible content that this reconcile sees."""

    key: RequestKey
    attempt: int
    reason: str
    tier: str
    version: int = 0
    queue: str = ""
    """The queue that admits the object's work; empty where none does."""

    @property
    def namespace(self) -> str:
        return self.key.namespace

    @property
    def name(self) -> str:
        return self.key.name


class Context(Writes):
    """See the module. Made by ``run_reconcile``; calls after the reconcile has ended raise ``Revoked``."""

    def __init__(self, session: Session, config: Mapping[str, Any] | None = None) -> None:
        task = session.task
        self._session = session
        self.request = ReconcileRequest(task.key, task.attempt, task.reason, task.tier, task.version, task.queue)
        self.config: Mapping[str, Any] = {} if config is None else config
        """The ``config`` of this controller in the fleet file; shared by all reconciles, so don't change it."""

    @property
    def log(self) -> "logging.LoggerAdapter[logging.Logger]":
        """Structured: every record carries controller, cluster, key, attempt, tier and reason."""
        return self._session.log

    @property
    def live(self) -> Live:
        """Reads that ask the API server itself."""
        return Live(self._session)

    # -- where am I

    @property
    def clusters(self) -> Sequence[ClusterInfo]:
        """The fleet's clusters (hub included), with labels and whether they are reachable and synced."""
        return self._session.clusters()

    @property
    def members(self) -> list[ClusterInfo]:
        """The clusters whose role is member; in a fleet of one cluster, that one."""
        found = self._session.clusters()
        return [cluster for cluster in found if cluster.role == "member"] or found

    @property
    def cluster(self) -> ClusterInfo:
        """The cluster of the object."""
        return self._session.cluster(self.request.key.cluster)

    @property
    def unknown_clusters(self) -> frozenset[str]:
        """Clusters whose children are unknown at the moment: none among ``children`` does not mean that none exists."""
        return frozenset(self._session.task.unknown_clusters)

    @property
    def foreign(self) -> tuple[str, ...]:
        """Objects that carry the label of our children and not our mark, ``cluster/namespace/name``: some of them, if there are
        many. They are not among ``children``; an Event on the object names them."""
        return tuple(self._session.task.foreign)

    @property
    def orphans(self) -> bool:
        """The object was deleted with propagation policy Orphan, though the finalizer ``orphan``, by which the API server says so,
        may be gone already. Remember it: another shard may not know."""
        return self._session.task.orphans

    def now(self) -> float:
        """Unix time in seconds, from the injected clock."""
        return self._session.clock.wall()

    # -- reads

    async def get(
        self, kind: str | GVK, name: str, namespace: str | None = None, *, cluster: str | None = None
    ) -> dict[str, Any] | None:
        """The object from the cache, None if there is none. ``namespace`` defaults to the request's. Raises ``Unreachable``."""
        session, gvk = self._session, as_gvk(kind)
        query = CacheRead("get", session.cluster_or_own(cluster), gvk, session.namespace_or_own(namespace), name)
        found = await session.read(query)
        return session.seen(query.cluster, gvk, found[0].raw) if found else None

    async def list(
        self,
        kind: str | GVK,
        namespace: str | None = None,
        *,
        labels: Labels = None,
        owner: str | None = None,
        cluster: str | None = None,
    ) -> Objects:
        """Objects from the cache: of a namespace (default: the request's; ``ALL``: every one), by labels, or by the uid of the
        owner to which they are proven to belong."""
        session, gvk = self._session, as_gvk(kind)
        where = session.cluster_or_own(cluster)
        if owner is not None:
            here = where == self.request.key.cluster  # elsewhere an owner reference means nothing
            query = CacheRead("owned", where, gvk, "", owner, selector_text(labels, "list"), here)
        else:
            query = CacheRead("list", where, gvk, session.namespace_or_own(namespace), "", selector_text(labels, "list"))
        return [session.seen(where, gvk, child.raw) for child in await session.read(query)]

    async def owners(self, kind: str | GVK, *, cluster: str) -> Sequence[ChildOwner]:
        """The owners to which cached objects of a kind are proven to belong, each with the number of its objects. Raises
        ``Unreachable`` also for a kind that no shard watches there."""
        found = await self._session.read(CacheRead("owners", cluster, as_gvk(kind)))
        return [row for part in found for row in msgspec.json.decode(part.raw, type=list[ChildOwner])]

    async def uids(self, kind: str | GVK, *, cluster: str | None = None) -> set[str]:
        """The uids of all cached objects of a kind. Raises as ``owners``."""
        found = await self._session.read(CacheRead("uids", self._session.cluster_or_own(cluster), as_gvk(kind)))
        return {uid for part in found for uid in msgspec.json.decode(part.raw, type=list[str])}

    def children(self, kind: str | GVK, *, cluster: str | None = None) -> Objects:
        """The owned objects of one of the kinds in ``owns=[...]``, as they came with the task: no read at all.

        With ``cluster=None`` those of every cluster; see ``children_by_cluster`` and ``unknown_clusters``.
        """
        by_cluster = self.children_by_cluster(kind)
        if cluster is not None:
            return by_cluster.get(cluster, [])
        return [child for found in by_cluster.values() for child in found]

    def children_by_cluster(self, kind: str | GVK) -> dict[str, Objects]:
        """As ``children``, by the name of the cluster they are in. Clusters without any are not in it."""
        session, gvk = self._session, as_gvk(kind)
        found: dict[str, Objects] = {}
        for child in self._raw_children(gvk):
            found.setdefault(child.cluster, []).append(session.seen(child.cluster, gvk, child.raw))
        return found

    async def each_child(self, kind: str | GVK) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """The children of ``children_by_cluster`` one by one, each with its cluster: for thousands of them. Decoded is only the one
        at hand, and other reconciles go on meanwhile."""
        session, gvk, size = self._session, as_gvk(kind), 0
        for child in self._raw_children(gvk):
            size += len(child.raw)
            if size > _DECODED_AT_ONCE:
                size = 0
                await asyncio.sleep(0)
            yield child.cluster, session.seen(child.cluster, gvk, child.raw)

    def _raw_children(self, gvk: GVK) -> Iterator[Child]:
        controller, wanted = self._session.controller, str(gvk)
        if controller.owned(gvk) is None:
            raise ValueError(f"{gvk} is not among owns=[...] of controller {controller.name!r}")
        return (child for child in self._session.task.children if child.kind == wanted)

    # -- events

    def event(
        self,
        reason: str,
        note: str,
        *,
        type: str = "Normal",
        action: str = "Reconcile",
        obj: dict[str, Any] | None = None,
        cluster: str | None = None,
    ) -> None:
        """Record a Kubernetes Event on the object (default: the reconciled one). ``type``: Normal or Warning.

        Sent some time later, equal ones as one with a count; never blocks and never fails a reconcile.
        """
        session = self._session
        target = session.own() if obj is None else obj
        controller = f"raycp.io/{session.controller.name}"
        body = event_for(target, type, reason, note, action, controller, session.task.shard, self.now())
        session.backend.event(session.task, session.cluster_or_own(cluster), msgspec.json.encode(body))
