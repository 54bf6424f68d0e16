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
from raycp.base.owner_marks import MarkKeys
from raycp.base.problems import ProblemOwner
from raycp.cache import EventBudget, FaultOwner, Phase, Reflector, ReflectorOptions, Store
from raycp.cache.memory import CacheMemory
from raycp.classify.references import References
from raycp.kube import ApiError, ClusterClient, ConnectError, ConnectSpec, KubeError
from raycp.kube.limits import AnswerLimits
from raycp.metrics import ReflectorMetrics
from raycp.protocol.plan import ClusterPlan
from raycp.protocol.report import ClusterReport
from raycp.shard.owned_objects import CLAIMS, Claims
from raycp.shard.routes import KindRoutes, field_index

log = logging.getLogger(__name__)

RETRY_MIN = 0.5
RETRY_MAX = 10.0
UNREACHABLE_AFTER = 5.0
"""Silence in seconds after which a cluster counts as unreachable whose server as a whole does not answer."""


class Watcher(Protocol):
    """Receives the reports of a watched cluster (``watchers``)."""

    @property
    def events(self) -> Callable[[str, GVK, list[Event]], None]:
        """A batch of changes of one kind, which the cache has applied."""
        ...

    @property
    def connected(self) -> Callable[[str], None]:
        """The cluster has a client, perhaps a new one, which has sent one request."""
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

    def __init__(self, route: KindRoutes, store: Store, claims: Claims) -> None:
        self.route = route
        self.store = store
        self.reflector: Reflector | None = None
        self.task: asyncio.Task[None] | None = None
        self.syncing: asyncio.Task[None] | None = None
        """Waits for the first list, and for the end of the replay."""
        self.identity = ""
        """Of the cluster whose objects are in ``store``: behind a new connection there may be another one."""
        self.claims = claims
        """Says which of its objects belong to the owners that they name."""
        claims.index(store)
        self.accounted = False
        """Whether the keys that the list made due are queued: only then may its version count as observed."""

    @property
    def failing(self) -> bool:
        """Whether its reflector has failed, and has neither listed nor watched since."""
        return self.reflector is not None and self.reflector.status().fault is not FaultOwner.NONE

    @property
    def refused(self) -> bool:
        """Whether the server, which is well as a whole, does not serve this kind, forbids it, or fails to read it (law 11)."""
        return self.reflector is not None and self.reflector.status().fault is FaultOwner.KIND

    @property
    def controllers(self) -> list[str]:
        """The names of those that reconcile, own or read objects of this kind here."""
        route = self.route
        names = [each.controller.name for each in route.primaries]
        names += [each.controller.name for each in route.owned]
        names += [each.controller.name for each in route.watched]
        return sorted(set(names))

    @property
    def unreadable(self) -> int:
        """Objects that are left out, since they can't be read."""
        return self.reflector.unreadable.count if self.reflector is not None else 0

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
        self.voided = 0.0
        """Unix time at which its cache became void for the last time."""
        self._watcher = watcher
        self._clock = clock
        self._loops = loops
        self._since = since
        self._options = options
        self._ready = ready
        self._counts = counts
        self._spec: ConnectSpec | None = None
        self._connecting: asyncio.Task[None] | None = None
        self.budget = EventBudget(clock)
        """How many events of its watches are processed per second."""
        self.memory = CacheMemory(AnswerLimits().memory)
        """How much its caches may take of this process."""

    def update(self, plan: ClusterPlan, routes: dict[GVK, KindRoutes], marks: MarkKeys | None) -> None:
        """Watch these kinds over this connection from now on; ``marks`` prove whose children their objects are."""
        self.plan = plan
        for kind in [kind for kind in self.informers if kind not in routes]:
            gone = self.informers.pop(kind)
            self._stop(gone)
            self.memory.drop(gone.store)
        for kind, route in routes.items():
            known = self.informers.get(kind)
            if known is None:
                known = self.informers[kind] = Informer(route, Store(), Claims(self.name, kind, marks, self.skew))
                self._start(known)
            else:
                narrowed = (known.route.label_selector, known.route.field_selector) != (route.label_selector, route.field_selector)
                known.route = route
                if narrowed:
                    self._stop(known)
                    self._start(known)
            if known.claims.keys != marks:
                known.claims = Claims(self.name, kind, marks, self.skew)
                known.claims.index(known.store)
            if route.owned:  # a first query at a hand-out would block it: 20 ms for 10 000 objects
                known.store.build_index("owner")
                known.store.build_index(CLAIMS)
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

    def skew(self) -> float:
        """Seconds that its server's wall clock is ahead of ours; 0 where that is not known."""
        return self.client.skew if self.client is not None else 0.0

    async def _connect(self, spec: ConnectSpec) -> None:
        """Try until it answers as an API server does."""
        wait = RETRY_MIN
        while True:
            try:
                client, version = await self._first_answer(spec)
                break
            except Exception as error:  # law 12: whatever it is, the next attempt may succeed
                if self.reason != (text := _told(error)):
                    log.warning("cluster %s: %s", self.name, text, exc_info=None if isinstance(error, KubeError) else error)
                self.reason = text
            self._watcher.cluster_changed(self.name)
            await self._clock.sleep(wait)
            wait = min(RETRY_MAX, wait * 2)
        if self.resumes:
            try:
                await self._ready(self.name)
            except asyncio.CancelledError:  # there is a newer connection
                await client.close()
                raise
            except Exception:  # law 12: without it, more is reconciled than necessary
                log.exception("cluster %s starts without a watermark", self.name)
        before, self.client = self.client, client
        self.memory.limit = spec.limits.memory
        self.version = version
        self.reason = ""
        self._watcher.connected(self.name)
        for informer in self.informers.values():
            self._stop(informer)
            self._start(informer)
        if before is not None:
            await before.close()
        self._watcher.cluster_changed(self.name)

    async def _first_answer(self, spec: ConnectSpec) -> tuple[ClusterClient, str]:
        """A client and the server's version, empty if that may not be read. Raises ``KubeError``."""
        client = await ClusterClient.connect(spec, self._clock)
        try:
            return client, (await client.version()).gitVersion
        except ApiError as error:
            if error.status in (403, 404):
                return client, ""
            await client.close()
            raise
        except BaseException:
            await client.close()
            raise

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
                on_void=lambda _: self._void(kind),
                series=self._counts.series(self.name, str(kind)),
            ),
            watermark=watermark,
            budget=self.budget,
            memory=self.memory,
            identity=informer.identity,
        )
        informer.reflector = reflector
        owner = ProblemOwner(cluster=self.name, kind=str(kind))
        informer.task = self._loops.supervise(reflector.run, LoopName.REFLECTOR, owner)
        informer.syncing = self._loops.supervise(partial(self._when_synced, informer, reflector), LoopName.SYNC, owner)

    def _void(self, kind: GVK) -> None:
        self.voided = self._clock.wall()
        self._watcher.void(self.name, kind)

    async def _when_synced(self, informer: Informer, reflector: Reflector) -> None:
        await reflector.synced.wait()
        if informer.reflector is not reflector:
            return
        try:
            self._watcher.listed(self.name, informer.route.kind)
        except Exception:  # law 11: of one kind, here
            log.exception("what the list of %s in cluster %s makes due is incomplete", informer.route.kind, self.name)
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

    def wake(self) -> None:
        """Its API server answers again: kinds that wait because of it are tried at once."""
        for informer in self.informers.values():
            if informer.reflector is not None:
                informer.reflector.wake()

    @property
    def synced(self) -> bool:
        """Whether all kinds have been listed."""
        return self.client is not None and all(informer.synced for informer in self.informers.values())

    @property
    def usable(self) -> bool:
        """Whether all kinds have been listed that its server does not refuse."""
        return self.client is not None and all(informer.synced or informer.refused for informer in self.informers.values())

    @property
    def last_contact(self) -> float:
        """When any of its lists or watches last received something, by our clock; its start before that."""
        return max([self.started, *(informer.last_contact or 0.0 for informer in self.informers.values())])

    @property
    def in_flight(self) -> int:
        """Requests under way to its API server, watches not counted."""
        return self.client.gate.in_flight if self.client is not None else 0

    def fill(self, report: ClusterReport) -> None:
        """Put the facts into a report. A kind that fails alone does not make the cluster unreachable."""
        report.version = self.version
        report.objects = sum(len(informer.store) for informer in self.informers.values())
        report.synced = self.synced
        report.reachable = self.client is not None and self.plan.connect is not None
        reasons = [self.reason] if self.reason else []
        now = self._clock.now()
        if self.client is None:
            report.lag = now - self.started
        for kind, informer in self.informers.items():
            if informer.reflector is None:
                continue
            status = informer.reflector.status()
            report.lag = max(report.lag, now - max(status.last_contact, self.started))
            if status.reason and (not status.synced or status.fault is not FaultOwner.NONE):
                whose = f" (controller {', '.join(informer.controllers)})" if status.fault is FaultOwner.KIND else ""
                reasons.append(f"{kind}{whose}: {status.reason if status.fault is FaultOwner.NONE else status.last_error}")
            if status.left_out:
                reasons.append(f"{kind}: {status.left_out}")
            if status.fault is FaultOwner.SERVER and now - status.last_contact > UNREACHABLE_AFTER:
                report.reachable = False
        if self.client is not None:
            if self.client.credentials_problem:
                reasons.append(f"its credentials cannot be renewed: {self.client.credentials_problem}")
            if self.client.breaker is not None:
                report.breaker = self.client.breaker.state
        if self.budget.review():
            folded = f"changes of one object are folded ({self.budget.folded} so far)"
            reasons.append(f"more than {self.budget.rate:g} events a second: {folded}")
        report.reason = "; ".join(reasons[:5])

    async def close(self) -> None:
        """Stop watching."""
        if self._connecting is not None:
            self._connecting.cancel()
        for informer in self.informers.values():
            self._stop(informer)
        if self.client is not None:
            await self.client.close()


def _told(error: Exception) -> str:
    """What is wrong with a cluster whose name the reader knows already."""
    if isinstance(error, ConnectError):
        return f"{error.problem}. {error.remedy}"
    return str(error) or type(error).__name__


def _index(store: Store, path: str) -> None:
    """Keep an index of what the store's objects name at ``path``."""
    references = References(path)
    with contextlib.suppress(ValueError):  # it has one
        store.add_index(field_index(path), lambda obj: references.read(obj.raw))
    store.build_index(field_index(path))
