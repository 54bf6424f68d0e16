"""What ends a worker whose user code can't be stopped, and whom it names."""

import asyncio
import subprocess
import sys
import textwrap
from types import SimpleNamespace
from typing import cast

import pytest
from inprocess import CLOCK

from raycp.worker import watchdog
from raycp.worker.runs import Run, Runs
from raycp.worker.user_loop import UserLoop
from raycp.worker.watchdog import Watchdog


class Table:
    """Runs whose user loop is blocked; ``culprits`` hold it."""

    def __init__(self, count: int, culprits: int) -> None:
        self.reported: list[tuple[int, bool]] = []
        link = SimpleNamespace(report_culprit=lambda ids, error, certain: self.reported.append((ids[0], certain)))
        known = SimpleNamespace(timeout=60.0)
        made = [
            SimpleNamespace(task=SimpleNamespace(id=number, key=number), link=link, known=known, started=CLOCK.now())
            for number in range(count)
        ]
        self._runs = [cast(Run, each) for each in made]
        self._culprits = self._runs[:culprits]

    def __len__(self) -> int:
        return len(self._runs)

    def all(self) -> list[Run]:
        return list(self._runs)

    def holding(self, current: "asyncio.Task[object] | None") -> list[Run]:
        return self._culprits

    def clear(self) -> None:
        self._runs = []


class Alarm:
    """Keeps what it was told."""

    def __init__(self) -> None:
        self.calls: list[float | str] = []

    def postpone(self, seconds: float) -> None:
        self.calls.append(seconds)

    def cancel(self) -> None:
        self.calls.append("cancel")


def dog(table: Table, silent: float, alarm: Alarm | None = None) -> Watchdog:
    user = SimpleNamespace(silent_for=lambda: silent, current=lambda: None, stack=lambda: "")
    return Watchdog(CLOCK, cast(UserLoop, user), cast(Runs, table), lambda: None, alarm)


@pytest.mark.parametrize(
    ("count", "culprits", "expected"),
    [(3, 1, [(0, True)]), (1, 0, [(0, True)]), (3, 0, [(0, False), (1, False), (2, False)])],
    ids=["it holds the loop", "nothing else was in work", "one of these"],
)
async def test_whom_a_blocked_worker_names(
    count: int, culprits: int, expected: list[tuple[int, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    codes: list[int] = []
    monkeypatch.setattr(watchdog, "os", SimpleNamespace(_exit=codes.append))
    monkeypatch.setattr(watchdog, "REPORT_TIME", 0.0)
    table = Table(count, culprits)
    await dog(table, watchdog.SILENT + 0.1).check()
    assert table.reported == expected
    assert codes == [70]


async def test_the_alarm_is_set_anew_while_anything_runs_and_cancelled_after() -> None:
    alarm, table = Alarm(), Table(1, 0)
    watched = dog(table, 0.0, alarm)
    await watched.check()
    await watched.check()
    assert alarm.calls == [watchdog.SILENT] * 2
    table.clear()
    await watched.check()
    await watched.check()
    assert alarm.calls == [watchdog.SILENT] * 2 + ["cancel"]


def test_a_process_whose_interpreter_is_held_ends_itself() -> None:
    """A regular expression that backtracks for ever: no Python of ours runs, and the process ends all the same, with the stack."""
    script = """
        import re
        from raycp.worker.gil_alarm import GilAlarm

        alarm = GilAlarm()
        alarm.postpone(0.2)
        alarm.cancel()
        alarm.postpone(60.0)
        alarm.postpone(0.5)

        def held():
            re.match(r"(a+)+$", "a" * 60 + "b")

        held()
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "in held" in ended.stderr

