"""Failures in the log: all of the first, a few of many, and how many were left out; none of them changes an acknowledgement."""

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import pytest

from raycp import Context
from raycp.base.budgets import KeyedBudgets
from raycp.base.clock import VirtualClock
from raycp.base.keys import RequestKey
from raycp.base.tasks import Done, Outcome, Task
from raycp.kube import ApiError
from raycp.sdk import outcome
from raycp.sdk.backend import ClusterInfo
from raycp.sdk.controller import controller
from raycp.sdk.failure_lines import BURST, KNOWN, PER_SECOND, FailureLines
from raycp.sdk.run import run_reconcile
from raycp.sdk.session import Session


class Backend:
    """Of reconciles that ask for nothing."""

    marks = None
    clusters: Mapping[str, ClusterInfo] = {}


@controller("v1/ConfigMap", name="fails")
async def fails(ctx: Context, obj: dict[str, Any]) -> Any:
    match obj["data"]["how"]:
        case "bug":
            raise KeyError("size")
        case "refused":
            raise ApiError(403, "Forbidden", "no")
        case "result":
            return 7
    return None


async def reconcile(clock: VirtualClock, lines: FailureLines | None, how: str, cluster: str = "a") -> Any:
    obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "n", "namespace": "ns", "uid": "o"}, "data": {"how": how}}
    task = Task(3, RequestKey("fails", cluster, "ns", "n"), "high", "user", 1, 1, "s", 1, 9, 0.0, msgspec.json.encode(obj), [])
    backend: Any = Backend()
    return await run_reconcile(Session(fails, task, backend, clock), lines=lines)


class Lines(logging.Handler):
    """Keeps the records of its logger."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def logged() -> Iterator[list[logging.LogRecord]]:
    logger, lines = logging.getLogger("raycp.controller.fails"), Lines()
    logger.addHandler(lines)
    yield lines.records
    logger.removeHandler(lines)


@pytest.mark.parametrize("how", ["bug", "refused", "result"])
async def test_of_many_failures_of_one_cause_a_few_are_logged_and_the_rest_are_counted(
    how: str, logged: list[logging.LogRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    traces: list[BaseException] = []
    real = outcome.user_traceback
    monkeypatch.setattr(outcome, "user_traceback", lambda error: (traces.append(error), real(error))[1])
    clock, lines = VirtualClock(), FailureLines()
    done = [await reconcile(clock, lines, how) for _ in range(BURST + 30)]
    assert {each.outcome for each in done} == {Outcome.RETRY}
    assert len({each.error for each in done}) == 1, "what is not logged is told all the same"
    assert len(logged) == BURST
    assert len(traces) == (BURST if how == "bug" else 0), "no traceback is made that nobody sees"
    await clock.advance(1 / PER_SECOND)
    await reconcile(clock, lines, how)
    assert len(logged) == BURST + 1
    assert (logged[-2].__dict__.get("unlogged"), logged[-1].__dict__["unlogged"]) == (None, 30)
    await reconcile(clock, lines, how, cluster="b")
    assert logged[-1].__dict__["cluster"] == "b", "another cluster's first is not hidden by them"
    assert (await reconcile(clock, lines, "")).outcome is Outcome.OK
    assert len(logged) == BURST + 2


async def test_without_a_limit_each_is_logged(logged: list[logging.LogRecord]) -> None:
    clock = VirtualClock()
    for _ in range(BURST + 5):
        await reconcile(clock, None, "refused")
    assert len(logged) == BURST + 5


def test_where_is_the_authors_innermost_line() -> None:
    def inner() -> None:
        raise ValueError("x")

    try:
        inner()
    except ValueError as error:
        told = outcome.explain(error, done := _done())
        line = error.__traceback__.tb_next.tb_lineno  # type: ignore[union-attr]
    assert done.error == f"ValueError: x (test_failure_lines.py, line {line})"
    assert told.error is not None
    assert outcome.explain(ValueError("never raised"), done := _done()).text == "ValueError: never raised"


def _done() -> Done:
    return Done(1, RequestKey("c", "a", "ns", "n"), Outcome.OK, 0.0)


def test_causes_are_bounded_in_number() -> None:
    lines = FailureLines()
    for number in range(3 * KNOWN):
        for _ in range(BURST + 2):
            lines.admit(("c", "a", f"Error{number}"), 0.0)
    assert len(lines._left_out) <= KNOWN
    assert len(lines._budgets._known) <= KNOWN


def test_a_budget_refills_and_a_clock_that_goes_back_takes_nothing() -> None:
    budgets: KeyedBudgets[str] = KeyedBudgets(2, 0.5, 10)
    assert [budgets.take("a", 100.0) for _ in range(3)] == [True, True, False]
    assert budgets.take("b", 100.0), "each key has its own"
    assert not budgets.take("a", 90.0)
    assert not budgets.take("a", 91.0)
    assert budgets.take("a", 92.1)
    assert [budgets.take("a", 1e9) for _ in range(3)] == [True, True, False], "no more than the burst"

