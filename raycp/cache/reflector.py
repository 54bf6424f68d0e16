"""The reflector: keeps a ``Store`` equal to one kind of one cluster, for ever, whatever the server does.

Expected flow: list (streamed where the server can) → tell → watch from the list's version → watch again from where
the last one ended. With a watermark, the first watch starts there instead, so that what happened in between is told
too (REPLAY).

Guarantees: the store has taken a change in before the handler hears of it; the handler's errors are logged and end
nothing; only cancelling ends ``run``.

| what happens | what follows |
|---|---|
| watch ends normally | watch again at once, from its last version |
| connection lost or refused, 429, 5xx, silence | backoff, watch again from the last version; no list |
| 410 (history compacted) | list at once; unchanged objects stay silent |
| restored or recreated cluster | list, the store is swapped whole, ``on_void`` is called |
| a line that can't be read | backoff, list |
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncGenerator, Callable, Sequence

import msgspec

from raycp.base.clock import Clock
from raycp.base.events import Event, EventType, Source
from raycp.base.keys import GVK
from raycp.base.objects import Obj
from raycp.cache.backoff import Backoff
from raycp.cache.options import Phase, ReflectorOptions, ReflectorStatus
from raycp.cache.pages import Listing, ListRestarted
from raycp.cache.selectors import Selector
from raycp.cache.store import SLICE, Replacement, Store
from raycp.kube import ApiError, ClusterClient, KubeError, NoSuchKind, Status, Unreachable
from raycp.kube.codec import decode_watch_line
from raycp.kube.objects import Query

log = logging.getLogger("raycp.cache")

Handler = Callable[[list[Event]], None]


class _Restored(Exception):
    """The cluster is another one than before, or an older state of it."""


class Reflector:
    """One kind of one cluster. ``watermark`` is the version up to which a predecessor had observed everything."""

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
        """the first list is in the store and told"""
        self.replayed = asyncio.Event()
        """what happened between watermark and first list is told (at once without a watermark)"""
        self.replay_complete = False
        """a watermark was given, and everything since has been told, deletions too"""
        self.unserved = False
        """the server answers, and serves no such kind"""
        self.identity = ""
        """uid of namespace kube-system as last seen; empty where it can't be read"""
        self._client = client
        self.handler = handler
        self._clock = clock
        self._options = options or ReflectorOptions()
        self._rng = rng or random.Random()
        self._selectors: dict[str, str | int | bool] = {}
        if label_selector:
            self._selectors["labelSelector"] = label_selector
        if field_selector:
            self._selectors["fieldSelector"] = field_selector
        store.selector = Selector.parse(label_selector)
        store.partial = bool(field_selector)
        self._watermark = watermark
        self._backoff = Backoff(
            clock,
            self._rng,
            first=self._options.backoff_first,
            cap=self._options.backoff_cap,
            quiet=self._options.backoff_quiet,
        )
        self._path = ""
        self._resume: int | None = None  # the version to watch from; None: list first
        self._lost_contact = False  # who answers next may be another cluster
        self._void = False  # the next list is that of another cluster
        self._replay_until = 0
        self._replayed_states: dict[str, Obj] = {}
        self._expired_at = float("-inf")
        self._streams_initial = self._options.watch_list
        self._list_next = False  # a stream did not come to its end
        self._status = ReflectorStatus(
            gvk, Phase.STARTING, False, "not started", 0, 0, clock.now(), 0.0, 0.0, 0, 0, 0, "", 0, False
        )

    def status(self) -> ReflectorStatus:
        status = msgspec.structs.replace(self._status)
        status.synced = self.synced.is_set()
        status.objects, status.rv, status.voids = len(self.store), self.store.rv, self.store.voids
        status.replaying = bool(self._replay_until) and not self.replayed.is_set()
        return status

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                try:
                    await self._round()
                except Exception as error:
                    await self._after(error)
        finally:
            self._enter(Phase.STOPPED, "stopped")

    # -- one round

    async def _round(self) -> None:
        if not self._path:
            self._path = (await self._client.resource(self.gvk)).path()
            self.unserved = False
        if self._resume is None:
            self._enter(Phase.LISTING, "listing")
            await self._check_identity()
            if self._streams_initial and not self._list_next:
                await self._stream_initial()
            else:
                await self._list()
        else:
            await self._watch(self._resume)

    async def _check_identity(self) -> None:
        if not self._options.check_identity:
            return
        found = await self._client.identity()
        known, self.identity = self.identity, found or self.identity
        if known and found and known != found:
            raise _Restored(f"namespace kube-system has uid {found} now, not {known}")

    async def _list(self) -> None:
        listing = Listing(self._client, self._path, self._selectors, self._options)
        replacement = self.store.replacing(void=self._void)
        rv = 0
        while True:
            try:
                async for page_rv, objs in listing.pages():
                    rv = page_rv
                    self._status.last_contact = self._clock.now()
                    replacement.add(objs)
                    await asyncio.sleep(0)
                break
            except ListRestarted:
                replacement = self.store.replacing(void=self._void)
        await self._publish(replacement, rv)

    async def _stream_initial(self) -> None:
        """WatchList: the state as ADDED lines, its end marked by an annotated bookmark, then live events on the same
        stream.
        """
        replacement = self.store.replacing(void=self._void)
        query = self._query(sendInitialEvents=True, resourceVersionMatch="NotOlderThan")
        patience = self._options.initial_patience
        loop = asyncio.get_running_loop()
        stream = self._client.stream(self._path, query, idle_timeout=self._options.stall)
        async with contextlib.aclosing(stream):
            try:
                async with asyncio.timeout(patience) as limit:
                    async for lines in stream:
                        self._status.last_contact = self._clock.now()
                        rest = await self._take_initial(lines, replacement)
                        if rest is not None:
                            break
                        limit.reschedule(loop.time() + patience)
                    else:
                        rest = None
            except TimeoutError:
                rest = None
            except ApiError as error:
                if error.status not in (400, 405, 422):
                    raise
                self._streams_initial = False  # this server can't
                rest = None
            if rest is None:
                log.info("%s: no streamed initial state; listing", self._who)
                self._list_next = True
                return
            end, left = rest
            if await self._publish(replacement, end):
                return  # a replay: the live watch starts at the watermark
            self._watching()
            await self._take_in(left)
            await self._follow(stream)

    async def _take_initial(self, lines: Sequence[bytes], replacement: Replacement) -> tuple[int, Sequence[bytes]] | None:
        """The version of the final bookmark and the lines after it, None while it is still to come."""
        objs: list[Obj] = []
        for number, line in enumerate(lines, 1):
            kind, obj = decode_watch_line(line)
            if isinstance(obj, Status):
                raise obj.to_error()
            if kind == "BOOKMARK":
                if (obj.meta.annotations or {}).get("k8s.io/initial-events-end") == "true":
                    replacement.add(objs)
                    return obj.rv, lines[number:]
            else:
                objs.append(obj)
            if number % SLICE == 0:
                replacement.add(objs)
                objs = []
                await asyncio.sleep(0)
        replacement.add(objs)
        return None

    async def _publish(self, replacement: Replacement, rv: int) -> bool:
        """Swap the store and tell. True when a replay from the watermark comes next."""
        first = not self.store.rv  # a reflector that takes over a filled store goes on where its predecessor ended
        voids = self.store.voids
        now = self._clock.now()
        self._list_next = False
        self._void = False
        watermark, self._watermark = self._watermark, None
        for events in replacement.commit(rv, Source.INITIAL if first else Source.RELIST, now):
            self._tell(events)
            await asyncio.sleep(0)
        self._status.lists += 1
        self._resume = rv
        if watermark is not None and watermark > rv:
            self.store.voids += 1
            self._tell_void(f"the list's version {rv} is below the watermark {watermark}")
        elif self.store.voids != voids:
            self._tell_void(f"the list at version {rv} is older than what was seen before")
        self.synced.set()
        self._backoff.reset()
        self.replay_complete = bool(watermark) and first and self.store.voids == voids
        if watermark and watermark < rv and first:
            self._resume, self._replay_until = watermark, rv
            return True
        self.replayed.set()
        return False

    async def _watch(self, since: int) -> None:
        if self._lost_contact:
            await self._check_identity()
            self._lost_contact = False
        stream = self._client.stream(self._path, self._query(resourceVersion=str(since)), idle_timeout=self._options.stall)
        async with contextlib.aclosing(stream):
            await self._follow(stream)

    async def _follow(self, stream: AsyncGenerator[list[bytes], None]) -> None:
        started, heard = self._clock.now(), False
        quiet = asyncio.create_task(self._end_replay_when_quiet()) if self._replay_until else None
        self._watching()
        self._status.watches += 1
        try:
            async for lines in stream:
                heard = True
                await self._take_in(lines)
        finally:
            if quiet is not None:
                quiet.cancel()
        if not heard and self._clock.now() - started < self._options.short_watch:
            raise Unreachable("the server ended the watch at once and without an event", sent=True)

    async def _take_in(self, lines: Sequence[bytes]) -> None:
        now = self._clock.now()
        self._status.last_contact = now
        for start in range(0, len(lines), SLICE):
            events: list[Event] = []
            try:
                for line in lines[start : start + SLICE]:
                    kind, obj = decode_watch_line(line)
                    if isinstance(obj, Status):
                        raise obj.to_error(f"watch {self._path}")
                    assert self._resume is not None
                    if obj.rv < self._resume and kind != "DELETED":
                        raise _Restored(f"version {obj.rv} was told after {self._resume}")
                    self._resume = max(self._resume, obj.rv)
                    if self._replay_until:
                        if obj.rv <= self._replay_until:
                            events += self._replay(kind, obj, now)
                        if obj.rv >= self._replay_until:
                            self._end_replay()
                        if obj.rv <= self.store.rv:
                            continue
                    events += self.store.apply(kind, obj, Source.WATCH, now)
            finally:
                self._tell(events)
            if start + SLICE < len(lines):
                await asyncio.sleep(0)

    # -- replay from the watermark

    def _replay(self, kind: str, obj: Obj, now: float) -> list[Event]:
        """What is told of an event that the list has overtaken: the end of an object that the list can't show, and
        the last change of one that it shows, with the state before as ``old`` where the replay has seen it.
        """
        if kind == "BOOKMARK":
            return []
        meta = obj.meta
        before = self._replayed_states.pop(meta.uid, None)
        listed = self.store.get(meta.namespace, meta.name)
        if kind == "DELETED":
            return [Event(EventType.DELETED, Source.REPLAY, obj, None, now)] if listed is None else []
        if listed is not None and listed.meta.uid == meta.uid and listed.rv == obj.rv:
            type_ = EventType.ADDED if kind == "ADDED" else EventType.MODIFIED
            return [Event(type_, Source.REPLAY, before, listed, now)]
        self._replayed_states[meta.uid] = obj
        return []

    def _end_replay(self) -> None:
        self._replay_until = 0
        self._replayed_states.clear()
        self.replayed.set()

    async def _end_replay_when_quiet(self) -> None:
        """No event of this kind need be as late as the list: silence ends a replay too."""
        while self._replay_until:
            contact = self._status.last_contact
            await self._clock.sleep(self._options.replay_quiet)
            if contact == self._status.last_contact and self._status.phase is Phase.WATCHING:
                self.replayed.set()
                return

    # -- failures

    async def _after(self, error: Exception) -> None:
        """Decide how to go on, and wait."""
        now = self._clock.now()
        wait_at_least = 0.0
        self._status.failures += 1
        self._status.last_error = _text(error)
        if isinstance(error, _Restored):
            log.warning("%s: %s: cache and watermark are void", self._who, error)
            self._void, self._resume, self._watermark = True, None, None
            self._end_replay()
            return
        if isinstance(error, Unreachable):
            self._lost_contact = True
        if isinstance(error, ApiError):
            wait_at_least = error.retry_after or 0.0
            if error.expired:
                if self._replay_until:  # the watermark is too old to replay: comparing must do
                    self.replay_complete = False
                    self._resume = self._replay_until
                    self._end_replay()
                    return
                self._resume = None
                if now - self._expired_at > 5.0:
                    self._expired_at = now
                    log.debug("%s: history compacted; listing", self._who)
                    return
                self._expired_at = now
            elif error.too_large_version:
                self._resume = None
            elif error.status == 404:
                self._client.discovery.forget()
                self._path, self._resume = "", None
        elif isinstance(error, NoSuchKind):
            self._path = ""
            self.unserved = True
        elif not isinstance(error, KubeError):
            self._resume = None
            level = logging.WARNING if isinstance(error, msgspec.MsgspecError) else logging.ERROR
            log.log(level, "%s: %s", self._who, _text(error), exc_info=level == logging.ERROR)
        wait = self._backoff.next(wait_at_least)
        self._enter(Phase.BACKING_OFF, self._status.last_error)
        self._status.retry_at = now + wait
        log.info("%s: %s; again in %.1f s", self._who, self._status.last_error, wait)
        await self._clock.sleep(wait)

    # -- small things

    @property
    def _who(self) -> str:
        return f"{self._client.name} {self.gvk}"

    def _query(self, **more: str | int | bool) -> Query:
        seconds = int(self._rng.uniform(*self._options.watch_timeout))
        return {"watch": True, "allowWatchBookmarks": True, "timeoutSeconds": seconds, **self._selectors, **more}

    def _watching(self) -> None:
        if self._status.phase is not Phase.WATCHING:
            self._enter(Phase.WATCHING, "")

    def _enter(self, phase: Phase, reason: str) -> None:
        self._status.phase, self._status.reason = phase, reason
        self._status.since = self._clock.now()
        self._status.retry_at = 0.0

    def _tell(self, events: list[Event]) -> None:
        if not events:
            return
        try:
            self.handler(events)
        except Exception:
            log.exception("%s: the handler failed on %d events", self._who, len(events))

    def _tell_void(self, reason: str) -> None:
        log.warning("%s: %s: a restored or recreated cluster; cache and watermark are void", self._who, reason)
        if self._options.on_void is not None:
            try:
                self._options.on_void(reason)
            except Exception:
                log.exception("%s: on_void failed", self._who)


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
