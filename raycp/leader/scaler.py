"""The size of each tier's pool: from what shards and workers report to a number between the fleet file's ``min`` and ``max``."""

import logging
from collections.abc import Iterable, Mapping

from raycp.config import TIERS, FleetDoc
from raycp.member.limits import pool_policy
from raycp.protocol.members import Member, MemberState, Slot
from raycp.protocol.status import PoolStatus
from raycp.queueing.autoscale import Decision, PoolState, scale_pool

log = logging.getLogger(__name__)


def living_pools(members: Iterable[Member], doc: FleetDoc) -> dict[str, int]:
    """The pools that a leader finds: as large as the highest number of a living worker says, within the file's limits."""
    found: dict[str, int] = {}
    for member in members:
        if member.tier in TIERS:
            found[member.tier] = max(found.get(member.tier, 0), member.slot.number + 1)
    return {
        tier: min(max(found[tier], doc.spec.tiers.of(tier).workers.min), doc.spec.tiers.of(tier).workers.max)
        for tier in TIERS
        if tier in found
    }


class Scaler:
    """One per leader. ``reasons``: per tier, why its pool has its size, for the status."""

    def __init__(self) -> None:
        self._before: dict[str, Decision] = {}
        self.reasons: dict[str, str] = {}

    def step(self, doc: FleetDoc, members: Mapping[Slot, MemberState], pools: dict[str, int], now: float) -> dict[str, int]:
        """About once a second: the sizes to have. A pool whose ``min`` is its ``max`` is not scaled."""
        wanted = dict(pools)
        for tier in TIERS:
            policy = pool_policy(doc, tier)
            if policy.min == policy.max:
                self._before.pop(tier, None)
                self.reasons.pop(tier, None)
                continue
            have = pools.get(tier, policy.min)
            lanes = [lane for state in members.values() for lane in state.report.lanes if lane.tier == tier]
            workers = [state for slot, state in members.items() if slot.tier == tier]
            before = self._before.get(tier)
            state = PoolState(
                workers=have,
                delay=max((max(lane.delay, lane.oldest) for lane in lanes), default=0.0),
                busy=sum(each.report.busy for each in workers),
                ready=sum(lane.ready for lane in lanes),
                starting=max(0, have - sum(each.report.ready for each in workers)),
                above_since=before.above_since if before else None,
                below_since=before.below_since if before else None,
                changed_at=before.changed_at if before else now,
            )
            decision = self._before[tier] = scale_pool(state, policy, now)
            self.reasons[tier] = decision.reason
            if decision.target != have:
                log.info("pool %s: %d -> %d workers: %s", tier, have, decision.target, decision.reason)
            wanted[tier] = decision.target
        return wanted

    def rows(self, doc: FleetDoc, pools: Mapping[str, int]) -> list[PoolStatus]:
        """Per tier that has workers, for the status: how many there should be, and why."""
        found = []
        for tier in TIERS:
            spec = doc.spec.tiers.of(tier).workers
            wanted = pools.get(tier, spec.min)
            reason = self.reasons.get(tier, "min is max" if spec.min == spec.max else "not evaluated yet")
            if spec.max:
                found.append(PoolStatus(tier=tier, workers=wanted, min=spec.min, max=spec.max, reason=reason))
        return found


def worker_bundles(doc: FleetDoc, pools: Mapping[str, int]) -> list[dict[str, float]]:
    """The resources that all workers need; empty where no tier requests nodes."""
    count = 0
    asked = False
    for tier in TIERS:
        spec = doc.spec.tiers.of(tier)
        count += pools.get(tier, spec.workers.min)
        asked = asked or (spec.autoscale.request_nodes and spec.workers.max > spec.workers.min)
    return [{"CPU": doc.spec.workers.cpus}] * count if asked and doc.spec.workers.cpus else []
