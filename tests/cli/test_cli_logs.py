"""``raycp logs``: its arguments, what a line looks like, and a fleet that does not run."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from raycp.base.clock import SystemClock, VirtualClock
from raycp.cli import fleets
from raycp.cli import logs as command
from raycp.cli import main as cli
from raycp.cli.logs import doubts_of, line_of, query_of
from raycp.driver.fleet_logs import LogAnswer
from raycp.member.process_recorder import ProcessRecorder
from raycp.metrics.recorder import Origin
from raycp.metrics.recorder.log_files import stamp_of
from raycp.protocol.substrate import MemberUnavailable

ROW = {
    "ts": "2026-11-27T13:38:04.123Z", "level": "error", "logger": "raycp.controller.website", "msg": "failed: \x1b[2J",
    "process": "worker standard/0 g0", "pid": 7,
    "controller": "website", "cluster": "east", "namespace": "default", "name": "web", "attempt": 3,
}  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--since", "yesterday"], "--since"),
        (["--object", "hub/a"], "CLUSTER/KIND/NAMESPACE/NAME"),
        (["--object", "hub/Pod/default/a", "--cluster", "east"], "name one of them"),
        (["--level", "loud"], "--level"),
    ],
)
def test_wrong_arguments_are_bad_input_before_anything_is_asked(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "existing", lambda args: pytest.fail("Ray was asked"))
    assert cli.main(["logs", *arguments]) == 2
    assert told in capsys.readouterr().err


def test_an_object_is_asked_for_by_its_place_and_the_controllers_of_its_kind() -> None:
    args = cli.parser_of("logs").parse_args(["logs", "--object", "hub/Node/-/n0", "--level", "error"])
    query = query_of(args, ("hub", "Node", "-", "n0"), {"nodes"})
    assert query.fits({**ROW, "controller": "nodes", "cluster": "hub", "namespace": "", "name": "n0"})
    assert not query.fits({**ROW, "controller": "other", "cluster": "hub", "namespace": "", "name": "n0"})
    assert not query.fits({**ROW, "level": "warning", "controller": "nodes", "cluster": "hub", "namespace": "", "name": "n0"})
    assert not query.fits(ROW)


def test_a_line_is_one_line_that_commands_no_terminal_then_its_traceback() -> None:
    shown = line_of({**ROW, "traceback": "Traceback:\n  x\x1b"})
    assert shown.splitlines() == [
        r"13:38:04.123  ERROR     worker standard/0 g0 (7)  website:east/default/web  failed: \u001b[2J  attempt=3",
        "    Traceback:",
        r"      x\u001b",
    ]


def test_a_name_that_the_fleet_does_not_have_is_doubted() -> None:
    def doubts(*arguments: str) -> list[str]:
        return doubts_of(cli.parser_of("logs").parse_args(["logs", *arguments]), {"website", "mail"}, {"hub", "east"})

    assert doubts("--controller", "websit", "--cluster", "east") == ["the fleet has no controller 'websit'; it has mail, website"]
    assert doubts("--object", "west/Pod/default/a") == ["the fleet has no cluster 'west'; it has east, hub"]
    assert doubts("--controller", "mail") == []


def test_each_record_is_printed_once_while_one_follows(capsys: pytest.CaptureFixture[str]) -> None:
    printed = command.LogPrinter("json")
    rows: list[dict[str, Any]] = [{**ROW, "msg": str(n)} for n in range(4)]
    stderr = {**ROW, "msg": "crash", "offset": 17}
    for answer in (rows[:2], rows[1:3], [*rows[2:], stderr], [rows[3], {**stderr, "ts": "2026-11-27T13:39:00.000Z"}]):
        printed.add(LogAnswer(answer, ["a node is silent"]))
    out = capsys.readouterr()
    assert [json.loads(line)["msg"] for line in out.out.splitlines()] == ["0", "1", "2", "3", "crash"]
    assert "offset" not in out.out
    assert out.err == "note: a node is silent\n"


class Following:
    """``raycp logs -f`` of a fleet that logs a record every second; ``look`` is what each look meets, and how long it takes."""

    def __init__(self, *looks: tuple[float, str]) -> None:
        self.clock = VirtualClock(wall=1_800_000_000.0)
        self.began = self.clock.wall()
        self._looks = list(looks)
        self._printed = command.LogPrinter("json")

    def _rows(self, since: float) -> list[dict[str, Any]]:
        at = range(int(self.began), int(self.clock.wall()) + 1)
        return [{**ROW, "ts": f"{stamp_of(each).decode()}Z", "msg": str(each - int(self.began))} for each in at if each >= since]

    async def read(self, since: float) -> LogAnswer | None:
        takes, what = self._looks.pop(0) if self._looks else (0.0, "")
        rows = self._rows(since)
        if takes:
            await self.clock.sleep(takes)
        if what == "busy":
            raise MemberUnavailable("Ray")
        return None if what == "none" else LogAnswer([] if what == "missed" else rows, [], what == "missed")

    async def seconds(self, seconds: int, capsys: pytest.CaptureFixture[str]) -> list[int]:
        following = asyncio.create_task(command.follow(self.read, self.began, self._printed, self.clock))
        for _ in range(seconds):
            await self.clock.advance(1.0)
        following.cancel()
        return [int(json.loads(line)["msg"]) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize(
    "looks",
    [
        [],
        [(30.0, "")],
        [(0.0, ""), (60.0, ""), (25.0, "busy"), (0.0, "busy")],
        [(0.0, ""), (0.0, "missed"), (35.0, "missed"), (0.0, "")],
        [(0.0, ""), (0.0, "missed"), (0.0, "")],
        [(0.0, ""), (0.0, "none"), (0.0, "")],
    ],
)
async def test_who_follows_misses_no_line_and_sees_none_twice(
    looks: list[tuple[float, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever a look meets: a process that is silent for long, a Ray that is busy, a node that answers the next look only."""
    found = await Following(*looks).seconds(120, capsys)
    assert found == list(range(len(found)))
    assert len(found) > 110


def test_a_line_of_standard_error_is_printed_once_though_its_file_is_written_again_much_later(
    capsys: pytest.CaptureFixture[str],
) -> None:
    printed = command.LogPrinter("json")
    first = {**ROW, "ts": "2026-11-27T13:38:04.123Z", "msg": "a warning of a library", "offset": 17}
    later = "2026-11-27T14:00:00.000Z"
    printed.add(LogAnswer([first], []))
    printed.add(LogAnswer([], []), time.time())
    printed.add(LogAnswer([{**first, "ts": later}, {**first, "ts": later, "msg": "another", "offset": 99}], []), time.time())
    assert [json.loads(line)["msg"] for line in capsys.readouterr().out.splitlines()] == ["a warning of a library", "another"]


def test_without_a_fleet_the_files_of_this_machine_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAYCP_HOME", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(fleets, "running_address", lambda: "")
    assert cli.main(["logs"]) == 1, "nothing at all"
    assert "no fleet has left logs" in capsys.readouterr().err
    for fleet in ("one", "two"):
        origin = Origin(actor="raycp::worker::standard/0::g0", pid=7, started=time.time())
        made = ProcessRecorder(SystemClock(), tmp_path / fleet / "recorder", origin)
        assert made.recorder.lines is not None
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
        made.recorder.lines.add(json.dumps({"ts": stamp, "level": "info", "msg": f"of {fleet}"}))
        made.recorder.stop()
    assert cli.main(["logs"]) == 2
    assert "one, two" in capsys.readouterr().err
    assert cli.main(["logs", "--fleet", "one"]) == 0
    out = capsys.readouterr()
    assert out.out.endswith("INFO      worker standard/0 g0 (7)  of one\n")
    assert "no Ray runs on this machine" in out.err
    assert str(tmp_path / "one" / "recorder") in out.err
