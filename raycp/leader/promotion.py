"""Who follows a member that is gone, or hands over: certain death, outlived permits, promotion (law 6f, 6g)."""

import asyncio
import logging

import msgspec

from raycp.leader.handover import hand_over
from raycp.leader.history import History
from raycp.leader.leadership_proof import LeadershipProof
from raycp.leader.nodes import NodeWatch
from raycp.leader.roster import Roster
from raycp.protocol.control import HandoverResult
from raycp.protocol.members import Member, MemberState, Role, Slot
from raycp.protocol.plan import Plan, ShardPlan
from raycp.protocol.substrate import MemberDied
from raycp.protocol.transport import Life, probe

log = logging.getLogger(__name__)

HOLDERS = (Role.SHARD, Role.STANDBY, Role.WORKER)
"""Roles that hold permits."""

FENCE_MARGIN = 2.0
"""How much longer than a permit the leader must have been sure of itself before it judges a holder's silence, in seconds."""

KEPT_GONE = 32
STANDBY_AFTER = 1.0
WARM_WITHIN = 3.0
"""How long a leader that comes back waits for the first word of a standby, in seconds."""


class Succession:
    """One per leader. ``closed``: the fleet is taken down, nobody is promoted any more."""

    def __init__(self, roster: Roster, prover: LeadershipProof, history: History, watch: NodeWatch) -> None:
        self.closed = False
        self.shunned: frozenset[str] = frozenset()
        """Nodes whose standbys are promoted only where there are no others."""
        self._roster = roster
        self._prover = prover
        self._history = history
        self._watch = watch
        self._clock = roster.clock
        self._unproven_at = roster.clock.now()
        self.handing = asyncio.Lock()
        self._succeeded: dict[str, float] = {}

    def rested(self, shard: str) -> bool:
        """Whether its last promotion is a moment ago: that needs the processor more than the start of a new standby does."""
        return self._clock.now() - self._succeeded.get(shard, float("-inf")) > STANDBY_AFTER

    def proven(self, plan: Plan) -> bool:
        """Whether this leader is sure to lead."""
        return self._prover.proven(plan.fleet.doc.spec.leader.permit)

    async def died(self, state: MemberState, error: MemberDied) -> None:
        """A member's process is gone, or seems to be: its successor takes over at once, or when it is certain (law 6f)."""
        log.warning("%s", error)
        if state.member.role in HOLDERS and not error.certain:
            self._roster.loops.spawn(self._outlive(state), f"certainty about {state.member}")
            return
        await self._gone(state, "death", self._clock.now())

    async def hint(self, name: str) -> None:
        """A standby found its primary's port closed: if it is closed for us too, the process is gone for certain (law 6f)."""
        noticed = self._clock.now()
        members = self._roster.members
        for slot, state in list(members.items()):
            if slot.role is Role.SHARD and state.member.actor_name == name and state.report.port:
                if await probe(state.report.host, state.report.port) is Life.DEAD and members.get(slot) is state:
                    log.warning("%s is gone: its port refuses", state.member)
                    await self._gone(state, "death", noticed)
                return

    async def _outlive(self, state: MemberState) -> None:
        """Wait until a holder is dead for certain, or has outlived its permit. A leader that the hub has not recorded yet does not
        know when that is."""
        name, noticed = state.member.actor_name, self._clock.now()
        while not (state.report.port and await probe(state.report.host, state.report.port) is Life.DEAD):
            ledger = self._prover.ledger
            if ledger is not None:
                ledger.bar(name, "Ray reports this member's death")
                if self._clock.now() >= ledger.ends(name) and self._roster.plan is not None:
                    await self._tell_gone(name)
                    break
            await self._clock.sleep(0.1)
        await self._gone(state, "death", noticed)

    def absent(self, member: Member, host: str, port: int) -> None:
        """A holder that the plan names, and that Ray no longer knows: this leader was not there when it ended, or seemed to. It
        keeps its place until it is dead for certain, or has outlived its permit."""
        state, roster = MemberState(member), self._roster
        state.report = msgspec.structs.replace(state.report, host=host, port=port)
        if member.role is Role.WORKER:
            roster.leaving.append(state)
        else:
            roster.members[roster.plan.slot(member) if roster.plan is not None else member.slot] = state
        roster.loops.spawn(self._outlive(state), f"certainty about {member}")

    def expected(self, shard: str) -> bool:
        """Whether a shard without a primary has a standby that may still become it: then no cold one is made."""
        now = self._clock.now()
        return any(
            slot.role is Role.STANDBY and slot.shard == shard and (state.warm or now - state.since < WARM_WITHIN)
            for slot, state in [*self._roster.members.items(), *((each.member.slot, each) for each in self._roster.leaving)]
        )

    async def fill(self, plan: Plan) -> None:
        """Shards without a primary, because there was no warm standby or no proof of leadership when the last one was gone."""
        for shard in plan.shards:
            if shard.term and Slot.of_shard(shard.shard) not in self._roster.members and self.standby_of(shard.shard) is not None:
                await self.succeed(shard.shard, "death")

    async def _gone(self, state: MemberState, cause: str, noticed: float) -> None:
        """A member writes no more: forget it, and let its successor begin."""
        # A promotion waits for nothing; what has to be made anew must not be sent to a node that is gone.
        warm = bool(state.member.shard) and self.standby_of(state.member.shard) is not None
        if not warm:
            await self._watch.doubt(state.node, silent=cause == "silence")
        slot = self._roster.forget(state)
        if self._prover.ledger is not None:
            self._prover.ledger.forget(state.member.actor_name)
        if state.member.role is Role.EMBEDDED:
            self._roster.endpoints.pop(state.member.place, None)
        if slot is not None and slot.role is Role.SHARD:
            await self.succeed(slot.shard, cause, since=noticed)
        if warm:
            await self._watch.doubt(state.node, silent=cause == "silence")
        self._roster.wake.set()

    async def _tell_gone(self, name: str) -> None:
        """All members hear that this one writes no more, though its process may live."""
        plan = self._roster.plan
        assert plan is not None
        await self._roster.change(gone=(*plan.gone[-KEPT_GONE:], name))

    async def fence(self, plan: Plan) -> None:
        """Holders that have not asked for a permit for so long that theirs has ended: frozen, or cut off. They are succeeded."""
        permit, now, ledger = plan.fleet.doc.spec.leader.permit, self._clock.now(), self._prover.ledger
        if ledger is None or not self.proven(plan):
            self._unproven_at = now  # then it is not their fault
        if ledger is None or now - self._unproven_at < permit + FENCE_MARGIN:
            return
        roster = self._roster
        for state in [*roster.members.values(), *roster.leaving]:
            name = state.member.actor_name
            if state.member.role in HOLDERS and ledger.ends(name) < now and (ledger.heard(name) or self._mute(plan, state)):
                log.error("%s has asked for no permit for %.1f s: it may write no more, and is succeeded", state.member, permit)
                ledger.bar(name, "succeeded after its permit had ended")
                self._roster.unsupervise(state)
                roster.loops.spawn(roster.substrate.kill(state.member), f"kill {state.member}")
                await self._tell_gone(name)
                await self._gone(state, "silence", now)
                ledger.bar(name, "succeeded after its permit had ended")

    def _mute(self, plan: Plan, state: MemberState) -> bool:
        """Never heard of by this leader, though the plan shows that it was at work before: it must have asked by now."""
        name = state.member.actor_name
        at_work = any(name == shard.member for shard in plan.shards) or any(name == worker.member for worker in plan.workers)
        # A standby asks from its promotion on.
        since = max(state.since, self._succeeded.get(state.member.shard, state.since))
        return at_work and self._clock.now() - since > plan.fleet.doc.spec.leader.permit + FENCE_MARGIN

    def primary_of(self, shard: str) -> MemberState | None:
        """See ``Roster``."""
        return self._roster.primary_of(shard)

    def standby_of(self, shard: str) -> MemberState | None:
        """See ``Roster``."""
        return self._roster.standby_of(shard, self.shunned)

    async def succeed(self, shard: str, cause: str, drain: float = 0.0, since: float | None = None) -> bool:
        """Make the shard's warm standby its primary; False if there is none, or this leader is not sure to lead."""
        roster = self._roster
        plan, state = roster.plan, roster.standby_of(shard, self.shunned)
        if state is None or plan is None or self.closed or not self.proven(plan):
            return False
        roster.forget(state)
        roster.members[Slot.of_shard(shard)] = state
        self._succeeded[shard] = self._clock.now()
        before = next(known for known in plan.shards if known.shard == shard)
        leaderless = self._clock.now() - since if since is not None else 0.0
        after = ShardPlan(
            shard, state.member.actor_name, before.term + 1, state.report.host, state.report.port, cause, drain, leaderless
        )
        log.warning("%s becomes the primary of shard %s, term %d (%s)", state.member, shard, after.term, cause)
        await roster.change(shards=tuple(after if known is before else known for known in plan.shards))
        self._history.promoted(plan, before, after)
        return True

    def release(self, member: Member) -> None:
        """A primary that has handed over is ended."""
        self._roster.end_soon(member, 0.0)

    async def hand_over(self, shards: list[str], cause: str = "handover") -> list[HandoverResult]:
        """Hand these shards (all if none is named) to their standbys, all at once."""
        plan = self._roster.plan
        if plan is None or self.closed:
            raise RuntimeError("no fleet runs")
        known = [shard.shard for shard in plan.shards]
        for shard in shards:
            if shard not in known:
                raise KeyError(f"no shard {shard}; there are {', '.join(known)}")
        async with self.handing:
            spec = plan.fleet.doc.spec.leader.handover
            work = (hand_over(self, self._roster.substrate, self._clock, shard, spec.grace, cause) for shard in shards or known)
            async with asyncio.timeout(spec.timeout):
                return list(await asyncio.gather(*work))
