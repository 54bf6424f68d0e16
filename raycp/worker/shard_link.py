"""A worker's connection to one shard: credit, acknowledgements, questions. Survives the shard's death."""

import asyncio
import contextlib
import itertools
import logging
import ssl
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from raycp.base.clock import Clock
from raycp.base.loop_names import LoopName
from raycp.base.loops import Loops
from raycp.base.problems import ProblemOwner
from raycp.base.tasks import Done, Task
from raycp.kube import Unreachable
from raycp.protocol.channels import Address, ChannelCredentials, NotAccepted, dial
from raycp.protocol.frames import (
    Clusters,
    ClusterState,
    Culprit,
    Fold,
    Hello,
    LivenessQuery,
    LivenessReply,
    Message,
    Pull,
    Refusal,
    Reply,
    Revoke,
    Tasks,
    Unsendable,
    Welcome,
)
from raycp.protocol.members import Role
from raycp.protocol.plan import ShardPlan
from raycp.protocol.transport import Connection
from raycp.worker.handout_frames import InFlight, held_frames, hello_frames, pull_frames
from raycp.worker.resends import Resends

log = logging.getLogger(__name__)

RECONNECT_MIN = 0.02
RECONNECT_MAX = 1.0
WELCOMED_WITHIN = 10.0
"""Seconds for a shard to answer ``Hello``; after that the worker connects again."""

READY_WELCOMED_WITHIN = 3.0
"""The same for a connection that was ready before the switch: it may be dead without a notice. More than ``listener.HOLD``."""

MakeHello = Callable[[InFlight], Hello]
"""in flight -> the worker's ``Hello`` to a shard."""


class LinkRuns(Protocol):
    """The worker's runs, as a link needs them."""

    def start(self, link: "ShardLink", tasks: Sequence[Task]) -> None:
        """Tasks that the shard handed out."""
        ...

    def revoke(self, link: "ShardLink", ids: Sequence[int]) -> None:
        """Tasks that the shard wants back."""
        ...

    def in_flight(self, shard: str) -> InFlight:
        """Tasks of that shard that run."""
        ...

    def when_it_turns(self, then: Callable[[], None]) -> None:
        """Call ``then`` on this loop once that of the reconciles has turned."""
        ...


class ShardLink:
    """Lives on the worker's actor loop.

    Credit: the shard's unspent credit and running tasks here together never exceed the limit. ``changed``: the link is connected,
    or is not any more. ``states_changed``: ``states`` has changed.
    """

    def __init__(
        self,
        shard: str,
        target: ShardPlan,
        *,
        credentials: ChannelCredentials,
        runs: LinkRuns,
        hello: MakeHello,
        clock: Clock,
        loops: Loops,
        changed: Callable[[], None],
        states_changed: Callable[[], None],
    ) -> None:
        self.shard = shard
        self.target = Address(target.host, target.port, target.member)
        self.connected = False
        self.refusal = ""
        """Why the last attempt to connect was refused, by either end; empty where it was not."""
        self.states: dict[str, ClusterState] = {}
        """The shard's clusters, as it last reported them."""
        self.resends = Resends(clock)
        self._runs = runs
        self._hello = hello
        self._clock = clock
        self._changed = changed
        self._states_changed = states_changed
        self._credentials = credentials
        self._ready: Connection | None = None
        """An authenticated connection to ``target``, not used yet."""
        self._limit = 0
        self._outstanding = 0
        self._unsent: list[Done] = []
        self._states: list[ClusterState] = []
        """Those of ``Clusters`` frames that others follow."""
        self._flushing = False
        self._connection: Connection | None = None
        self._calls: dict[int, asyncio.Future[Reply]] = {}
        self._ids = itertools.count(1)
        self._lost = asyncio.Event()
        self._answered = asyncio.Event()
        """``Hello`` was answered, or the connection was lost."""
        self._moved = asyncio.Event()
        self._dialing: asyncio.Timeout | None = None
        self._patience = WELCOMED_WITHIN
        self._task = loops.supervise(self._keep, LoopName.SHARD_LINK, ProblemOwner(peer=f"shard {shard}"), most=RECONNECT_MAX)

    def retarget(self, target: ShardPlan, ready: Connection | None = None) -> None:
        """Connect to another primary, over ``ready`` where that is its connection. Acknowledgements that are unsent, or may be
        lost, go to it (law 6g)."""
        self.target = Address(target.host, target.port, target.member)
        self._drop_ready()
        self._ready = ready
        self.connected = False  # frames sent now would be lost
        if self._connection is not None:
            self._connection.abandon()
            self.lost()  # at once: between nodes, the end of a connection waits for the other end
        if self._dialing is not None:
            self._dialing.reschedule(0.0)  # connecting to a partitioned node takes seconds to fail
            self._dialing = None
        self._moved.set()

    @property
    def dialing(self) -> bool:
        """Whether a connection is being opened."""
        return self._dialing is not None

    async def _pause(self, seconds: float) -> None:
        """Wait, at most until there is another primary to connect to."""
        if seconds and not self._moved.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._moved.wait()

    def _drop_ready(self) -> None:
        if self._ready is not None:
            self._ready.abandon()
            self._ready = None

    async def _dial(self) -> Connection:
        """Connect; ``retarget`` ends the attempt. Raises ``OSError`` or ``TimeoutError``."""
        try:
            async with asyncio.timeout(None) as self._dialing:
                return await dial(self.target, Role.WORKER, self._credentials, self)
        finally:
            self._dialing = None

    async def _connect(self) -> bool:
        """Connect to the primary, and report what is in work here. False where it does not answer."""
        self.connected = False
        self._lost.clear()
        self._answered.clear()
        target, connection, self._ready = self.target, self._ready, None
        self._patience = READY_WELCOMED_WITHIN
        if connection is None or connection.closed:
            self._patience = WELCOMED_WITHIN
            try:
                connection = await self._dial()
            except (OSError, TimeoutError) as error:
                self.refusal = str(error) if isinstance(error, NotAccepted | ssl.SSLError) else ""
                return False
            if self.target is not target:  # there was another primary meanwhile
                connection.abandon()
                return False
        self._unsent[:0] = self.resends.take_done()
        in_flight = self._runs.in_flight(self.shard) + [(done.id, done.key) for done in self._unsent]
        hello, parts = hello_frames(self._hello(in_flight))
        connection.attach(self)
        connection.send(hello)
        self._connection = connection
        for part in parts:
            self._write(part)
        self._outstanding = len(in_flight)
        return True

    async def _keep(self) -> None:
        wait = RECONNECT_MIN
        while True:
            if self._moved.is_set():
                wait = RECONNECT_MIN
                self._moved.clear()
            if self._connection is None and not await self._connect():
                await self._pause(wait)
                wait = min(RECONNECT_MAX, wait * 2)
                continue
            await self._until_answered()
            await self._lost.wait()
            if self.connected:
                wait = RECONNECT_MIN
            self.connected = False
            self._changed()
            await self._pause(wait)
            wait = min(RECONNECT_MAX, wait * 2)

    async def _until_answered(self) -> None:
        """Wait for the answer to ``Hello``, and close the connection where there is none."""
        try:
            async with asyncio.timeout(self._patience):
                await self._answered.wait()
        except TimeoutError:
            log.warning("shard %s has not answered the connection of this worker within %g s", self.shard, self._patience)
            self.reset()

    # frames

    def received(self, message: Message) -> None:
        """A frame from the shard."""
        self.resends.last_received = self._clock.now()
        if isinstance(message, Tasks):
            self._runs.start(self, message.tasks)
        elif isinstance(message, Reply):
            waiting = self._calls.pop(message.id, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(message)
        elif isinstance(message, Welcome):
            self.connected, self.refusal = True, ""
            self._answered.set()
            self._states.clear()
            for fold in self.resends.folds():  # before any question
                self.send(msgspec.structs.replace(fold, id=0))
            self._flush()
            self._reported(message.clusters, message.more)
            self._changed()
        elif isinstance(message, Clusters):
            self._reported(message.clusters, message.more)
        elif isinstance(message, Revoke):
            self._runs.revoke(self, message.ids)
        elif isinstance(message, LivenessQuery):
            answer = LivenessReply(message.number)
            self._runs.when_it_turns(lambda: self.send(answer))
        elif isinstance(message, Refusal):
            self.refusal = message.reason
            log.info("shard %s refuses the connection of this worker: %s", self.shard, message.reason)

    def _reported(self, states: list[ClusterState], more: bool) -> None:
        """The shard's clusters, all of them or a part that others follow."""
        self._states += states
        if not more:
            self.states = {state.name: state for state in self._states}
            self._states.clear()
            self._states_changed()

    def lost(self) -> None:
        """The connection was lost: questions fail, and the shard's clusters count as not synced."""
        self._connection = None
        self.states = {
            name: ClusterState(s.name, s.role, s.labels, s.reachable, False, "its shard is not reachable")
            for name, s in self.states.items()
        }
        for waiting in self._calls.values():
            if not waiting.done():
                waiting.set_exception(Unreachable(f"the connection to shard {self.shard} was lost", sent=True))
        self._calls.clear()
        self._states_changed()
        self._answered.set()
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

    def send(self, message: Message) -> None:
        """Send a frame that may get lost."""
        if self._connection is not None and self.connected:
            try:
                self._connection.send(message)
            except Unsendable as error:
                log.error("%s", error)

    def report_held(self) -> None:
        """Report what runs here: whatever the shard has lost sight of, or this worker, is found. What could not be acknowledged is
        tried again."""
        if self._connection is not None and self.connected:
            self._schedule()
            ids = [identity for identity, _ in self._runs.in_flight(self.shard)] + [done.id for done in self._unsent]
            for body in held_frames(self._connection.received, self._outstanding, ids):
                self._write(body)

    def _write(self, body: bytes) -> None:
        if self._connection is not None:
            self._connection.write(body)

    def report_culprit(self, ids: list[int], error: str, certain: bool) -> None:
        """Report tasks that can't be stopped, before the worker ends itself; see ``Culprit``."""
        if self._connection is not None:
            self._connection.send(Culprit(ids, error, certain))

    def _schedule(self) -> None:
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._connection is None or not self.connected:
            return
        done = self._unsent
        credit = max(0, self._limit - self._outstanding + len(done))
        if not done and not credit:
            return
        connection, bodies = self._connection, []
        writes = [each for each in done if each.writes]
        try:  # before anything is given up; mostly, all is one small frame
            if writes:
                bodies = pull_frames(credit, done)
            else:
                connection.send(Pull(credit, done))
        except Unsendable:
            bodies = pull_frames(credit, done)
        self._unsent = []
        self._outstanding += credit - len(done)
        for each in writes:
            self.resends.add_done(each)
        for body in bodies:
            connection.write(body)

    # questions

    async def call(self, make: Callable[[int], Message], timeout: float) -> Reply:
        """Ask the shard. Raises ``Unreachable``, and ``Unsendable`` for a question that is no frame."""
        if self._connection is None or not self.connected:
            raise Unreachable(f"shard {self.shard} is not connected", sent=False)
        identity = next(self._ids)
        waiting: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._calls[identity] = waiting
        try:
            message = make(identity)
            self._connection.send(message)
            if isinstance(message, Fold):
                self.resends.add_fold(message)
            async with asyncio.timeout(timeout):
                return await waiting
        except TimeoutError:
            raise Unreachable(f"shard {self.shard} did not answer within {timeout:g} s", sent=True, timed_out=True) from None
        finally:
            self._calls.pop(identity, None)

    def reset(self) -> None:
        """Reset the connection, as a network failure would; it is opened again."""
        if self._connection is not None:
            self._connection.reset()

    def cut(self) -> None:
        """Reset the connection, as the death of this process would."""
        self._drop_ready()
        if self._connection is not None:
            self._connection.abort()

    async def close(self) -> None:
        """Close the connection; unsent acknowledgements are lost, the shard learns of them from the next ``Hello``."""
        self._task.cancel()
        self._drop_ready()
        if self._connection is not None:
            self._connection.close()
