"""The leader's hold on the fleet's lock in the hub: candidate, holder with its proof and permits, release, reacquisition."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from raycp.base.clock import Clock
from raycp.base.loops import Loops
from raycp.base.problems import FLEET, ProblemCode
from raycp.kube import ConnectSpec, KubeError
from raycp.leader.cluster_clients import ClusterClients
from raycp.leader.leadership_proof import LeadershipProof
from raycp.leader.retries import Retries
from raycp.leadership.epoch import Leadership
from raycp.leadership.locks import Confirmed, Identity, Lock, LockProblem, Waiting, make_lock, pod_of
from raycp.leadership.permit import PermitLedger
from raycp.leadership.records import Conflict, Records
from raycp.protocol.plan import Plan

log = logging.getLogger(__name__)

REACQUIRE_WITHIN = 2.0
"""Seconds to retry reacquiring a released lock before re-reading it, on top of the permit."""

MAX_SKEW = 10.0
"""Seconds between the leader's wall clock and the hub's beyond which the status names it."""

LEADERSHIP = ProblemCode.LEADERSHIP, FLEET
"""The subject of acquisition, in the leader's problems."""

CLOCK = ProblemCode.CLOCK, FLEET
FLOOR = ProblemCode.EPOCH_FLOOR, FLEET

FLOOR_EVERY = 30.0
"""Seconds between two checks that the floor of the epochs stands."""

Acquired = Callable[[Plan, Records], Awaitable[None]]
"""The lock is ours; nothing is granted before this returns."""

Elected = Callable[[Records, Leadership], None]
"""This leader leads, under a leadership that is recorded."""


class HubLock:
    """One per leader. ``eligible``: whether this leader may become a candidate at this moment."""

    def __init__(
        self,
        clock: Clock,
        identity: str,
        loops: Loops,
        clients: ClusterClients,
        retries: Retries,
        eligible: Callable[[], bool],
        acquired: Acquired,
        elected: Elected,
    ) -> None:
        self.leadership: Leadership | None = None
        """None until the hub has recorded this leader, and after a release."""
        self.acquired = False
        """The lock is ours, though permits of the last epoch may still have to end: this leader may write to the clusters."""
        self.waiting: Waiting | None = None
        """Why this candidate does not lead though its hub answers: another leader does."""
        self.proof = LeadershipProof(clock, loops, self._lost)
        self._clock = clock
        self._identity = identity
        self._loops = loops
        self._clients = clients
        self._retries = retries
        self._eligible = eligible
        self._on_acquired = acquired
        self._on_elected = elected
        self._living_epoch = 0
        self._hub: ConnectSpec | None = None
        self._lock: Lock | None = None
        self._lock_of: object = None
        self._candidacy: tuple[asyncio.Task[Any], object] | None = None
        self._floored: tuple[Leadership, float] | None = None
        """The leadership whose floor stands, and when that was checked."""
        self._given = False
        """The lock was released to a named successor: no step takes it, whatever is applied meanwhile; only ``take_back`` does."""

    def recovered(self, plan: Plan) -> None:
        """A living fleet was found: its epoch goes on."""
        self._living_epoch = plan.epoch

    def step(self, plan: Plan, hub: ConnectSpec) -> None:
        """Start whatever is due; returns at once."""
        self._hub = hub
        spec = plan.fleet.doc.spec.leader
        if self.leadership is None:
            # A step that began before a release must not take the lock from under the successor.
            if self._eligible() and not self._given:
                self._stand(plan, hub)
            return
        if self._lock_of != (hub, spec.lock, spec.backoff):
            # Another connection to the hub, or another backoff: it is the same object in the same place, ``apply`` ensures that.
            self._retries.start((ProblemCode.LOCK, FLEET), partial(self._make_lock, plan, hub))
        if self._floored is None or self._floored[0] != self.leadership or self._clock.now() - self._floored[1] >= FLOOR_EVERY:
            self._retries.start(FLOOR, self._keep_floor)
        if self.leadership.permit != spec.permit:
            self._retries.start((ProblemCode.PERMIT, FLEET), partial(self._amend, spec.permit))

    def _stand(self, plan: Plan, hub: ConnectSpec) -> None:
        wanted = (hub, plan.fleet.doc.spec.leader, plan.home)
        if self._candidacy is not None and self._candidacy[1] != wanted:
            self._candidacy[0].cancel()  # another connection, another lock: start again
            self._candidacy = None
        task = self._retries.start(LEADERSHIP, partial(self._acquire, plan, hub))
        if task is not None:
            self._candidacy = task, wanted

    async def holder(self, plan: Plan) -> Leadership | None:
        """The holder, as recorded in the lock; None for none. Raises ``KubeError``, ``ConnectError``, ``LockProblem``."""
        connect = plan.hub.connect or self._hub
        if connect is None:
            return None
        client = await self._clients.get(connect)
        doc = plan.fleet.doc
        held = await make_lock(doc.spec.leader, client, plan.fleet.name, doc.spec.state.namespace, self._clock).holder()
        return held.leadership if held is not None else None

    async def acquire(self, plan: Plan, connect: ConnectSpec, living_epoch: int = 0, *, namespace_exists: bool = False) -> None:
        """Begin an epoch, or continue ``living_epoch``, as soon as the lock allows it; cancel it to give up. ``namespace_exists``:
        the lock was just read, so its namespace is not created.

        Raises ``KubeError``, ``ConnectError``, ``LockProblem``, ``Conflict``.
        """
        self._hub, self._living_epoch = connect, living_epoch
        await self._acquire(plan, connect, namespace_exists=namespace_exists)

    async def release(self, successor: str = "") -> bool:
        """No permit is valid any more: give the lock to ``successor`` (a fleet's ``Plan.home``), or to any candidate. Whether it
        was ours to give, and was given."""
        mine, lock = self.leadership, self._lock
        if self._candidacy is not None and mine is None:
            self._candidacy[0].cancel()
        if mine is None or lock is None or self.proof.superseded:
            return False
        self._given = bool(successor)
        await self.proof.end()
        self.leadership = None
        self.acquired = False
        try:
            await lock.release(mine, successor)
        except (KubeError, LockProblem, Conflict) as error:
            log.warning("the end of epoch %d could not be recorded: %s", mine.epoch, error)
            return False
        return True

    async def take_back(self, plan: Plan) -> Leadership | None:
        """Continue the epoch after a release, if no successor has begun one meanwhile: exactly one of the two wins. None if this
        leader won, else the successor. Raises ``KubeError``, ``ConnectError``, ``LockProblem``, ``Conflict``."""
        assert self._hub is not None
        while True:
            found = await self.holder(plan)
            if found is not None and not found.released and found.home != plan.home:
                return found
            # Once the lock is ours, permits of another epoch may have to end: that is no reason to start again.
            permit = max(plan.fleet.doc.spec.leader.permit, found.permit if found is not None else 0.0)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REACQUIRE_WITHIN + permit):
                    await self.acquire(plan, self._hub, plan.epoch)
                    self._given = False
                    return None

    async def _acquire(self, plan: Plan, connect: ConnectSpec, *, namespace_exists: bool = False) -> None:
        spec, clock = plan.fleet.doc.spec.leader, self._clock
        records = Records(await self._clients.get(connect), plan.fleet.name, plan.fleet.doc.spec.state.namespace)
        if not namespace_exists:
            await records.ensure_namespace()
        lock = await self._make_lock(plan, connect)
        me = Identity(self._identity, plan.home, pod_of())
        try:
            acquisition = await lock.acquire(me, spec.permit, self._living_epoch, self._waits)
        finally:
            self.waiting = None
        self._retries.clear(LEADERSHIP)
        self.acquired = True
        mine, recorded = acquisition.mine, clock.now()
        if acquisition.wait:
            log.warning("waiting %.1f s for permits of the last epoch to end", acquisition.wait)
            self._retries.note(LEADERSHIP, "waiting for permits of the last epoch to end")
        sent = acquisition.proved
        if sent is None or acquisition.wait:
            sent = await self._stay_holder(lock, mine, recorded + acquisition.wait)
        await self._on_acquired(plan, records)
        ledger = PermitLedger(spec.permit, recorded, fresh=mine.epoch != self._living_epoch, silent=acquisition.longest)
        self.leadership = mine
        self.proof.begin(mine, ledger, sent, self._confirm, lambda: self._lock.every if self._lock else 1.0)
        self._on_elected(records, mine)
        log.info("leading in epoch %d, incarnation %d", mine.epoch, mine.incarnation)

    async def _make_lock(self, plan: Plan, connect: ConnectSpec) -> Lock:
        spec = plan.fleet.doc.spec
        client = await self._clients.get(connect)
        lock = self._lock = make_lock(spec.leader, client, plan.fleet.name, spec.state.namespace, self._clock, self._loops)
        self._lock_of = connect, spec.leader.lock, spec.leader.backoff
        return lock

    async def _stay_holder(self, lock: Lock, mine: Leadership, until: float) -> float:
        """Confirm the lock until then; when the last confirmation was sent. Raises ``Conflict`` where another leader holds it, and
        the lock's last error."""
        while True:
            left, sent = until - self._clock.now(), self._clock.now()
            try:
                confirmed = await lock.confirm(mine)
            except (KubeError, Conflict, TimeoutError):
                if left <= 0:
                    raise
            else:
                if confirmed.leadership.pair != mine.pair or confirmed.leadership.holder != mine.holder:
                    raise Conflict(f"{confirmed.leadership.holder} acquired the lock first")
                until = max(until, self._clock.now() + confirmed.wait if confirmed.wait else until)
                if left <= 0:
                    return sent
            await self._clock.sleep(max(0.05, min(lock.every, until - self._clock.now())))

    async def _confirm(self) -> Confirmed:
        assert self._lock is not None
        assert self.leadership is not None
        confirmed = await self._lock.confirm(self.leadership)
        self._check_clock()
        return confirmed

    def _check_clock(self) -> None:
        """Report a wall clock that is off. Permits and locks do not depend on it; history, ``since`` and people do."""
        skew = self._clients.skew(self._hub.name) if self._hub is not None else 0.0
        if abs(skew) > MAX_SKEW:
            where = "behind" if skew > 0 else "ahead of"
            self._retries.note(
                CLOCK,
                f"the leader's wall clock is {abs(skew):.0f} s {where} that of the hub: "
                "times in history and logs are off, permits are not; check NTP on both",
            )
        else:
            self._retries.clear(CLOCK)

    async def _keep_floor(self) -> None:
        lock, mine = self._lock, self.leadership
        if lock is not None and mine is not None:
            await lock.keep_floor(mine)
            self._floored = mine, self._clock.now()

    def _waits(self, waiting: Waiting) -> None:
        if waiting.holder:
            self.waiting = waiting
        self._retries.note(LEADERSHIP, waiting.why)

    def _lost(self, found: Leadership) -> None:
        """Another fleet instance has the lock: this one is a candidate again, and its members wait for permits."""
        if self.leadership is not None:
            self._living_epoch = self.leadership.epoch
        self.leadership = None
        self.acquired = False
        log.warning("leadership was lost to %s; this fleet is a candidate now", found.holder)

    async def _amend(self, permit: float) -> None:
        """Grant permits of another length. A longer one is recorded first, so that a successor waits for it; a shorter one when the
        last longer permit has ended."""
        lock, mine, ledger = self._lock, self.leadership, self.proof.ledger
        if lock is None or mine is None or ledger is None:
            return
        if permit < mine.permit:
            await self._clock.sleep(ledger.shorten(permit, self._clock.now()))
        amended = await lock.amend(mine, permit)
        if self.leadership is mine and self.proof.ledger is ledger:
            self.leadership = amended
            self.proof.amended(amended)
            ledger.set_permit(permit)
            log.info("permits last %g s from now on", permit)
