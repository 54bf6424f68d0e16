"""Which workers are alive, and when a new primary may hand out.

A lost connection proves nothing: the worker's port is probed, and only a refusal (its process is dead, law 6f) returns its keys. A
new primary hands out nothing before every worker of the plan has reported what it still has in work, or is dead (law 6g).
"""

import asyncio
import logging
import math
from functools import partial

from raycp.base.clock import Clock
from raycp.base.loop_names import LoopName
from raycp.base.loops import Loops
from raycp.base.problems import ProblemOwner
from raycp.member.permits import PermitKeeper
from raycp.protocol.members import place_of
from raycp.protocol.plan import Plan
from raycp.protocol.transport import Life, probe
from raycp.shard.dispatcher import Dispatcher
from raycp.shard.handouts import WorkerSeat
from raycp.shard.identity import ShardIdentity

log = logging.getLogger(__name__)

PROBE_EVERY = 0.1
PROBE_SLOWLY = 1.0
ROLL_CALL_MARGIN = 0.5
"""Seconds beyond ``leader.permit`` for which a new primary waits for workers that do not connect: by then each of them has pulled
a permit, and with it this term, or holds none (law 6g)."""


class RollCall:
    """One shard's."""

    def __init__(self, identity: ShardIdentity, clock: Clock, loops: Loops, dispatcher: Dispatcher) -> None:
        self._identity = identity
        self._clock = clock
        self._loops = loops
        self._dispatcher = dispatcher
        self._asked_at = 0.0
        self._patience = math.inf
        dispatcher.on_lost = self.connection_lost

    def update(self, plan: Plan) -> None:
        """The plan's workers; the first plan with a term begins the roll-call."""
        dispatcher = self._dispatcher
        listed, seats = {worker.member for worker in plan.workers}, dispatcher.seats
        if dispatcher.expected is None and self._identity.term:
            # The first primary of a shard has no predecessor whose hand-outs could still run. A worker that connected before
            # this member knew its term has reported what it has in work.
            dispatcher.expected = listed - set(seats) if self._identity.term > 1 else set()
            self._asked_at = self._clock.now()
        elif dispatcher.expected:
            dispatcher.expected &= listed
            dispatcher.expected -= set(plan.dead)
        self._patience = plan.fleet.doc.spec.leader.permit + ROLL_CALL_MARGIN
        for name in plan.dead:
            seat = seats.get(name)
            if seat is not None and not seat.dead:
                self._died(seat, fenced=True)
        for worker in plan.workers:
            if dispatcher.expected and worker.member in dispatcher.expected and worker.member not in seats:
                call = partial(self._call, worker.member, worker.host, worker.port)
                self._loops.supervise(call, LoopName.ROLL_CALL, ProblemOwner(peer=place_of(worker.member)), most=1.0)
        self._dispatcher.dispatch_soon()

    def answered(self, worker: str) -> None:
        """A worker has connected and reported what it has in work."""
        if self._dispatcher.expected:
            self._dispatcher.expected.discard(worker)
        self._dispatcher.dispatch_soon()

    async def _call(self, name: str, host: str, port: int) -> None:
        """Strike off a worker that is certainly dead or does not connect in time."""
        dispatcher = self._dispatcher
        while dispatcher.expected and name in dispatcher.expected:
            dead = await probe(host, port) is Life.DEAD
            if dead or self._clock.now() - self._asked_at > self._patience:
                if not dead:
                    log.warning("%s did not report what it has in work; handing out without it", name)
                dispatcher.expected.discard(name)
                self._dispatcher.dispatch_soon()
                return
            await self._clock.sleep(PROBE_EVERY)

    def connection_lost(self, seat: WorkerSeat) -> None:
        """Probe the worker's port until it is dead for certain, or connected again."""
        if not seat.dead:
            owner = ProblemOwner(peer=place_of(seat.name))
            self._loops.supervise(partial(self._inquire, seat), LoopName.WORKER_INQUIRY, owner, most=PROBE_SLOWLY)

    async def _inquire(self, seat: WorkerSeat) -> None:
        wait = PROBE_EVERY
        while seat.connection is None and not seat.dead:
            if await probe(*seat.address) is Life.DEAD and seat.connection is None:
                self._died(seat)
                return
            await self._clock.sleep(wait)
            wait = min(PROBE_SLOWLY, wait * 1.5)

    def _died(self, seat: WorkerSeat, *, fenced: bool = False) -> None:
        log.warning("%s is dead: %d of its keys return", seat.name, len(seat.in_flight) + len(seat.foreign))
        self._dispatcher.worker_died(seat, fenced=fenced)


class Pause:
    """Pauses hand-outs for a hand-over, at most for a time limit (law 2)."""

    def __init__(self, permits: PermitKeeper, dispatcher: Dispatcher) -> None:
        self._permits = permits
        self._dispatcher = dispatcher
        self._number = 0

    def begin(self, limit: float) -> None:
        """Hand out nothing; after ``limit`` seconds the hand-over has failed and hand-outs go on."""
        self._dispatcher.paused = True
        self._number += 1
        asyncio.get_running_loop().call_later(limit, self._expire, self._number)

    def _expire(self, number: int) -> None:
        if self._dispatcher.paused and number == self._number:
            log.warning("the hand-over was not completed; handing out again")
            self.end()

    def end(self) -> None:
        """Hand out again."""
        self._permits.resume()
        self._dispatcher.paused = False
        self._number += 1
        self._dispatcher.dispatch_soon()
