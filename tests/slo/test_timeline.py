"""Timelines: content and bounds."""

from raycp.base.clock import VirtualClock
from raycp.base.keys import RequestKey
from raycp.base.tasks import ApiCall
from raycp.slo.timeline import MEANINGS, Timelines, as_json

KEY = RequestKey("echo", "east", "default", "a")


async def test_timeline_of_a_change() -> None:
    clock = VirtualClock(wall=100.0)
    lines = Timelines(clock)
    lines.received(KEY, reason="user-update", source="watch", tier="high", rv=12, why="label raycp.io/qos-tier")
    lines.queued(KEY, tier="high", depth=3, ahead="west/batch")
    await clock.advance(0.5)
    lines.handed_out(KEY, worker="w0", attempt=1, waited=0.5)
    calls = [ApiCall("create", "east", f"/api/v1/pods/{i}", 409, 0.01) for i in range(25)]
    lines.ended(KEY, "failed", seconds=0.1, calls=calls, error="x" * 2000)
    lines.delayed(KEY, seconds=1.0, reason="retry")
    ((controller, steps),) = lines.of("east", "default", "a")
    assert controller == "echo"
    assert [s.what for s in steps] == ["received", "queued", "handed_out", "failed", "delayed"]
    failed = steps[3].detail
    assert (len(failed["calls"]), failed["calls_left_out"], len(failed["error"])) == (20, 5, 500)
    told = as_json([(controller, steps)])[0]["steps"]
    assert (told[2]["at"], told[2]["worker"], told[2]["meaning"]) == (100.5, "w0", MEANINGS["handed_out"])
    assert lines.of("east", "default", "a", {"other"}) == []
    assert lines.of("east", "default", "b") == []


def test_timelines_are_bounded() -> None:
    lines = Timelines(VirtualClock(), per_key=5, limit=50)
    for i in range(1000):
        lines.record(KEY._replace(name=str(i % 30)), "received", n=i)
        lines.record(KEY, "woken")
    assert len(lines) <= 50
    ((_, steps),) = lines.of("east", "default", "a")
    assert len(steps) == 5, "the busy key is kept, the quiet ones went"
    lines.forget(KEY)
    lines.forget(KEY)
    assert lines.of("east", "default", "a") == []
