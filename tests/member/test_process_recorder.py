"""A process's flight recorder: orders are recorded, the node's recordings are given out, and nothing depends on a disk."""

import io
import logging
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from raycp.base.clock import VirtualClock
from raycp.member.process_recorder import LONGEST_LINE, ProcessRecorder
from raycp.metrics.recorder import FlightRecord, Origin, SegmentReader
from raycp.protocol.control import (
    ControlError,
    Drain,
    ErrorCode,
    HandOver,
    Question,
    RecordingContent,
    RecordingsOf,
    RecordingTail,
    ReportAfter,
    StatusOf,
    YieldTo,
)


def process(
    directory: Path, actor: str = "raycp::shard::0::g0", pid: int = 1, others: Iterable[Path] = (), **origin: Any
) -> ProcessRecorder:
    clock = VirtualClock(wall=time.time())  # the files' times are the machine's
    return ProcessRecorder(clock, directory, Origin(actor=actor, namespace="raycp-f", node="n1", pid=pid, **origin), others)


async def records(of: ProcessRecorder) -> list[FlightRecord]:
    shelf = await of.answer(RecordingsOf())
    found: list[FlightRecord] = []
    for part in await of.answer(RecordingContent(shelf.own)):
        found += SegmentReader(io.BytesIO(part))
    return found


async def test_orders_are_recorded_with_what_came_of_them_and_questions_are_not(tmp_path: Path) -> None:
    async def answer(question: Question[Any]) -> Any:
        if isinstance(question, Drain):
            raise ControlError(ErrorCode.BUSY, "3 reconciles run, password=hunter22")
        if isinstance(question, YieldTo):
            raise RuntimeError("broken")
        return "answered"

    made = process(tmp_path)
    assert await made.ask(HandOver(["0"]), answer) == "answered"
    assert await made.ask(ReportAfter(3), answer) == "answered"
    assert await made.ask(StatusOf(), answer) == "answered"
    with pytest.raises(ControlError, match="3 reconciles"):
        await made.ask(Drain(5.0), answer)
    with pytest.raises(RuntimeError, match="broken"):
        await made.ask(YieldTo("raycp-f.b"), answer)
    found = [(record.what, record.fields.get("order", "")) for record in await records(made)]
    assert found == [
        ("process", ""), ("order", "HandOver"), ("done", "HandOver"), ("order", "Drain"), ("refused", "Drain"),
        ("order", "YieldTo"), ("refused", "YieldTo"),
    ]  # fmt: skip
    refused = (await records(made))[4].fields
    assert (refused["code"], refused["error"]) == ("busy", "3 reconciles run, password=[redacted]")
    made.recorder.cut()


async def test_the_shelf_names_the_nodes_recordings_and_the_own_one(tmp_path: Path) -> None:
    dead, made = process(tmp_path, pid=1), process(tmp_path, pid=2)
    dead.recorder.flush()
    dead.recorder.cut()
    shelf = await made.answer(RecordingsOf())
    assert (shelf.node, shelf.directory, shelf.own) == ("n1", str(tmp_path), made.recorder.stem)
    assert {(info.name, info.living) for info in shelf.recordings} == {(dead.recorder.stem, False), (made.recorder.stem, True)}
    with pytest.raises(ControlError, match="no recording"):
        await made.answer(RecordingContent("../x.1.1"))
    made.recorder.cut()


async def test_the_tail_is_that_of_the_newest_dead_process_of_the_actor(tmp_path: Path) -> None:
    made = process(tmp_path, pid=9)
    for pid, actor in ((1, "raycp::shard::0::g0"), (2, "raycp::shard::0::g0"), (3, "raycp::shard::1::g0")):
        dead = process(tmp_path, actor, pid, started=float(pid))
        for number in range(30):
            dead.recorder.note("tick", number=number, by=pid, text="x" * 400)
            dead.recorder.flush()
        dead.recorder.cut()
    lines = await made.answer(RecordingTail("raycp::shard::0::g0", 5))
    assert [f"number {number}, by 2" in line for number, line in zip(range(25, 30), lines, strict=True)] == [True] * 5
    assert all(len(line) <= LONGEST_LINE for line in lines)
    assert len(await made.answer(RecordingTail("raycp::shard::0::g0", 10**9))) == 31
    assert await made.answer(RecordingTail("raycp::worker::standard/0::g0", 5)) == []
    made.recorder.cut()


async def test_what_fleets_have_left_that_never_run_again_is_removed_when_it_is_old(tmp_path: Path) -> None:
    other = tmp_path / "other" / "recorder"
    left = process(other)
    left.recorder.flush()
    left.recorder.cut()
    (file,) = other.iterdir()
    process(tmp_path / "fleet" / "recorder", others=[other]).recorder.cut()
    assert file.exists(), "it is not old yet"
    os.utime(file, (1.0, 1.0))
    process(tmp_path / "fleet" / "recorder", others=[other]).recorder.cut()
    assert not file.exists()


async def test_without_a_directory_the_process_works_and_says_why_it_records_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    with caplog.at_level(logging.WARNING):
        made = process(tmp_path / "file" / "recorder")
    assert "no flight recorder" in caplog.text
    assert not made.recorder.on

    async def answer(question: Question[Any]) -> Any:
        return "answered"

    assert await made.ask(Drain(1.0), answer) == "answered"
    shelf = await made.answer(RecordingsOf())
    assert (shelf.own, shelf.recordings) == ("", [])
    assert "exists" in shelf.problem, "a file is in the way"
