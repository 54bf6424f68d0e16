"""Warning Events on the objects of failed reconciles: which there are, and how many."""

from typing import Any

import msgspec
import pytest

from raycp.base.clock import VirtualClock
from raycp.base.keys import GVK, RequestKey
from raycp.base.tasks import Done, Outcome, Task
from raycp.kube import ApiError, Unreachable
from raycp.sdk.outcome import error_class
from raycp.sdk.results import Retry
from raycp.worker.failure_events import BURST, PER_SECOND, FailureEvents

KIND = GVK("", "v1", "ConfigMap")


class Recording:
    """A ``Backend`` that keeps events."""

    def __init__(self, problem: Exception | None = None) -> None:
        self.events: list[dict[str, Any]] = []
        self.problem = problem

    def event(self, task: Task, cluster: str, event: bytes) -> None:
        if self.problem is not None:
            raise self.problem
        self.events.append(msgspec.json.decode(event))


def task(name: str = "n", raw: bytes | None = b"") -> Task:
    meta = {"name": name, "namespace": "default", "uid": f"uid-{name}", "resourceVersion": "7"}
    body = msgspec.json.encode({"metadata": meta, "data": {"a": "1"}}) if raw == b"" else raw
    return Task(1, RequestKey("website", "east", "default", name), "standard", "user", 1, 1, "s", 1, 0, 0.0, body)


def failed(error: BaseException, outcome: Outcome = Outcome.RETRY, text: str = "") -> Done:
    return Done(1, task().key, outcome, 0.0, error=text or str(error), error_class=error_class(error))


def made(recording: Recording, clock: VirtualClock | None = None) -> FailureEvents:
    backend: Any = recording
    return FailureEvents(backend, clock or VirtualClock(wall=1.8e9))


def test_the_event_says_what_failed_and_where() -> None:
    recording = Recording()
    made(recording).ended(task(), failed(TypeError(), text="TypeError: no\x1b[31m (website.py, line 40)"), KIND)
    (event,) = recording.events
    assert event["note"] == "controller website: TypeError: no [31m (website.py:40)"
    assert (event["type"], event["reason"]) == ("Warning", "ReconcileFailed")
    regarding = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": "n",
        "namespace": "default",
        "uid": "uid-n",
        "resourceVersion": "7",
    }
    assert event["regarding"] == regarding


@pytest.mark.parametrize(
    "error",
    [Retry("not yet"), Unreachable("gone", sent=False), ApiError(409, "Conflict", "changed")],
    ids=lambda error: type(error).__name__,
)
def test_what_is_nobodys_fault_makes_none(error: Exception) -> None:
    recording = Recording()
    made(recording).ended(task(), failed(error), KIND)
    assert recording.events == []


def test_neither_do_interruption_and_deleted_objects() -> None:
    recording = Recording()
    events = made(recording)
    events.ended(task(), failed(TypeError("x"), Outcome.INTERRUPTED), KIND)
    events.ended(task(raw=None), failed(TypeError("x")), KIND)
    assert recording.events == []


async def test_new_ones_are_limited_and_those_of_a_series_are_not() -> None:
    clock, recording = VirtualClock(wall=1.8e9), Recording()
    events = made(recording, clock)
    for number in range(4 * BURST):
        events.ended(task(f"o-{number}"), failed(TypeError("x")), KIND)
    assert len(recording.events) == BURST
    for _ in range(10):
        events.ended(task("o-0"), failed(TypeError("x")), KIND)
    assert len(recording.events) == BURST + 10, "the recorder counts them"
    await clock.advance(10.0)
    for number in range(BURST, 4 * BURST):
        events.ended(task(f"o-{number}"), failed(TypeError("x")), KIND)
    assert len(recording.events) == BURST + 10 + int(10 * PER_SECOND)


def test_nothing_that_goes_wrong_reaches_the_reconcile(caplog: pytest.LogCaptureFixture) -> None:
    made(Recording(ValueError("a bug"))).ended(task(), failed(TypeError("x")), KIND)
    made(Recording()).ended(task(raw=b"{"), failed(TypeError("x")), KIND)
    assert caplog.text.count("no Event could be made about") == 2
