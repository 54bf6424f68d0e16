"""Loops that raise (law 12)."""

from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from raycp.base.loop_names import LoopName
from raycp.base.loops import SupervisedLoop


class Injected(Exception):
    """What the loops raise."""


def first_runs_raise(monkeypatch: pytest.MonkeyPatch) -> Counter[LoopName]:
    """The first run of each loop that is started from now on raises; the loops that did, as they do."""
    found: Counter[LoopName] = Counter()
    begin = SupervisedLoop.__init__

    def sabotaged(loop: SupervisedLoop, work: Callable[[], Coroutine[Any, Any, Any]], name: LoopName, *more: Any) -> None:
        runs = 0

        async def run() -> None:
            nonlocal runs
            runs += 1
            if runs == 1:
                found[name] += 1
                raise Injected(name)
            await work()

        begin(loop, run, name, *more)

    monkeypatch.setattr(SupervisedLoop, "__init__", sabotaged)
    return found
