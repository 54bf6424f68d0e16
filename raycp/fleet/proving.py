"""The leader's side of permits: once a second it reads from the hub that it still leads, and grants what that covers (law 6d)."""

import logging
from collections.abc import Awaitable, Callable

import msgspec

from raycp.base.clock import Clock
from raycp.fleet.loops import Loops
from raycp.fleet.plan import Plan
from raycp.kube import KubeError
from raycp.leadership.epoch import Leadership
from raycp.leadership.permit import Ask, Grant, Ledger, Proof
from raycp.leadership.records import Conflict

log = logging.getLogger(__name__)

EVERY = 1.0
AGAIN = 0.2

Read = Callable[[], Awaitable[Leadership | None]]
"""The recorded leadership. Where the record is lost or older than ours (restored from a backup), it is written again first."""


class Prover:
    """One per leader. Grants nothing before ``begin``, and nothing more once somebody else has been recorded."""

    def __init__(self, clock: Clock, loops: Loops) -> None:
        self.ledger: Ledger | None = None
        self.superseded = ""
        """Who leads instead of us; empty while nobody does."""
        self._problem = ""
        self._clock = clock
        self._loops = loops
        self._mine: Leadership | None = None
        self._proof = Proof(float("-inf"))
        self._read: Read | None = None

    def begin(self, mine: Leadership, ledger: Ledger, sent: float, read: Read) -> None:
        """``mine`` was recorded by a request sent at ``sent``."""
        self._mine, self.ledger, self._read = mine, ledger, read
        self._proof = Proof(sent)
        self._loops.spawn(self._run(), "proof of leadership")

    def proven(self, permit: float) -> bool:
        """Whether the proof is young enough to act on: to promote, to start an epoch."""
        return not self.superseded and self._proof.covers(self._clock.now(), permit) > 0

    @property
    def problems(self) -> dict[str, str]:
        """What keeps this leader from granting permits."""
        if self.superseded:
            return {"leadership": f"{self.superseded}; this one does nothing more"}
        return {"proof of leadership": self._problem} if self._problem else {}

    def grant(self, payload: bytes, plan: Plan | None) -> bytes:
        """Answer a holder."""
        ask = msgspec.msgpack.decode(payload, type=Ask)
        if self.ledger is None or self._mine is None or plan is None or self.superseded:
            return msgspec.msgpack.encode(Grant(0.0, refused=self.superseded or "the hub has not recorded the leader yet"))
        terms = {shard.shard: shard.term for shard in plan.shards}
        now = self._clock.now()
        grant = self.ledger.grant(ask.holder, self._proof, now, self._mine.epoch, self._mine.incarnation, terms)
        return msgspec.msgpack.encode(grant)

    async def _run(self) -> None:
        while not self.superseded:
            await self._clock.sleep(EVERY if await self.prove() else AGAIN)

    async def prove(self) -> bool:
        """Read once; False if that was not possible."""
        assert self._read is not None
        assert self._mine is not None
        sent = self._clock.now()
        try:
            found = await self._read()
        except (KubeError, Conflict, TimeoutError) as error:
            if not self._problem:
                log.warning("the leader can't read its record in the hub: %s", error)
            self._problem = str(error)
            return False
        self._problem = ""
        mine = self._mine
        if found is not None and (found.epoch, found.incarnation, found.holder) == (mine.epoch, mine.incarnation, mine.holder):
            self._proof = Proof(sent)
        elif found is not None:
            self.superseded = f"{found.holder} leads in epoch {found.epoch}, incarnation {found.incarnation}"
            log.error("this leader (epoch %d, incarnation %d) is history: %s", mine.epoch, mine.incarnation, self.superseded)
        return True
