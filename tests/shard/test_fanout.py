"""One change that concerns many keys."""

from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from inprocess import CLOCK, until

from raycp.base.keys import GVK, RequestKey
from raycp.base.loops import Loops
from raycp.base.objects import Meta, Obj
from raycp.base.selections import every
from raycp.classify import CLUSTER_CHANGED, pace_width
from raycp.shard.fanout import SLICE, FanOut

CHANGE = ("hub", GVK("", "v1", "ConfigMap"), 7)


@pytest.mark.parametrize("count", [3, 3 * SLICE + 1])
async def test_all_are_due_and_until_then_the_change_is_an_exception_of_the_watermark(count: int) -> None:
    """A primary that dies between two slices leaves the change to its successor."""
    log: list[Any] = []
    delays: list[float | None] = []
    ledger = SimpleNamespace(exception=lambda key, change: log.append(("exception", key)), settled=lambda key: log.append(key))
    nothing: Any = SimpleNamespace()
    loops = Loops(CLOCK)
    fanout = FanOut(Random(1), loops, nothing, ledger, nothing, nothing)  # type: ignore[arg-type]

    def due(key: RequestKey, verdict: Any, obj: Any, event: None, *, spread: float | None = None, change: Any = None) -> None:
        log.append(("due", key))
        delays.append(spread)
        assert change == CHANGE

    fanout.due = due  # type: ignore[assignment]
    found = [(RequestKey("c", "hub", "ns", f"n{number}"), Obj(Meta(), b"{}", 1, 1)) for number in range(count)]
    of = every("c", "hub")
    fanout.all_due(found, CLUSTER_CHANGED, CHANGE, of=of)
    await until(lambda: len(delays) == count)
    await until(lambda: count <= SLICE or log[-1] == of)
    assert [key for what, key in (each for each in log if each != of) if what == "due"] == [key for key, _ in found]
    if count > SLICE:
        assert log[0] == ("exception", of)
        width = pace_width(count)
        assert all(delay is not None and 0.0 <= delay <= width for delay in delays)
        assert max(delay or 0.0 for delay in delays) > width / 2
    else:
        assert delays == [None] * count, "at the verdict's own time"
        assert len(log) == count
    await loops.stop()
