"""What members reported becomes part of the plan: primaries, addresses, the connections of the clusters.

A plan is published only when something in it has changed.
"""

from typing import Any

import msgspec

from raycp.leader.endpoints import reachable
from raycp.leader.hub import Hub
from raycp.leader.mark_keys import needs_marks
from raycp.leader.plan_store import PlanStore
from raycp.leader.promotion import Promotion
from raycp.leader.roster import Roster
from raycp.protocol.members import OBSERVER_SLOT, Role
from raycp.protocol.plan import ObserverPlan, Plan, ShardPlan, WorkerPlan


class Publisher:
    """One per leader. There is a plan."""

    def __init__(self, plans: PlanStore, roster: Roster, hub: Hub, promotion: Promotion) -> None:
        self._plans = plans
        self._roster = roster
        self._hub = hub
        self._promotion = promotion

    async def publish_active(self) -> None:
        """Publish primaries, addresses and connections of an active fleet."""
        plan = self._plans.current
        lock = self._hub.lock
        marks = self._hub.marks.keys or plan.marks
        endpoints = reachable(plan, self._roster.endpoints)
        clusters = []
        for cluster in plan.clusters:
            connect = self._hub.crds.published(
                cluster.name,
                endpoints.get(cluster.name),
                candidate=lock.waiting is not None,
                held=marks is None and needs_marks(plan),  # a job's Pods in members are unknown meanwhile
            )
            clusters.append(msgspec.structs.replace(cluster, connect=connect))
        await self._publish(
            **self._addresses(),
            standbys=self._standbys(plan.standbys),
            excused=self._roster.excused,
            shards=self._shards(plan),
            clusters=tuple(clusters),
            marks=marks,
            epoch=lock.leadership.epoch if lock.leadership else plan.epoch,
            incarnation=lock.leadership.incarnation if lock.leadership else plan.incarnation,
        )

    async def publish_standby(self) -> None:
        """Publish the addresses of a standby fleet."""
        await self._publish(**self._addresses(), successors=self._standbys(self._plans.current.successors))

    def _standbys(self, before: tuple[ShardPlan, ...]) -> tuple[ShardPlan, ...]:
        """The standbys that listen. One that has not reported to this leader yet is where it was ``before``: workers are connected
        to it."""
        known, found = {each.member: each for each in before}, []
        for slot, state in sorted(self._roster.members.items()):
            name, report = state.member.actor_name, state.report
            if slot.role is Role.STANDBY and report.port:
                found.append(ShardPlan(slot.shard, name, 0, report.host, report.port))
            elif slot.role is Role.STANDBY and name in known:
                found.append(known[name])
        return tuple(found)

    def _shards(self, plan: Plan) -> tuple[ShardPlan, ...]:
        """The shards with their living primaries; a primary that was created for the shard begins its next term."""
        after = plan
        for known in plan.shards:
            state = self._roster.primary_of(known.shard)
            if state is None or not state.report.port:
                continue
            if known.member == state.member.actor_name:
                moved = msgspec.structs.replace(known, host=state.report.host, port=state.report.port)
                shards = tuple(moved if each is known else each for each in after.shards)
                after = msgspec.structs.replace(after, shards=shards)
            elif not known.term or self._promotion.proven(plan):
                # A leader that is not sure to lead names a shard's first primary only.
                cause = "cold start" if known.term else "start"
                after = self._promotion.make_primary(after, known.shard, state, cause)
        return after.shards

    def _addresses(self) -> dict[str, Any]:
        observer = self._roster.members.get(OBSERVER_SLOT)
        address = ObserverPlan()
        if observer is not None and observer.report.port:
            report = observer.report
            address = ObserverPlan(report.host, report.port, report.extra.get("url", ""), observer.member.actor_name)
        workers = tuple(
            WorkerPlan(state.member.actor_name, state.report.host, state.report.port)
            for state in sorted(self._roster.all, key=lambda each: each.member)
            if state.member.role is Role.WORKER and state.report.port
        )
        return {"workers": workers, "observer": address}

    async def _publish(self, **fields: Any) -> None:
        if any(getattr(self._plans.plan, name) != value for name, value in fields.items()):
            await self._plans.change(**fields)
