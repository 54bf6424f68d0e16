"""The API server as the simulation uses it, and the tools that its controllers share."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec

from raycp.base.clock import Clock
from raycp.embedded.errors import StatusError
from raycp.embedded.registry import Registry
from raycp.embedded.store import ObjectStore, StoreChange, Table

Object = dict[str, Any]

log = logging.getLogger(__name__)


class Api(Protocol):
    """The in-process client (``raycp.embedded.localapi.LocalApi``). Its methods raise ``StatusError``.

    Resources are named ``plural`` or ``plural.group``.
    """

    async def create(self, resource: str, obj: Object, ns: str = "", *, subresource: str = "", name: str = "") -> Object: ...

    async def update(self, resource: str, obj: Object, *, subresource: str = "") -> Object: ...

    async def delete(
        self, resource: str, ns: str, name: str, *, propagation: str = "", uid: str = "", grace: int | None = None
    ) -> None: ...


class OwnerReference(msgspec.Struct, rename="camel"):
    """``metadata.ownerReferences[]``."""

    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    block_owner_deletion: bool = False


class PartialMetadata(msgspec.Struct, rename="camel"):
    """The metadata that the simulation reads."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    finalizers: list[str] | None = None
    owner_references: list[OwnerReference] | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class Whole(msgspec.Struct):
    """An object decoded to its metadata."""

    metadata: PartialMetadata = msgspec.field(default_factory=PartialMetadata)


decode_meta = msgspec.json.Decoder(Whole).decode


def iso(wall: float) -> str:
    """``metav1.Time`` of Unix seconds."""
    return datetime.fromtimestamp(int(wall), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def iso_micro(wall: float) -> str:
    """``metav1.MicroTime`` of Unix seconds."""
    return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def unix(text: str) -> float:
    """Unix seconds of a ``metav1.Time`` or ``MicroTime``."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


class Inbox:
    """A work queue: a set of keys in order of arrival, and the loop that processes them.

    The store calls subscribers inside a commit, where writes are not allowed. They ``put`` keys here, and ``run``
    processes them later on the event loop, yielding often enough to serve requests. A failed key is retried at once,
    then after two seconds, doubling up to a minute.
    """

    SLICE = 0.005
    """seconds of work between two yields"""

    def __init__(self, work: Callable[[Any], Awaitable[float | None]], clock: Clock) -> None:
        self._work = work
        self._clock = clock
        self._keys: deque[Any] = deque()
        self._known: set[Any] = set()
        self._wake = asyncio.Event()
        self._failures: dict[Any, int] = {}
        self._timers: set[asyncio.Task[None]] = set()
        self._working = False

    def put(self, key: Any) -> None:
        """Queue ``key``; a key that is already queued is not queued twice."""
        if key not in self._known:
            self._known.add(key)
            self._keys.append(key)
            self._wake.set()

    @property
    def busy(self) -> bool:
        """Whether keys are queued or in work."""
        return bool(self._keys) or self._working

    def put_all(self, keys: Iterable[Any]) -> None:
        for key in keys:
            self.put(key)

    def later(self, key: Any, seconds: float) -> None:
        """Queue ``key`` in ``seconds``."""

        async def wait() -> None:
            await self._clock.sleep(seconds)
            self.put(key)

        task = asyncio.get_running_loop().create_task(wait())
        self._timers.add(task)
        task.add_done_callback(self._timers.discard)

    async def run(self) -> None:
        """Process keys until cancelled. ``work`` may return the seconds after which to requeue the key."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                until = loop.time() + self.SLICE
                while self._keys:
                    key = self._keys.popleft()
                    self._known.discard(key)
                    await self._one(key)
                    if loop.time() > until:
                        await asyncio.sleep(0)
                        until = loop.time() + self.SLICE
        finally:
            for timer in self._timers:
                timer.cancel()

    async def _one(self, key: Any) -> None:
        self._working = True
        try:
            again = await self._work(key)
        except Exception as error:
            if not isinstance(error, StatusError):
                log.error("simulation: processing %s failed", key, exc_info=error)
            tries = self._failures[key] = self._failures.get(key, 0) + 1
            self.later(key, min(60.0, 2.0 ** (tries - 1)) if tries > 1 else 0.05)
            return
        finally:
            self._working = False
        self._failures.pop(key, None)
        if again is not None:
            self.later(key, again)


class Tables:
    """Subscriptions to tables, closed together; tables of CRDs are added as they appear."""

    def __init__(self, store: ObjectStore, registry: Registry) -> None:
        self.store = store
        self.registry = registry
        self._undo: list[Callable[[], None]] = []

    def table(self, resource: str) -> Table:
        found = self.registry.named(resource)
        assert found is not None, resource
        return found.table

    def read(self, resource: str, ns: str, name: str) -> Object | None:
        """The current object as a fresh dict."""
        found = self.registry.named(resource)
        record = found.table.get(ns, name) if found is not None else None
        return found.read(record) if found is not None and record is not None else None

    def subscribe(self, resource: str, on_change: Callable[[StoreChange], None]) -> Table:
        """Subscribe to every later change of a built-in resource."""
        table = self.table(resource)
        self._undo.append(table.subscribe("", on_change))
        return table

    def on(self, table: Table, on_change: Callable[[StoreChange], None]) -> None:
        self._undo.append(table.subscribe("", on_change))

    def close(self) -> None:
        for undo in self._undo:
            undo()
        self._undo.clear()
