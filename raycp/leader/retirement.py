"""The end of this revision of the fleet, after another revision has become the active fleet."""

import logging
from collections.abc import Awaitable, Callable

from raycp.base.clock import Clock
from raycp.base.loop_names import LoopName
from raycp.base.loops import Loops
from raycp.kube import KubeError
from raycp.leader.history import History
from raycp.leader.hub import Hub
from raycp.leader.promotion import Promotion
from raycp.leader.shutdown import Shutdown
from raycp.leadership.locks import LockProblem
from raycp.protocol.members import LEADER
from raycp.protocol.plan import Plan, home_of
from raycp.protocol.revisions import GENERATIONS
from raycp.protocol.substrate import Substrate

log = logging.getLogger(__name__)

LEAVE_AFTER = 0.3
"""Seconds in which the answer to the request for the hand-over is sent."""


class Retirement:
    """One per leader. ``forget`` drops what is kept of the plan for later leaders."""

    def __init__(
        self,
        substrate: Substrate,
        clock: Clock,
        loops: Loops,
        hub: Hub,
        promotion: Promotion,
        history: History,
        shutdown: Shutdown,
        forget: Callable[[], Awaitable[None]],
    ) -> None:
        self.begun = False
        """Another revision is active; this leader ends soon."""
        self._substrate = substrate
        self._clock = clock
        self._loops = loops
        self._hub = hub
        self._promotion = promotion
        self._history = history
        self._shutdown = shutdown
        self._forget = forget

    def begin(self, why: str) -> None:
        """End all members but embedded clusters, then the leader; returns at once."""
        if self.begun:
            return
        self.begun = True
        log.warning("%s: this revision of the fleet ends", why)
        self._promotion.close()
        self._history.end()
        self._loops.supervise(self._end, LoopName.RETIREMENT)

    async def _end(self) -> None:
        await self._clock.sleep(LEAVE_AFTER)
        await self._shutdown.end_members(whole_fleet=False)
        await self._hub.close()
        await self._forget()
        await self._substrate.kill(LEADER)

    async def check(self, plan: Plan | None) -> None:
        """A leader that was restarted after the hand-over of its fleet finds its successor in the lock; a lock that can't be read
        is read again with the next step."""
        lock = self._hub.lock
        if plan is None or plan.following is not None or lock.waiting is None or self.begun:
            return
        try:
            found = await lock.holder(plan)
        except (KubeError, LockProblem, TimeoutError) as error:
            log.info("whether another revision leads is not known: %s", error)
            return
        if found is not None and not found.released and found.home == home_of(plan.token, plan.floor + GENERATIONS):
            self.begin(f"{found.holder} leads in epoch {found.epoch}")
