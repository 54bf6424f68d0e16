"""Two processes run the same release of raycp where version and code are the same, wherever the code lies."""

import os
import shutil
from pathlib import Path

import pytest

from raycp.base import release
from raycp.base.release import PACKAGE, code_digest, difference, shown, this_release


@pytest.fixture
def package(tmp_path: Path) -> Path:
    made = tmp_path / "raycp"
    for name, text in (("__init__.py", ""), ("base/keys.py", "A = 1\n"), ("cli/run.py", "B = 1\n")):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(text)
    return made


def test_a_copy_is_the_same_code_and_a_change_of_a_line_is_not(package: Path, tmp_path: Path) -> None:
    first = code_digest(package)
    copy = tmp_path / "elsewhere" / "raycp"
    shutil.copytree(package, copy)
    (copy / "base/__pycache__").mkdir()
    (copy / "base/__pycache__/keys.pyc").write_bytes(b"x")
    os.utime(copy / "base/keys.py", (1, 1))
    assert code_digest(copy) == first
    (package / "base/keys.py").write_text("A = 2\n")
    changed = code_digest(package)
    assert changed != first
    (package / "base/keys.py").rename(package / "base/names.py")
    assert code_digest(package) not in (first, changed)


def test_what_an_editor_lays_beside_the_sources_does_not_count(package: Path) -> None:
    first = code_digest(package)
    (package / "base/.#keys.py").symlink_to("someone@somewhere.1234")
    (package / ".#main.py").symlink_to("someone@somewhere.1234")
    (package / "base/.ipynb_checkpoints").mkdir()
    (package / "base/.ipynb_checkpoints/keys-checkpoint.py").write_text("A = 3")
    assert code_digest(package) == first


def test_what_no_process_of_a_fleet_imports_does_not_count(package: Path) -> None:
    first = code_digest(package)
    (package / "cli/run.py").write_text("B = 2\n")
    assert code_digest(package) == first


def test_the_rooms_left_out_are_imported_by_none_of_the_others() -> None:
    names = {room.name for room in PACKAGE.iterdir() if room.is_dir()}
    assert names >= release.OUTSIDE
    for room in sorted(names - release.OUTSIDE):
        for file in (PACKAGE / room).rglob("*.py"):
            text = file.read_text()
            assert not any(f"import raycp.{name}" in text or f"from raycp.{name}" in text for name in release.OUTSIDE), file


def test_a_difference_names_both() -> None:
    assert difference(this_release()) == ""
    assert difference("0.0.9+abc", "this fleet") == f"this fleet runs raycp 0.0.9 (code abc), this is {shown(this_release())}"
    assert "does not say which" in difference("")
