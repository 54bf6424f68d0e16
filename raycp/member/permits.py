"""A holder's permit: pulled from the leader once a second, checked before every hand-out and every write (law 6c, 6e).

Lives on the actor's loop; ``left``, ``epoch`` and ``term_of`` may be read from the user loop, they are single reads of
values that are replaced as a whole.
"""

import asyncio
import logging
import math
from collections.abc import Callable

from raycp.base.clock import Clock
from raycp.base.loop_names import LoopName
from raycp.base.loops import Loops
from raycp.leadership.permit import Permit, take
from raycp.metrics import FleetMetrics, Metrics
from raycp.protocol.control import PermitRequest, PlanOf
from raycp.protocol.members import Member, Role
from raycp.protocol.plan import Plan
from raycp.protocol.substrate import LeaderAsk, MemberDied, MemberFailed, MemberUnavailable

log = logging.getLogger(__name__)

EVERY = 1.0
AGAIN = 0.25
"""After a question that was not answered."""


class PermitKeeper:
    """One per holder. Without ``ask`` (a shard or worker without a leader) everything is permitted."""

    def __init__(
        self,
        member: Member,
        clock: Clock,
        loops: Loops,
        metrics: Metrics,
        ask: LeaderAsk | None,
        changed: Callable[[], None],
        newer: Callable[[str, int], None] = lambda shard, term: None,
        *,
        start: bool = True,
    ) -> None:
        self.permit = Permit()
        self.epoch = 0
        """The newest epoch known; hand-outs and writes of an older one are refused."""
        self.terms: dict[str, int] = {}
        """The newest term known of each shard; only ``learn_term`` writes it."""
        self._name = member.actor_name
        self._clock = clock
        self._loops = loops
        self.ask = ask
        """Sends a question to the leader; None without a leader."""
        self._changed = changed
        self._newer = newer
        self._held = ask is None
        self._suspended = False
        self._void = float("-inf")
        self._wake = asyncio.Event()
        self._started = False
        if ask is not None:
            # A standby starts when it is promoted: then it is its shard's primary.
            role = Role.SHARD if member.role is Role.STANDBY else member.role
            gauge = FleetMetrics(metrics).permit_left
            metrics.before_snapshot(lambda: gauge.replace({(role.value,): self.left()} if self._started else {}))
            if start:
                self.start()
            else:
                loops.supervise(lambda: self._acquaint(ask), LoopName.LEADER_ADDRESS)

    def start(self) -> None:
        """Start pulling; a standby does so when it is promoted."""
        if self.ask is not None:
            self._started = True
            self._loops.supervise(self._run, LoopName.PERMIT, most=EVERY)

    async def _acquaint(self, ask: LeaderAsk) -> None:
        """Ask the leader once, while Ray's head can resolve its address: the head may be down at the promotion."""
        while True:
            try:
                await ask(PlanOf(), 5.0)
            except MemberFailed:
                return  # its address is known now
            except (MemberDied, MemberUnavailable, TimeoutError):
                await self._clock.sleep(EVERY)
            else:
                return

    def suspend(self) -> None:
        """Give the permit up, with any grant in flight: the fleet is handed over. None is requested until ``resume``."""
        if self.ask is not None and not self._suspended:
            self._suspended, self._void = True, self._clock.now()
            self.permit = Permit(epoch=self.permit.epoch, incarnation=self.permit.incarnation, refused="the fleet is handed over")
            self._held = False
            self._changed()

    def resume(self) -> None:
        """Ask again, at once."""
        if self._suspended:
            self._suspended = False
            self._wake.set()

    @property
    def held(self) -> bool:
        """Whether anything may be handed out or written at this moment."""
        return self.ask is None or self.permit.until > self._clock.now()

    def look(self) -> bool:
        """``held``, reporting a change since the last call: a permit may end and return during one question to the leader."""
        held = self.held
        if held != self._held:
            self._held = held
            if not held:
                log.warning("the permit has ended: %s", self.permit.refused or "the leader did not answer")
            self._changed()
        return held

    def covers(self, shard: str, epoch: int, term: int) -> bool:
        """Whether a primary of ``epoch`` and ``term`` may hand out now (law 6b); see ``look``."""
        return self.look() and self.epoch <= epoch and self.terms.get(shard, 0) <= term

    def left(self) -> float:
        """Seconds that remain; infinite where there is no leader."""
        return math.inf if self.ask is None else self.permit.left(self._clock.now())

    def term_of(self, shard: str) -> int:
        """The newest term known of a shard."""
        return self.terms.get(shard, 0)

    def learn(self, plan: Plan) -> None:
        """Take over epoch and terms from a plan."""
        if plan.epoch > self.epoch:
            self.epoch = plan.epoch
            self._wake.set()  # the permit of the former epoch is void
        for shard in plan.shards:
            self.learn_term(shard.shard, shard.term)

    def learn_term(self, shard: str, term: int) -> None:
        """A primary of this term was promoted: those before it are fenced off."""
        if term > self.terms.get(shard, 0):
            self.terms[shard] = term
            self._newer(shard, term)

    async def _run(self) -> None:
        while True:
            self._wake.clear()  # before the request: news that arrives during it triggers another at once
            self.look()
            answered = await self.pull()
            self.look()
            await self._pause(min(EVERY if answered else AGAIN, self.left() or EVERY))

    async def _pause(self, seconds: float) -> None:
        """Wait ``seconds``, or until there is a reason to ask."""
        tasks = {asyncio.ensure_future(self._wake.wait()), asyncio.ensure_future(self._clock.sleep(seconds))}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()

    async def pull(self) -> bool:
        """Ask once. False if the leader did not answer."""
        assert self.ask is not None
        if self._suspended:
            return True
        asked = self._clock.now()
        try:
            grant = await self.ask(PermitRequest(self._name), 2.0)
        except (MemberDied, MemberUnavailable, MemberFailed, TimeoutError) as error:
            log.debug("no permit: %s", error)
            return False
        if self._suspended or asked <= self._void:
            return False
        self.permit = take(self.permit, grant, asked)
        self.epoch = max(self.epoch, grant.epoch)
        for shard, term in grant.terms.items():
            self.learn_term(shard, term)
        return bool(grant.seconds)
