"""The status page's table of what needs attention: problems, reasons, failing objects, objects that end workers, budgets that burn.
Pure."""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any

import msgspec

from raycp.protocol.report import FailureReport
from raycp.protocol.status import ACCUSED, NOTES, FleetStatus, ReadinessState, readiness
from raycp.protocol.verdict import SAID, owned


class Urgency(StrEnum):
    """Of a row, the most urgent first."""

    NOT_READY = "not ready"
    """Keeps the fleet from being ready, or may."""
    DEGRADED = "degraded"
    FAILING = "failing"
    """An object can't be reconciled."""
    BUDGET = "budget"
    """An objective's alert fires."""
    NOTE = "note"
    """To know; it degrades nothing."""


_ORDER = list(Urgency)


class AttentionRow(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """One row. ``what`` is a problem's code, a class of fault or an alert's severity; ``object`` as ``raycp why`` takes it, empty
    where it concerns none. ``since`` and ``next_try`` in Unix seconds, None where not known; ``next_try`` is also None where the
    controller gave up until the object changes. ``attempts``: failures in a row, or workers that died."""

    urgency: Urgency
    what: str
    cause: str
    owner: str = ""
    cluster: str = ""
    controller: str = ""
    object: str = ""
    frame: str = ""
    since: float | None = None
    attempts: int | None = None
    next_try: float | None = None


def attention(status: FleetStatus, failures: Iterable[FailureReport], slo: Sequence[dict[str, Any]]) -> list[AttentionRow]:
    """The rows, the most urgent first, of equal ones the oldest. ``slo``: the report of the service levels."""
    rows = [*_problems(status), *_accused(status), *map(_failure, failures), *_alerts(slo)]
    return sorted(rows, key=lambda row: (_ORDER.index(row.urgency), row.since or 0.0, row.object))


def _problems(status: FleetStatus) -> Iterable[AttentionRow]:
    found = readiness(status)
    worst = Urgency.NOT_READY if found.state is ReadinessState.NOT_READY else Urgency.DEGRADED
    shown = [problem for problem in status.found if problem.code not in ACCUSED | SAID]
    for problem in shown:
        owner = problem.owner
        yield AttentionRow(
            urgency=Urgency.NOTE if problem.code in NOTES else Urgency.DEGRADED,
            what=str(problem.code),
            cause=problem.message,
            owner=str(owner),
            cluster=owner.cluster,
            controller=owner.controller,
            object=owner.object,
            since=problem.since or None,
        )
    known = {str(problem) for problem in shown}
    for reason in found.reasons:
        if reason not in known:
            whose, cause = owned(reason)
            cluster = whose.removeprefix("cluster ") if whose.startswith("cluster ") else ""
            yield AttentionRow(urgency=worst, what="reason", cause=cause, owner=whose, cluster=cluster)


def _accused(status: FleetStatus) -> Iterable[AttentionRow]:
    for suspect in status.suspects:
        yield AttentionRow(
            urgency=Urgency.FAILING if suspect.convicted else Urgency.NOTE,
            what="ends workers" if suspect.convicted else "suspected of ending workers",
            cause=suspect.reason,
            owner=f"controller {suspect.controller}",
            cluster=suspect.object.partition("/")[0],
            controller=suspect.controller,
            object=suspect.object,
            since=suspect.since,
            attempts=suspect.deaths,
        )


def _failure(row: FailureReport) -> AttentionRow:
    return AttentionRow(
        urgency=Urgency.FAILING,
        what="retries" if row.next_try is not None else "gave up",
        cause=row.cause,
        owner=f"controller {row.controller}",
        cluster=row.cluster,
        controller=row.controller,
        object=row.object,
        frame=row.frame,
        since=row.since,
        attempts=row.attempts,
        next_try=row.next_try,
    )


def _alerts(slo: Sequence[dict[str, Any]]) -> Iterable[AttentionRow]:
    for objective in slo:
        for alert in objective["alerts"]:
            yield AttentionRow(
                urgency=Urgency.BUDGET,
                what=alert["severity"],
                cause=f"objective {objective['name']} spends its budget over {alert['factor']:g} times too fast, "
                f"over the last {alert['long']} and {alert['short']}",
                owner=f"controller {objective['controller']}",
                controller=objective["controller"],
            )
