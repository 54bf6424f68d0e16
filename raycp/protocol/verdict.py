"""The fleet's state in one sentence, for ``raycp status``, the status page and ``/readyz``: what ``readiness`` says, and what fails
though the fleet is ready. Pure."""

import datetime
import re
from collections.abc import Iterable, Sequence

import msgspec

from raycp.base.problems import FleetProblem, ProblemCode
from raycp.protocol.fleet_verdict import FleetVerdict, VerdictLevel
from raycp.protocol.report import FailureReport, Report
from raycp.protocol.status import NOTES, FleetStatus, ReadinessState, readiness

SAID = frozenset({ProblemCode.LEADER_SILENT})
"""Problems that stand among the reasons in words of their own."""

FAILING = "failing: "
"""Begins what fails in a fleet that is degraded or not ready."""

_MOST = 20
"""Further sentences of a verdict."""

_LONGEST = 300
"""Characters of a sentence."""

_NAMED = 3
"""Owners of one trouble that a sentence names."""

_OWNED = re.compile(r"((?:shard|standby|worker|cluster|observer) ?[^ :]*): (.*)", re.DOTALL)
"""A reason that names whose it is, as ``readiness`` writes them."""

_CLASS = re.compile(r"[A-Za-z_][\w.]*( \d{3})?")
"""The class of an error, an API error's with its status: ``TypeError``, ``ApiError 403``."""


class FailureGroup(msgspec.Struct, frozen=True):
    """Objects that fail alike: one controller, one class of error, one line. ``objects`` counts those that are listed."""

    controller: str
    error: str
    frame: str
    objects: int
    clusters: int
    since: float

    def sentence(self, now: float, unlisted: int = 0) -> str:
        """In words. ``unlisted``: further objects that are known to fail in the same way, in clusters that are not known."""
        clusters = _count(self.clusters, "cluster")
        where = f"in {clusters}" if not unlisted else f"in {clusters} or more"
        at = f" at {self.frame}" if self.frame else ""
        objects = _count(self.objects + unlisted, "object")
        return _cut(f"controller {self.controller}, {objects} {where} since {moment(self.since, now)}: {self.error}{at}")


def failure_groups(rows: Iterable[FailureReport]) -> list[FailureGroup]:
    """The failures by what fails, the largest group first, of equal ones the oldest."""
    groups: dict[tuple[str, str, str], list[FailureReport]] = {}
    for row in rows:
        head = error_class(row.cause)
        groups.setdefault((row.controller, row.frame, head or ("" if row.frame else row.cause)), []).append(row)
    found = [
        FailureGroup(
            controller=controller,
            error=error or each[0].cause,
            frame=frame,
            objects=len({row.object for row in each}),
            clusters=len({row.cluster for row in each}),
            since=min(row.since for row in each),
        )
        for (controller, frame, error), each in groups.items()
    ]
    return sorted(found, key=lambda group: (-group.objects, group.since, group.controller))


def error_class(cause: str) -> str:
    """``TypeError`` of ``TypeError: no``; empty where a cause is words alone."""
    head = cause.partition(": ")[0]
    return head if _CLASS.fullmatch(head) else ""


def owned(reason: str) -> tuple[str, str]:
    """Whose a reason of ``readiness`` is, empty where it does not say, and the rest of it."""
    found = _OWNED.fullmatch(reason)
    return (found[1], found[2]) if found else ("", reason)


def moment(seconds: float, now: float) -> str:
    """Unix seconds as a time of UTC, with the date where it is another day than ``now``."""
    at, today = (datetime.datetime.fromtimestamp(each, datetime.UTC) for each in (seconds, now))
    return f"{at:%H:%M} UTC" if at.date() == today.date() else f"{at:%Y-%m-%d %H:%M} UTC"


def verdict(status: FleetStatus, rows: Sequence[FailureReport], failing: int, now: float) -> FleetVerdict:
    """The sentence of ``status``. ``rows`` are failing objects, ``failing`` counts all, also those that are not among them;
    ``now`` in Unix seconds."""
    found = readiness(status)
    notes = _sentences((_of_problem(each) for each in status.found if each.code in NOTES - SAID), now)
    failures = _failures(status, rows, failing, now)
    if found.state is not ReadinessState.READY:
        known = {str(each): _of_problem(each) for each in status.found}
        reasons = _sentences((known.get(reason) or (*owned(reason), 0.0) for reason in found.reasons), now)
        level = VerdictLevel.DEGRADED if found.ready else VerdictLevel.NOT_READY
        return _verdict(level, [*reasons, *(f"{FAILING}{each}" for each in failures)], notes)
    if failures:
        return _verdict(VerdictLevel.FAILING, failures, notes)
    if status.following is not msgspec.UNSET:
        return _verdict(VerdictLevel.READY, [f"stands by for {status.following}, and may take over"], notes)
    return _verdict(VerdictLevel.READY, [f"nothing fails in {_count(len(status.clusters), 'cluster')}"], notes)


def with_verdict(status: FleetStatus, reports: Iterable[Report], now: float) -> FleetStatus:
    """``status`` with its verdict. ``reports``: its members', of which primaries tell what fails."""
    known = list(reports)
    rows, failing = [row for report in known for row in report.failures], sum(report.failing for report in known)
    return msgspec.structs.replace(status, verdict=verdict(status, rows, failing, now))


def _failures(status: FleetStatus, rows: Sequence[FailureReport], failing: int, now: float) -> list[str]:
    groups, unlisted = failure_groups(rows), max(0, failing - len(rows))
    sentences = [group.sentence(now, unlisted if len(groups) == 1 else 0) for group in groups]
    if unlisted and len(groups) != 1:
        sentences.append(f"{_count(unlisted, 'more object')} like these" if groups else _count(unlisted, "object"))
    convicted = [each for each in status.suspects if each.convicted]
    accused = [
        _cut(f"controller {each.controller}, {each.object} ends its workers since {moment(each.since, now)}: {each.reason}")
        for each in convicted
    ]
    return [*accused, *sentences]


def _verdict(level: VerdictLevel, sentences: list[str], notes: list[str]) -> FleetVerdict:
    details = [*sentences[1:], *notes]
    if len(details) > _MOST:
        details[_MOST - 1 :] = [f"and {len(details) - _MOST + 1} more"]
    return FleetVerdict(level, level.replace("-", " ").capitalize(), sentences[0], tuple(details))


def _of_problem(problem: FleetProblem) -> tuple[str, str, float]:
    """Whose it is, what, since when (0: not known)."""
    return str(problem.owner), problem.message, problem.since


def _sentences(troubles: Iterable[tuple[str, str, float]], now: float) -> list[str]:
    """What several have alike is one sentence."""
    owners: dict[str, dict[str, float]] = {}
    for owner, message, since in troubles:
        owners.setdefault(message, {}).setdefault(owner, since)
    found = []
    for message, alike in owners.items():
        names = [name for name in alike if name]
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        whose = f"{', '.join(names[:_NAMED])}{more}: " if names else ""
        since = min(filter(None, alike.values()), default=0.0)
        found.append(_cut(f"{whose}{message}") + (f" (since {moment(since, now)})" if since else ""))
    return found


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
