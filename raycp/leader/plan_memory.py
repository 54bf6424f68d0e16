"""The fleet's last plan without its secrets, kept outside its members: what a new leader starts from when the leader and all who
know the plan have died together (see ``revival``). The hub can't serve for that: the plan says where the hub is."""

import logging
import secrets
from functools import partial

import msgspec

from raycp.base.problems import FLEET, ProblemCode
from raycp.base.protocol_version import PROTOCOL, check_protocol
from raycp.leader.certificates import new_certificate
from raycp.leader.retries import Retries
from raycp.protocol.plan import ClusterPlan, Fleet, Plan, ShardPlan
from raycp.protocol.substrate import Substrate

log = logging.getLogger(__name__)

SUBJECT = ProblemCode.PLAN_NOT_KEPT, FLEET

MARGIN = 100
"""Generations and versions that may have been used since the plan was kept."""


class KeptPlan(msgspec.Struct, frozen=True):
    """``home``, ``epoch`` and ``version`` of the plan; ``hub`` says for people where the hub is; ``shards``: cluster -> shard;
    ``terms``: shard -> term; ``pools``: tier -> workers; ``generation``: the highest one in use."""

    fleet: Fleet
    home: str
    epoch: int
    version: int
    hub: str
    shards: dict[str, str]
    terms: dict[str, int]
    pools: dict[str, int]
    floor: int
    generation: int
    protocol: int = PROTOCOL

    def __post_init__(self) -> None:
        check_protocol(self.protocol, "the kept plan")


def kept_plan(plan: Plan, hub: str, pools: dict[str, int], generation: int) -> KeptPlan:
    """What to keep of ``plan``: neither its token nor any connection."""
    return KeptPlan(
        plan.fleet,
        plan.home,
        plan.epoch,
        plan.version,
        hub,
        {cluster.name: cluster.shard for cluster in plan.clusters},
        {shard.shard: shard.term for shard in plan.shards},
        pools,
        plan.floor,
        generation,
    )


def revived_plan(kept: KeptPlan) -> Plan:
    """A plan of the same fleet instance, without members. Raises ``ValueError``, ``KeyError`` where the document is no use."""
    doc = kept.fleet.doc
    clusters = tuple(
        ClusterPlan(
            cluster.name, "hub" if cluster.name == doc.hub.name else "member", cluster.all_labels, kept.shards[cluster.name], None
        )
        for cluster in doc.spec.clusters
    )
    shards = tuple(ShardPlan(shard, "", term) for shard, term in sorted(kept.terms.items()))
    floor = max(kept.floor, kept.generation + MARGIN)
    token = secrets.token_urlsafe(32)
    version = kept.version + MARGIN  # of any that was published after it was kept
    return Plan(
        kept.fleet,
        version,
        kept.epoch,
        0,
        token,
        clusters,
        shards,
        floor=floor,
        instance=kept.home,
        certificate=new_certificate(kept.fleet.name),
    )


class PlanMemory:
    """One per leader. What is kept follows the plan within about a second."""

    def __init__(self, substrate: Substrate, retries: Retries) -> None:
        self._substrate = substrate
        self._retries = retries
        self._kept: KeptPlan | None = None

    def step(self, kept: KeptPlan) -> None:
        """Keep this if it is not yet; returns at once."""
        if kept != self._kept:
            self._retries.start(SUBJECT, partial(self._keep, kept))

    async def _keep(self, kept: KeptPlan) -> None:
        await self._substrate.remember(msgspec.json.encode(kept))
        self._kept = kept

    async def recall(self) -> KeptPlan | None:
        """What an earlier leader kept; None for nothing, and for what can't be decoded."""
        note = await self._substrate.recall()
        if note is None:
            return None
        try:
            return msgspec.json.decode(note, type=KeptPlan)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            log.error("the plan that an earlier leader kept can't be decoded: %s", error)
            return None

    async def forget(self) -> None:
        """The fleet is taken down, or is another's now."""
        self._kept = None
        await self._substrate.remember(None)
