"""The leader's side of permits: once a second it confirms its lock, and it grants what the last confirmation covers (law 6d)."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from raycp.base.clock import Clock
from raycp.base.loop_names import LoopName
from raycp.base.loops import Loops
from raycp.base.problems import FLEET, ProblemCode, Subject
from raycp.kube import KubeError
from raycp.leadership.epoch import Leadership
from raycp.leadership.locks import Confirmed, LockProblem
from raycp.leadership.permit import Grant, PermitLedger, Proof
from raycp.leadership.records import Conflict
from raycp.protocol.plan import Plan

log = logging.getLogger(__name__)

EVERY = 1.0
RETRY_AFTER = 0.2

Confirm = Callable[[], Awaitable[Confirmed]]
"""``Lock.confirm`` of our own leadership."""

Lost = Callable[[Leadership], None]
"""Called when another fleet instance leads: this one becomes a candidate again."""


class LeadershipProof:
    """One per leader. Grants nothing before ``begin``, and nothing after another leader was recorded."""

    def __init__(self, clock: Clock, loops: Loops, lost: Lost | None = None) -> None:
        self.ledger: PermitLedger | None = None
        self.superseded = ""
        """Which later leader of the same fleet instance has replaced this one, for good; empty while none has."""
        self._lost = lost
        self._problem = ""
        self._clock = clock
        self._loops = loops
        self._mine: Leadership | None = None
        self._proof = Proof(float("-inf"))
        self._confirm: Confirm | None = None
        self._not_before = float("-inf")
        self._task: asyncio.Task[None] | None = None

    def begin(
        self, mine: Leadership, ledger: PermitLedger, sent: float, confirm: Confirm, every: Callable[[], float] = lambda: EVERY
    ) -> None:
        """``mine`` was recorded by a request sent at ``sent``; confirm it every ``every()`` seconds from now on."""
        self._mine, self.ledger, self._confirm = mine, ledger, confirm
        self._proof = Proof(sent)
        self._task = self._loops.supervise(lambda: self._run(every), LoopName.PROOF, most=EVERY)

    async def end(self) -> None:
        """Stop confirming, and grant nothing from now on."""
        task, self._task = self._task, None
        self._mine, self.ledger, self._confirm = None, None, None
        self._proof, self._problem = Proof(float("-inf")), ""
        if task is not None and task is not asyncio.current_task():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def amended(self, mine: Leadership) -> None:
        """The leadership was recorded with another permit."""
        self._mine = mine

    @property
    def proof(self) -> Proof:
        """The last confirmation."""
        return self._proof

    def proven(self, permit: float) -> bool:
        """Whether the last confirmation is recent enough to act on: to promote, to start an epoch."""
        if self.superseded or self.ledger is None:
            return False
        now = self._clock.now()
        return now >= self._not_before and self._proof.covers(now, min(permit, self.ledger.permit)) > 0

    @property
    def problems(self) -> dict[Subject, str]:
        """What keeps this leader from granting permits."""
        if self.superseded:
            return {(ProblemCode.SUPERSEDED, FLEET): f"{self.superseded}; this one does nothing more"}
        return {(ProblemCode.PROOF, FLEET): self._problem} if self._problem else {}

    def grant(self, holder: str, plan: Plan | None) -> Grant:
        """Answer a holder that asks for a permit, named by its actor's name."""
        if self.ledger is None or self._mine is None or plan is None or self.superseded:
            where = f'in cluster "{plan.hub.name}"' if plan is not None else "in the hub"
            return Grant(0.0, refused=self.superseded or f"the leader is not recorded {where} yet")
        terms = {shard.shard: shard.term for shard in plan.shards}
        now = self._clock.now()
        if now < self._not_before:
            return Grant(0.0, refused="the lock was restored from a backup; permits of another leader may be valid")
        return self.ledger.grant(holder, self._proof, now, self._mine.epoch, self._mine.incarnation, terms)

    async def _run(self, every: Callable[[], float]) -> None:
        while not self.superseded and self._confirm is not None:
            await self._clock.sleep(every() if await self.prove() else RETRY_AFTER)

    async def prove(self) -> bool:
        """Confirm once; False if that was not possible."""
        assert self._confirm is not None
        sent = self._clock.now()
        try:
            confirmed = await self._confirm()
        except (KubeError, LockProblem, Conflict, TimeoutError) as error:
            if not self._problem:
                log.warning("the leader can't confirm its lock in the hub: %s", error)
            self._problem = str(error) or type(error).__name__
            return False
        self._problem = ""
        mine, found = self._mine, confirmed.leadership
        if mine is None:
            return True
        if found.pair == mine.pair and found.holder == mine.holder and not found.released:
            away = sent - self._proof.read_sent
            if away > mine.permit:
                log.warning(
                    "the lock was not confirmed for %.1f s: suspended, frozen or cut off; all permits ended meanwhile", away
                )
            self._proof = Proof(sent)
            if confirmed.wait:
                self._not_before = self._clock.now() + confirmed.wait
            return True
        who = f"{found.holder} leads in epoch {found.epoch}, incarnation {found.incarnation}"
        log.error("this leader (epoch %d, incarnation %d) was replaced: %s", mine.epoch, mine.incarnation, who)
        if found.home == mine.home or self._lost is None:
            self.superseded = who
        else:
            await self.end()
            self._lost(found)
        return True
