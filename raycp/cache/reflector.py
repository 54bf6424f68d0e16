"""The reflector: keeps a ``Store`` equal to one kind of one cluster until it is cancelled, whatever the server does.

Normal flow: list (streamed where the server supports it) → emit → watch from the list's version → watch again from where the last
watch ended. With a watermark, the first watch starts there, so that what happened in between is emitted too (REPLAY). ``states``
says which states there are and what leads from one to the next; this class does what a state asks for.

Guarantees: the store contains a change before the handler is called with it; errors of the handler are logged and end nothing;
only cancelling ends ``run``.

| what happens | what follows |
|---|---|
| watch ends normally | watch again at once, from its last version |
| it ends, or is cut, after it has lived for ``settled`` seconds | the same; the backoff starts over |
| it ends earlier, without a change | backoff |
| connection lost or refused, 429, 5xx, silence, no answer of an API server | backoff, watch again from the last version; no list |
| 410 (history compacted) | list at once; unchanged objects emit nothing |
| restored or recreated cluster | list, later if it happens again; the store is swapped as a whole, ``on_void`` is called |
| the kind is not served (404) | backoff, discovery, list |
| an object that cannot be read | it alone is left out (``unreadable``) |
| a line that is no event, or one of an object without a name that can be read | backoff, list |
| more events than the cluster's budget allows | changes of one object are folded (``intake``) |

Whatever happens, lists begin at least ``list_every`` seconds apart, and watches ``watch_every``. Each failure has an owner
(``FaultOwner``): the server, if it does not answer as a whole, or this kind alone.
"""

import asyncio
import logging
import random
from collections.abc import Sequence

import msgspec

from raycp.base.clock import Clock
from raycp.base.events import Event, Source
from raycp.base.keys import GVK
from raycp.base.objects import version_number
from raycp.base.text import message_of
from raycp.cache import states
from raycp.cache.counts import NOT_STREAMED, START, counted_watch, reason_of
from raycp.cache.difference import EMITTED
from raycp.cache.emitter import Emitter, Handler
from raycp.cache.initial_stream import NotStreamed, initial_stream
from raycp.cache.intake import EventBudget, folded
from raycp.cache.memory import CHECK_EVERY, CacheMemory
from raycp.cache.options import ReflectorOptions
from raycp.cache.pace import RetryPace
from raycp.cache.paged_list import PagedList
from raycp.cache.replacement import Replacement
from raycp.cache.replay import replayed_events
from raycp.cache.selectors import Selector
from raycp.cache.status import FaultOwner, Phase, ReflectorStatus
from raycp.cache.store import Store
from raycp.cache.unreadable import UnreadableObjects
from raycp.cache.watch_query import WatchQuery
from raycp.kube import ApiError, BadAnswer, ClusterClient, KubeError, NoSuchKind
from raycp.kube.codec import decode_watch_lines
from raycp.kube.connection import LineStream
from raycp.kube.errors import BadLine, unserved
from raycp.metrics import Metrics, ReflectorMetrics

log = logging.getLogger("raycp.cache")

_GRACE = 30.0
"""Seconds that a watch may outlive the time that the server was asked to end it after."""


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
        budget: EventBudget | None = None,
        memory: CacheMemory | None = None,
        identity: str = "",
    ) -> None:
        self.gvk = gvk
        self.store = store
        self.synced = asyncio.Event()
        """the first list is in the store and emitted"""
        self.replayed = asyncio.Event()
        """what happened between watermark and first list is emitted (set with ``synced`` if there is no watermark)"""
        self.replay_complete = False
        """a watermark was given, and everything since has been emitted, deletions included"""
        self.unreadable = UnreadableObjects(f"{client.name} {gvk}")
        """objects that are left out, each alone"""
        self.identity = identity
        """the last known uid of namespace kube-system, at first that of the cluster in ``store``; empty if it cannot be read"""
        self._client = client
        self._emitter = Emitter(f"{client.name} {gvk}", handler, self.unreadable)
        self._clock = clock
        self._options = options = options or ReflectorOptions()
        rng = rng or random.Random()
        self._query = WatchQuery(label_selector, field_selector, options, rng)
        store.selector = Selector.parse(label_selector)
        store.partial = bool(field_selector)
        self._pace = RetryPace(clock, rng, options)
        self._budget = budget or EventBudget(clock)
        self.memory = memory or CacheMemory(client.limits.memory)  # of the cluster
        self._verified = False
        self._path = ""
        self._state = states.initial(stream=options.watch_list, watermark=watermark)
        self._status = ReflectorStatus(gvk, clock.now())
        self._series = options.series or ReflectorMetrics(Metrics()).series(client.name, str(gvk))
        self._list_reason = START

    @property
    def handler(self) -> Handler:
        return self._emitter.handler

    @handler.setter
    def handler(self, handler: Handler) -> None:
        self._emitter.handler = handler

    def status(self) -> ReflectorStatus:
        status = msgspec.structs.replace(self._status)
        status.synced = self.synced.is_set()
        status.objects, status.rv, status.voids = len(self.store), self.store.rv, self.store.voids
        status.unreadable, status.left_out = self.unreadable.count, self.unreadable.text
        return status

    def wake(self) -> None:
        """The server answers again: do not wait for the end of the backoff if it was the server that failed."""
        if self._status.fault is FaultOwner.SERVER:
            self._pace.wake()

    async def run(self) -> None:
        """Run until cancelled."""
        try:
            while True:
                try:
                    await self._advance()
                except Exception as error:
                    await self._survive(error)
        finally:
            self._status.enter(Phase.STOPPED, "stopped", self._clock.now())

    async def _survive(self, error: Exception) -> None:
        try:
            await self._recover(error)
        except Exception:  # law 12: nothing but cancelling ends this loop
            log.exception("%s: no way to recover is known from: %s", self._name, message_of(error))
            await self._clock.sleep(self._options.backoff_cap)

    async def _advance(self) -> None:
        """Do what the state asks for; returns when the state has changed or a watch has ended normally."""
        self._verified = False
        state = self._state
        if isinstance(state, states.Replaying | states.Watching):
            await self._clock.sleep(self._pace.until_watch)
            await self._watch(state)
            return
        await self._wait_for_list()
        self._pace.list_begins()
        self._status.enter(Phase.LISTING, "listing", self._clock.now())
        self._series.list_begun(self._list_reason)
        await self._check_identity()
        await self._find_path()
        if isinstance(state, states.Streaming):
            await self._stream(state)
        else:
            await self._list(state)

    async def _wait_for_list(self) -> None:
        wait = self._pace.until_list
        if wait > self._options.list_every:
            now = self._clock.now()
            self._status.enter(Phase.BACKING_OFF, f"void again ({self.store.voids} times so far); the next list waits", now)
            self._status.retry_at = now + wait
        await self._clock.sleep(wait)

    async def _find_path(self) -> None:
        if not self._path:
            self._path = (await self._client.resource(self.gvk)).path()

    async def _check_identity(self) -> None:
        if not self._options.check_identity:
            return
        found = await self._client.identity()
        self._verified = True
        if self._status.fault is FaultOwner.SERVER:
            self._status.fault = FaultOwner.NONE
        known, self.identity = self.identity, found or self.identity
        if known and found and known != found:
            raise states.Restored(f"namespace kube-system has uid {found} now, not {known}")

    # -- the whole state

    async def _list(self, state: states.Listing) -> None:
        options = self._options
        selectors, memory = self._query.selectors, self.memory
        listed = PagedList(self._client, self._path, selectors, memory, page=options.page, timeout=options.list_timeout)
        replacement, version = await listed.read(lambda: self._replacement(state), self._received)
        await self._publish(state, replacement, version)

    def _replacement(self, state: states.Streaming | states.Listing) -> Replacement:
        replacement = self.store.begin_replacement(void=state.void)
        self.memory.replace(self.store, replacement)
        return replacement

    async def _stream(self, state: states.Streaming) -> None:
        options = self._options
        replacement = self._replacement(state)
        seconds = self._query.seconds()
        query = self._query.of(seconds, sendInitialEvents=True, resourceVersionMatch="NotOlderThan")
        self._pace.watch_begins()
        opening = initial_stream(
            self._client,
            self._path,
            query,
            replacement,
            self._received,
            self.memory,
            patience=options.initial_patience,
            deadline=options.initial_deadline,
            stall=options.stall,
        )
        try:
            async with opening as (version, rest, stream):
                await self._publish(state, replacement, version)
                if isinstance(self._state, states.Replaying):
                    return  # the watch starts at the watermark
                with counted_watch(self._series):
                    self._watching()
                    await self._take_in(rest)
                    await self._follow(stream, seconds)
        except NotStreamed as reason:
            log.info("%s: the server did not stream the initial state; listing", self._name)
            self._state = listing = states.without_stream(state, supported=reason.supported)
            self._list_reason = NOT_STREAMED
        else:
            return
        self._series.list_begun(self._list_reason)
        await self._list(listing)

    def _received(self) -> None:
        self._status.last_contact = self._clock.now()

    async def _publish(self, state: states.Streaming | states.Listing, replacement: Replacement, found: str) -> None:
        """Swap the store for the list at resourceVersion ``found`` and emit the difference."""
        store, watermark, version = self.store, state.watermark, version_number(found)
        fresh = not (store.rv or len(store))  # otherwise this reflector continues in the store of a stopped one
        voids = store.voids
        now = self._clock.now()
        slices = store.commit(replacement, version, Source.INITIAL if fresh else Source.RELIST, now)
        self.memory.replace(store, None)
        self.unreadable.replace(replacement.unreadable, store.get)
        for events in slices:
            self._emitter.emit(events)
            await asyncio.sleep(0)
        self._status.lists += 1
        self._series.list_seconds.observe(self._clock.now() - self._status.since)
        if watermark is not None and watermark > version > 0:
            store.voids += 1
            self._report_void(f"the list's version {version} is below the watermark {watermark}")
        elif store.voids != voids:
            self._report_void(f"the list at version {version} is older than the cache")
        self._status.fault = FaultOwner.NONE
        self.synced.set()
        self.replay_complete = bool(watermark) and fresh and store.voids == voids
        self._state = states.after_list(state, version, fresh=fresh, opaque="" if version else found)
        if isinstance(self._state, states.Watching):
            self.replayed.set()

    # -- the watch

    async def _watch(self, state: states.Replaying | states.Watching) -> None:
        if state.server.contact_lost or self._status.fault is FaultOwner.SERVER:
            await self._check_identity()
            self._state = states.verified(state)
        await self._find_path()
        self._pace.watch_begins()
        seconds = self._query.seconds()
        opaque = state.opaque if isinstance(state, states.Watching) else ""
        query = self._query.of(seconds, resourceVersion=opaque or str(state.since))
        async with self._client.stream(self._path, query, idle_timeout=self._options.stall) as stream:
            with counted_watch(self._series):
                await self._follow(stream, seconds)

    async def _follow(self, stream: LineStream, seconds: int) -> None:
        """Until the watch ends, which the server was asked to do after ``seconds``."""
        started, changed, size = self._clock.now(), False, 0
        quiet = asyncio.create_task(self._end_replay_when_quiet()) if isinstance(self._state, states.Replaying) else None
        self._watching()
        self._status.watches += 1
        try:
            async with asyncio.timeout(seconds + _GRACE):
                async for lines in stream:
                    changed = await self._take_in(lines) or changed
                    size += sum(map(len, lines))
                    if size > CHECK_EVERY:
                        size = 0
                        self.memory.check()
        except TimeoutError:
            log.info("%s: the server did not end the watch after %d s", self._name, seconds)
        finally:
            if quiet is not None:
                quiet.cancel()
            settled = self._pace.watched(self._clock.now() - started, seconds)
        if not settled and not changed:
            raise BadAnswer("the server ended the watch at once and without a change")

    async def _take_in(self, lines: Sequence[bytes]) -> bool:
        """Apply lines of the watch. Whether there was a change among them."""
        self._received()
        budget = self._budget
        budget.tokens -= len(lines)
        if budget.tokens >= 0 and not budget.flooded:
            return await self._apply_slices(lines)
        budget.arrived(arrived := len(lines))
        if not budget.flooded:
            return await self._apply_slices(lines)
        lines = await folded(lines)
        pause = budget.processed(len(lines), arrived) / (len(range(0, len(lines), EMITTED)) or 1)
        changed = await self._apply_slices(lines, pause)
        await self._clock.sleep(pause)
        return changed

    async def _apply_slices(self, lines: Sequence[bytes], pause: float = 0.0) -> bool:
        changed = False
        for start in range(0, len(lines), EMITTED):
            if start:
                await (self._clock.sleep(pause) if pause else asyncio.sleep(0))
            changed = self._apply(lines[start : start + EMITTED]) or changed
        return changed

    def _apply(self, lines: Sequence[bytes]) -> bool:
        """Apply some lines of the watch to the store and emit their events, those before a bad line included. Whether there was a
        change.
        """
        state, store, now = self._state, self.store, self._status.last_contact
        assert isinstance(state, states.Replaying | states.Watching)
        since = state.since
        events: list[Event] = []
        changes, unreadable, failure = decode_watch_lines(lines, f"watch {self._path}")
        changed, received = False, self._series.received
        try:
            for kind, obj in changes:
                received[kind].value += 1.0
                if 0 < obj.rv < since and kind != "DELETED":
                    raise states.Restored(f"version {obj.rv} was received after {since}")
                since = max(since, obj.rv)
                changed = changed or kind != "BOOKMARK"
                if isinstance(state, states.Watching):
                    if not obj.rv or state.opaque:
                        state = msgspec.structs.replace(state, opaque="" if obj.rv else obj.meta.resource_version)
                elif obj.rv:
                    if obj.rv <= state.until:
                        events += replayed_events(store, state.earlier, kind, obj, now)
                    if obj.rv >= state.until:
                        state = states.after_replay(state)
                        self.replayed.set()
                    if obj.rv <= store.rv:
                        continue
                if self.unreadable.count:
                    self.unreadable.settle(obj.meta.namespace, obj.meta.name)
                events += store.apply(kind, obj, Source.WATCH, now)
            for error in unreadable:
                self.unreadable.add(error)
                failure = failure or (BadLine(str(error)) if error.meta is None else None)  # a list says of which object
            if failure is not None:
                raise failure
        finally:
            self._state = msgspec.structs.replace(state, since=since)
            if events:
                emitter = self._emitter
                try:  # not by emit: the handler is called directly, which keeps the path of a change short
                    emitter.handler(events)
                except Exception:
                    emitter.singly(events)
        return changed

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
        self.memory.replace(self.store, None)
        text = message_of(error)
        level = logging.DEBUG if text == status.last_error else logging.INFO
        status.failures += 1
        status.last_error = text
        self._list_reason = reason_of(error)
        fault = states.fault_of(error, verified=self._verified)
        status.fault = fault if fault is not FaultOwner.NONE else status.fault
        self._state, wait = states.after_error(before, error, now)
        if isinstance(error, states.Restored):
            log.warning("%s: %s: cache and watermark are void", self._name, error)
            self.replay_complete = False  # of a replay that it cut short
            self.replayed.set()
        elif isinstance(error, NoSuchKind) or (isinstance(error, KubeError) and unserved(error)):
            self._client.discovery.forget(self.gvk)
            self._path = ""
        elif isinstance(error, BadLine):
            log.warning("%s: %s", self._name, text)
        elif not isinstance(error, KubeError):
            log.error("%s: %s", self._name, text, exc_info=error)
        if isinstance(before, states.Replaying) and isinstance(self._state, states.Watching):
            self.replay_complete = False
            self.replayed.set()
        if wait is None:
            log.debug("%s: %s; continuing at once", self._name, text)
            return
        wait = self._pace.failed(wait, refused=isinstance(error, ApiError) and error.status == 401)
        self._status.enter(Phase.BACKING_OFF, text, self._clock.now())
        status.retry_at = now + wait
        log.log(level, "%s: %s; retrying in %.1f s", self._name, text, wait)
        await self._pace.rest(wait)

    # -- helpers

    @property
    def _name(self) -> str:
        return f"{self._client.name} {self.gvk}"

    def _watching(self) -> None:
        self._status.fault = FaultOwner.NONE
        if self._status.phase is not Phase.WATCHING:
            self._status.enter(Phase.WATCHING, "", self._clock.now())

    def _report_void(self, reason: str) -> None:
        self._pace.voided()
        log.warning("%s: %s: a restored or recreated cluster; cache and watermark are void", self._name, reason)
        if self._options.on_void is not None:
            try:
                self._options.on_void(reason)
            except Exception:
                log.exception("%s: on_void failed", self._name)
