"""One change that concerns many keys."""

from collections import Counter
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from inprocess import CLOCK, until
from sabotage import first_runs_raise

from raycp.base.keys import GVK, RequestKey
from raycp.base.loop_names import LoopName
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


async def test_a_key_that_can_not_be_made_due_keeps_no_other_and_a_failed_slice_is_made_due_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log: Counter[RequestKey] = Counter()
    raised = first_runs_raise(monkeypatch)
    loops = Loops(CLOCK)
    nothing: Any = SimpleNamespace()
    fanout = FanOut(Random(1), loops, nothing, nothing, nothing, nothing)

    def due(key: RequestKey, *_: Any, **__: Any) -> None:
        if key.name == "n7":
            raise ValueError("a bug")
        log[key] += 1

    fanout.due = due  # type: ignore[assignment]
    found = [(RequestKey("c", "hub", "ns", f"n{number}"), Obj(Meta(), b"{}", 1, 1)) for number in range(2 * SLICE)]
    fanout.all_due(found, CLUSTER_CHANGED)
    await until(lambda: len(log) == len(found) - 1)
    assert raised[LoopName.DUE_KEYS] == 1
    assert set(log.values()) == {1}
    await loops.stop()
