"""How often the status of a job is written whose Pods start one after the other."""

import math
from dataclasses import replace
from typing import Any

import pytest

from raycp.controllers.batchjob.pods import JobPod
from raycp.controllers.batchjob.status_pace import seconds_to_wait

NOW = 1_700_000_000.0


def status(active: int, ready: int, reason: str = "NotAllReady", **more: Any) -> dict[str, Any]:
    cluster = {"name": "a", "assigned": "0-99", "active": active, "ready": ready}
    shown = [{"type": "PodsReady", "status": "False", "reason": reason}]
    return {"active": active, "ready": ready, "phase": "Running", "clusters": [cluster], "conditions": shown, **more}


def pod(index: int, created: float, ready: float = 0.0) -> JobPod:
    return JobPod(
        "a", f"j-{index}-0", "u", index, 0, ready=bool(ready), ready_changed=math.floor(ready), created=math.floor(created)
    )


@pytest.mark.parametrize("every", [0.05, 0.3, 0.9])
def test_a_start_that_goes_on_for_minutes_is_written_once_a_second(every: float) -> None:
    pods = [pod(index, NOW) for index in range(2000)]
    stored, writes, lag = status(2000, 0), 0, 0.0
    for step in range(int(60 / every)):
        now = NOW + 5 + step * every
        pods[step] = replace(pods[step], ready=True, ready_changed=math.floor(now))
        new = status(2000, step + 1)
        if seconds_to_wait(stored, new, pods, now) is None:
            stored, writes = new, writes + 1
        lag = max(lag, (step + 1 - stored["ready"]) * every)
    assert lag <= 2.0, "what has changed is written soon, though more changes follow"
    assert writes <= 62


def test_one_change_waits_for_others_and_not_for_ever() -> None:
    before, after = status(2, 0), status(2, 1)
    pods = [pod(0, NOW, NOW + 10), pod(1, NOW)]
    assert seconds_to_wait(before, after, pods, NOW + 10.2) == 1.0
    assert seconds_to_wait(before, after, pods, NOW + 11.2) is None
    assert seconds_to_wait(before, status(2, 2), pods, NOW + 10.2) is None, "the other one is ready for longer"


def test_what_keeps_pods_from_running_does_not_wait_for_those_that_start() -> None:
    pods = [pod(0, NOW, NOW + 10), pod(1, NOW)]
    assert seconds_to_wait(status(2, 0), status(2, 1, "CrashLoopBackOff"), pods, NOW + 10.2) is None


def test_ends_and_everything_else_are_written_at_once() -> None:
    pods = [pod(0, NOW + 10, NOW + 10)]
    for new in (status(0, 0), status(2, 1, succeeded=1), status(2, 1, failed=1), status(2, 1, phase="Failing")):
        assert seconds_to_wait(status(1, 0), new, pods, NOW + 10.2) is None
    assert seconds_to_wait({}, status(1, 0), pods, NOW + 10.2) is None, "the first one is recorded before a Pod is created"
