"""What an actor's process logs is printed, and kept beside its flight recording, with the process in each line."""

import asyncio
import gc
import io
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest
from printed_log import printed

from raycp.metrics.recorder import FlightRecorder
from raycp.metrics.recorder.log_feed import LOGGERS, LogFeed
from raycp.protocol.control import LogsOf, PlanOf, Question
from raycp.protocol.control.codec import encode_question
from raycp.protocol.members import Member
from raycp.protocol.substrate import answer_of
from raycp.runtime import actors

A = TypeVar("A")
ACTOR = "raycp::worker::standard/0::g3"


class QuietCore:
    """A core that does nothing. ``made``: the recorders of all."""

    made: ClassVar[list[FlightRecorder]] = []

    def __init__(self, member: Member, namespace: str, recorder: FlightRecorder) -> None:
        self.made.append(recorder)

    async def ask(self, question: Question[Any]) -> Any:
        return None


@pytest.fixture
def _process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the shell changes in its process, put back."""
    monkeypatch.setenv("RAYCP_HOME", str(tmp_path))
    monkeypatch.setattr(actors, "CORE_FACTORY", f"{__name__}:QuietCore")
    interval, thresholds = sys.getswitchinterval(), gc.get_threshold()
    with printed("info", io.StringIO()):
        yield
    for name in LOGGERS:
        for handler in [each for each in logging.getLogger(name).handlers if isinstance(each, LogFeed)]:
            logging.getLogger(name).removeHandler(handler)
    for recorder in QuietCore.made:
        recorder.cut()
    QuietCore.made.clear()
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

    async def ask(question: Question[A]) -> A:
        member = Member.parse(ACTOR)
        assert member is not None
        return answer_of(member, question, await shell.answer(encode_question(question)))

    assert await ask(PlanOf()) is None, "it is made"
    logging.getLogger("raycp.controller.x").info("a line")
    (log,) = (await ask(LogsOf(0.0))).logs
    assert log.living
    (line,) = [line for line in map(json.loads, log.lines.splitlines()) if line["msg"] == "a line"]
    assert list(line) == ["ts", "level", "logger", "msg", "process", "pid"], "as documented; Ray puts more into its records"
    assert (line["process"], line["logger"], line["level"]) == ("worker standard/0 g3", "raycp.controller.x", "info")
    out = capsys.readouterr().err
    assert ("worker standard/0 g3" in out) == (form == "json")
    assert "a line" in out
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
