"""The flight recorder: what is noted is in the file, also after SIGKILL; files are bounded, and read as far as they are sound."""

import contextlib
import errno
import io
import logging
import os
import random
import signal
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rayhouse import until

from raycp.base.clock import SystemClock, VirtualClock
from raycp.base.keys import RequestKey
from raycp.base.tasks import ApiCall
from raycp.metrics.recorder import FlightRecord, FlightRecorder, Origin, RecorderDir, SegmentFiles, SegmentReader, flight_recorder
from raycp.metrics.recorder.record_format import BATCH, FORMAT, MOST_RAW, TIME, VERSION
from raycp.metrics.recorder.record_text import as_json, line_of
from raycp.metrics.recorder.segments import CURRENT, PREVIOUS

KEY = RequestKey("echo", "east", "default", "a")
ORIGIN = Origin(actor="raycp::shard::0::g3", namespace="raycp-f", node="n1", host="h", pid=7, started=1000.5)
ROOT = Path(__file__).parents[2]


def records(directory: Path, name: str) -> list[FlightRecord]:
    found: list[FlightRecord] = []
    for part in RecorderDir(directory).read(name):
        reader = SegmentReader(io.BytesIO(part))
        found += list(reader)
        assert reader.problem == ""
        assert reader.origin is not None
    return found


@contextlib.contextmanager
def recording(directory: Path, clock: Any = None, **options: Any) -> Iterator[FlightRecorder]:
    made = FlightRecorder(clock or VirtualClock(wall=1_700_000_000.25), SegmentFiles(directory, ORIGIN, **options))
    try:
        yield made
    finally:
        made.cut()


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    with recording(tmp_path) as recorder:
        call = ApiCall("get", "east", "/p", 200, 0.5)
        recorder.step(1_700_000_000.123456, "succeeded", KEY, (0.25, [call], 0, "", "quota"))
        recorder.note("cluster", "east", reachable=False, reasons=["a", "b"], left=None)
        recorder.note("plan", version=7)
        recorder.flush()
        first, second, third = records(tmp_path, recorder.stem)
    calls = [{"verb": "get", "cluster": "east", "path": "/p", "status": 200, "seconds": 0.5, "retry_after": None}]
    fields = {"seconds": 0.25, "calls": calls, "calls_left_out": 0, "error": "", "waiting": "quota"}
    assert first == FlightRecord(1_700_000_000.123456, "succeeded", KEY, fields)
    assert second == FlightRecord(1_700_000_000.25, "cluster", "east", {"reachable": False, "reasons": ["a", "b"], "left": None})
    assert third == FlightRecord(1_700_000_000.25, "plan", "", {"version": 7})
    assert [record.cluster for record in (first, second, third)] == ["east", "east", ""]


def test_a_file_is_a_stream_of_msgpack_values(tmp_path: Path) -> None:
    """A header that says what it is, then batches; times and batches are extension types."""
    with recording(tmp_path) as recorder:
        recorder.note("plan")
        recorder.flush()
        header, batch = msgpack.Unpacker(io.BytesIO(b"".join(RecorderDir(tmp_path).read(recorder.stem))))
    assert (header["format"], header["version"], header["origin"]["actor"]) == (FORMAT, VERSION, ORIGIN.actor)
    assert batch.code == BATCH
    at, *rest = msgpack.unpackb(zlib.decompress(batch.data))
    assert (at.code, struct.unpack(">d", at.data)) == (TIME, (1_700_000_000.25,))
    assert rest == ["plan", None, {}]


def test_texts_of_others_are_scrubbed_and_our_own_are_not(tmp_path: Path) -> None:
    with recording(tmp_path) as recorder:
        recorder.step(1.0, "failed", KEY, (0.1, [], 0, "Bad: token=s3cr3tvalue", "password=hunter22"))
        recorder.step(1.0, "finished", KEY, ("retry", 0.1, 0, 0, "Bad: token=s3cr3tvalue"))
        recorder.step(1.0, "returned", KEY, {"reason": "password=hunter22"})
        recorder.note("refused", reasons=["token=s3cr3tvalue"], why={"deep": "password=hunter22"})
        recorder.step(1.0, "handed_out", KEY, ("raycp::worker::standard/0::g0", 1, 0.5))
        recorder.flush()
        found = records(tmp_path, recorder.stem)
    assert "s3cr3tvalue" not in str(found)
    assert "hunter22" not in str(found)
    assert str(found).count("[redacted]") == 6
    assert found[-1].fields["worker"] == "raycp::worker::standard/0::g0"


CHILD = """
import sys, time
from pathlib import Path
from raycp.base.clock import SystemClock
from raycp.metrics.recorder import FlightRecorder, Origin, RecorderDir, SegmentFiles
clock, directory = SystemClock(), Path(sys.argv[1])
RecorderDir(directory).prepare()
recorder = FlightRecorder(clock, SegmentFiles(directory, Origin(actor="child", pid=1, started=clock.wall())))
recorder.start()
number = 0
while True:
    number += 1
    recorder.note("tick", number=number)
    print(number, clock.wall(), flush=True)
    time.sleep(0.01)
"""


def test_after_sigkill_the_last_second_is_there(tmp_path: Path) -> None:
    """The process notes a record every 10 ms, then prints it; what was printed a second before its death is in its file."""
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        printed = [child.stdout.readline().split() for _ in range(150)]
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait(30)
    (info,) = RecorderDir(tmp_path).recordings()
    assert not info.living
    found = records(tmp_path, info.name)
    assert [record.fields["number"] for record in found] == list(range(1, len(found) + 1)), "all of them, in order"
    died = float(printed[-1][1])
    assert found[-1].at >= died - 1.0


def test_an_urgent_record_does_not_wait_for_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flight_recorder, "FLUSH_EVERY", 3600.0)
    with recording(tmp_path) as recorder:
        recorder.start()
        recorder.note("state", state="running")
        recorder.note("switch", urgent=True)
        until(lambda: RecorderDir(tmp_path).recordings(), 30, "a recording")
        until(lambda: [record.what for record in records(tmp_path, recorder.stem)] == ["state", "switch"], 30, "both are written")
        recorder.step(1.0, "failed", KEY, (0.1, [], 0, "E", ""))
        until(lambda: len(records(tmp_path, recorder.stem)) == 3, 30, "the third is written")


def test_records_of_many_threads_are_each_kept_once(tmp_path: Path) -> None:
    with recording(tmp_path, SystemClock()) as recorder:
        recorder.start()

        def work(thread: int) -> None:
            for number in range(3000):
                recorder.note("tick", thread=thread, number=number)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        recorder.flush()
        found = records(tmp_path, recorder.stem)
    assert len(found) == 12_000
    kept = {(record.fields["thread"], record.fields["number"]) for record in found}
    assert kept == {(thread, number) for thread in range(4) for number in range(3000)}


def test_a_record_that_is_added_during_a_write_is_kept(tmp_path: Path) -> None:
    """The thread that writes runs between two steps of the one that adds."""

    class Interrupted:
        def __init__(self, at: float) -> None:
            self.at = at

        def __float__(self) -> float:
            recorder.flush()
            return self.at

    with recording(tmp_path) as recorder:
        recorder.note("first")
        recorder.step(Interrupted(2.0), "delayed", KEY, (1.0, "retry"))  # type: ignore[arg-type]
        recorder.flush()
        assert [record.what for record in records(tmp_path, recorder.stem)] == ["first", "delayed"]


# bounds


def noise(count: int) -> str:
    return random.Random(count).randbytes(30).hex()[:31]


def test_two_files_take_turns_and_are_bounded(tmp_path: Path) -> None:
    with recording(tmp_path, most=20_000) as recorder:
        for number in range(4000):
            recorder.note("tick", number=number, noise=noise(number))
            if number % 10 == 0:
                recorder.flush()
        recorder.flush()
        sizes = [len(part) for part in RecorderDir(tmp_path).read(recorder.stem)]
        found = records(tmp_path, recorder.stem)
        assert sorted(path.suffix for path in tmp_path.iterdir()) == sorted([CURRENT, PREVIOUS])
    assert len(sizes) == 2
    assert max(sizes) < 22_000
    numbers = [record.fields["number"] for record in found]
    assert numbers == list(range(numbers[0], 4000)), "the newest, without a gap"
    assert numbers[0] > 0


def test_memory_is_bounded_where_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flight_recorder, "MOST_BUFFERED", 10_000)
    with recording(tmp_path) as recorder:
        for number in range(5000):
            recorder.note("tick", number=number)
        recorder.flush()
        kept = records(tmp_path, recorder.stem)
        assert 100 < len(kept) < 500
        recorder.note("after")
        recorder.flush()
        more = records(tmp_path, recorder.stem)[len(kept) :]
    assert [record.what for record in more] == ["records_lost", "after"]
    assert more[0].fields["records"] == 5000 - len(kept)


def test_a_full_disk_costs_records_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A write takes a part and fails: that part is cut off again, what was lost is counted, the log says so once."""
    write, full = os.write, [False]

    def limited(file: int, data: Any) -> int:
        if not full[0]:
            return write(file, data)
        if len(data) > 10:
            return write(file, bytes(data)[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", limited)
    with recording(tmp_path) as recorder, caplog.at_level(logging.WARNING):
        recorder.note("before")
        recorder.flush()
        full[0] = True
        for number in range(3):
            recorder.note("tick", number=number)
            recorder.flush()
        assert len([each for each in caplog.records if "can't write" in each.getMessage()]) == 1
        full[0] = False
        recorder.note("after")
        recorder.flush()
        recorder.flush()
        assert [record.what for record in records(tmp_path, recorder.stem)] == ["before", "after", "records_lost"]
        assert records(tmp_path, recorder.stem)[-1].fields == {"records": 3, "why": "No space left on device"}


def test_without_files_nothing_is_kept() -> None:
    recorder = FlightRecorder(VirtualClock())
    assert not recorder.on
    recorder.note("plan", version=1)
    recorder.start()
    recorder.flush()
    recorder.stop()


# files that are not as they should be


def sample(count: int = 60) -> tuple[bytes, list[FlightRecord]]:
    """A file of so many records in batches of ten, and the records."""
    import tempfile

    with tempfile.TemporaryDirectory() as directory, recording(Path(directory)) as recorder:
        for number in range(count):
            recorder.step(1000.0 + number, "handed_out", KEY._replace(name=f"a{number}"), (noise(number), number, 0.5))
            if number % 10 == 9:
                recorder.flush()
        (raw,) = RecorderDir(Path(directory)).read(recorder.stem)
        return raw, records(Path(directory), recorder.stem)


RAW, RECORDS = sample()
HEADER = len(msgpack.packb(next(iter(msgpack.Unpacker(io.BytesIO(RAW))))))


@given(st.integers(0, len(RAW) - 1))
def test_a_torn_file_is_read_up_to_the_tear(end: int) -> None:
    reader = SegmentReader(io.BytesIO(RAW[:end]))
    found = list(reader)
    assert found == RECORDS[: len(found)]
    assert len(found) % 10 == 0, "whole batches"
    cut_between = end in boundaries()
    assert bool(reader.problem) != cut_between
    assert len(found) >= 10 * sum(end >= boundary for boundary in boundaries()[1:])


def boundaries() -> list[int]:
    """Where a batch ends, the header too."""
    unpacker = msgpack.Unpacker(io.BytesIO(RAW))
    return [unpacker.tell() for _ in unpacker]


@given(st.integers(HEADER, len(RAW) - 1), st.integers(1, 255))
def test_a_damaged_file_gives_nothing_that_was_not_recorded(at: int, change: int) -> None:
    raw = bytearray(RAW)
    raw[at] ^= change
    reader = SegmentReader(io.BytesIO(bytes(raw)))
    found = list(reader)
    assert all(record in RECORDS for record in found)
    assert bool(reader.problem) == (len(found) < len(RECORDS)), "a bit that zlib does not use may be wrong"


@given(st.binary(max_size=300))
def test_a_foreign_file_is_said_to_be_one(raw: bytes) -> None:
    reader = SegmentReader(io.BytesIO(raw))
    assert list(reader) == []
    assert reader.problem
    assert reader.origin is None


def header(**changed: Any) -> bytes:
    fields = {"format": FORMAT, "version": VERSION, "origin": {"actor": "a"}, "shapes": {"two": ["a", "b"]}}
    packed: bytes = msgpack.packb(fields | changed)
    return packed


def batch(raw: bytes) -> bytes:
    packed: bytes = msgpack.packb(msgpack.ExtType(BATCH, zlib.compress(raw)))
    return packed


GOOD = msgpack.packb([msgpack.ExtType(TIME, struct.pack(">d", 1.0)), "tick", None, {}])


@pytest.mark.parametrize(
    ("raw", "problem", "count"),
    [
        (b"", "empty", 0),
        (b"just a text, longer than a header", "not a flight recording", 0),
        (header(version=2), "another release", 0),
        (header(format="notes"), "not a flight recording", 0),
        (header() + b"\0" * 64, "damaged at byte", 0),
        (header() + batch(GOOD) + b"\0" * 4096 + batch(GOOD), "damaged at byte", 1),
        (header() + batch(GOOD + msgpack.packb([1, 2])) + batch(GOOD), "1 damaged batches", 2),
        (header() + batch(GOOD[:-1] + msgpack.packb([1, 2, 3])) + batch(GOOD), "1 damaged batches", 1),
        (header() + batch(msgpack.packb({"not": "a record"})) + batch(GOOD), "1 damaged batches", 1),
        (header() + batch(GOOD + GOOD[:-1]), "1 damaged batches", 1),
        (header() + batch(GOOD * (MOST_RAW // len(GOOD) + 1)) + batch(GOOD), "1 damaged batches", 1),
        (header() + batch(msgpack.packb([[]] * 3)[:1] * 4000), "1 damaged batches", 0),
        (header() + b"\xc9\xff\xff\xff\xff\x01", "damaged at byte", 0),
        (header() + msgpack.packb(msgpack.ExtType(9, b"x")), "damaged at byte", 0),
    ],
    ids=["empty", "text", "newer", "other format", "zeros", "zeros within", "no record", "fields without a shape",
         "no record first", "half a record", "bomb", "nested", "claims 4 GB", "other type"],
)  # fmt: skip
def test_unsound_files(raw: bytes, problem: str, count: int) -> None:
    reader = SegmentReader(io.BytesIO(raw))
    assert len(list(reader)) == count
    assert problem in reader.problem


def test_the_tail_is_the_last_records() -> None:
    assert SegmentReader(io.BytesIO(RAW)).tail(7) == RECORDS[-7:]
    assert SegmentReader(io.BytesIO(RAW)).tail(25) == RECORDS[-25:]
    assert SegmentReader(io.BytesIO(RAW[:-5])).tail(7) == RECORDS[:-10][-7:]
    assert SegmentReader(io.BytesIO(RAW)).tail(1000) == RECORDS
    assert SegmentReader(io.BytesIO(b"text")).tail(5) == []


# records for people


def test_a_record_is_one_line() -> None:
    calls = [{"verb": "create", "path": "/api/v1/pods", "cluster": "east", "status": 0, "seconds": 0.1}]
    record = FlightRecord(1_700_000_000.5, "failed", KEY, {"seconds": 0.0123, "calls": calls, "error": "E: no", "waiting": ""})
    assert line_of(record) == (
        "22:13:20.500  failed      echo:east/default/a  "
        "seconds 12.3 ms, create /api/v1/pods in east: no answer, error E: no"
    )
    assert as_json(record) == {
        "at": 1_700_000_000.5, "what": "failed", "controller": "echo", "cluster": "east", "namespace": "default", "name": "a",
        "fields": record.fields,
    }  # fmt: skip
    plan = FlightRecord(0.0, "plan", "", {"shards": ["0: a", "1: b"], "took_seconds": 2})
    assert line_of(plan) == "00:00:00.000  plan        shards 0: a; 1: b, took seconds 2"
    assert as_json(plan) == {"at": 0.0, "what": "plan", "fields": plan.fields}
