"""What members reported comes into the plan: who is a shard's primary, where everybody is reached, which clusters are prepared.

A plan is told only when something in it is news.
"""

from typing import Any

import msgspec

from raycp.leader.endpoints import reachable
from raycp.leader.history import History
from raycp.leader.hub import HubKeeper
from raycp.leader.promotion import Succession
from raycp.leader.roster import Roster
from raycp.protocol.members import OBSERVER_SLOT, Role
from raycp.protocol.plan import ObserverPlan, Plan, ShardPlan, WorkerPlan


class Publisher:
    """One per leader. The roster has a plan."""

    def __init__(self, roster: Roster, hub: HubKeeper, succession: Succession, history: History) -> None:
        self._roster = roster
        self._hub = hub
        self._succession = succession
        self._history = history

    async def leading(self) -> None:
        """Bring addresses that members reported, and connections that are prepared, into the plan."""
        plan = self._roster.plan
        assert plan is not None
        leadership = self._hub.leadership
        shards = self._shards(plan)
        endpoints = reachable(plan, self._roster.endpoints)
        clusters = []
        for cluster in plan.clusters:
            connect = self._hub.published(cluster.name, endpoints.get(cluster.name))
            clusters.append(msgspec.structs.replace(cluster, connect=connect))
        await self._tell(
            **self._addresses(),
            shards=shards,
            clusters=tuple(clusters),
            epoch=leadership.epoch if leadership else plan.epoch,
            incarnation=leadership.incarnation if leadership else plan.incarnation,
        )

    async def standing(self) -> None:
        """Bring addresses of a fleet that stands by into its plan."""
        successors = []
        for slot, state in sorted(self._roster.members.items()):
            if slot.role is Role.STANDBY and state.report.port:
                shard = slot.shard
                successors.append(ShardPlan(shard, state.member.actor_name, 0, state.report.host, state.report.port))
        await self._tell(**self._addresses(), successors=tuple(successors))

    def _shards(self, plan: Plan) -> tuple[ShardPlan, ...]:
        """Primaries as they live; one that was made anew begins the shard's next term."""
        shards = []
        for known in plan.shards:
            state = self._roster.primary_of(known.shard)
            if state is None or not state.report.port:
                shards.append(known)
            elif known.member == state.member.actor_name:
                shards.append(msgspec.structs.replace(known, host=state.report.host, port=state.report.port))
            elif known.term and not self._succession.proven(plan):
                shards.append(known)  # only the first primary may be named by a leader that is not sure to lead
            else:
                cause = "cold start" if known.term else "start"
                new = ShardPlan(known.shard, state.member.actor_name, known.term + 1, state.report.host, state.report.port, cause)
                shards.append(new)
                if known.term:
                    self._history.promoted(plan, known, new)
        return tuple(shards)

    def _addresses(self) -> dict[str, Any]:
        observer = self._roster.members.get(OBSERVER_SLOT)
        address = ObserverPlan()
        if observer is not None and observer.report.port:
            address = ObserverPlan(observer.report.host, observer.report.port, observer.report.extra.get("url", ""))
        workers = tuple(
            WorkerPlan(state.member.actor_name, state.report.host, state.report.port)
            for state in sorted((*self._roster.members.values(), *self._roster.leaving), key=lambda each: each.member)
            if state.member.role is Role.WORKER and state.report.port
        )
        return {"workers": workers, "observer": address}

    async def _tell(self, **news: Any) -> None:
        if any(getattr(self._roster.plan, name) != value for name, value in news.items()):
            await self._roster.change(**news)
