"""One cluster as a shard watches it: connection, reflectors, stores. A failing cluster delays no other."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

import msgspec

from raycp.base.clock import Clock
from raycp.base.events import Event
from raycp.base.keys import GVK
from raycp.base.loop_names import LoopName
from raycp.base.loops import Loops
from raycp.base.problems import ProblemOwner
from raycp.cache import Phase, Reflector, ReflectorOptions, Store
from raycp.classify.references import References
from raycp.kube import ClusterClient, ConnectError, ConnectSpec, KubeError
from raycp.metrics import ReflectorMetrics
from raycp.protocol.plan import ClusterPlan
from raycp.protocol.report import ClusterReport
from raycp.shard.routes import KindRoutes, field_index

log = logging.getLogger(__name__)

RETRY_MIN = 0.5
RETRY_MAX = 15.0
UNREACHABLE_AFTER = 5.0
"""Silence in seconds, while a watch is being retried, after which a cluster counts as unreachable."""


class Watcher(Protocol):
    """Receives the reports of a watched cluster (``watchers``)."""

    @property
    def events(self) -> Callable[[str, GVK, list[Event]], None]:
        """A batch of changes of one kind, which the cache has applied."""
        ...

    @property
    def cluster_changed(self) -> Callable[[str], None]:
        """The cluster connected, synced or failed."""
        ...

    @property
    def listed(self) -> Callable[[str, GVK], None]:
        """A kind is listed, and all of it announced."""
        ...

    @property
    def accounted(self) -> Callable[[str], None]:
        """The keys that a list made due are queued."""
        ...

    @property
    def replayed(self) -> Callable[[str, GVK, bool], None]:
        """The changes between watermark and list are announced; True where no change can have been missed."""
        ...

    @property
    def void(self) -> Callable[[str, GVK], None]:
        """The cluster was replaced or restored to an older state; its present objects are announced."""
        ...


class Informer:
    """One kind: its store and the reflector that fills it."""

    def __init__(self, route: KindRoutes, store: Store) -> None:
        self.route = route
        self.store = store
        self.reflector: Reflector | None = None
        self.task: asyncio.Task[None] | None = None
        self.syncing: asyncio.Task[None] | None = None
        """Waits for the first list, and for the end of the replay."""
        self.accounted = False
        """Whether the keys that the list made due are queued: only then may its version count as observed."""
        self.identity = ""
        """The cluster that the store is of (law 7), as its last reflector knew it."""

    @property
    def failing(self) -> bool:
        """Whether its reflector has failed and waits."""
        return self.reflector is not None and self.reflector.status().phase is Phase.BACKING_OFF

    @property
    def last_contact(self) -> float | None:
        """When list or watch last received something, by our clock."""
        return self.reflector.status().last_contact if self.reflector is not None else None

    @property
    def synced(self) -> bool:
        return self.reflector is not None and self.reflector.synced.is_set()

    @property
    def announced(self) -> bool:
        """Whether all changes up to the store's version are announced and accounted for; during a list the store is ahead."""
        reflector = self.reflector
        return (
            reflector is not None and self.accounted and reflector.replayed.is_set() and reflector.status().phase is Phase.WATCHING
        )


class WatchedCluster:
    """See the module. ``update`` may come any time; ``close`` ends it."""

    def __init__(
        self,
        plan: ClusterPlan,
        watcher: Watcher,
        clock: Clock,
        loops: Loops,
        since: Callable[[str, GVK], int | None],
        options: ReflectorOptions,
        ready: Callable[[str], Awaitable[None]],
        counts: ReflectorMetrics,
    ) -> None:
        self.resumes = True
        """Whether its reflectors start from the watermark ``since``, once that is ``ready``."""
        self.name = plan.name
        self.plan = plan
        self.informers: dict[GVK, Informer] = {}
        self.client: ClusterClient | None = None
        self.version = ""
        self.reason = "not connected yet"
        self.started = clock.now()
        self._watcher = watcher
        self._clock = clock
        self._loops = loops
        self._since = since
        self._options = options
        self._ready = ready
        self._counts = counts
        self._spec: ConnectSpec | None = None
        self._connecting: asyncio.Task[None] | None = None

    def update(self, plan: ClusterPlan, routes: dict[GVK, KindRoutes]) -> None:
        """Watch these kinds over this connection from now on."""
        self.plan = plan
        for kind in [kind for kind in self.informers if kind not in routes]:
            self._stop(self.informers.pop(kind))
        for kind, route in routes.items():
            known = self.informers.get(kind)
            if known is None:
                known = self.informers[kind] = Informer(route, Store())
                self._start(known)
            else:
                narrowed = (known.route.label_selector, known.route.field_selector) != (route.label_selector, route.field_selector)
                known.route = route
                if narrowed:
                    self._stop(known)
                    self._start(known)
            if route.owned:  # a first query at a hand-out would block it: 20 ms for 10 000 objects
                known.store.build_index("owner")
            for path in route.fields:
                _index(known.store, path)
        if plan.connect is None:
            self.reason = "its embedded server is not up yet"
        elif plan.connect != self._spec:
            self._spec = plan.connect
            if self._connecting is not None:
                self._connecting.cancel()
            connect = partial(self._connect, plan.connect)
            self._connecting = self._loops.supervise(connect, LoopName.CONNECTION, ProblemOwner(cluster=self.name))

    async def _connect(self, spec: ConnectSpec) -> None:
        wait = RETRY_MIN
        while True:
            try:
                client = await ClusterClient.connect(spec, self._clock)
                version = (await client.version()).gitVersion
            except (KubeError, ConnectError) as error:
                if self.reason != str(error):
                    log.warning("%s", error)
                self.reason = str(error)
                self._watcher.cluster_changed(self.name)
                await self._clock.sleep(wait)
                wait = min(RETRY_MAX, wait * 2)
                continue
            break
        if self.resumes:
            await self._ready(self.name)
        before, self.client = self.client, client
        self.version = version
        self.reason = ""
        for informer in self.informers.values():
            self._stop(informer)
            self._start(informer)
        if before is not None:
            await before.close()
        self._watcher.cluster_changed(self.name)

    def _start(self, informer: Informer) -> None:
        if self.client is None:
            return
        kind = informer.route.kind

        watermark = self._since(self.name, kind) if self.resumes else None
        informer.accounted = False
        reflector = Reflector(
            self.client,
            kind,
            informer.store,
            partial(self._watcher.events, self.name, kind),
            self._clock,
            label_selector=informer.route.label_selector,
            field_selector=informer.route.field_selector,
            options=msgspec.structs.replace(
                self._options,
                on_void=lambda _: self._watcher.void(self.name, kind),
                series=self._counts.series(self.name, str(kind)),
            ),
            watermark=watermark,
        )
        reflector.identity = informer.identity
        informer.reflector = reflector
        owner = ProblemOwner(cluster=self.name, kind=str(kind))
        informer.task = self._loops.supervise(reflector.run, LoopName.REFLECTOR, owner)
        informer.syncing = self._loops.supervise(partial(self._when_synced, informer, reflector), LoopName.SYNC, owner)

    async def _when_synced(self, informer: Informer, reflector: Reflector) -> None:
        await reflector.synced.wait()
        if informer.reflector is not reflector:
            return
        self._watcher.listed(self.name, informer.route.kind)
        informer.accounted = True
        self._watcher.accounted(self.name)
        self._watcher.cluster_changed(self.name)
        await reflector.replayed.wait()
        if informer.reflector is reflector:
            self._watcher.replayed(self.name, informer.route.kind, reflector.replay_complete)

    def _stop(self, informer: Informer) -> None:
        for task in (informer.task, informer.syncing):
            if task is not None:
                task.cancel()
        if informer.reflector is not None:
            informer.identity = informer.reflector.identity
        informer.task = informer.syncing = informer.reflector = None

    def rebind(self, watcher: Watcher) -> None:
        """Report to another watcher from now on."""
        self._watcher = watcher
        for kind, informer in self.informers.items():
            if informer.reflector is not None:
                informer.reflector.handler = partial(watcher.events, self.name, kind)

    @property
    def synced(self) -> bool:
        """Whether all kinds have been listed."""
        return self.client is not None and all(informer.synced for informer in self.informers.values())

    @property
    def usable(self) -> bool:
        """Whether all kinds that its server knows have been listed."""
        kinds = self.informers.values()
        return self.client is not None and all(i.synced or (i.reflector is not None and i.reflector.unserved) for i in kinds)

    @property
    def in_flight(self) -> int:
        """Requests under way to its API server, watches not counted."""
        return self.client.gate.in_flight if self.client is not None else 0

    def fill(self, report: ClusterReport) -> None:
        """Put the facts into a report."""
        report.version = self.version
        report.objects = sum(len(informer.store) for informer in self.informers.values())
        report.synced = self.synced
        report.reachable = self.client is not None and self.plan.connect is not None
        reasons = [self.reason] if self.reason else []
        now = self._clock.now()
        for kind, informer in self.informers.items():
            if informer.reflector is None:
                continue
            status = informer.reflector.status()
            report.lag = max(report.lag, now - status.last_contact)
            if status.reason and (not status.synced or status.phase is Phase.BACKING_OFF):
                reasons.append(f"{kind}: {status.reason}")
            # Also while it tries again: a cluster that hangs must not seem to come and go.
            failing = status.phase is not Phase.WATCHING and bool(status.last_error)
            if failing and now - status.last_contact > UNREACHABLE_AFTER:
                report.reachable = False
        if self.client is not None and self.client.breaker is not None:
            report.breaker = self.client.breaker.state
        report.reason = "; ".join(reasons[:5])

    async def close(self) -> None:
        """Stop watching."""
        if self._connecting is not None:
            self._connecting.cancel()
        for informer in self.informers.values():
            self._stop(informer)
        if self.client is not None:
            await self.client.close()


def _index(store: Store, path: str) -> None:
    """Keep an index of what the store's objects name at ``path``."""
    references = References(path)
    with contextlib.suppress(ValueError):  # it has one
        store.add_index(field_index(path), lambda obj: references.read(obj.raw))
    store.build_index(field_index(path))
