"""The log beside a flight recording: what was logged is read back by time, whatever became of the process or the disk."""

import io
import json
import logging
import os
from pathlib import Path

import pytest

from raycp.base.clock import VirtualClock
from raycp.metrics.log import LineHandler
from raycp.metrics.recorder import FlightRecorder, LogFiles, Origin, RecorderDir, SegmentFiles
from raycp.metrics.recorder.log_files import LONGEST_LINE, MOST_BUFFERED, last_stamp, read_log, stamp_of
from raycp.metrics.recorder.stderr_file import MOST_LINES, past_the_log

START = 1_700_000_000.0
EVERYTHING = 1 << 20


def line(at: float, text: str = "x", **fields: str) -> str:
    return json.dumps({"ts": stamp_of(at).decode() + "Z", "level": "info", "msg": text, **fields})


def write(directory: Path, lines: list[str], most: int = EVERYTHING) -> LogFiles:
    made = LogFiles(directory, "a.1.1", most)
    for each in lines:
        made.add(each)
        made.flush()
    return made


def texts(directory: Path, since: float = 0.0, most: int = EVERYTHING, wanted: tuple[list[str], ...] = ()) -> list[str]:
    part = read_log(directory, "a.1.1", since, wanted, most)
    return [json.loads(each)["msg"] for each in part.lines.splitlines()]


def test_lines_are_read_from_both_files_in_their_order(tmp_path: Path) -> None:
    write(tmp_path, [line(START + n, str(n)) for n in range(10)], most=300).close()
    files = {path.name for path in tmp_path.iterdir()}
    assert files == {"a.1.1.log", "a.1.1.log1"}
    shown = texts(tmp_path)
    assert shown == [str(n) for n in range(10 - len(shown), 10)], "the newest, without a hole"
    assert len(shown) > 4
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


@pytest.mark.parametrize("since", [0, 1, 577, 1999])
def test_only_what_is_not_older_is_read_in_a_long_file_too(tmp_path: Path, since: int) -> None:
    made = LogFiles(tmp_path, "a.1.1")
    for n in range(2000):
        made.add(line(START + n, f"{n} {'x' * 150}"))
    made.flush()
    assert [int(text.split()[0]) for text in texts(tmp_path, START + since)] == list(range(since, 2000))


def test_the_newest_lines_that_fit_are_given_and_the_cut_is_said(tmp_path: Path) -> None:
    write(tmp_path, [line(START + n, str(n)) for n in range(100)]).close()
    part = read_log(tmp_path, "a.1.1", 0.0, [], 500)
    assert part.cut
    assert len(part.lines) <= 500
    assert json.loads(part.lines.splitlines()[-1])["msg"] == "99"
    assert not read_log(tmp_path, "a.1.1", 0.0, [], EVERYTHING).cut


def test_lines_must_have_one_text_of_each_wish(tmp_path: Path) -> None:
    rows = [("a", "east"), ("b", "east"), ("c", "west")]
    write(tmp_path, [line(START, who, controller=who, cluster=where) for who, where in rows]).close()
    wanted = (['"controller": "a"', '"controller": "c"'], ['"cluster": "east"'])
    assert texts(tmp_path, wanted=wanted) == ["a"]


def test_a_process_without_a_log_and_foreign_lines_are_no_error(tmp_path: Path) -> None:
    assert texts(tmp_path) == []
    assert last_stamp(tmp_path, "a.1.1") == b""
    made = write(tmp_path, [line(START, "good"), "not json", '{"ts": "half'])
    assert len(read_log(tmp_path, "a.1.1", START, [], EVERYTHING).lines.splitlines()) == 1
    assert last_stamp(tmp_path, "a.1.1") == stamp_of(START) + b"Z"
    made.close()


def test_memory_is_bounded_where_nothing_is_written(tmp_path: Path) -> None:
    made = LogFiles(tmp_path, "a.1.1")
    for _ in range(3 * MOST_BUFFERED // 1000):
        made.add("x" * 1000)
    made.add("y" * LONGEST_LINE)
    assert made.flush()
    assert (tmp_path / "a.1.1.log").stat().st_size < MOST_BUFFERED + LONGEST_LINE
    assert not made.flush()
    made.close()


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = write(tmp_path, [line(START, "first")])
    real = os.write
    monkeypatch.setattr(os, "write", lambda file, data: real(file, data[: len(data) // 2]))
    made.add(line(START + 1, "lost"))
    with pytest.raises(OSError, match="No space left"):
        made.flush()
    monkeypatch.undo()
    made.add(line(START + 2, "third"))
    made.flush()
    assert texts(tmp_path) == ["first", "third"]
    made.close()


def test_the_recorders_thread_writes_the_log_and_its_directory_removes_it(tmp_path: Path) -> None:
    directory = RecorderDir(tmp_path)
    segments = SegmentFiles(tmp_path, Origin(actor="raycp::shard::0::g0", pid=7, started=1.0))
    recorder = FlightRecorder(VirtualClock(), segments, LogFiles(tmp_path, segments.stem))
    assert recorder.lines is not None
    recorder.lines.add(line(START, "of the shard"))
    recorder.note("process")
    recorder.flush()
    (info,) = directory.recordings()
    assert info.living
    assert info.size == sum(path.stat().st_size for path in tmp_path.iterdir())
    origin = directory.origin(info.name)
    assert origin is not None
    assert origin.actor == "raycp::shard::0::g0"
    assert b"of the shard" in directory.log(info.name, START, [], EVERYTHING).lines
    recorder.cut()
    assert directory.remove_old(now=info.modified + 1e6) == [info.name]
    assert list(tmp_path.iterdir()) == []


def test_the_handler_gives_what_it_prints_and_warnings_in_any_case() -> None:
    printed, kept = io.StringIO(), list[str]()
    handler = LineHandler(printed, logging.ERROR, {"process": "worker standard/0 g0", "pid": 7}, text=True)
    handler.also = kept.append
    logger = logging.Logger("raycp.x")
    logger.addHandler(handler)
    logger.info("less")
    logger.warning("kept", extra={"pid": "x"})
    logger.error("printed")
    assert [json.loads(each)["msg"] for each in kept] == ["kept", "printed"]
    assert list(json.loads(kept[0]).items())[1:] == [
        ("level", "warning"), ("logger", "raycp.x"), ("msg", "kept"), ("process", "worker standard/0 g0"), ("pid", 7),
    ]  # fmt: skip
    assert printed.getvalue().count("\n") == 1
    assert printed.getvalue().endswith("E raycp.x: printed\n")


def test_what_a_process_printed_past_its_log_takes_the_time_before_it(tmp_path: Path) -> None:
    path = tmp_path / "worker.err"
    rows = [":actor_name:RaycpWorker", line(START, "logged"), "a warning of a library, token=abcdefgh",
            line(START + 5, "last words"), "Fatal Python error: Segmentation fault", "\x1b[31m  File x"]  # fmt: skip
    path.write_text("\n".join(rows) + "\n")
    os.utime(path, (START + 9, START + 9))
    found = past_the_log(str(path), stamp_of(START) + b"Z", 0.0)
    assert [(row["ts"][-7:], row["msg"]) for row in found] == [
        ("20.000Z", "a warning of a library, token=[redacted]"),
        ("25.000Z", "last words"),
        ("29.000Z", "Fatal Python error: Segmentation fault"),
        ("29.000Z", " [31m  File x"),
    ]
    assert past_the_log(str(path), stamp_of(START + 5) + b"Z", START + 6) == found[2:]
    assert past_the_log(str(path), b"", START + 10) == []
    assert past_the_log(str(tmp_path / "none"), b"", 0.0) == []
    (tmp_path / "link").symlink_to(path)
    assert past_the_log(str(tmp_path / "link"), b"", 0.0) == [], "no file but the process's own"
    path.write_text("noise\n" * 10 * MOST_LINES)
    assert len(past_the_log(str(path), b"", 0.0)) == MOST_LINES
