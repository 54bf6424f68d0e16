"""The watermarks in the hub: one ConfigMap per shard, read before a cluster's reflectors start, written when something has changed.

A hub that can't be reached stops nothing: after ``PATIENCE`` a cluster starts without a watermark (everything it lists is backlog,
nothing is lost), and the next tick writes again. A ConfigMap that a primary of a higher epoch or term has written is
never written over.
"""

import asyncio
import logging
from collections.abc import Iterable

import msgspec

from raycp.base.clock import Clock
from raycp.base.keys import GVK
from raycp.classify.watermark import MAX_EXCEPTIONS
from raycp.kube import ConnectError, KubeError
from raycp.leadership.answers import NamespaceMissing
from raycp.leadership.records import Conflict, Record, Records
from raycp.member.clients import Clients
from raycp.protocol.plan import Plan
from raycp.shard.caches import Caches
from raycp.shard.identity import ShardIdentity
from raycp.shard.routes import Routes
from raycp.shard.watermarks import ClusterMarks, Watermarks

log = logging.getLogger(__name__)

PATIENCE = 5.0
"""How long a cluster's start waits for its watermark, in seconds."""

IDLE = 30.0
"""Seconds between writes of versions that advanced without a due key: they shorten a later replay."""

MAX_BYTES = 900_000
"""A ConfigMap holds 1 MiB. Beyond this, fewer exceptions are stored: the record then claims less, and nothing wrong."""

COSTS_AT_MOST = 0.05
"""Share of the loop's time that encoding may take."""

FLUSHES = 3
"""Tries of a flush."""


class WatermarkStore:
    """One shard's reading and writing of ``state.marks``."""

    def __init__(
        self, identity: ShardIdentity, routes: Routes, caches: Caches, marks: Watermarks, clients: Clients, clock: Clock
    ) -> None:
        self._identity = identity
        self._routes = routes
        self._caches = caches
        self._marks = marks
        self._clients = clients
        self._clock = clock
        self._plan: Plan | None = None
        self._ready: set[str] = set()
        self._reading: asyncio.Task[dict[str, ClusterMarks]] | None = None
        self._record: Record | None = None
        self._others: dict[str, str] = {}
        self._found = False
        self._written = -1
        self._rvs: dict[str, int] = {}
        self._written_at = 0.0
        self._not_before = 0.0
        self._superseded = False
        self._saving = asyncio.Lock()
        self._unread = self._unwritten = ""

    def update(self, plan: Plan) -> None:
        """Take over ``plan``."""
        if self._plan is not None and plan.epoch > self._plan.epoch:
            # Another fleet may have led meanwhile: read its record again before writing over it.
            self._superseded = self._found = False
            self._written = -1
        self._plan = plan
        self._clients.update(plan)
        mine = {cluster.name for cluster in plan.clusters if cluster.shard == self._identity.shard}
        self._ready &= mine

    def _name(self) -> str:
        return f"watermark-{self._identity.shard}"

    @property
    def problem(self) -> str:
        """Why the watermarks could not be read or written at the last try; empty when a later one succeeds."""
        return self._unwritten or self._unread

    @property
    def stored(self) -> bool:
        """Whether the hub's record has every exception as of now."""
        return self._written >= 0 and self._written == self._marks.changes

    def since(self, cluster: str, kind: GVK) -> int | None:
        """The version up to which a predecessor or this process has observed everything; None where nothing is known."""
        return self._marks.rv(cluster, kind)

    def adopt(self, clusters: Iterable[str]) -> None:
        """These clusters' watermarks are known from the primary: don't read them."""
        self._ready.update(clusters)

    async def _records(self) -> Records:
        plan = self._plan
        assert plan is not None
        return Records(await self._clients.get(plan.hub.name), plan.fleet.name, plan.fleet.doc.spec.state.namespace)

    # reading

    async def ready(self, cluster: str) -> None:
        """Wait until the cluster's watermark has been read, at most ``PATIENCE``."""
        deadline = self._clock.now() + PATIENCE
        while cluster not in self._ready:
            try:
                async with asyncio.timeout(max(0.05, deadline - self._clock.now())):
                    if self._reading is None or self._reading.done():
                        self._reading = asyncio.get_running_loop().create_task(self._read())
                    found = await asyncio.shield(self._reading)
            except Exception as error:  # a record that can't be read stops no cluster
                self._unread = str(error) or type(error).__name__
                if self._clock.now() >= deadline:
                    log.warning("cluster %s starts without a watermark: %s", cluster, self._unread)
                    self._ready.add(cluster)
                    return
                await self._clock.sleep(0.2)
                continue
            if cluster in self._ready:
                return
            self._ready.add(cluster)
            stored = found.get(cluster)
            if stored is None:
                return
            try:
                self._marks.restore(cluster, stored, self._routes.controllers)
            except ValueError as error:
                log.error("the watermark of cluster %s can't be read (%s): it starts without", cluster, error)
                self._marks.drop_cluster(cluster)

    async def _read(self) -> dict[str, ClusterMarks]:
        """The newest stored form of each cluster, whichever shard wrote it."""
        records = await self._records()
        rows = await records.list("watermark-")
        found: dict[str, ClusterMarks] = {}
        for name, record in rows.items():
            for cluster, text in record.data.items():
                if cluster.startswith("_"):
                    continue
                try:
                    marks = msgspec.json.decode(text, type=ClusterMarks)
                except (msgspec.MsgspecError, ValueError, RecursionError) as error:
                    log.error("the watermark of cluster %s in %s can't be read: %s", cluster, name, error)
                    continue
                if cluster not in found or found[cluster].at < marks.at:
                    found[cluster] = marks
        own = rows.get(self._name())
        self._took(own)
        return found

    def _took(self, record: Record | None) -> None:
        self._record = record
        self._unread = ""
        self._found = True
        self._others = dict(record.data) if record is not None else {}

    # writing

    async def tick(self) -> None:
        """Once a second: count announced versions as observed, and write if it is worth it. A failing hub sets ``problem``."""
        await self._try(force=False)

    async def flush(self) -> None:
        """Write now, for the successor: after a write in progress, which is older, and again after a conflict."""
        for _ in range(FLUSHES):
            if await self._try(force=True):
                return

    async def _try(self, force: bool) -> bool:
        """Whether it wrote; one at a time."""
        try:
            async with self._saving:
                return await self._save(force)
        except (KubeError, ConnectError) as error:
            if not self._unwritten:
                log.warning("the watermarks can't be written now: %s", error)
            self._unwritten = str(error) or type(error).__name__
            return False

    async def _save(self, force: bool) -> bool:
        plan, identity = self._plan, self._identity
        if plan is None or plan.hub.connect is None or not identity.primary or self._superseded:
            return False
        self._observe()
        now = self._clock.now()
        if now < self._not_before and not force:
            return False
        changed = force or self._marks.changes != self._written
        moved = any(self._rvs.get(f"{name}/{kind}") != rv for (name, kind), rv in self._versions())
        if not changed and not (moved and now - self._written_at >= IDLE):
            return False
        if not self._found:
            self._took(await (await self._records()).read(self._name()))
        began = self._clock.now()  # what it waited for the hub took none of the loop's time
        data = self._encode(plan)
        versions = {f"{name}/{kind}": rv for (name, kind), rv in self._versions()}
        changes = self._marks.changes
        self._not_before = self._clock.now() + (self._clock.now() - began) / COSTS_AT_MOST
        records = await self._records()
        try:
            self._record = await records.write(self._name(), data, self._record)
        except Conflict:
            self._took(await records.read(self._name()))
            if _writer(self._others.get("_by", "")) > (identity.epoch, identity.term):
                log.warning("another primary writes the watermarks of shard %s; this one stops", identity.shard)
                self._superseded = True
            return False
        except NamespaceMissing:
            return False  # the leader makes it
        self._written, self._rvs, self._written_at = changes, versions, now
        self._unwritten = ""
        return True

    def _versions(self) -> list[tuple[tuple[str, str], int]]:
        return [((name, str(kind)), self._marks.rv(name, kind) or 0) for name, kind, _ in self._caches.informers()]

    def _until(self, name: str) -> dict[GVK, float]:
        """By kind, the server's time when its watch last received something."""
        ahead = self._caches.skew(name) + self._clock.wall() - self._clock.now()
        informers = self._caches.clusters[name].informers.items()
        return {kind: at + ahead for kind, informer in informers if (at := informer.last_contact) is not None}

    def _observe(self) -> None:
        for name, kind, informer in self._caches.informers():
            if name in self._ready and informer.announced:
                self._marks.observe(name, kind, informer.store.rv)

    def _encode(self, plan: Plan) -> dict[str, str]:
        fleet = {cluster.name for cluster in plan.clusters}
        limit = MAX_EXCEPTIONS
        while True:
            data = {name: text for name, text in self._others.items() if name in fleet}
            for name in self._caches.clusters:
                if name in self._ready:
                    marks = self._marks.export(name, limit, self._until(name))
                    if marks.kinds:
                        marks.at = self._clock.wall()
                        data[name] = msgspec.json.encode(marks).decode()
            if sum(map(len, data.values())) < MAX_BYTES or limit == 0:
                break
            limit //= 4
        data["_by"] = f"{self._identity.epoch}/{self._identity.term}"
        return data


def _writer(text: str) -> tuple[int, int]:
    """Epoch and term of the primary that wrote a record; 0 and 0 where they can't be read."""
    try:
        epoch, term = (int(part) for part in text.split("/"))
    except ValueError:
        return 0, 0
    return epoch, term
