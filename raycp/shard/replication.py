"""A primary reports its progress to its standbys: each key's queue entry and reconciled version, and how far it has judged events.

Frames carry state, not changes: a key's state at the moment of sending. So they may be merged, repeated and, for a standby that
connects late, mixed with the full account.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from functools import partial

from raycp.base.keys import RequestKey
from raycp.base.loop_names import LoopName
from raycp.base.loops import Loops
from raycp.base.problems import ProblemOwner
from raycp.protocol.frames import Hello, KeyProgress, Message, Reached, Refusal, RefusalCode
from raycp.protocol.members import place_of
from raycp.protocol.transport import Connection
from raycp.shard.caches import Caches
from raycp.shard.identity import ShardIdentity
from raycp.shard.ledger import Ledger
from raycp.shard.progress_frames import Shared, progress_frames
from raycp.shard.wakes import WakeExchange

log = logging.getLogger(__name__)

EVERY = 0.01
"""Seconds for which changes are gathered into one frame."""

CHUNK = 100
"""Keys whose state is taken at once: some milliseconds, for which a shard of busy clusters hands out nothing."""

NEXT = 0.001
"""Seconds until the next frame where keys are left."""

UNREAD = 8 * 1024 * 1024
"""Bytes that a standby has not read yet, for which the full account waits."""

LEFT_BEHIND = 32 * 1024 * 1024
"""Bytes beyond which a standby is disconnected: it is frozen, or too slow. It connects again, for the full account."""


class _Listener:
    """One standby's connection."""

    def __init__(self, source: "ReplicationSource", connection: Connection, name: str) -> None:
        self.connection = connection
        self.name = name
        self._source = source

    def received(self, message: Message) -> None:
        pass

    def lost(self) -> None:
        self._source.left(self)


class ReplicationSource:
    """One shard's; costs nothing while no standby is connected. ``seq`` is that of the last frame sent."""

    def __init__(self, identity: ShardIdentity, caches: Caches, ledger: Ledger, wakes: WakeExchange, loops: Loops) -> None:
        self._identity = identity
        self._caches = caches
        self._ledger = ledger
        self._wake_exchange = wakes
        self._loops = loops
        self._listeners: set[_Listener] = set()
        self._dirty: set[RequestKey] = set()
        self._wakes: set[RequestKey] = set()
        self._scheduled = False
        self._shape = -1
        self.seq = 0

    @property
    def listeners(self) -> list[str]:
        """Names of the standbys that follow."""
        return [listener.name for listener in self._listeners]

    def accept(self, connection: Connection, hello: Hello) -> _Listener | Refusal:
        """A standby wants to follow."""
        if not self._identity.term:
            return Refusal("this process is not the primary of its shard", RefusalCode.NOT_PRIMARY)
        listener = _Listener(self, connection, hello.member)
        if not self._listeners:
            self._ledger.on_change = self._changed
            self._wake_exchange.changed = self._wake_changed
        self._listeners.add(listener)
        self._loops.supervise(partial(self._account, listener), LoopName.ACCOUNT, ProblemOwner(peer=place_of(hello.member)))
        return listener

    def left(self, listener: _Listener) -> None:
        """It has disconnected."""
        self._listeners.discard(listener)
        if not self._listeners:
            self._ledger.on_change = None
            self._wake_exchange.changed = None
            self._dirty.clear()
            self._wakes.clear()

    def _changed(self, key: RequestKey) -> None:
        self._dirty.add(key)
        self._soon()

    def _wake_changed(self, key: RequestKey) -> None:
        self._wakes.add(key)
        self._soon()

    def _soon(self, seconds: float = EVERY) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_later(seconds, self._tick)

    def _tick(self) -> None:
        self._scheduled = False
        try:
            self.flush()
        finally:
            if self._dirty:
                self._soon(NEXT)

    def flush(self, everything: bool = False) -> None:
        """Send the changes since the last frame; ``everything`` at once for a hand-over."""
        if not self._listeners:
            return
        while True:
            keys = [key for key, _ in zip(self._dirty, range(CHUNK), strict=False)]
            wakes = [key for key in self._wakes if self._wake_exchange.waits(key)]
            shared = Shared(wakes=wakes, acknowledged=list(self._wakes.difference(wakes)))
            # Only a frame after which no key is dirty may report how far events are judged.
            if len(keys) == len(self._dirty):
                shared.reached = self._reached()
            self._add_marks(shared)
            self._send(self._listeners, self._progress(keys), shared)
            self._dirty.difference_update(keys)
            self._wakes.clear()
            if not everything or not self._dirty:
                return

    def beat(self) -> None:
        """Once a second, so that a standby knows that its primary is alive and how far it is."""
        if self._listeners and not self._dirty:
            shared = Shared(reached=self._reached())
            self._add_marks(shared)
            self._send(self._listeners, [], shared)

    async def _account(self, listener: _Listener) -> None:
        """Send the full account: the state of every known key."""
        keys = self._ledger.known_keys()
        for start in range(0, len(keys), CHUNK):
            self._send([listener], self._progress(keys[start : start + CHUNK]), Shared())
            await asyncio.sleep(NEXT)
            while listener in self._listeners and listener.connection.backlog > UNREAD:  # noqa: ASYNC110 - bytes have no event
                await asyncio.sleep(0.01)
            if listener not in self._listeners:
                return
        self.flush(everything=True)
        shared = Shared(reached=self._reached(), wakes=list(self._wake_exchange.pending()), complete=True)
        shared.marks, shared.starts = self._ledger.marks.shared_state()
        self._send([listener], [], shared)

    def _next(self) -> int:
        self.seq += 1
        return self.seq

    def _progress(self, keys: Sequence[RequestKey]) -> list[KeyProgress]:
        """The state of ``keys``; of one whose state can't be taken, none."""
        try:
            return self._ledger.progress(list(keys))
        except Exception:
            if len(keys) == 1:
                log.exception("a standby does not learn of %s", keys[0])
                return []
        return [progress for key in keys for progress in self._progress([key])]

    def _send(self, listeners: Iterable[_Listener], changed: Sequence[KeyProgress], shared: Shared) -> None:
        to = list(listeners)
        for body in progress_frames(self._next, changed, shared):
            for listener in to:
                listener.connection.write(body)
        for listener in to:
            if listener.connection.backlog > LEFT_BEHIND:
                log.warning("%s has not read %d bytes: it is disconnected", listener.name, listener.connection.backlog)
                listener.connection.reset()

    def _add_marks(self, shared: Shared) -> None:
        """Add the state that belongs to no key, if kinds or controllers have changed (versions are not compared)."""
        marks = self._ledger.marks
        if marks.shape != self._shape:
            shared.marks, shared.starts = marks.shared_state()
            self._shape = marks.shape

    def _reached(self) -> list[Reached]:
        found = []
        for name, kind, informer in self._caches.informers():
            if informer.announced and informer.store.rv:  # of versions that can't be compared none is a limit
                found.append(Reached(name, str(kind), informer.store.rv))
        return found
