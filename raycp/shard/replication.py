"""A primary tells its standbys how far it is: per key what is queued, in work and reconciled, and up to where it has seen events.

All of it is state, not change: a frame holds how a key stands at the moment of sending, so that frames may be merged, repeated
and, for a standby that comes late, mixed with the full account.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from raycp.base.keys import RequestKey
from raycp.protocol.frames import ControllerStart, Hello, KeyProgress, MarkedKind, Message, Progress, Reached
from raycp.protocol.transport import Connection
from raycp.queueing import Item, WorkQueue

if TYPE_CHECKING:
    from raycp.shard.core import ShardCore

EVERY = 0.01
"""How long changes are gathered for one frame, in seconds."""

CHUNK = 500
BEAT = 1.0


class TellingQueue(WorkQueue):
    """A ``WorkQueue`` that names the keys whose place has changed."""

    changed: Callable[[RequestKey], None] = staticmethod(lambda key: None)

    def add(self, key: RequestKey, **how: Any) -> bool:
        self.changed(key)
        return super().add(key, **how)

    def pull(self, worker: str, n: int, *, prefer: str | None = None, slots: int | None = None) -> list[Item]:
        items = super().pull(worker, n, prefer=prefer, slots=slots)
        for item in items:
            self.changed(item.key)
        return items

    def done(self, worker: str, key: RequestKey, *, id: int | None = None) -> bool:
        self.changed(key)
        return super().done(worker, key, id=id)

    def retry(self, worker: str, key: RequestKey, **how: Any) -> float | None:
        self.changed(key)
        return super().retry(worker, key, **how)

    def requeue(self, worker: str, key: RequestKey, after: float, **how: Any) -> bool:
        self.changed(key)
        return super().requeue(worker, key, after, **how)

    def interrupted(self, worker: str, key: RequestKey, *, id: int | None = None) -> bool:
        self.changed(key)
        return super().interrupted(worker, key, id=id)

    def forget_worker(self, worker: str, culprits: Any = ()) -> list[RequestKey]:
        keys = super().forget_worker(worker, culprits)
        for key in keys:
            self.changed(key)
        return keys

    def hold(self, key: RequestKey, why: str = "held", timeout: float | None = None) -> None:
        self.changed(key)
        super().hold(key, why, timeout)

    def release(self, key: RequestKey, why: str | None = None) -> bool:
        self.changed(key)
        return super().release(key, why)

    def remove(self, key: RequestKey) -> bool:
        self.changed(key)
        return super().remove(key)


class _Listener:
    """One standby's connection."""

    def __init__(self, source: "ReplicationSource", connection: Connection, name: str) -> None:
        self.connection = connection
        self.name = name
        self._source = source

    def received(self, message: Message) -> None:
        pass

    def lost(self) -> None:
        self._source.gone(self)


class ReplicationSource:
    """Lives in a shard; costs nothing while nobody listens."""

    def __init__(self, shard: "ShardCore") -> None:
        self._shard = shard
        self._listeners: set[_Listener] = set()
        self._dirty: set[RequestKey] = set()
        self._wakes: set[RequestKey] = set()
        self._scheduled = False
        self._shape = -1
        self.seq = 0
        """Of the last frame that was sent."""

    @property
    def listeners(self) -> list[str]:
        """Names of the standbys that listen."""
        return [listener.name for listener in self._listeners]

    def accept(self, connection: Connection, hello: Hello) -> _Listener | str:
        """A standby wants to follow."""
        if not self._shard.state.term:
            return "this one is not the primary"
        listener = _Listener(self, connection, hello.member)
        if not self._listeners:
            self._watch_queue(self._changed)
            self._shard.state.marks.changed = self._changed
            self._shard.peers.changed = self._wake_changed
        self._listeners.add(listener)
        self._shard.loops.spawn(self._account(listener), f"account for {hello.member}")
        return listener

    def gone(self, listener: _Listener) -> None:
        """It is not there any more."""
        self._listeners.discard(listener)
        if not self._listeners:
            self._watch_queue(lambda key: None)
            self._shard.state.marks.changed = lambda key: None
            self._shard.peers.changed = lambda key: None
            self._dirty.clear()
            self._wakes.clear()

    def _watch_queue(self, changed: Callable[[RequestKey], None]) -> None:
        queue = self._shard.state.queue
        if isinstance(queue, TellingQueue):
            queue.changed = changed

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
        """Tell what has changed since the last frame; ``everything`` at once for a hand-over."""
        if not self._listeners:
            return
        while True:
            keys = [self._dirty.pop() for _ in range(min(CHUNK, len(self._dirty)))]
            pending = self._shard.peers.pending()
            wakes = [key for key in self._wakes if key in pending]
            heard = [key for key in self._wakes if key not in pending]
            self._wakes.clear()
            # Only a frame after which nothing is owed may say how far all of it reaches.
            reached = self._reached() if not self._dirty else []
            marks, begun = self._marks()
            self._send(self._listeners, Progress(self._next(), self._of(keys), reached, wakes, heard, False, marks, begun))
            if not everything or not self._dirty:
                return

    def beat(self) -> None:
        """Once a second, so that a standby knows that its primary is there and how far it is."""
        if self._listeners and not self._dirty:
            marks, begun = self._marks()
            self._send(self._listeners, Progress(self._next(), [], self._reached(), [], [], False, marks, begun))

    async def _account(self, listener: _Listener) -> None:
        """The full account: everything that is known of any key."""
        state = self._shard.state
        keys = list({*state.reconciled, *(saved.key for saved in state.queue.snapshot()), *state.marks.due_keys()})
        for start in range(0, len(keys), CHUNK):
            self._send([listener], Progress(self._next(), self._of(keys[start : start + CHUNK]), [], [], []))
            await asyncio.sleep(0.001)
        self.flush(everything=True)
        pending = list(self._shard.peers.pending())
        marks, begun = state.marks.told()
        self._send([listener], Progress(self._next(), [], self._reached(), pending, [], True, marks, begun))

    def _next(self) -> int:
        self.seq += 1
        return self.seq

    def _send(self, listeners: Iterable[_Listener], frame: Progress) -> None:
        for listener in list(listeners):
            listener.connection.send(frame)

    def _of(self, keys: list[RequestKey]) -> list[KeyProgress]:
        state = self._shard.state
        saved = {each.key: each for each in state.queue.snapshot(keys)}
        clocks = {each.key: each for each in state.clocks.export(keys)}
        return [
            KeyProgress(key, state.reconciled.get(key), saved.get(key), clocks.get(key), state.marks.due_of(key)) for key in keys
        ]

    def _marks(self) -> tuple[list[MarkedKind], list[ControllerStart]]:
        """What is no key's, if it has changed: places, not versions."""
        marks = self._shard.state.marks
        if marks.shape == self._shape:
            return [], []
        self._shape = marks.shape
        return marks.told()

    def _reached(self) -> list[Reached]:
        found = []
        for name, watched in self._shard.state.clusters.items():
            for kind, informer in watched.informers.items():
                if informer.told:
                    found.append(Reached(name, str(kind), informer.store.rv))
        return found
