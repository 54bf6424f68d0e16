"""What has changed between two states of a fleet, in words: ``changes_between``. Pure.

Nothing in the fleet emits these: all is derived from what the observer receives anyway, so a change that happened while no observer
lived is seen by the next one, then.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum

import msgspec

from raycp.observer.facts import ClusterFact, FailingFact, FleetFacts, MemberFact, SwitchFact
from raycp.protocol.members import Role

_NAMED = 5
"""Names that one text lists."""

_DEATHS = ("death", "silence", "restart")
_STARTS = ("start", "cold start")


class ChangeKind(StrEnum):
    """What kind of thing has changed."""

    SWITCH = "switch"
    """Leadership or a shard has moved since a process died."""
    HAND_OVER = "hand-over"
    """The same, in order."""
    APPLY = "apply"
    """The fleet file."""
    CODE = "code"
    """The code of controllers, or raycp's own release."""
    PROCESS = "process"
    """A member died, or was replaced."""
    POOL = "pool"
    """How many workers a tier should have."""
    CLUSTER = "cluster"
    DRAIN = "drain"
    """A cluster or a node is drained, or again open."""
    CONTROLLER = "controller"
    """It began to fail, or has recovered."""
    ALERT = "alert"
    """An objective's budget alert fires, or is resolved."""
    ACTION = "action"
    """Somebody has used the console's actions."""
    READINESS = "readiness"
    PROBLEM = "problem"
    HISTORY = "history"
    """Of this feed itself."""


class ChangeLevel(StrEnum):
    """Whether it is good news."""

    GOOD = "good"
    BAD = "bad"
    WARN = "warn"
    NOTE = "note"


class FleetChange(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """One change. ``subject`` is what has changed and ``what`` how, in a word or two; ``text`` has the rest. ``section`` is the
    status page's that shows more. ``at`` in Unix seconds: as the leader recorded it, else when the observer saw it.

    ``id`` stays, ``seq`` rises with each change; ``count`` is how often the same has happened since ``first_at`` (see
    ``raycp.observer.change_feed``)."""

    at: float
    kind: ChangeKind
    level: ChangeLevel
    subject: str
    what: str
    text: str = ""
    cluster: str = ""
    controller: str = ""
    object: str = ""
    section: str = ""
    id: int = 0
    seq: int = 0
    count: int = 1
    first_at: float = 0.0


def changes_between(before: FleetFacts | None, after: FleetFacts, now: float) -> list[FleetChange]:
    """What has changed, the oldest first. Of a first state only the switches are news, which have times of their own. ``now`` in
    Unix seconds."""
    if before is None:
        return [_switch(each) for each in after.switches]
    another = bool(before.home) and before.home != after.home  # its processes and epochs are all new
    rows = [
        *_applies(before, after, now),
        *_code(before, after, now),
        *(() if another else _processes(before, after, now)),
        *_pools(before.pools, after.pools, now),
        *_clusters(before.clusters, after.clusters, now),
        *_nodes(before.nodes, after.nodes, now),
        *_controllers(before.failing, after.failing, now),
        *_alerts(before.alerts, after.alerts, now),
        *_problems(before.problems, after.problems, now),
        *_readiness(before, after, now),
    ]
    known = {each.identity for each in before.switches}
    news = [_switch(each) for each in after.switches if each.identity not in known]
    return [*news, *_grouped(rows)]


_MANY = {
    ChangeKind.CLUSTER: "clusters",
    ChangeKind.PROCESS: "processes",
    ChangeKind.CONTROLLER: "controllers",
    ChangeKind.CODE: "controllers",
    ChangeKind.ALERT: "objectives",
    ChangeKind.PROBLEM: "problems",
    ChangeKind.DRAIN: "clusters or nodes",
}


def _grouped(rows: Iterable[FleetChange]) -> Iterator[FleetChange]:
    """More than ``_NAMED`` that changed alike at once, such as the clusters behind one network, are one change."""
    alike: dict[tuple[ChangeKind, str], list[FleetChange]] = {}
    for row in rows:
        alike.setdefault((row.kind, row.what), []).append(row)
    for (kind, _), each in alike.items():
        if len(each) <= _NAMED or kind not in _MANY:
            yield from each
            continue
        first, names = each[0], _listed(row.subject for row in each)
        yield FleetChange(
            at=first.at, kind=kind, level=first.level, subject=f"{len(each)} {_MANY[kind]}", what=first.what,
            text=f"{names}; {first.text}" if first.text else names, section=first.section,
        )  # fmt: skip


def _switch(switch: SwitchFact) -> FleetChange:
    kind = ChangeKind.SWITCH if switch.cause in (*_DEATHS, *_STARTS) else ChangeKind.HAND_OVER
    text = f"cause {switch.cause}; {switch.holder} leads" if switch.what == "leader" else f"cause {switch.cause}; {switch.holder}"
    if switch.before:
        text += f" after {switch.before}"
    if switch.leaderless is not None:
        text += f"; leaderless for {1000 * switch.leaderless:.0f} ms"
    return FleetChange(
        at=switch.at,
        kind=kind,
        level=ChangeLevel.BAD if switch.cause in _DEATHS else ChangeLevel.NOTE,
        subject=switch.what,
        what="started" if switch.cause in _STARTS else "switched",
        text=f"{text}; epoch {switch.epoch}, term {switch.term}",
        section="leadership",
    )


_PART = re.compile(r"spec\.(clusters|controllers|slo)\[(.*)\]")
_CALLED = {"clusters": "cluster", "controllers": "controller", "slo": "objective"}


def _applies(before: FleetFacts, after: FleetFacts, now: float) -> Iterator[FleetChange]:
    if not before.generation or before.generation == after.generation:
        return
    old, new = before.parts, after.parts
    done = {
        "added": [path for path in new if path not in old],
        "removed": [path for path in old if path not in new],
        "changed": [path for path in new if path in old and old[path] != new[path]],
    }
    said = [f"{verb} {_listed(map(_part, paths))}" for verb, paths in done.items() if paths]
    if before.runtime != after.runtime:
        said.append("changed what workers run in (working directory or variables)")
    text = "; ".join(said) or "the same fleet file"
    named = [found for path in (path for paths in done.values() for path in paths) if (found := _PART.fullmatch(path))]
    only = named[0] if len(named) == 1 else None
    yield FleetChange(
        at=now, kind=ChangeKind.APPLY, level=ChangeLevel.NOTE, subject="fleet file", what="applied",
        text=f"{text}; generation {before.generation} → {after.generation}",
        cluster=only[2] if only and only[1] == "clusters" else "",
        controller=only[2] if only and only[1] == "controllers" else "",
    )  # fmt: skip


def _part(path: str) -> str:
    found = _PART.fullmatch(path)
    return f"{_CALLED[found[1]]} {found[2]}" if found else path


def _code(before: FleetFacts, after: FleetFacts, now: float) -> Iterator[FleetChange]:
    for name, digest in after.code.items():
        old = before.code.get(name)
        if old and digest and old != digest:
            yield FleetChange(
                at=now, kind=ChangeKind.CODE, level=ChangeLevel.NOTE, subject=f"controller {name}", what="other code",
                text=f"code {old[:12]} → {digest[:12]}", controller=name, section="controllers",
            )  # fmt: skip
    if before.release and after.release and before.release != after.release:
        yield FleetChange(
            at=now, kind=ChangeKind.CODE, level=ChangeLevel.NOTE, subject="raycp", what="other release",
            text=f"{before.release} → {after.release}",
        )  # fmt: skip


_SECTIONS = {Role.SHARD: "shards", Role.STANDBY: "shards", Role.WORKER: "workers", Role.EMBEDDED: "clusters"}


def _processes(before: FleetFacts, after: FleetFacts, now: float) -> Iterator[FleetChange]:
    for slot, new in after.members.items():
        old = before.members.get(slot)
        if old is None or (old.member, old.pid) == (new.member, new.pid) or old.term != new.term:  # a new term is a switch
            continue
        section = _SECTIONS.get(Role(slot.partition(" ")[0]), "")
        if old.member and not new.member:
            found = ChangeLevel.BAD, "died or was stopped", f"was {_process(old)}"
        elif not old.member:
            found = ChangeLevel.GOOD, "started", _process(new)
        elif not (old.pid and new.pid) and old.member == new.member:
            continue  # the same one: it had not reported its pid yet
        else:
            found = ChangeLevel.WARN, "replaced", f"{_process(old)} → {_process(new)}"
        yield FleetChange(
            at=now, kind=ChangeKind.PROCESS, level=found[0], subject=slot, what=found[1], text=found[2], section=section
        )


def _process(fact: MemberFact) -> str:
    parts = (fact.member.rpartition("::")[2], f"pid {fact.pid}" if fact.pid else "", f"on {fact.node}" if fact.node else "")
    return " ".join(filter(None, parts))


def _pools(before: Mapping[str, int], after: Mapping[str, int], now: float) -> Iterator[FleetChange]:
    for tier, size in after.items():
        old = before.get(tier)
        if old is not None and old != size:
            yield FleetChange(
                at=now, kind=ChangeKind.POOL, level=ChangeLevel.NOTE, subject=f"pool {tier}", what="resized",
                text=f"{old} → {size} workers", section="workers",
            )  # fmt: skip


def _clusters(before: Mapping[str, ClusterFact], after: Mapping[str, ClusterFact], now: float) -> Iterator[FleetChange]:
    for name, new in after.items():
        old = before.get(name)
        if old is None:
            continue

        def change(
            what: str, level: ChangeLevel, text: str = "", kind: ChangeKind = ChangeKind.CLUSTER, name: str = name
        ) -> FleetChange:
            return FleetChange(
                at=now, kind=kind, level=level, subject=f"cluster {name}", what=what, text=text, cluster=name, section="clusters"
            )

        if old.reachable and not new.reachable:
            breaker = f"breaker {new.breaker}" if new.breaker not in ("", "closed") else ""
            yield change("unreachable", ChangeLevel.BAD, "; ".join(filter(None, (new.reason, breaker))))
        elif new.reachable and not old.reachable:
            yield change("reachable", ChangeLevel.GOOD)
        elif new.reachable and old.synced and not new.synced:
            yield change("not synced", ChangeLevel.WARN, new.reason)
        elif new.reachable and new.synced and not old.synced:
            yield change("synced", ChangeLevel.GOOD)
        if old.closed != new.closed:
            opened = not new.closed
            yield change(
                "open again" if opened else new.closed, ChangeLevel.NOTE, f"was {old.closed}" if opened else "", ChangeKind.DRAIN
            )
        if old.version and new.version and old.version != new.version:
            yield change("other version", ChangeLevel.NOTE, f"Kubernetes {old.version} → {new.version}")


def _nodes(before: Mapping[str, bool], after: Mapping[str, bool], now: float) -> Iterator[FleetChange]:
    if not before or not after:
        return  # the leader has not asked Ray yet
    for name in [*after, *(name for name in before if name not in after)]:
        draining = after.get(name)
        if draining is None:
            found = ChangeLevel.BAD, "left Ray", ChangeKind.PROCESS
        elif name not in before:
            found = ChangeLevel.NOTE, "joined Ray", ChangeKind.PROCESS
        elif draining and not before[name]:
            found = ChangeLevel.NOTE, "draining", ChangeKind.DRAIN
        else:
            continue
        yield FleetChange(at=now, kind=found[2], level=found[0], subject=f"node {name}", what=found[1])


def _controllers(before: Mapping[str, FailingFact], after: Mapping[str, FailingFact], now: float) -> Iterator[FleetChange]:
    for name, new in after.items():
        if name not in before:
            many = "1 object" if new.objects == 1 else f"{new.objects} objects"
            yield FleetChange(
                at=now, kind=ChangeKind.CONTROLLER, level=ChangeLevel.BAD, subject=f"controller {name}", what="began to fail",
                text=f"{new.cause}; {many}", controller=name, object=new.object, section="attention",
            )  # fmt: skip
    for name, old in before.items():
        if name not in after:
            yield FleetChange(
                at=old.cleared or now, kind=ChangeKind.CONTROLLER, level=ChangeLevel.GOOD, subject=f"controller {name}",
                what="recovered", text=f"no object fails any more; it was {old.cause}", controller=name, section="controllers",
            )  # fmt: skip


def _alerts(before: Mapping[str, str], after: Mapping[str, str], now: float) -> Iterator[FleetChange]:
    for name in [*after, *(name for name in before if name not in after)]:
        old, new = before.get(name, ""), after.get(name, "")
        if old != new:
            what, level = ("fires", ChangeLevel.BAD) if new else ("resolved", ChangeLevel.GOOD)
            yield FleetChange(
                at=now, kind=ChangeKind.ALERT, level=level, subject=f"objective {name}", what=what,
                text=f"severity {new or old}", section="slo",
            )  # fmt: skip


def _problems(before: Mapping[str, str], after: Mapping[str, str], now: float) -> Iterator[FleetChange]:
    for name in [*after, *(name for name in before if name not in after)]:
        if (name in before) != (name in after):
            what, level = ("began", ChangeLevel.WARN) if name in after else ("ended", ChangeLevel.GOOD)
            text = after.get(name, "")
            yield FleetChange(at=now, kind=ChangeKind.PROBLEM, level=level, subject=name, what=what, text=text, section="attention")


_WORSE = {"ready": ChangeLevel.GOOD, "degraded": ChangeLevel.WARN, "not-ready": ChangeLevel.BAD}


def _readiness(before: FleetFacts, after: FleetFacts, now: float) -> Iterator[FleetChange]:
    if before.readiness and before.readiness != after.readiness:
        yield FleetChange(
            at=now, kind=ChangeKind.READINESS, level=_WORSE.get(after.readiness, ChangeLevel.NOTE), subject="fleet",
            what=after.readiness.replace("-", " "), text=after.reason, section="attention",
        )  # fmt: skip


def _listed(names: Iterable[str]) -> str:
    found = list(names)
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return ", ".join(found[:_NAMED]) + more
