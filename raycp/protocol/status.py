"""The fleet's status as JSON, of one that leads and of one that stands by: what ``raycp status`` prints and the observer serves."""

import datetime
from collections.abc import Iterable, Mapping
from typing import Any

from raycp.config import TIERS
from raycp.leadership.epoch import Leadership
from raycp.leadership.locks import Waiting
from raycp.protocol.desired import Wanted
from raycp.protocol.members import OBSERVER_SLOT, MemberState, Role, Slot
from raycp.protocol.plan import Plan


def fleet_status(
    plan: Plan | None,
    wanted: Mapping[Slot, Wanted],
    members: Mapping[Slot, MemberState],
    leadership: Leadership | None,
    problems: Mapping[str, str],
    uptime: float,
    waiting: Waiting | None = None,
) -> dict[str, Any]:
    """Everything that the leader knows, with ``ready`` and the reasons why not."""
    if plan is None:
        return {"fleet": "", "ready": False, "reasons": ["no fleet has been applied yet"], "problems": dict(problems)}
    doc = plan.fleet.doc
    reasons = _reasons(plan, wanted, members, leadership, waiting, problems.get("leadership", ""))
    clusters = []
    reports = {
        report.name: report for slot, state in members.items() for report in state.report.clusters if slot.role is Role.SHARD
    }
    for cluster in plan.clusters:
        report = reports.get(cluster.name)
        clusters.append(
            {
                "name": cluster.name,
                "role": cluster.role,
                "mode": doc.cluster(cluster.name).mode,
                "labels": cluster.labels,
                "shard": cluster.shard,
                "reachable": bool(report and report.reachable),
                "synced": bool(report and report.synced),
                "objects": report.objects if report else 0,
                "lagSeconds": round(report.lag, 3) if report else None,
                "version": report.version if report else "",
                "breaker": report.breaker if report else "",
                "reason": report.reason if report else "no shard has reported on it yet",
                "kubeconfig": _extra(members, Slot.of_embedded(cluster.name), "kubeconfig"),
            }
        )
    standbys = _standbys(wanted, members)
    lanes: dict[str, dict[str, Any]] = {
        tier: {"tier": tier, "ready": 0, "delayed": 0, "inFlight": 0, "oldestSeconds": 0.0, "share": doc.spec.tiers.of(tier).share}
        for tier in TIERS
    }
    for state in members.values():
        for lane in state.report.lanes:
            row = lanes.setdefault(lane.tier, {"tier": lane.tier, "ready": 0, "delayed": 0, "inFlight": 0, "oldestSeconds": 0.0})
            row["ready"] += lane.ready
            row["delayed"] += lane.delayed
            row["inFlight"] += lane.in_flight
            row["oldestSeconds"] = round(max(row["oldestSeconds"], lane.oldest), 3)
    return {
        "fleet": plan.fleet.name,
        "generation": plan.fleet.generation,
        "sequence": plan.fleet.sequence,
        "plan": plan.version,
        "ready": not reasons,
        "reasons": reasons,
        "leader": {
            "epoch": max(plan.epoch, leadership.epoch if leadership else 0),
            "incarnation": max(plan.incarnation, leadership.incarnation if leadership else 0),
            "holder": leadership.holder if leadership else "",
            "since": leadership.since if leadership else None,
            "lock": doc.spec.leader.lock.kind,
            "home": plan.home,
            "waiting": waiting.why if waiting else "",
            "heldBy": waiting.holder if waiting else "",
            "heldSince": waiting.since if waiting else None,
            "uptimeSeconds": round(uptime, 3),
        },
        "shards": [
            {
                "shard": shard.shard,
                "term": shard.term,
                "clusters": [cluster.name for cluster in plan.clusters if cluster.shard == shard.shard],
                "standbys": sum(1 for row in standbys if row["shard"] == shard.shard and row["ready"]),
                "cachedBytes": members[primary].report.cached_bytes if (primary := Slot.of_shard(shard.shard)) in members else 0,
                **place_of(members, Slot.of_shard(shard.shard)),
            }
            for shard in plan.shards
        ],
        "standbys": standbys,
        "workers": [
            {
                "worker": slot.place,
                "tier": slot.shard,
                "slots": members[slot].report.slots if slot in members else 0,
                "busy": members[slot].report.busy if slot in members else 0,
                **place_of(members, slot),
            }
            for slot in sorted(wanted)
            if slot.role is Role.WORKER
        ],
        "observer": {"url": plan.observer.url, **place_of(members, OBSERVER_SLOT)},
        "clusters": clusters,
        "lanes": list(lanes.values()),
        "controllers": [
            {"name": c.name, "kind": c.kind, "on": c.on, "clusters": list(c.clusters), "use": c.use} for c in plan.fleet.controllers
        ],
        "problems": dict(problems),
    }


def standing_status(
    plan: Plan, wanted: Mapping[Slot, Wanted], members: Mapping[Slot, MemberState], problems: Mapping[str, str]
) -> dict[str, Any]:
    """What ``raycp status`` tells of a fleet that stands by."""
    assert plan.following is not None
    reasons = [*member_reasons(plan, wanted, members), *(f"{what}: {why}" for what, why in problems.items())]
    standbys = _standbys(wanted, members)
    for row in standbys:
        state = members.get(Slot(Role.STANDBY, row["standby"]))
        row["clusters"] = [
            {"name": c.name, "synced": c.synced, "reachable": c.reachable, "objects": c.objects, "reason": c.reason}
            for c in (state.report.clusters if state is not None else ())
        ]
    return {
        "fleet": plan.fleet.name,
        "generation": plan.fleet.generation,
        "following": plan.following.namespace,
        "warm": not reasons,
        "ready": not reasons,
        "reasons": reasons,
        "standbys": standbys,
        "workers": [{"worker": slot.place, **place_of(members, slot)} for slot in sorted(wanted) if slot.role is Role.WORKER],
        "observer": {"url": plan.observer.url, **place_of(members, OBSERVER_SLOT)},
        "problems": dict(problems),
    }


def member_reasons(plan: Plan, slots: Iterable[Slot], members: Mapping[Slot, MemberState]) -> list[str]:
    """What keeps the members of these slots from being at work under ``plan``; empty when nothing does."""
    reasons = []
    for slot in sorted(slots):
        state, name = members.get(slot), f"{slot[0]} {slot[1]}"
        if state is None:
            reasons.append(f"{name} is not there yet")
        elif problem := state.refusal or state.problem:
            reasons.append(f"{name}: {problem}")
        elif state.report.plan < plan.version and slot.role is not Role.EMBEDDED:
            reasons.append(f"{name} has not taken over the newest plan yet")
        elif not state.report.ready:
            reasons.extend(f"{name}: {reason}" for reason in state.report.reasons or ["not ready"])
    return reasons


def place_of(members: Mapping[Slot, MemberState], slot: Slot) -> dict[str, Any]:
    """Where the member of a slot lives, and how it is."""
    state = members.get(slot)
    if state is None:
        return {"state": "missing", "generation": None, "pid": None, "node": "", "nodeId": "", "ready": False}
    return {
        "state": state.report.state,
        "generation": state.member.generation,
        "pid": state.report.pid,
        "node": state.report.node,
        "nodeId": state.node,
        "ready": state.report.ready,
    }


def _standbys(wanted: Mapping[Slot, Wanted], members: Mapping[Slot, MemberState]) -> list[dict[str, Any]]:
    return [
        {
            "standby": slot.place,
            "shard": slot.shard,
            "lagSeconds": round(members[slot].report.lag, 3) if slot in members else None,
            "cachedBytes": members[slot].report.cached_bytes if slot in members else 0,
            **place_of(members, slot),
        }
        for slot in sorted(wanted)
        if slot.role is Role.STANDBY
    ]


def _extra(members: Mapping[Slot, MemberState], slot: Slot, key: str) -> str:
    return members[slot].report.extra.get(key, "") if slot in members else ""


def _reasons(
    plan: Plan,
    wanted: Mapping[Slot, Wanted],
    members: Mapping[Slot, MemberState],
    leadership: Leadership | None,
    waiting: Waiting | None,
    problem: str,
) -> list[str]:
    """Why the fleet is not ready; empty when it is."""
    reasons = []
    if waiting is not None:
        since = datetime.datetime.fromtimestamp(waiting.since, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        reasons.append(f"waiting for the lock: {waiting.why} (leads since {since})")
    elif leadership is None:
        reasons.append(f"the hub {plan.hub.name} has not recorded the leader yet" + (f": {problem}" if problem else ""))
    # A fleet works without its standbys.
    return [*reasons, *member_reasons(plan, (slot for slot in wanted if slot.role is not Role.STANDBY), members)]
