"""The directory of recordings: for its owner only, the living told from the dead, old ones bounded."""

import io
import os
import shutil
import stat
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raycp.base.clock import VirtualClock
from raycp.metrics.recorder import FlightRecorder, Origin, RecorderDir, RecordingInfo, SegmentFiles, SegmentReader
from raycp.metrics.recorder.recorder_dir import KEPT, KEPT_BYTES, KEPT_OF_SLOT, KEPT_SECONDS, too_many
from raycp.metrics.recorder.segments import CURRENT, PREVIOUS


def recorder(directory: Path, actor: str, pid: int = 1, most: int = 4_000_000) -> FlightRecorder:
    made = FlightRecorder(VirtualClock(), SegmentFiles(directory, Origin(actor=actor, pid=pid, started=1.0), most))
    made.note("process")
    made.flush()
    return made


def test_directory_and_files_are_their_owners_alone(tmp_path: Path) -> None:
    directory = RecorderDir(tmp_path / "fleet" / "recorder")
    directory.prepare()
    old = os.umask(0)
    try:
        made = recorder(directory.path, "a")
    finally:
        os.umask(old)
    assert stat.S_IMODE(directory.path.stat().st_mode) == 0o700
    (file,) = directory.path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    directory.path.chmod(0o755)
    directory.prepare()
    assert stat.S_IMODE(directory.path.stat().st_mode) == 0o700, "one that others could read is closed"
    made.cut()


def test_a_directory_of_another_user_or_a_link_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    with pytest.raises(OSError, match="not a directory of user"):
        RecorderDir(tmp_path / "link").prepare()
    monkeypatch.setattr(os, "getuid", lambda: -1)
    with pytest.raises(PermissionError, match="not a directory of user"):
        RecorderDir(tmp_path / "there").prepare()


def test_the_living_hold_their_lock_also_after_their_files_took_turns(tmp_path: Path) -> None:
    directory = RecorderDir(tmp_path)
    made = recorder(tmp_path, "raycp::shard::0::g0", most=200)
    for _ in range(20):
        made.note("tick", noise=os.urandom(20).hex()[:31])
        made.flush()
    assert {path.suffix for path in tmp_path.iterdir()} == {CURRENT, PREVIOUS}
    (info,) = directory.recordings()
    assert info.living
    assert info.slot == "raycp-shard-0"
    made.cut()
    (info,) = directory.recordings()
    assert not info.living


def test_a_recording_is_read_by_its_name_and_nothing_else_is(tmp_path: Path) -> None:
    directory = RecorderDir(tmp_path / "recorder")
    directory.prepare()
    (tmp_path / "secret.1.1.rec").write_text("no")
    (directory.path / "linked.1.1.rec").symlink_to(tmp_path / "secret.1.1.rec")
    (directory.path / "notes.txt").write_text("mine")
    made = recorder(directory.path, "a")
    assert [info.name for info in directory.recordings()] == [made.stem]
    assert len(directory.read(made.stem)) == 1
    assert directory.read(made.stem, since=2e10) == [], "nothing that old"
    for name in ("../secret.1.1", "linked.1.1", "notes", "", "a.1", "/etc/passwd", "gone.1.1"):
        with pytest.raises((KeyError, OSError)):
            directory.read(name)
    made.cut()


def test_what_is_missing_above_the_directory_is_private_too(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        RecorderDir(tmp_path / "home" / "fleet" / "recorder").prepare()
    finally:
        os.umask(old)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "home", tmp_path / "home" / "fleet")] == [0o700] * 2


def test_files_that_somebody_removes_are_begun_anew(tmp_path: Path) -> None:
    directory = RecorderDir(tmp_path / "recorder")
    directory.prepare()
    made = recorder(directory.path, "a")
    for remove in (lambda: (directory.path / f"{made.stem}.rec").unlink(), lambda: shutil.rmtree(directory.path)):
        remove()
        made.note("after")
        made.flush()
        (raw,) = directory.read(made.stem)
        assert [record.what for record in SegmentReader(io.BytesIO(raw))] == ["after"]
    made.cut()


def test_a_directory_that_is_not_there_has_no_recordings(tmp_path: Path) -> None:
    assert RecorderDir(tmp_path / "none").recordings() == []


def test_old_recordings_of_the_dead_are_removed_and_those_of_the_living_stay(tmp_path: Path) -> None:
    directory = RecorderDir(tmp_path)
    for number in range(10):
        recorder(tmp_path, f"raycp::worker::standard/0::g{number}", most=10).cut()
    living = [recorder(tmp_path, "raycp::worker::standard/0::g10"), recorder(tmp_path, "raycp::shard::0::g0")]
    (tmp_path / "foreign.log").write_text("stays")
    for number, info in enumerate(sorted(directory.recordings(), key=lambda info: int(info.name.split("-g")[1].split(".")[0]))):
        os.utime(tmp_path / f"{info.name}.rec", (1000.0 + number, 1000.0 + number))
    removed = directory.remove_old(now=2000.0)
    assert len(removed) == 10 - KEPT_OF_SLOT
    left = {info.name for info in directory.recordings()}
    assert left >= {made.stem for made in living}
    assert len(left) == KEPT_OF_SLOT + 2
    assert (tmp_path / "foreign.log").exists()
    assert len(directory.remove_old(now=2000.0 + KEPT_SECONDS)) == KEPT_OF_SLOT, "a day later"
    for made in living:
        made.cut()


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, KEPT_BYTES // 20), st.floats(0, 2 * KEPT_SECONDS)), max_size=100))
def test_the_dead_are_bounded_by_slot_number_size_and_age(rows: list[tuple[int, int, float]]) -> None:
    dead = [
        RecordingInfo(f"raycp-worker-{slot}-g{number}.1.1", size, 1e6 - age, False)
        for number, (slot, size, age) in enumerate(sorted(rows, key=lambda row: row[2]))
    ]
    removed = set(too_many(dead, now=1e6))
    kept = [info for info in dead if info.name not in removed]
    assert len(kept) <= KEPT
    assert sum(info.size for info in kept) <= KEPT_BYTES
    assert all(1e6 - info.modified <= KEPT_SECONDS for info in kept)
    assert max(Counter(info.slot for info in kept).values(), default=0) <= KEPT_OF_SLOT
    if dead and 1e6 - dead[0].modified <= KEPT_SECONDS:
        assert dead[0] in kept, "the newest stays"
