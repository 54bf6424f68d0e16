"""A fleet's status out of its plan and its members' reports: pure functions, for the leader.

``member_fields``, ``cluster_fields`` and ``lanes_of`` turn reports into rows; the observer uses them as well, to show newer reports
than those that the leader has sent.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Protocol

from msgspec import UNSET

from raycp.base.problems import FleetProblem, ProblemCode, ProblemOwner, Subject, of_member
from raycp.config import TIERS
from raycp.config.clusters import ClusterSpec
from raycp.config.pauses import PausedSpec
from raycp.leadership.epoch import Leadership
from raycp.leadership.locks import Waiting
from raycp.leadership.switches import Switch
from raycp.protocol.members import OBSERVER_SLOT, Member, Role, Slot
from raycp.protocol.plan import Plan
from raycp.protocol.report import ClusterReport, Report
from raycp.protocol.status import (
    ControllerStatus,
    FleetClusterStatus,
    FleetStatus,
    LaneStatus,
    LeaderStatus,
    MemberStatus,
    ObserverStatus,
    PoolStatus,
    RayNodeStatus,
    ShardStandbyStatus,
    ShardStatus,
    StandbyCluster,
    SuspectStatus,
    WorkerStatus,
    with_readiness,
)


class KnownMember(Protocol):
    """A member as it is known from its reports. ``problem`` says why it can't be reached, ``refusal`` why it did not accept its
    plan; ``node`` is Ray's id of its node."""

    @property
    def member(self) -> Member: ...

    @property
    def report(self) -> Report: ...

    @property
    def problem(self) -> str: ...

    @property
    def refusal(self) -> str: ...

    @property
    def node(self) -> str: ...


KnownMembers = Mapping[Slot, KnownMember]


def fleet_status(
    plan: Plan | None,
    wanted: Collection[Slot],
    members: KnownMembers,
    problems: Iterable[FleetProblem],
    *,
    reasons: Iterable[str] = (),
    leadership: Leadership | None = None,
    waiting: Waiting | None = None,
    uptime: float = 0.0,
    pools: Iterable[PoolStatus] = (),
    nodes: Iterable[RayNodeStatus] = (),
    switches: Iterable[Switch] = (),
    release: str = "",
) -> FleetStatus:
    """The status of a fleet whose members should be ``wanted``. ``problems`` are the leader's own; ``reasons``: why there is no
    plan. ``leadership`` is None until the hub records it; ``uptime`` is the leader's, in seconds, and ``release`` its raycp's."""
    if plan is None:
        return with_readiness(FleetStatus(problems=list(problems), reasons=list(reasons), release=release))
    watcher, paused = _watcher(plan), plan.fleet.doc.spec.paused
    reports = [known.report for slot, known in members.items() if slot.role is watcher]
    standbys = [_standby(plan, slot, members) for slot in sorted(wanted) if slot.role is Role.STANDBY]
    return with_readiness(
        FleetStatus(
            fleet=plan.fleet.name,
            generation=plan.fleet.generation,
            sequence=plan.fleet.sequence,
            plan=plan.version,
            following=plan.following.namespace if plan.following is not None else UNSET,
            leader=UNSET if plan.following is not None else _leader(plan, leadership, waiting, uptime),
            shards=_shards(plan, members, standbys),
            standbys=standbys,
            workers=[_worker(plan, slot, members) for slot in sorted(wanted) if slot.role is Role.WORKER],
            observer=ObserverStatus(
                url=plan.observer.url,
                **member_fields(OBSERVER_SLOT, members.get(OBSERVER_SLOT), plan.version),
            ),
            clusters=_clusters(plan, wanted, members),
            lanes=lanes_of(
                reports,
                {tier: plan.fleet.doc.spec.tiers.of(tier).share for tier in TIERS},
            ),
            controllers=[
                ControllerStatus(
                    name=c.name, kind=c.kind, on=c.on, clusters=list(c.clusters), use=c.use, paused=c.name in paused.controllers
                )
                for c in plan.fleet.controllers
            ],
            problems=all_problems(problems, members),
            suspects=suspects_of(reports),
            pools=list(pools),
            nodes=list(nodes),
            switches=list(switches),
            release=release,
        )
    )


def all_problems(own: Iterable[FleetProblem], members: KnownMembers) -> list[FleetProblem]:
    """The leader's problems, then what members report; one for each subject."""
    found = {problem.subject: problem for problem in own}
    for slot, known in sorted(members.items(), key=lambda each: each[0]):
        for problem in [*known.report.problems, *suspect_problems(slot, known.report)]:
            named = of_member(problem, str(slot))
            before = found.get(named.subject)
            if before is None or named.since < before.since:
                found[named.subject] = named
    return list(found.values())


def member_fields(slot: Slot, known: KnownMember | None, version: int) -> dict[str, Any]:
    """The fields of ``MemberStatus`` for the member of a slot, under the plan of that ``version``."""
    if known is None:
        return {"reasons": [f"{slot} is not there yet"]}
    report = known.report
    reasons, behind = [], False
    if problem := known.refusal or known.problem:
        reasons = [f"{slot}: {problem}"]
    elif report.plan < version and slot.role is not Role.EMBEDDED:
        reasons, behind = [f"{slot} has not taken over the newest plan yet"], True
    elif not report.ready:
        reasons = [f"{slot}: {reason}" for reason in report.reasons or ["not ready"]]
    return {
        "member": known.member.actor_name,
        "state": report.state,
        "generation": known.member.generation,
        "pid": report.pid,
        "node": report.node,
        "node_id": known.node,
        "ready": report.ready,
        "behind": behind,
        "reasons": reasons,
    }


def cluster_fields(report: ClusterReport) -> dict[str, Any]:
    """The fields of ``FleetClusterStatus`` that a shard reports."""
    return {
        "reachable": report.reachable,
        "synced": report.synced,
        "objects": report.objects,
        "lag_seconds": round(report.lag, 3),
        "version": report.version,
        "breaker": report.breaker,
        "reason": report.reason,
    }


def lanes_of(reports: Iterable[Report], shares: Mapping[str, float]) -> list[LaneStatus]:
    """The lanes of these reports, summed by tier. ``shares``: each tier's guaranteed share."""
    lanes = {tier: LaneStatus(tier=tier, share=share) for tier, share in shares.items()}
    for report in reports:
        for lane in report.lanes:
            row = lanes.setdefault(lane.tier, LaneStatus(tier=lane.tier))
            row.ready += lane.ready
            row.delayed += lane.delayed
            row.in_flight += lane.in_flight
            row.oldest_seconds = round(max(row.oldest_seconds, lane.oldest), 3)
    return list(lanes.values())


def suspects_of(reports: Iterable[Report]) -> list[SuspectStatus]:
    """The objects that these shards suspect, the convicted first."""
    rows = [
        SuspectStatus(
            object=row.object,
            controller=row.controller,
            convicted=row.convicted,
            deaths=row.deaths,
            reason=row.reason,
            since=row.since,
        )
        for report in reports
        for row in report.suspects
    ]
    return sorted(rows, key=lambda row: (not row.convicted, -row.since))


def paused_problems(plan: Plan | None) -> dict[Subject, str]:
    """What a user should know of the fleet's pauses: nobody else says why nothing happens there."""
    paused = plan.fleet.doc.spec.paused if plan is not None else PausedSpec()
    what = "paused: no reconcile is begun, and what is due waits for `raycp resume"
    clusters = {(ProblemCode.PAUSED, ProblemOwner(cluster=name)): f"{what} --cluster {name}`" for name in paused.clusters}
    return clusters | {
        (ProblemCode.PAUSED, ProblemOwner(controller=name)): f"{what} --controller {name}`" for name in paused.controllers
    }


def suspect_problems(slot: Slot, report: Report) -> list[FleetProblem]:
    """What a user should know of a shard's suspects: each convicted object by name, the others by their number."""
    convicted = [row for row in report.suspects if row.convicted]
    found = [
        FleetProblem(
            ProblemCode.OBJECT_CONVICTED,
            ProblemOwner(object=row.object, controller=row.controller),
            f"{row.reason}; {row.deaths} workers have died with it in flight. It is reconciled alone, with backoff, until a "
            f"reconcile succeeds: see `raycp why {row.object}`",
            row.since,
        )
        for row in convicted
    ]
    if waiting := report.suspected - len(convicted):
        since = min((row.since for row in report.suspects if not row.convicted), default=0.0)
        why = (
            f"{waiting} objects may have ended workers: they are reconciled one at a time, in a worker with one slot, until each "
            "has succeeded once"
        )
        found.append(FleetProblem(ProblemCode.OBJECTS_SUSPECTED, ProblemOwner(member=str(slot)), why, since))
    return found


def _watcher(plan: Plan) -> Role:
    """The role of the members that watch the clusters: a standby fleet has no primaries."""
    return Role.STANDBY if plan.following is not None else Role.SHARD


def _leader(plan: Plan, leadership: Leadership | None, waiting: Waiting | None, uptime: float) -> LeaderStatus:
    return LeaderStatus(
        epoch=max(plan.epoch, leadership.epoch if leadership else 0),
        incarnation=max(plan.incarnation, leadership.incarnation if leadership else 0),
        holder=leadership.holder if leadership else "",
        since=leadership.since if leadership else None,
        lock=plan.fleet.doc.spec.leader.lock.kind,
        home=plan.home,
        waiting=waiting.why if waiting else "",
        held_by=waiting.holder if waiting else "",
        held_since=waiting.since if waiting else None,
        uptime_seconds=round(uptime, 3),
    )


def _shards(plan: Plan, members: KnownMembers, standbys: list[ShardStandbyStatus]) -> list[ShardStatus]:
    clusters: dict[str, list[str]] = {}
    for cluster in plan.clusters:
        clusters.setdefault(cluster.shard, []).append(cluster.name)
    ready = Counter(row.shard for row in standbys if row.ready)
    rows = []
    for shard in plan.shards:
        slot = Slot.of_standby(shard.shard, 0) if plan.following is not None else Slot.of_shard(shard.shard)
        known = members.get(slot)
        rows.append(
            ShardStatus(
                shard=shard.shard,
                term=shard.term,
                clusters=clusters.get(shard.shard, []),
                standbys=ready[shard.shard],
                cached_bytes=known.report.cached_bytes if known is not None else 0,
                **member_fields(slot, known, plan.version),
            )
        )
    return rows


def _standby(plan: Plan, slot: Slot, members: KnownMembers) -> ShardStandbyStatus:
    known = members.get(slot)
    reported = known.report.clusters if known is not None else []
    return ShardStandbyStatus(
        standby=slot.place,
        shard=slot.shard,
        lag_seconds=round(known.report.lag, 3) if known is not None else None,
        cached_bytes=known.report.cached_bytes if known is not None else 0,
        clusters=[
            StandbyCluster(name=c.name, synced=c.synced, reachable=c.reachable, objects=c.objects, reason=c.reason)
            for c in reported
        ]
        if plan.following is not None
        else UNSET,
        **member_fields(slot, known, plan.version),
    )


def _worker(plan: Plan, slot: Slot, members: KnownMembers) -> WorkerStatus:
    known = members.get(slot)
    return WorkerStatus(
        worker=slot.place,
        tier=slot.tier,
        slots=known.report.slots if known is not None else 0,
        busy=known.report.busy if known is not None else 0,
        **member_fields(slot, known, plan.version),
    )


def _closed(cluster: ClusterSpec) -> str:
    return "drained" if cluster.drain else "unschedulable" if cluster.unschedulable else ""


def _clusters(plan: Plan, wanted: Collection[Slot], members: KnownMembers) -> list[FleetClusterStatus]:
    watcher = _watcher(plan)
    reports = {row.name: row for slot, known in members.items() if slot.role is watcher for row in known.report.clusters}
    of_file = {cluster.name: cluster for cluster in plan.fleet.doc.spec.clusters}
    rows = []
    for cluster in plan.clusters:
        slot = Slot.of_embedded(cluster.name)
        embedded = members.get(slot)
        report = reports.get(cluster.name)
        rows.append(
            FleetClusterStatus(
                name=cluster.name,
                role=cluster.role,
                mode=of_file[cluster.name].mode,
                labels=cluster.labels,
                shard=cluster.shard,
                closed=_closed(of_file[cluster.name]),
                paused=cluster.name in plan.fleet.doc.spec.paused.clusters,
                kubeconfig=embedded.report.extra.get("kubeconfig", "") if embedded is not None else "",
                embedded=MemberStatus(**member_fields(slot, embedded, plan.version)) if slot in wanted else UNSET,
                **(cluster_fields(report) if report is not None else {}),
            )
        )
    return rows
