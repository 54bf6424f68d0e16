"""A worker's connection to one shard: credit, acknowledgements, questions. Survives the shard's restart."""

import asyncio
import contextlib
import itertools
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from raycp.base.clock import Clock
from raycp.base.loops import Loops
from raycp.base.tasks import Done, Task
from raycp.kube import Unreachable
from raycp.protocol.frames import (
    Clusters,
    ClusterState,
    Culprit,
    Fold,
    Hello,
    Message,
    Pull,
    Refusal,
    Reply,
    Revoke,
    Tasks,
    Welcome,
)
from raycp.protocol.members import Member
from raycp.protocol.plan import ShardPlan
from raycp.protocol.transport import Connection, dial

log = logging.getLogger(__name__)

RECONNECT_MIN = 0.02
RECONNECT_MAX = 1.0
REPEATED = 1.0
"""What was sent so many seconds before the shard was last heard, or later, may not have been taken in: a frozen primary's kernel
goes on accepting. On the next connection, to it or to its successor, acknowledgements with writes and other keys' writes of that
time are told once more, so that the cache has them before the keys are handed out (law 6g). In seconds."""


class LinkOwner(Protocol):
    """The worker, as a link needs it."""

    member: Member
    clock: Clock
    loops: Loops

    def hello_facts(self, shard: str) -> tuple[str, int, str, list[tuple[int, Task]]]: ...

    def tasks(self, link: "ShardLink", tasks: Sequence[Task]) -> None: ...

    def revoke(self, link: "ShardLink", ids: Sequence[int]) -> None: ...

    def changed(self) -> None: ...


class ShardLink:
    """Lives on the worker's actor loop.

    Law of credit: what the shard may have outstanding here (unspent credit and running tasks) never exceeds the limit.
    """

    def __init__(self, owner: LinkOwner, shard: str, target: ShardPlan, token: str) -> None:
        self.shard = shard
        self.target = (target.host, target.port, target.member)
        self.connected = False
        self.states: dict[str, ClusterState] = {}
        self._owner = owner
        self._token = token
        self._limit = 0
        self._outstanding = 0
        self._unsent: list[Done] = []
        self._flushing = False
        self._connection: Connection | None = None
        self._calls: dict[int, asyncio.Future[Reply]] = {}
        self._ids = itertools.count(1)
        self._lost = asyncio.Event()
        self._moved = asyncio.Event()
        self._dialing: asyncio.Timeout | None = None
        self._sent: deque[tuple[float, Done]] = deque(maxlen=5000)
        self._folded: deque[tuple[float, Fold]] = deque(maxlen=5000)
        self._heard = 0.0
        self._task = owner.loops.spawn(self._keep(), f"link to shard {shard}")

    def retarget(self, target: ShardPlan, token: str) -> None:
        """Another primary: acknowledgements that were not sent, or sent too late to be sure of, go to it (law 6g)."""
        self.target = (target.host, target.port, target.member)
        self._token = token
        self.connected = False  # what is sent now would be lost
        if self._connection is not None:
            self._connection.close()
        if self._dialing is not None:
            self._dialing.reschedule(0.0)  # a node that is cut off lets one wait for seconds
            self._dialing = None
        self._moved.set()

    async def _pause(self, seconds: float) -> None:
        """Wait, but not once there is another primary to turn to."""
        if seconds and not self._moved.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._moved.wait()

    async def _dial(self, host: str, port: int, hello: Hello) -> None:
        """Connect, until there is another primary to turn to. Raises ``OSError`` or ``TimeoutError``."""
        try:
            async with asyncio.timeout(None) as self._dialing:
                self._connection = await dial(host, port, hello, self)
        finally:
            self._dialing = None

    async def _keep(self) -> None:
        wait = RECONNECT_MIN
        while True:
            if self._moved.is_set():
                wait = RECONNECT_MIN
                self._moved.clear()
            self._forget_what_was_heard()
            self._unsent[:0] = [done for _, done in self._sent]
            self._sent.clear()
            host, port, _ = self.target
            own_host, own_port, prefer, running = self._owner.hello_facts(self.shard)
            in_flight = [(identity, task.key) for identity, task in running]
            in_flight += [(done.id, done.key) for done in self._unsent]
            hello = Hello(self._token, self._owner.member.actor_name, "worker", own_host, own_port, prefer, in_flight)
            self._lost.clear()
            try:
                await self._dial(host, port, hello)
            except (OSError, TimeoutError):
                await self._pause(wait)
                wait = min(RECONNECT_MAX, wait * 2)
                continue
            self._outstanding = len(in_flight)
            await self._lost.wait()
            if self.connected:
                wait = RECONNECT_MIN
            self.connected = False
            self._owner.changed()
            await self._pause(wait)
            wait = min(RECONNECT_MAX, wait * 2)

    # frames

    def received(self, message: Message) -> None:
        """A frame from the shard."""
        self._heard = self._owner.clock.now()
        if isinstance(message, Tasks):
            self._owner.tasks(self, message.tasks)
        elif isinstance(message, Reply):
            waiting = self._calls.pop(message.id, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(message)
        elif isinstance(message, Welcome):
            self.connected = True
            self.states = {state.name: state for state in message.clusters}
            for _, fold in self._folded:  # before any question of ours
                self.tell(msgspec.structs.replace(fold, id=0))
            self._flush()
            self._owner.changed()
        elif isinstance(message, Clusters):
            self.states = {state.name: state for state in message.clusters}
        elif isinstance(message, Revoke):
            self._owner.revoke(self, message.ids)
        elif isinstance(message, Refusal):
            log.info("shard %s refuses this worker: %s", self.shard, message.reason)

    def lost(self) -> None:
        """The connection is gone."""
        self._connection = None
        self.states = {
            name: ClusterState(s.name, s.role, s.labels, s.reachable, False, "its shard is not reachable")
            for name, s in self.states.items()
        }
        for waiting in self._calls.values():
            if not waiting.done():
                waiting.set_exception(Unreachable(f"shard {self.shard} is gone", sent=True))
        self._calls.clear()
        self._lost.set()

    # credit and acknowledgements

    def set_credit(self, limit: int) -> None:
        """Let the shard have ``limit`` tasks outstanding here. A lower limit takes effect as tasks end."""
        self._limit = limit
        self._schedule()

    def finished(self, done: Done) -> None:
        """A task has ended; acknowledge it with the next frame."""
        self._unsent.append(done)
        self._schedule()

    def tell(self, message: Message) -> None:
        """A frame that may get lost."""
        if self._connection is not None and self.connected:
            self._connection.send(message)

    def culprit(self, ids: list[int], error: str) -> None:
        """Last words: these tasks can't be stopped."""
        if self._connection is not None:
            self._connection.send(Culprit(ids, error))

    def _schedule(self) -> None:
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._connection is None or not self.connected:
            return
        done, self._unsent = self._unsent, []
        self._outstanding -= len(done)
        credit = max(0, self._limit - self._outstanding)
        self._outstanding += credit
        now = self._owner.clock.now()
        self._forget_what_was_heard()
        self._sent.extend((now, each) for each in done if each.writes)
        if done or credit:
            self._connection.send(Pull(credit, done))

    def _forget_what_was_heard(self) -> None:
        since = self._heard - REPEATED
        for sent in (self._sent, self._folded):
            while sent and sent[0][0] < since:
                sent.popleft()

    # questions

    async def call(self, make: Callable[[int], Message], timeout: float) -> Reply:
        """Ask the shard. Raises ``Unreachable``."""
        if self._connection is None or not self.connected:
            raise Unreachable(f"shard {self.shard} is not connected", sent=False)
        identity = next(self._ids)
        waiting: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._calls[identity] = waiting
        message = make(identity)
        if isinstance(message, Fold):
            self._folded.append((self._owner.clock.now(), message))
        self._connection.send(message)
        try:
            async with asyncio.timeout(timeout):
                return await waiting
        except TimeoutError:
            raise Unreachable(f"shard {self.shard} did not answer within {timeout:g} s", sent=True, timed_out=True) from None
        finally:
            self._calls.pop(identity, None)

    def cut(self) -> None:
        """Reset the connection, as the death of this process would."""
        if self._connection is not None:
            self._connection.abort()

    async def close(self) -> None:
        """Give the connection up; unsent acknowledgements are lost, the shard learns from the next ``Hello``."""
        self._task.cancel()
        if self._connection is not None:
            self._connection.close()
