"""One cluster's share of the fleet: reconciles at once, requests at once, requests per second. Pure."""

from collections.abc import Iterable

from raycp.config import TIERS, FleetDoc
from raycp.config.clusters import AnswerLimitsSpec, BreakerSpec
from raycp.config.tiers import TierName
from raycp.kube.breaker import BreakerPolicy
from raycp.kube.limits import AnswerLimits
from raycp.protocol.plan import Plan
from raycp.queueing.autoscale import PoolPolicy

REQUESTS_AT_ONCE = 256
"""Requests that one process has in flight at one API server, unless the file sets a limit."""


def in_flight_limits(plan: Plan, clusters: Iterable[str]) -> dict[str, int]:
    """How many keys of each of a shard's clusters may be in work at once: the file's limit, else so few that a
    hanging cluster never takes all slots. The hub, whose keys mostly write elsewhere, may have three quarters; an only one all."""
    names = list(clusters)
    doc = plan.fleet.doc
    pooled = [worker for worker in plan.workers if not worker.quarantine]
    workers = max(len(pooled), sum(doc.spec.tiers.of(tier).workers.min for tier in TIERS), 1)
    slots = max(1, doc.spec.workers.slots * workers // max(1, len(plan.shards)))
    found = {}
    for name in names:
        given = doc.cluster(name).max_in_flight
        if given is not None:
            found[name] = given
        elif len(names) > 1:
            found[name] = max(1, slots - slots // 4 if name == doc.hub.name else slots // min(4, len(names)))
    return found


def breaker_policy(spec: BreakerSpec) -> BreakerPolicy:
    """The circuit breaker that a fleet file asks for."""
    return BreakerPolicy(failures=spec.failures, retry_min=spec.min, retry_max=spec.max)


def answer_limits(spec: AnswerLimitsSpec) -> AnswerLimits:
    """The limits of a cluster's answers that a fleet file asks for."""
    return AnswerLimits(header=spec.header, line=spec.line, page=spec.page, list=spec.list, memory=spec.memory)


def pool_policy(doc: FleetDoc, tier: TierName) -> PoolPolicy:
    """The limits of a tier's pool. The target is the file's, else half of its tightest objective, else half of ``maxWait``."""
    spec = doc.spec.tiers.of(tier)
    within = [each.within for each in doc.spec.slo if each.tier in (None, tier)]
    target = spec.autoscale.target or (min(within) if within else spec.max_wait) / 2
    return PoolPolicy(
        min=spec.workers.min,
        max=spec.workers.max,
        target=target,
        slots=doc.spec.workers.slots,
        up_after=spec.autoscale.up_after,
        down_after=spec.autoscale.down_after,
    )
