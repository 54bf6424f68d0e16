"""What an actor's process logs is printed, and kept beside its flight recording, with the process in each line."""

import asyncio
import gc
import io
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from printed_log import printed

from raycp.metrics.recorder import FlightRecorder, RecorderDir
from raycp.metrics.recorder.log_feed import LogFeed
from raycp.protocol.members import Member
from raycp.runtime import actors
from raycp.runtime.fleet_home import recorder_home

ACTOR = "raycp::worker::standard/0::g3"


class QuietCore:
    """A core that does nothing."""

    def __init__(self, member: Member, namespace: str, recorder: FlightRecorder) -> None:
        self.recorder = recorder


@pytest.fixture
def _process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the shell changes in its process, put back."""
    monkeypatch.setenv("RAYCP_HOME", str(tmp_path))
    monkeypatch.setattr(actors, "CORE_FACTORY", f"{__name__}:QuietCore")
    interval, thresholds = sys.getswitchinterval(), gc.get_threshold()
    with printed("info", io.StringIO()):
        yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("_process")
@pytest.mark.parametrize("form", ["json", "text"])
async def test_lines_name_their_process_and_are_kept(
    form: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAYCP_LOG_FORMAT", form)
    shell = actors.Shell(ACTOR, "raycp-f")
    await shell._made.wait()
    assert isinstance(shell._core, QuietCore), shell._error
    logging.getLogger("raycp.controller.x").info("a line")
    shell._core.recorder.flush()
    directory = RecorderDir(recorder_home("raycp-f"))
    (info,) = directory.recordings()
    kept = [json.loads(line) for line in directory.log(info.name, 0.0, [], 1 << 20).lines.splitlines()]
    (line,) = [line for line in kept if line["msg"] == "a line"]
    assert list(line) == ["ts", "level", "logger", "msg", "process", "pid"], "as documented; Ray puts more into its records"
    assert (line["process"], line["logger"], line["level"]) == ("worker standard/0 g3", "raycp.controller.x", "info")
    out = capsys.readouterr().err
    assert ("worker standard/0 g3" in out) == (form == "json")
    assert "a line" in out
    assert info.living
    shell._core.recorder.cut()
    shell._task.cancel()
    await asyncio.gather(shell._task, return_exceptions=True)
    for name in ("raycp", "asyncio"):
        for handler in [each for each in logging.getLogger(name).handlers if isinstance(each, LogFeed)]:
            logging.getLogger(name).removeHandler(handler)
