"""What of a fleet's state is news when it changes: ``FleetFacts``, out of the status, the plan, the failing objects and the budget
alerts. Pure. It is stored with the feed, so that a later observer sees what has changed while none lived."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from raycp.base.problems import ProblemCode
from raycp.config.canonical import parts
from raycp.protocol.members import OBSERVER_SLOT, Role, Slot
from raycp.protocol.plan import Plan
from raycp.protocol.report import FailureReport
from raycp.protocol.status import ACCUSED, FleetStatus, MemberStatus, readiness
from raycp.protocol.verdict import error_class

CLEARED_AFTER = 30.0
"""Seconds without a failing object after which a controller counts as recovered."""

RETRIED = 2
"""Failures in a row from which an object's controller counts as failing: one that succeeds at once is no news."""

ADOPTED_WITHIN = 20.0
"""Seconds for which a new leader may not know yet what runs: what it does not name is what it was before."""

KEPT_SWITCHES = 100
"""Switches that count as known: more than a status has, since a new leader's status begins with its own alone."""

MOST_PROBLEMS = 200
"""Problems that are kept, of any number."""

_ELSEWHERE = ACCUSED | {
    ProblemCode.CLUSTER_UNREACHABLE,
    ProblemCode.CLUSTER_NOT_SYNCED,
    ProblemCode.LEADERSHIP,
    ProblemCode.DRAIN,
}
"""Problems that the facts of clusters, nodes and the readiness report."""


class MemberFact(msgspec.Struct, frozen=True):
    """The process of a slot; ``member`` is empty while none runs. ``term``: of a shard's primary."""

    member: str = ""
    pid: int = 0
    node: str = ""
    term: int = 0


class ClusterFact(msgspec.Struct, frozen=True):
    """A cluster. ``reason``: why it is not reachable or not synced."""

    reachable: bool
    synced: bool
    breaker: str = ""
    closed: str = ""
    version: str = ""
    reason: str = ""


class FailingFact(msgspec.Struct, frozen=True):
    """A controller whose objects fail. ``cleared``: since when none does, in Unix seconds; None while some do."""

    objects: int
    cause: str
    object: str
    cleared: float | None = None


class SwitchFact(msgspec.Struct, frozen=True):
    """A switch as the leader recorded it."""

    at: float
    cause: str
    what: str
    epoch: int
    term: int
    holder: str
    before: str = ""
    leaderless: float | None = None

    @property
    def identity(self) -> tuple[str, int, int]:
        """Of all switches of a fleet."""
        return self.what, self.epoch, self.term


class FleetFacts(msgspec.Struct, frozen=True, kw_only=True):
    """All facts at one time. ``home`` is the fleet instance; ``parts`` are digests of the fleet file's parts by path, ``code`` of
    the controllers' code by name, and ``runtime`` of what their workers run in: no value can be read from them. ``alerts`` are
    severities by objective."""

    home: str = ""
    leader: str = ""
    """Its epoch and incarnation."""
    leader_since: float = 0.0
    """When the leader was seen to be another one, in Unix seconds; 0 for the first that was seen."""
    generation: str = ""
    parts: dict[str, str] = {}
    code: dict[str, str] = {}
    runtime: str = ""
    release: str = ""
    readiness: str = ""
    reason: str = ""
    members: dict[str, MemberFact] = {}
    clusters: dict[str, ClusterFact] = {}
    nodes: dict[str, bool] = {}
    """Of Ray: whether it is draining."""
    pools: dict[str, int] = {}
    failing: dict[str, FailingFact] = {}
    alerts: dict[str, str] = {}
    problems: dict[str, str] = {}
    """Messages by code and owner."""
    switches: list[SwitchFact] = []


def facts_of(
    status: FleetStatus,
    plan: Plan | None,
    failures: Sequence[FailureReport] | None,
    slo: Iterable[dict[str, Any]],
    before: FleetFacts | None,
    now: float,
) -> FleetFacts:
    """The facts of ``status``. ``failures``: None while not all shards have reported, so that nothing new is known. ``before``: the
    last facts; what is not known stays as it was there. ``now`` in Unix seconds."""
    last = before or FleetFacts()
    found = readiness(status)
    leader = f"{status.leader.epoch}/{status.leader.incarnation}" if status.leader else last.leader
    since = now if last.leader not in ("", leader) else last.leader_since
    home = plan.home if plan is not None else last.home
    adopts = 0.0 <= now - since < ADOPTED_WITHIN and home == last.home
    problems = {
        f"{each.code}{f' ({each.owner})' if str(each.owner) else ''}": each.message
        for each in status.found[:MOST_PROBLEMS]
        if each.code not in _ELSEWHERE
    }
    members = _members(status)
    if adopts:
        members |= {slot: fact for slot, fact in last.members.items() if slot in members and not members[slot].member}
        problems = last.problems | problems
    return FleetFacts(
        home=home,
        leader=leader,
        leader_since=since,
        generation=plan.fleet.generation if plan is not None else last.generation,
        parts=_parts(plan, last) if plan is not None else last.parts,
        code={each.name: each.code for each in plan.fleet.controllers} if plan is not None else last.code,
        runtime=hashlib.sha256(plan.fleet.runtime.encode()).hexdigest()[:12] if plan is not None else last.runtime,
        release=status.release,
        readiness=str(found.state),
        reason=found.reasons[0] if found.reasons else "",
        members=members,
        clusters=_clusters(status, last.clusters),
        nodes={row.node: row.draining for row in status.nodes},
        pools={row.tier: row.workers for row in status.pools},
        failing=last.failing if failures is None else _failing(failures, last.failing, now),
        alerts={row["name"]: ", ".join(sorted(alert["severity"] for alert in row["alerts"])) for row in slo if row["alerts"]},
        problems=problems,
        switches=_switches(status, last.switches),
    )


def _clusters(status: FleetStatus, last: Mapping[str, ClusterFact]) -> dict[str, ClusterFact]:
    """A cluster of which no shard has reported (to a new leader, or since its shard has a new primary) is what it was before."""
    found = {}
    for row in status.clusters:
        if row.breaker:
            found[row.name] = ClusterFact(row.reachable, row.synced, row.breaker, row.closed, row.version, row.reason)
        elif row.name in last:
            found[row.name] = msgspec.structs.replace(last[row.name], closed=row.closed)
    return found


def _switches(status: FleetStatus, last: Sequence[SwitchFact]) -> list[SwitchFact]:
    """Those of the status, and the newest that were known before."""
    found = [
        SwitchFact(each.at, each.cause, each.what, each.epoch, each.term, each.holder, each.before, each.leaderless)
        for each in status.switches
    ]
    named = {each.identity for each in found}
    return [*[each for each in last if each.identity not in named][-KEPT_SWITCHES:], *found]


def _parts(plan: Plan, last: FleetFacts) -> dict[str, str]:
    """Made anew only where the generation is another one: a large file takes milliseconds."""
    return last.parts if last.parts and last.generation == plan.fleet.generation else parts(plan.fleet.doc)


def _members(status: FleetStatus) -> dict[str, MemberFact]:
    rows: list[tuple[Slot, MemberStatus, int]] = [
        *((Slot.of_shard(row.shard), row, row.term) for row in status.shards),
        *((Slot(Role.STANDBY, row.standby), row, 0) for row in status.standbys),
        *((Slot(Role.WORKER, row.worker), row, 0) for row in status.workers),
        *((Slot.of_embedded(row.name), row.embedded, 0) for row in status.clusters if row.embedded is not msgspec.UNSET),
        *([(OBSERVER_SLOT, status.observer, 0)] if status.observer is not msgspec.UNSET else []),
    ]
    return {str(slot): MemberFact(row.member, row.pid or 0, row.node, term) for slot, row, term in rows if not slot.quarantine}


def _failing(failures: Sequence[FailureReport], last: Mapping[str, FailingFact], now: float) -> dict[str, FailingFact]:
    rows: dict[str, list[FailureReport]] = {}
    for row in failures:
        if row.attempts >= RETRIED or row.next_try is None or row.controller in last:
            rows.setdefault(row.controller, []).append(row)
    found = {}
    for name, each in rows.items():
        first = min(each, key=lambda row: (row.since, row.object))
        cause = error_class(first.cause) or first.cause
        found[name] = FailingFact(
            len({row.object for row in each}), f"{cause} at {first.frame}" if first.frame else cause, first.object
        )
    for name, fact in last.items():
        since = now if fact.cleared is None else min(fact.cleared, now)  # a clock that was set back does not prolong it
        if name not in found and now - since < CLEARED_AFTER:
            found[name] = msgspec.structs.replace(fact, cleared=since)
    return found
