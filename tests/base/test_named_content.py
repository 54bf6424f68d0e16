"""Files that others name, and files that have no name."""

import errno
import os
from pathlib import Path

import pytest

from raycp.base.memory_files import memory_file
from raycp.base.regular_files import read_regular


def test_a_regular_file_is_read_up_to_its_bound_and_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 10)
    (tmp_path / "link").symlink_to("file")
    assert read_regular(tmp_path / "link", 10) == b"x" * 10
    with pytest.raises(OSError, match="it has more than") as caught:
        read_regular(tmp_path / "file", 9)
    assert caught.value.errno == errno.EFBIG


@pytest.mark.parametrize("name", ["fifo", "folder", "/dev/zero", "/dev/null"])
def test_anything_else_is_refused_at_once_and_closed(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="it is not a regular file"):
        read_regular(tmp_path / name, 10)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("memfd", [True, False], ids=["memfd", "a file without a name"])
def test_a_memory_file_can_be_read_while_it_is_open_and_lies_in_no_directory(
    memfd: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    if not memfd:
        monkeypatch.delattr(os, "memfd_create")
    with memory_file("a key") as name:
        assert Path(name).read_text() == "a key"
        assert not list(tmp_path.iterdir())
    assert not Path(name).exists()
