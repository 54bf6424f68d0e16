"""A ``Substrate`` whose members are cores on the running event loop."""

import asyncio
import inspect
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from raycp.base.clock import Clock, SystemClock
from raycp.leader.core import LeaderCore
from raycp.leader.placement import NODE_ID
from raycp.member.core import MemberCore
from raycp.member.process_recorder import ABOUT_RECORDINGS, ProcessRecorder
from raycp.metrics.recorder import FlightRecorder, Origin
from raycp.observer.core import ObserverCore
from raycp.protocol.control import Ping, Pong, Question
from raycp.protocol.control.codec import encode_question, respond
from raycp.protocol.members import LEADER, Member, Role
from raycp.protocol.nodes import Node
from raycp.protocol.substrate import MemberDied, MemberUnavailable, answer_of
from raycp.runtime.embedded import EmbeddedCore
from raycp.shard.core import ShardCore
from raycp.worker.core import WorkerCore

A = TypeVar("A")

HOST = "127.0.0.1"

_CORES: dict[Role, type[MemberCore]] = {
    Role.SHARD: ShardCore,
    Role.STANDBY: ShardCore,
    Role.WORKER: WorkerCore,
    Role.OBSERVER: ObserverCore,
    Role.EMBEDDED: EmbeddedCore,
}


class InProcessSubstrate:
    """``Substrate`` in this process.

    Faults: ``refuse`` makes ``create`` raise, members in ``silent`` do not answer, those in ``presumed_dead`` live and Ray says
    that they died, ``kill`` ends a member as its process's death would. ``ground``: the nodes that there seem to be; a member lives
    where its options ask for, else on the first node that is not draining. ``host_of``: the address on which a member listens;
    between two different ones, channels are as between nodes. ``user_loop_ended`` is called with the thread of a killed worker's
    user loop, before its death can be noticed.
    ``recordings``: the directory of the members' flight recorders; without one they record nothing.
    """

    def __init__(self, namespace: str = "raycp-t", clock: Clock | None = None) -> None:
        self.namespace = namespace
        self.clock = clock or SystemClock()
        self.cores: dict[Member, Any] = {}
        self.created: list[Member] = []
        self.killed: list[Member] = []
        self.silent: set[Member] = set()
        self.presumed_dead: set[Member] = set()
        self.ground: list[Node] = []
        self.note: bytes | None = None
        """What is kept for later leaders."""
        self.recordings: Path | None = None
        self.recorders: dict[Member, ProcessRecorder] = {}
        self.bundles: list[dict[str, float]] = []
        """What was last requested of an autoscaler."""
        self.host_of: Callable[[Member], str] = lambda _: HOST
        self.refuse: Callable[[Member], Exception | None] = lambda _: None
        self.user_loop_ended: Callable[[int | None], None] = lambda _: None
        self._answering: dict[Member, set[asyncio.Future[bytes]]] = {}
        """Questions that the members have in work."""
        self._dying: dict[Member, asyncio.Event] = {}
        """Killed members of which something may still run."""
        self.leader: LeaderCore | None = None
        """Answers the members' questions to the leader; members created while there is none need no permits."""

    def beside(self, namespace: str) -> "InProcessSubstrate":
        return InProcessSubstrate(namespace, self.clock)

    async def members(self) -> list[Member]:
        return [member for member in self.cores if member not in self.presumed_dead]

    async def create(self, member: Member, options: dict[str, Any]) -> None:
        error = self.refuse(member)
        if error is not None:
            raise error
        if member in self.cores and member not in self.presumed_dead:
            return
        make = _CORES[member.role]
        asks = {"ask": self._ask_leader} if self.leader is not None and "ask" in inspect.signature(make).parameters else {}
        core = self.cores[member] = make(member, self.clock, self.host_of(member), "node", recorder=self.record(member), **asks)
        if isinstance(core, WorkerCore):
            core.user_loop_ended = partial(self._user_loop_ended, member)
        self.created.append(member)
        usable = [node.identity for node in self.ground if not node.draining]
        core.node_id = (options.get("label_selector") or {}).get(NODE_ID) or (usable or [""])[0]

    def record(self, member: Member) -> FlightRecorder | None:
        """The flight recorder of a member whose process starts."""
        if self.recordings is None:
            return None
        origin = Origin(actor=member.actor_name, namespace=self.namespace, node="node", pid=os.getpid(), started=self.clock.wall())
        made = self.recorders[member] = ProcessRecorder(self.clock, self.recordings, origin)
        made.recorder.start()
        return made.recorder

    def stop_recording(self, member: Member) -> None:
        """The member's process is dead: what it has not written is lost."""
        if (process := self.recorders.pop(member, None)) is not None:
            process.recorder.cut()

    async def ask(self, member: Member, question: Question[A], timeout: float = 10.0) -> A:
        core, name = self.cores.get(member), type(question).__name__
        if core is None:
            await self._dead(member)
            raise MemberDied(member, "no such actor", certain=True)
        if member in self.presumed_dead:
            raise MemberDied(member, "no such actor", certain=False)
        if member in self.silent:
            raise MemberUnavailable(f"{member} is not reachable")
        answer = asyncio.ensure_future(respond(encode_question(question), partial(_route, core, self.recorders.get(member))))
        answering = self._answering.setdefault(member, set())
        answering.add(answer)
        deadline = self.clock.now() + timeout
        try:
            while not answer.done():
                await asyncio.wait({answer}, timeout=0.05)
                if self.cores.get(member) is not core:
                    await self._dead(member)
                    raise MemberDied(member, "its process is dead", certain=True)
                if self.clock.now() > deadline:
                    raise MemberUnavailable(f"{member} did not answer {name} within {timeout:g} s")
            return answer_of(member, question, answer.result())
        finally:
            answer.cancel()
            answering.discard(answer)

    async def _ask_leader(self, question: Question[A], timeout: float) -> A:
        if self.leader is None:
            raise MemberUnavailable("no leader")
        async with asyncio.timeout(timeout):
            raw = await respond(encode_question(question), self.leader.ask)
        return answer_of(LEADER, question, raw)

    async def nodes(self) -> list[Node]:
        return list(self.ground)

    async def request_nodes(self, bundles: list[dict[str, float]]) -> None:
        self.bundles = bundles

    async def remember(self, note: bytes | None) -> None:
        self.note = note

    async def recall(self) -> bytes | None:
        return self.note

    async def kill(self, member: Member) -> None:
        core = self.cores.pop(member, None)
        self.stop_recording(member)
        if core is None:
            return
        self.killed.append(member)
        for answer in self._answering.pop(member, set()):
            answer.cancel()  # a dead process does not go on with a plan that it was taking over
        if isinstance(core, WorkerCore):
            self._dying[member] = asyncio.Event()
        try:
            await core.abort()
        finally:
            self._last_reconcile_ended(member)

    def _last_reconcile_ended(self, member: Member) -> None:
        if (dying := self._dying.pop(member, None)) is not None:
            dying.set()

    def _user_loop_ended(self, member: Member, thread: int | None) -> None:
        self.user_loop_ended(thread)
        self._last_reconcile_ended(member)

    async def _dead(self, member: Member) -> None:
        """Nobody notices a death before nothing of the member runs any more, as with a process."""
        if (dying := self._dying.get(member)) is not None:
            await dying.wait()

    def living(self, role: str, place: str = "") -> list[Any]:
        """The cores of a role; of one place only if it is given."""
        return [core for member, core in self.cores.items() if member.role == role and place in ("", member.place)]

    async def close(self) -> None:
        """Kill all members."""
        for member in list(self.cores):
            await self.kill(member)


async def _route(core: Any, recorder: ProcessRecorder | None, question: Question[Any]) -> Any:
    if isinstance(question, Ping):
        return Pong(os.getpid(), 0.0, core.raycp_release)
    if recorder is None:
        return await core.ask(question)
    if isinstance(question, ABOUT_RECORDINGS):
        return await recorder.answer(question)
    return await recorder.ask(question, core.ask)
