"""The files that a key's common path through the queue enters: each more is one more for a reader to follow."""

import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

from hand_clock import HandClock

from raycp.base.keys import RequestKey
from raycp.queueing import QueuePolicy, WorkQueue

ALLOWED = ["drr", "fair", "lane", "work_queue"]


def entered(call: Callable[[], object]) -> list[str]:
    """The queue's modules in which ``call`` calls a function, in the order of the calls, repetitions in a row once."""
    found: list[str] = []

    def profile(frame: FrameType, event: str, _: Any) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.parent.name == "queueing" and path.parent.parent.name == "raycp":
            found.extend([path.stem] if found[-1:] != [path.stem] else [])

    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(None)
    return found


def test_add_pull_and_done_enter_few_files_and_return_to_few() -> None:
    queue = WorkQueue(QueuePolicy(), HandClock(), rng=Random(1))
    for name in ("first", "second"):  # what is made once, per cluster and lane, is made by the first
        key = RequestKey("k", "c", "n", name)
        added = entered(lambda key=key: queue.add(key, tier="standard"))
        pulled = entered(lambda: queue.pull("w", 32, slots=32))
        done = entered(lambda key=key: queue.done("w", key))
    assert (added, pulled, done) == (
        ["work_queue", "lane", "fair", "drr"],
        ["work_queue", "lane", "fair", "drr"],
        ["work_queue", "lane", "fair", "drr"],
    )
    assert sorted({*added, *pulled, *done}) == ALLOWED
    assert len(queue) == 0
