"""The verdict and the table of what needs attention: one truth with ``/readyz`` and ``raycp status``, in words."""

import argparse
import asyncio
import contextlib
from typing import Any

import msgspec
import pytest
from aiohttp.test_utils import TestClient, TestServer
from page_views import NAMES, SINCE, WALL, PageFleet, crashing_fleet, failing_fleet, failure, fleet, objective, one_down, suspect

from raycp.base.clock import VirtualClock
from raycp.base.problems import FLEET, FleetProblem, ProblemCode, ProblemOwner
from raycp.cli import status as command
from raycp.observer.access import ObserverAccess
from raycp.observer.attention import AttentionRow, Urgency, attention
from raycp.observer.known_hosts import KnownHosts
from raycp.observer.web import ANYWHERE, make_app
from raycp.protocol.fleet_verdict import VerdictLevel
from raycp.protocol.report import FailureReport
from raycp.protocol.status import FleetStatus, LeaderStatus
from raycp.protocol.verdict import error_class, moment, verdict, with_verdict


def said(status: FleetStatus, failures: list[FailureReport] | None = None, failing: int | None = None) -> str:
    rows = failures or []
    return str(verdict(status, rows, len(rows) if failing is None else failing, WALL))


def rows_of(status: FleetStatus, failures: list[FailureReport] | None = None, slo: Any = ()) -> list[AttentionRow]:
    return attention(status, failures or [], slo)


def test_a_fleet_in_which_nothing_fails() -> None:
    assert said(fleet(NAMES)) == "Ready: nothing fails in 5 clusters"
    assert rows_of(fleet(NAMES)) == []


def test_a_controller_that_fails_is_named_with_its_line() -> None:
    assert (
        said(*failing_fleet()) == "Failing: controller website, 3 objects in 3 clusters since 13:38 UTC: TypeError at website.py:40"
    )


def test_objects_that_are_not_listed_count() -> None:
    rows = [failure("hub", f"a{number}") for number in range(50)]
    assert said(fleet(NAMES), rows, 400).startswith("Failing: controller website, 400 objects in 1 cluster or more since 13:38 UTC")
    mixed = verdict(fleet(NAMES), [*rows, failure("hub", "m", controller="mail", cause="no such list")], 400, WALL)
    assert str(mixed).startswith("Failing: controller website, 50 objects in 1 cluster since")
    assert mixed.details == (
        "controller mail, 1 object in 1 cluster since 13:38 UTC: no such list at website.py:40",
        "349 more objects like these",
    )


def test_what_fails_alike_is_one_sentence_and_the_largest_comes_first() -> None:
    rows = [
        failure("hub", "x", controller="mail", cause="KeyError: 'to'", frame="mail.py:7", since=SINCE - 86400.0),
        failure("hub", "a", cause="TypeError: one"),
        failure("east-1", "b", cause="TypeError: another"),
    ]
    found = verdict(fleet(NAMES), rows, 3, WALL)
    assert found.text == "controller website, 2 objects in 2 clusters since 13:38 UTC: TypeError at website.py:40"
    assert found.details == ("controller mail, 1 object in 1 cluster since 2026-11-26 13:38 UTC: KeyError at mail.py:7",)


def test_workers_that_all_crash_are_not_ready() -> None:
    found = verdict(crashing_fleet(), [], 0, WALL)
    assert str(found) == "Not ready: worker critical/0, worker standard/0, worker standard/1: starting"
    assert "pool standard: the last 4 workers died within 2 s of their start (since 13:38 UTC)" in found.details
    rows = rows_of(crashing_fleet())
    assert {row.urgency for row in rows} == {Urgency.NOT_READY, Urgency.DEGRADED}
    assert (rows[0].owner, rows[0].cause) == ("worker critical/0", "starting")


def test_a_cluster_that_is_down_degrades_and_hides_no_failure() -> None:
    found = verdict(one_down(), failing_fleet()[1], 3, WALL)
    reason = "connection refused: https://10.0.7.1:6443, tried again in 8 s"
    assert str(found) == f"Degraded: cluster west-2: {reason} (since 13:38 UTC)"
    assert found.details == ("failing: controller website, 3 objects in 3 clusters since 13:38 UTC: TypeError at website.py:40",)
    first, *others = rows_of(one_down(), failing_fleet()[1])
    assert (first.what, first.owner, first.cluster, first.cause) == ("ClusterUnreachable", "cluster west-2", "west-2", reason)
    assert [row.cluster for row in others] == ["hub", "west-1", "east-1"], "the oldest first"


def test_an_object_that_ends_workers_fails_and_a_suspect_is_a_note() -> None:
    convicted = fleet(NAMES, suspects=[suspect()])
    assert said(convicted) == (
        "Failing: controller website, east-1/v1/ConfigMap/default/bomb ends its workers since 13:38 UTC: "
        "its reconcile ended worker quarantine/0 by SIGKILL"
    )
    (row,) = rows_of(convicted)
    assert (row.urgency, row.what, row.attempts, row.object) == ("failing", "ends workers", 3, "east-1/v1/ConfigMap/default/bomb")
    suspected = fleet(NAMES, suspects=[suspect(convicted=False)])
    assert said(suspected) == "Ready: nothing fails in 5 clusters"
    assert [row.urgency for row in rows_of(suspected)] == [Urgency.NOTE]


def test_notes_are_told_and_degrade_nothing() -> None:
    note = FleetProblem(
        ProblemCode.OBJECTS_UNREADABLE, ProblemOwner(cluster="hub", kind="v1/Pod"), "2 objects can't be read", SINCE
    )
    found = verdict(fleet(NAMES, problems=[note]), [], 0, WALL)
    assert found.level is VerdictLevel.READY
    assert found.details == ("cluster hub, kind v1/Pod: 2 objects can't be read (since 13:38 UTC)",)
    assert [row.urgency for row in rows_of(fleet(NAMES, problems=[note]))] == [Urgency.NOTE]


def test_a_silent_leader_is_told_once() -> None:
    silent = FleetProblem(ProblemCode.LEADER_SILENT, ProblemOwner(member="leader"), "it sends the observer no status", SINCE)
    status = fleet(NAMES, problems=[silent], leader=LeaderStatus(epoch=3, since=1.0, silent_since=SINCE))
    found = verdict(status, [], 0, WALL)
    assert (str(found), found.details) == ("Degraded: the leader has sent no status since 2026-11-27 13:38:00 UTC", ())
    assert [row.cause for row in rows_of(status)] == [found.text]


def test_a_standby_fleet() -> None:
    warm = fleet(NAMES, following="raycp-blue", leader=msgspec.UNSET)
    assert said(warm) == "Ready: stands by for raycp-blue, and may take over"


def test_before_the_leader_has_spoken() -> None:
    assert (
        said(FleetStatus(reasons=["the leader has not sent its status yet"])) == "Not ready: the leader has not sent its status yet"
    )
    assert said(FleetStatus()) == "Not ready: no fleet has been applied yet"


def test_budgets_that_burn_need_attention() -> None:
    slo = [objective("echo", "all", 10.0, 61, -0.27), objective("echo", "high", 1.0, 6, 0.9)]
    (row,) = rows_of(fleet(NAMES), slo=slo)
    assert (row.urgency, row.what, row.controller) == (Urgency.BUDGET, "page", "echo")
    assert row.cause == "objective echo-all-10s spends its budget over 14.4 times too fast, over the last 1h and 5m"


def test_a_sentence_has_a_bound_and_so_have_the_sentences() -> None:
    many = [FleetProblem(ProblemCode.OTHER, FLEET, f"{number}: " + "x" * 5000, SINCE) for number in range(300)]
    found = verdict(fleet(NAMES, problems=many), [], 0, WALL)
    assert len(found.details) == 20
    assert found.details[-1] == "and 280 more"
    assert max(map(len, (found.text, *found.details))) < 350


@pytest.mark.parametrize(
    ("cause", "found"),
    [
        ("TypeError: no", "TypeError"),
        ("KeyError", "KeyError"),
        ("ApiError 403: pods", "ApiError 403"),
        ("no such list", ""),
        ("a b: c", ""),
    ],
)
def test_the_class_of_an_error(cause: str, found: str) -> None:
    assert error_class(cause) == found


def test_what_many_have_alike_is_one_sentence() -> None:
    down = [
        FleetProblem(ProblemCode.CLUSTER_UNREACHABLE, ProblemOwner(cluster=name), "refused", SINCE - at * 60)
        for at, name in enumerate(NAMES)
    ]
    found = verdict(fleet(NAMES, problems=down), [], 0, WALL)
    assert (found.text, found.details) == ("cluster hub, cluster east-1, cluster east-2 and 2 more: refused (since 13:34 UTC)", ())


def test_a_time_of_another_day_has_its_date() -> None:
    assert (moment(WALL, WALL), moment(WALL - 86400, WALL)) == ("13:41 UTC", "2026-11-26 13:41 UTC")


CASES: dict[str, tuple[PageFleet, str, int, str]] = {
    "ready": (PageFleet(fleet(NAMES)), "ready", 200, "ok"),
    "failing": (PageFleet(*failing_fleet()), "failing", 200, "ok"),
    "one down": (PageFleet(one_down(), failing_fleet()[1]), "degraded", 200, "readyz check passed, degraded"),
    "crashing": (PageFleet(crashing_fleet()), "not-ready", 503, "readyz check failed"),
    "nothing known": (PageFleet(None), "not-ready", 503, "readyz check failed"),
}


@pytest.mark.parametrize("case", CASES)
async def test_it_says_what_readyz_says(case: str) -> None:
    page, level, status, text = CASES[case]
    app = make_app(page.view, KnownHosts(["127.0.0.1"]), ObserverAccess(ANYWHERE, VirtualClock()))
    async with TestClient(TestServer(app)) as client:
        async with client.get("/readyz") as answer:
            assert (answer.status, (await answer.text()).strip().splitlines()[-1]) == (status, text)
        async with client.get("/readyz?verbose") as answer:
            first = (await answer.text()).splitlines()[0]
        async with client.get("/api/v1/overview") as answer:
            found = await answer.json()
        async with client.get("/api/v1/status") as answer:
            assert (await answer.json())["verdict"] == found["verdict"]
    assert first == f"{found['verdict']['word']}: {found['verdict']['text']}"
    assert found["verdict"]["level"] == level
    assert bool(found["attention"]) == (level != "ready")
    if page.status is not None:
        assert found["status"]["readiness"] == {"failing": "ready"}.get(level, level)


@pytest.mark.parametrize("case", CASES)
async def test_raycp_status_begins_with_the_same_sentence_and_its_exit_code_agrees(
    case: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page, level, status, _ = CASES[case]
    reports = [known.report for known in page.reports.values()]
    answer = msgspec.to_builtins(with_verdict(page.feed.current(), reports, WALL))

    class Client:
        async def status(self) -> Any:
            return answer

        async def beside(self) -> None:
            return None

    for name, value in (("at_ray", contextlib.nullcontext), ("existing", str), ("namespace_of", str)):
        monkeypatch.setattr(command, name, value)
    monkeypatch.setattr(command, "FleetClient", lambda _: Client())
    told = await page.view.verdict()
    for format in ("table", "json"):
        code = await asyncio.to_thread(command.run, argparse.Namespace(output=format, watch=False))
        assert code == (0 if status == 200 else 1)
    table, _, shown = capsys.readouterr().out.partition("{")
    assert table.splitlines()[0] == str(told)
    found = msgspec.json.decode("{" + shown)
    assert next(iter(found)) == "verdict"
    assert found["verdict"] == msgspec.json.decode(msgspec.json.encode(told))
    assert found["verdict"]["level"] == level
    failing = [each for each in told.details if each.startswith("failing: ")]
    assert table.splitlines()[1 : 1 + len(failing)] == failing, "what fails beside that is told, too"
