"""``SyncContext``: the ``Context`` of reconcilers written as plain ``def``. They run in a thread, and each call blocks it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from raycp.base.keys import GVK
from raycp.sdk.backend import ClusterInfo
from raycp.sdk.context import Context, ReconcileRequest
from raycp.sdk.kinds import Labels, Objects
from raycp.sdk.live import Live
from raycp.sdk.owner import Ownership

T = TypeVar("T")


class SyncContext:
    """Every method is that of ``Context`` by the same name, without ``await``. Not for use on the event loop's own thread."""

    def __init__(self, context: Context, loop: asyncio.AbstractEventLoop) -> None:
        self._context = context
        self._loop = loop
        self.request: ReconcileRequest = context.request
        self.config: Mapping[str, Any] = context.config

    @property
    def log(self) -> "logging.LoggerAdapter[logging.Logger]":
        return self._context.log

    @property
    def live(self) -> "SyncLive":
        """See ``Context.live``."""
        return SyncLive(self._context.live, self._wait)

    @property
    def clusters(self) -> Sequence[ClusterInfo]:
        return self._context.clusters

    @property
    def members(self) -> list[ClusterInfo]:
        return self._context.members

    @property
    def cluster(self) -> ClusterInfo:
        return self._context.cluster

    @property
    def unknown_clusters(self) -> frozenset[str]:
        return self._context.unknown_clusters

    @property
    def foreign(self) -> tuple[str, ...]:
        return self._context.foreign

    def now(self) -> float:
        return self._context.now()

    def get(self, kind: str | GVK, name: str, namespace: str | None = None, *, cluster: str | None = None) -> dict[str, Any] | None:
        return self._wait(self._context.get(kind, name, namespace, cluster=cluster))

    def list(
        self,
        kind: str | GVK,
        namespace: str | None = None,
        *,
        labels: Labels = None,
        owner: str | None = None,
        cluster: str | None = None,
    ) -> Objects:
        return self._wait(self._context.list(kind, namespace, labels=labels, owner=owner, cluster=cluster))

    def children(self, kind: str | GVK, *, cluster: str | None = None) -> Objects:
        return self._context.children(kind, cluster=cluster)

    def children_by_cluster(self, kind: str | GVK) -> dict[str, Objects]:
        return self._context.children_by_cluster(kind)

    def each_child(self, kind: str | GVK) -> Iterator[tuple[str, dict[str, Any]]]:
        children = self._context.each_child(kind)
        while (found := self._wait(_next(children))) is not None:
            yield found

    def own(self, child: dict[str, Any], *, cluster: str | None = None) -> dict[str, Any]:
        return self._context.own(child, cluster=cluster)

    def ownership(self, child: dict[str, Any], *, cluster: str | None = None) -> Ownership:
        return self._context.ownership(child, cluster=cluster)

    def create(self, obj: dict[str, Any], *, own: bool | None = None, cluster: str | None = None) -> dict[str, Any]:
        return self._wait(self._context.create(obj, own=own, cluster=cluster))

    def apply(
        self, obj: dict[str, Any], *, own: bool | None = None, force: bool = True, cluster: str | None = None
    ) -> dict[str, Any]:
        return self._wait(self._context.apply(obj, own=own, force=force, cluster=cluster))

    def patch(
        self,
        obj: dict[str, Any],
        patch: dict[str, Any] | Sequence[dict[str, Any]],
        *,
        type: str = "merge",
        subresource: str = "",
        cluster: str | None = None,
    ) -> dict[str, Any]:
        return self._wait(self._context.patch(obj, patch, type=type, subresource=subresource, cluster=cluster))

    def delete(
        self,
        obj: dict[str, Any],
        *,
        grace: int | None = None,
        propagation: str | None = None,
        cluster: str | None = None,
    ) -> bool:
        return self._wait(self._context.delete(obj, grace=grace, propagation=propagation, cluster=cluster))

    def status(
        self,
        status: dict[str, Any],
        *,
        obj: dict[str, Any] | None = None,
        replace: bool = False,
        cluster: str | None = None,
    ) -> bool:
        return self._wait(self._context.status(status, obj=obj, replace=replace, cluster=cluster))

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
        context = self._context
        self._loop.call_soon_threadsafe(lambda: context.event(reason, note, type=type, action=action, obj=obj, cluster=cluster))

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is self._loop:
            work.close()
            raise RuntimeError("SyncContext blocks; an async reconciler gets a Context, whose methods are awaited")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


async def _next(items: AsyncIterator[T]) -> T | None:
    return await anext(items, None)


class SyncLive:
    """``Context.live`` without ``await``."""

    def __init__(self, live: Live, wait: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        self._live = live
        self._wait = wait

    def get(self, kind: str | GVK, name: str, namespace: str | None = None, *, cluster: str | None = None) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self._wait(self._live.get(kind, name, namespace, cluster=cluster))
        return found

    def list(
        self,
        kind: str | GVK,
        namespace: str | None = None,
        *,
        labels: Labels = None,
        fields: str = "",
        cluster: str | None = None,
    ) -> Objects:
        found: Objects = self._wait(self._live.list(kind, namespace, labels=labels, fields=fields, cluster=cluster))
        return found
