"""What a shard reports as failing: pure, and with real workers and an API server."""

from typing import Any

import msgspec
from inprocess import Stack, stack, until

from raycp.base.clock import VirtualClock
from raycp.base.keys import RequestKey
from raycp.base.tasks import Done, Outcome
from raycp.protocol.members import Role, Slot
from raycp.protocol.report import FailureReport, Report
from raycp.queueing import Saved
from raycp.shard.failures import CONFLICT, CONFLICTS, FOR_ALL, LOOK_EVERY, MOST, Failures

WALL = 1.8e9
PLACE = " (website.py, line 40)"


def key(name: str, controller: str = "website") -> RequestKey:
    return RequestKey(controller, "east", "default", name)


def failed(of: RequestKey, error: str = f"TypeError: no{PLACE}", kind: str = "TypeError", outcome: Outcome = Outcome.RETRY) -> Done:
    return Done(1, of, outcome, 0.0, error=error, error_class=kind)


def succeeded(of: RequestKey) -> Done:
    return Done(1, of, Outcome.OK, 0.0)


def shown(failures: Failures, *queued: Saved) -> tuple[list[FailureReport], int]:
    report = Report(pid=1, node="n")
    failures.fill(report, lambda of: f"{of.cluster}/v1/ConfigMap/{of.namespace}/{of.name}", lambda keys: list(queued))
    return report.failures, report.failing


async def test_a_failure_is_listed_until_the_object_is_reconciled() -> None:
    clock = VirtualClock(wall=WALL)
    failures = Failures(clock)
    failures.ended(failed(key("a")))
    await clock.advance(5)
    failures.ended(failed(key("a"), f"TypeError: still{PLACE}"))
    waiting = Saved(key("a"), "standard", 0, "error", False, 7.0, 0.0, 0.0, 2, True)
    assert shown(failures, waiting) == (
        [FailureReport("east", "east/v1/ConfigMap/default/a", "website", "TypeError: still", "website.py:40", 2, WALL + 12, WALL)],
        1,
    )
    failures.ended(succeeded(key("a")))
    assert shown(failures) == ([], 0)
    assert not failures.by_key


def test_a_controller_that_gave_up_has_no_next_try() -> None:
    failures = Failures(VirtualClock(wall=WALL))
    failures.ended(failed(key("a"), "never", "Permanent", Outcome.PERMANENT))
    ((row,), _) = shown(failures)
    assert (row.next_try, row.frame, row.cause) == (None, "", "never")


def test_a_few_conflicts_are_no_failure() -> None:
    failures = Failures(VirtualClock())
    for _ in range(CONFLICTS - 1):
        failures.ended(failed(key("a"), "the object changed meanwhile", CONFLICT))
    assert shown(failures) == ([], 0)
    failures.ended(failed(key("a"), "the object changed meanwhile", CONFLICT))
    assert shown(failures)[1] == 1
    failures.ended(succeeded(key("a")))
    assert not failures.by_key


def test_what_fails_for_all_objects_hides_no_other_failure_and_the_report_stays_small() -> None:
    failures = Failures(VirtualClock())
    failures.ended(failed(key("other", "mail"), "KeyError: 'x'", "KeyError"))
    for number in range(10 * MOST):
        failures.ended(failed(key(f"o-{number}"), f"TypeError: {'x' * 10_000}{PLACE}"))
    rows, failing = shown(failures)
    assert failing == 10 * MOST + 1
    assert len(rows) == MOST
    assert [row.controller for row in rows].count("mail") == 1
    assert len(msgspec.msgpack.encode(rows)) < 20_000
    before = [row.object for row in rows]
    for number in reversed(range(10 * MOST)):
        failures.ended(failed(key(f"o-{number}")))
    assert [row.object for row in shown(failures)[0]] == before, "what is listed stays listed"


def test_a_key_that_leaves_is_forgotten_and_one_whose_error_changes_is_listed_once() -> None:
    failures = Failures(VirtualClock())
    failures.ended(failed(key("a")))
    failures.ended(failed(key("a"), "KeyError: 'x'", "KeyError"))
    assert [row.cause for row in shown(failures)[0]] == ["KeyError: 'x'"]
    failures.ended(failed(key("b")))
    failures.drop(lambda of: of.name == "a")
    assert [row.object.rpartition("/")[2] for row in shown(failures)[0]] == ["b"]


def reported(fleet: Stack) -> list[FailureReport]:
    return fleet.report(fleet.members[Slot(Role.SHARD, "0")]).failures


def events(fleet: Stack, name: str) -> list[dict[str, Any]]:
    found = fleet.clusters["here"].api.list("events", "default")[0]
    return [event for event in found if (event.get("regarding") or event.get("involvedObject") or {}).get("name") == name]


async def test_a_failing_object_is_in_the_report_and_has_a_warning_until_it_is_mended() -> None:
    async with stack(["wild"]) as fleet:
        await fleet.put("here", "wild", "bad", do="raise")
        await fleet.put("here", "wild", "hopeless", do="permanent")
        await until(lambda: len(reported(fleet)) == 2)
        rows = {row.object: row for row in reported(fleet)}
        bad, hopeless = rows["here/v1/ConfigMap/default/bad"], rows["here/v1/ConfigMap/default/hopeless"]
        assert (bad.cause, bad.controller) == ("ZeroDivisionError: on purpose", "wild")
        assert bad.frame.startswith("fleet_samples.py:")
        assert hopeless.frame.startswith("fleet_samples.py:")
        assert hopeless.next_try is None
        (event,) = await until(lambda: events(fleet, "bad"))
        assert (event["type"], event["reason"]) == ("Warning", "ReconcileFailed")
        assert f"controller wild: ZeroDivisionError: on purpose ({bad.frame})" in (event.get("note") or event.get("message"))
        (event,) = await until(lambda: events(fleet, "hopeless"))
        assert event["reason"] == "ReconcileGaveUp"
        await fleet.put("here", "wild", "bad", do="")
        await fleet.put("here", "wild", "hopeless", do="")
        await until(lambda: not reported(fleet))


async def test_what_a_message_must_not_say_is_in_neither_report_nor_event() -> None:
    async with stack(["wild"]) as fleet:
        await fleet.put("here", "wild", "bad", do="leak", token="Zm9vYmFyYmF6cXV4MTIz", password="hunter2")
        (row,) = await until(lambda: reported(fleet))
        (event,) = await until(lambda: events(fleet, "bad"))
        for text in (row.cause, str(event.get("note") or event.get("message"))):
            assert "RuntimeError" in text
            assert "hunter2" not in text
            assert "Zm9v" not in text


async def test_a_controller_that_fails_for_each_of_its_objects_is_named() -> None:
    clock = VirtualClock()
    failures = Failures(clock)

    async def of_all(*reconciled: RequestKey) -> dict[str, str]:
        await clock.advance(LOOK_EVERY)
        return failures.of_all(reconciled)

    ours = [key(f"o-{number}") for number in range(FOR_ALL)]
    for each in ours[:-1]:
        failures.ended(failed(each))
    assert await of_all() == {}, "a few objects say nothing"
    failures.ended(failed(ours[-1]))
    failures.ended(failed(key("x", "mail")))
    expected = {"website": f"it fails for all of its {FOR_ALL} objects, such as: TypeError: no (website.py:40)"}
    assert await of_all(key("y", "mail")) == expected
    assert await of_all(*ours, key("fine")) == {}, "one of its objects is well"
    assert await of_all(*ours) == expected, "reconciled before, and failing now"
    assert failures.of_all([key("fine")]) == expected, "it is not looked at more often"
    failures.ended(succeeded(ours[0]))
    assert await of_all(*ours) == {}
