"""A primary reports its progress to its standbys: each key's queue entry and reconciled version, and how far it has judged events.

Frames carry state, not changes: a key's state at the moment of sending. So they may be merged, repeated and, for a standby that
connects late, mixed with the full account.
"""

import asyncio
from collections.abc import Iterable
from functools import partial

from raycp.base.keys import RequestKey
from raycp.base.loop_names import LoopName
from raycp.base.loops import Loops
from raycp.base.problems import ProblemOwner
from raycp.protocol.frames import ControllerStart, Hello, MarkedKind, Message, Progress, Reached, Refusal, RefusalCode
from raycp.protocol.members import place_of
from raycp.protocol.transport import Connection
from raycp.shard.caches import Caches
from raycp.shard.identity import ShardIdentity
from raycp.shard.ledger import Ledger
from raycp.shard.wakes import WakeExchange

EVERY = 0.01
"""Seconds for which changes are gathered into one frame."""

CHUNK = 500
"""Keys in one frame."""


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

    def _soon(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_later(EVERY, self._tick)

    def _tick(self) -> None:
        self._scheduled = False
        self.flush()
        if self._dirty:
            self._soon()

    def flush(self, everything: bool = False) -> None:
        """Send the changes since the last frame; ``everything`` at once for a hand-over."""
        if not self._listeners:
            return
        while True:
            keys = [self._dirty.pop() for _ in range(min(CHUNK, len(self._dirty)))]
            wakes = [key for key in self._wakes if self._wake_exchange.waits(key)]
            acknowledged = list(self._wakes.difference(wakes))
            self._wakes.clear()
            # Only a frame after which no key is dirty may report how far events are judged.
            reached = self._reached() if not self._dirty else []
            marks, starts = self._marks()
            self._send(
                self._listeners,
                Progress(self._next(), self._ledger.progress(keys), reached, wakes, acknowledged, False, marks, starts),
            )
            if not everything or not self._dirty:
                return

    def beat(self) -> None:
        """Once a second, so that a standby knows that its primary is alive and how far it is."""
        if self._listeners and not self._dirty:
            marks, starts = self._marks()
            self._send(self._listeners, Progress(self._next(), [], self._reached(), [], [], False, marks, starts))

    async def _account(self, listener: _Listener) -> None:
        """Send the full account: the state of every known key."""
        keys = self._ledger.known_keys()
        for start in range(0, len(keys), CHUNK):
            self._send([listener], Progress(self._next(), self._ledger.progress(keys[start : start + CHUNK]), [], [], []))
            await asyncio.sleep(0.001)
        self.flush(everything=True)
        pending = list(self._wake_exchange.pending())
        marks, starts = self._ledger.marks.shared_state()
        self._send([listener], Progress(self._next(), [], self._reached(), pending, [], True, marks, starts))

    def _next(self) -> int:
        self.seq += 1
        return self.seq

    def _send(self, listeners: Iterable[_Listener], frame: Progress) -> None:
        for listener in list(listeners):
            listener.connection.send(frame)

    def _marks(self) -> tuple[list[MarkedKind], list[ControllerStart]]:
        """The state that belongs to no key, if kinds or controllers have changed (versions are not compared)."""
        marks = self._ledger.marks
        if marks.shape == self._shape:
            return [], []
        self._shape = marks.shape
        return marks.shared_state()

    def _reached(self) -> list[Reached]:
        found = []
        for name, kind, informer in self._caches.informers():
            if informer.announced:
                found.append(Reached(name, str(kind), informer.store.rv))
        return found
