"""The reflector: keeps a ``Store`` equal to one kind of one cluster until it is cancelled, whatever the server does.

Normal flow: list (streamed where the server supports it) → emit → watch from the list's version → watch again from where the last
watch ended. With a watermark, the first watch starts there, so that what happened in between is emitted too (REPLAY). ``states``
says which states there are and what leads from one to the next; this class does what a state asks for.

Guarantees: the store contains a change before the handler is called with it; errors of the handler are logged and end nothing;
only cancelling ends ``run``.

| what happens | what follows |
|---|---|
| watch ends normally | watch again at once, from its last version |
| connection lost or refused, 429, 5xx, silence | backoff, watch again from the last version; no list |
| 410 (history compacted) | list at once; unchanged objects emit nothing |
| restored or recreated cluster | list, the store is swapped as a whole, ``on_void`` is called |
| a line that cannot be decoded | backoff, list |
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence

import msgspec

from raycp.base.clock import Clock
from raycp.base.events import Event, Source
from raycp.base.keys import GVK
from raycp.cache import states
from raycp.cache.backoff import Backoff
from raycp.cache.counts import NOT_STREAMED, START, counted_watch, reason_of
from raycp.cache.difference import SLICE
from raycp.cache.initial_stream import NotStreamed, initial_stream
from raycp.cache.options import ReflectorOptions
from raycp.cache.paged_list import PagedList
from raycp.cache.replacement import Replacement
from raycp.cache.replay import replayed_events
from raycp.cache.selectors import Selector
from raycp.cache.status import Phase, ReflectorStatus
from raycp.cache.store import Store
from raycp.kube import ApiError, ClusterClient, KubeError, NoSuchKind, Unreachable
from raycp.kube.codec import decode_watch_lines
from raycp.kube.connection import LineStream
from raycp.kube.objects import Query
from raycp.metrics import Metrics, ReflectorMetrics

log = logging.getLogger("raycp.cache")

Handler = Callable[[list[Event]], None]


class Reflector:
    """One kind of one cluster. ``handler(events)`` is called after the store has taken the events in. ``watermark`` is the
    version up to which a predecessor had observed everything.
    """

    def __init__(
        self,
        client: ClusterClient,
        gvk: GVK,
        store: Store,
        handler: Handler,
        clock: Clock,
        *,
        label_selector: str = "",
        field_selector: str = "",
        options: ReflectorOptions | None = None,
        watermark: int | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.gvk = gvk
        self.store = store
        self.synced = asyncio.Event()
        """the first list is in the store and emitted"""
        self.replayed = asyncio.Event()
        """what happened between watermark and first list is emitted (set with ``synced`` if there is no watermark)"""
        self.replay_complete = False
        """a watermark was given, and everything since has been emitted, deletions included"""
        self.unserved = False
        """the server answers, but does not serve the kind"""
        self.identity = ""
        """the last known uid of namespace kube-system; empty if it cannot be read"""
        self._client = client
        self.handler = handler
        self._clock = clock
        self._options = options = options or ReflectorOptions()
        self._rng = rng or random.Random()
        self._selectors: dict[str, str | int | bool] = {}
        if label_selector:
            self._selectors["labelSelector"] = label_selector
        if field_selector:
            self._selectors["fieldSelector"] = field_selector
        store.selector = Selector.parse(label_selector)
        store.partial = bool(field_selector)
        self._backoff = Backoff(clock, self._rng, first=options.backoff_first, cap=options.backoff_cap, quiet=options.backoff_quiet)
        self._path = ""
        self._state = states.initial(stream=options.watch_list, watermark=watermark)
        self._status = ReflectorStatus(gvk, clock.now())
        self._series = options.series or ReflectorMetrics(Metrics()).series(client.name, str(gvk))
        self._list_reason = START

    def status(self) -> ReflectorStatus:
        status = msgspec.structs.replace(self._status)
        status.synced = self.synced.is_set()
        status.objects, status.rv, status.voids = len(self.store), self.store.rv, self.store.voids
        return status

    async def run(self) -> None:
        """Run until cancelled."""
        try:
            while True:
                try:
                    await self._advance()
                except Exception as error:
                    await self._recover(error)
        finally:
            self._status.enter(Phase.STOPPED, "stopped", self._clock.now())

    async def _advance(self) -> None:
        """Do what the state asks for; returns when the state has changed or a watch has ended normally."""
        if not self._path:
            self._path = (await self._client.resource(self.gvk)).path()
            self.unserved = False
        state = self._state
        if isinstance(state, states.Replaying | states.Watching):
            await self._watch(state)
            return
        self._status.enter(Phase.LISTING, "listing", self._clock.now())
        self._series.list_begun(self._list_reason)
        await self._check_identity()
        if isinstance(state, states.Streaming):
            await self._stream(state)
        else:
            await self._list(state)

    async def _check_identity(self) -> None:
        if not self._options.check_identity:
            return
        found = await self._client.identity()
        known, self.identity = self.identity, found or self.identity
        if known and found and known != found:
            raise states.Restored(f"namespace kube-system has uid {found} now, not {known}")

    # -- the whole state

    async def _list(self, state: states.Listing) -> None:
        options = self._options
        listed = PagedList(self._client, self._path, self._selectors, page=options.page, timeout=options.list_timeout)
        replacement, version = await listed.read(lambda: self.store.begin_replacement(void=state.void), self._received)
        await self._publish(state, replacement, version)

    async def _stream(self, state: states.Streaming) -> None:
        replacement = self.store.begin_replacement(void=state.void)
        query = self._query(sendInitialEvents=True, resourceVersionMatch="NotOlderThan")
        patience, stall = self._options.initial_patience, self._options.stall
        opening = initial_stream(self._client, self._path, query, replacement, self._received, patience=patience, stall=stall)
        try:
            async with opening as (version, rest, stream):
                await self._publish(state, replacement, version)
                if isinstance(self._state, states.Replaying):
                    return  # the watch starts at the watermark
                with counted_watch(self._series):
                    self._watching()
                    await self._take_in(rest)
                    await self._follow(stream)
        except NotStreamed as reason:
            log.info("%s: the server did not stream the initial state; listing", self._name)
            self._state = states.without_stream(state, supported=reason.supported)
            self._list_reason = NOT_STREAMED

    def _received(self) -> None:
        self._status.last_contact = self._clock.now()

    async def _publish(self, state: states.Streaming | states.Listing, replacement: Replacement, version: int) -> None:
        """Swap the store and emit the difference."""
        store, watermark = self.store, state.watermark
        fresh = not store.rv  # otherwise this reflector continues in the store of a stopped one
        voids = store.voids
        now = self._clock.now()
        for events in store.commit(replacement, version, Source.INITIAL if fresh else Source.RELIST, now):
            self._emit(events)
            await asyncio.sleep(0)
        self._status.lists += 1
        self._series.list_seconds.observe(self._clock.now() - self._status.since)
        if watermark is not None and watermark > version:
            store.voids += 1
            self._report_void(f"the list's version {version} is below the watermark {watermark}")
        elif store.voids != voids:
            self._report_void(f"the list at version {version} is older than the cache")
        self.synced.set()
        self._backoff.reset()
        self.replay_complete = bool(watermark) and fresh and store.voids == voids
        self._state = states.after_list(state, version, fresh=fresh)
        if isinstance(self._state, states.Watching):
            self.replayed.set()

    # -- the watch

    async def _watch(self, state: states.Replaying | states.Watching) -> None:
        if state.server.contact_lost:
            await self._check_identity()
            self._state = states.verified(state)
        query = self._query(resourceVersion=str(state.since))
        async with self._client.stream(self._path, query, idle_timeout=self._options.stall) as stream:
            with counted_watch(self._series):
                await self._follow(stream)

    async def _follow(self, stream: LineStream) -> None:
        started, received = self._clock.now(), False
        quiet = asyncio.create_task(self._end_replay_when_quiet()) if isinstance(self._state, states.Replaying) else None
        self._watching()
        self._status.watches += 1
        try:
            async for lines in stream:
                received = True
                await self._take_in(lines)
        finally:
            if quiet is not None:
                quiet.cancel()
        if not received and self._clock.now() - started < self._options.short_watch:
            raise Unreachable("the server ended the watch at once and without an event", sent=True)

    async def _take_in(self, lines: Sequence[bytes]) -> None:
        self._received()
        for start in range(0, len(lines), SLICE):
            if start:
                await asyncio.sleep(0)
            self._apply(lines[start : start + SLICE])

    def _apply(self, lines: Sequence[bytes]) -> None:
        """Apply some lines of the watch to the store and emit their events, those before a bad line included."""
        state, store, now = self._state, self.store, self._status.last_contact
        assert isinstance(state, states.Replaying | states.Watching)
        since = state.since
        events: list[Event] = []
        changes, failure = decode_watch_lines(lines, f"watch {self._path}")
        received = self._series.received
        try:
            for kind, obj in changes:
                received[kind].value += 1.0
                if obj.rv < since and kind != "DELETED":
                    raise states.Restored(f"version {obj.rv} was received after {since}")
                since = max(since, obj.rv)
                if isinstance(state, states.Replaying):
                    if obj.rv <= state.until:
                        events += replayed_events(store, state.earlier, kind, obj, now)
                    if obj.rv >= state.until:
                        state = states.after_replay(state)
                        self.replayed.set()
                    if obj.rv <= store.rv:
                        continue
                events += store.apply(kind, obj, Source.WATCH, now)
            if failure is not None:
                raise failure
        finally:
            self._state = msgspec.structs.replace(state, since=since)
            if events:
                try:  # not by _emit: the handler is called directly, which keeps the path of a change short
                    self.handler(events)
                except Exception:
                    self._log_handler_error(events)

    async def _end_replay_when_quiet(self) -> None:
        """No event of this kind need be as new as the list, so silence ends a replay too."""
        while isinstance(self._state, states.Replaying):
            contact = self._status.last_contact
            await self._clock.sleep(self._options.replay_quiet)
            if contact == self._status.last_contact and self._status.phase is Phase.WATCHING:
                self.replayed.set()
                return

    # -- failures

    async def _recover(self, error: Exception) -> None:
        """Change the state after an error, and wait."""
        now, status, before = self._clock.now(), self._status, self._state
        status.failures += 1
        status.last_error = _text(error)
        self._list_reason = reason_of(error)
        self._state, wait = states.after_error(before, error, now)
        if isinstance(error, states.Restored):
            log.warning("%s: %s: cache and watermark are void", self._name, error)
            self.replay_complete = False  # of a replay that it cut short
            self.replayed.set()
        elif isinstance(error, ApiError) and error.status == 404:
            self._client.discovery.forget()
            self._path = ""
        elif isinstance(error, NoSuchKind):
            self._path = ""
            self.unserved = True
        elif not isinstance(error, KubeError):
            level = logging.WARNING if isinstance(error, msgspec.MsgspecError) else logging.ERROR
            log.log(level, "%s: %s", self._name, status.last_error, exc_info=level == logging.ERROR)
        if isinstance(before, states.Replaying) and isinstance(self._state, states.Watching):
            self.replay_complete = False
            self.replayed.set()
        if wait is None:
            log.debug("%s: %s; continuing at once", self._name, status.last_error)
            return
        wait = self._backoff.next(wait)
        self._status.enter(Phase.BACKING_OFF, status.last_error, self._clock.now())
        status.retry_at = now + wait
        log.info("%s: %s; retrying in %.1f s", self._name, status.last_error, wait)
        await self._clock.sleep(wait)

    # -- helpers

    @property
    def _name(self) -> str:
        return f"{self._client.name} {self.gvk}"

    def _query(self, **more: str | int | bool) -> Query:
        seconds = int(self._rng.uniform(*self._options.watch_timeout))
        return {"watch": True, "allowWatchBookmarks": True, "timeoutSeconds": seconds, **self._selectors, **more}

    def _watching(self) -> None:
        if self._status.phase is not Phase.WATCHING:
            self._status.enter(Phase.WATCHING, "", self._clock.now())

    def _emit(self, events: list[Event]) -> None:
        if not events:
            return
        try:
            self.handler(events)
        except Exception:
            self._log_handler_error(events)

    def _log_handler_error(self, events: list[Event]) -> None:
        log.exception("%s: the handler failed on %d events", self._name, len(events))

    def _report_void(self, reason: str) -> None:
        log.warning("%s: %s: a restored or recreated cluster; cache and watermark are void", self._name, reason)
        if self._options.on_void is not None:
            try:
                self._options.on_void(reason)
            except Exception:
                log.exception("%s: on_void failed", self._name)


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
