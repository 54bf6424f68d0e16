"""Plans made from fleet documents: by ``apply``, of a standby fleet, and of a standby fleet that becomes the active one. Pure."""

import secrets
from collections.abc import Collection, Mapping

import msgspec

from raycp.config import TIERS
from raycp.leader.certificates import new_certificate
from raycp.leader.desired import assign_shards
from raycp.leader.endpoints import connection
from raycp.protocol.plan import ClusterPlan, Fleet, Following, ObserverPlan, Plan, ShardPlan
from raycp.protocol.revisions import GENERATIONS


def kept_pools(pools: Mapping[str, int], before: Plan | None, fleet: Fleet) -> dict[str, int]:
    """The size of each tier's pool under a new fleet file: a pool keeps the size it was scaled to if its range did not change."""
    tiers = fleet.doc.spec.tiers
    ranges = {tier: before.fleet.doc.spec.tiers.of(tier).workers for tier in TIERS} if before else {}
    return {
        tier: pools[tier] if tier in pools and ranges.get(tier) == tiers.of(tier).workers else tiers.of(tier).workers.min
        for tier in TIERS
    }


def cluster_shards(fleet: Fleet, before: Plan | None) -> dict[str, str]:
    """Cluster -> shard; clusters keep their shards where possible."""
    known = {cluster.name: cluster.shard for cluster in before.clusters} if before else {}
    spec = fleet.doc.spec
    return assign_shards([cluster.name for cluster in spec.clusters], spec.shards.clusters_per_shard, known)


def applied_plan(fleet: Fleet, before: Plan | None) -> Plan:
    """The plan for ``fleet``, which replaces the fleet of ``before``."""
    doc, shards = fleet.doc, cluster_shards(fleet, before)
    known = {cluster.name: cluster for cluster in before.clusters} if before else {}
    clusters = tuple(
        ClusterPlan(
            cluster.name,
            "hub" if cluster.name == doc.hub.name else "member",
            cluster.all_labels,
            shards[cluster.name],
            known[cluster.name].connect if cluster.name in known else None,
        )
        for cluster in doc.spec.clusters
    )
    if before is None:
        first = tuple(ShardPlan(shard, "", 0) for shard in sorted(set(shards.values())))
        secret, certificate = secrets.token_urlsafe(32), new_certificate(fleet.name)
        return Plan(msgspec.structs.replace(fleet, sequence=1), 1, 0, 0, secret, clusters, first, certificate=certificate)
    terms = {shard.shard: shard for shard in before.shards}
    return msgspec.structs.replace(
        before,
        fleet=msgspec.structs.replace(fleet, sequence=before.fleet.sequence + 1),
        version=before.version + 1,
        clusters=clusters,
        shards=tuple(terms.get(shard, ShardPlan(shard, "", 0)) for shard in sorted(set(shards.values()))),
    )


def standby_plan(fleet: Fleet, theirs: Plan, mine: Plan | None) -> Plan:
    """The plan of a standby fleet; ``theirs`` is the active fleet's, ``mine`` the standby's last one. Raises ``ValueError``."""
    doc = fleet.doc
    if doc.hub.name != theirs.fleet.doc.hub.name:
        before, after = theirs.fleet.doc.hub.name, doc.hub.name
        raise ValueError(f"the hub is {before!r} and can't become {after!r} by an upgrade: take the fleet down, then run it")
    if moved := theirs.fleet.doc.moved_lock(doc):
        raise ValueError(moved)
    shards = cluster_shards(fleet, theirs)
    followed = []
    for cluster in theirs.clusters:
        spec = next((each for each in doc.spec.clusters if each.name == cluster.name), None)
        was = theirs.fleet.doc.cluster(cluster.name)
        if spec is None or shards[cluster.name] != cluster.shard or (spec.embedded is None) != (was.embedded is None):
            continue  # it starts cold at the switch, with the watermark
        connect = cluster.connect if spec.embedded is not None or cluster.connect is None else connection(fleet, cluster.name)
        role = "hub" if cluster.name == doc.hub.name else "member"
        followed.append(ClusterPlan(cluster.name, role, spec.all_labels, cluster.shard, connect))
    homes = {cluster.shard for cluster in followed}
    return Plan(
        fleet=msgspec.structs.replace(fleet, sequence=theirs.fleet.sequence + 1),
        version=mine.version + 1 if mine else 1,
        epoch=0,
        incarnation=0,
        token=theirs.token,
        certificate=theirs.certificate,
        clusters=tuple(followed),
        shards=tuple(shard for shard in theirs.shards if shard.shard in homes),
        observer=mine.observer if mine else ObserverPlan(),
        workers=mine.workers if mine else (),
        floor=mine.floor if mine else theirs.floor + GENERATIONS,
        following=Following(
            mine.following.namespace if mine and mine.following else "",
            tuple((each.name, cluster) for each in theirs.fleet.controllers for cluster in each.clusters),
            theirs.fleet.controllers,
        ),
        successors=mine.successors if mine else (),
        marks=theirs.marks,
    )


def leading_plan(plan: Plan, theirs: Plan, warm: Collection[str], epoch: int, incarnation: int) -> Plan:
    """The standby's ``plan`` once its fleet leads: with all of the fleet's clusters. Shards in ``warm`` keep the active fleet's
    primaries until they are promoted; the others have none and start cold, with the watermark."""
    doc = plan.fleet.doc
    known = {cluster.name: cluster for cluster in plan.clusters}
    shard_of = cluster_shards(plan.fleet, theirs)
    clusters = tuple(
        known.get(spec.name)
        or ClusterPlan(spec.name, "hub" if spec.name == doc.hub.name else "member", spec.all_labels, shard_of[spec.name], None)
        for spec in doc.spec.clusters
    )
    terms = {shard.shard: shard.term for shard in theirs.shards}
    before = {shard.shard: shard for shard in plan.shards if shard.shard in warm}
    shards = tuple(
        before.get(shard) or ShardPlan(shard, "", terms.get(shard, 0)) for shard in sorted({cluster.shard for cluster in clusters})
    )
    return msgspec.structs.replace(
        plan,
        version=plan.version + 1,
        epoch=epoch,
        incarnation=incarnation,
        clusters=clusters,
        shards=shards,
        following=None,
        successors=(),
    )
