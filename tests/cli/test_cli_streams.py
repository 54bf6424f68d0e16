"""Where a command can't write, has no place, or is given what is no file: one line that says so, no traceback, exit code 2."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from raycp.cli import main as cli
from raycp.cli.printer import OutputError, say

Captured = pytest.CaptureFixture[str]

OFFLINE = "check --offline -c"
QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.yaml"


def shell(line: str, directory: Path | None = None) -> subprocess.CompletedProcess[str]:
    """``line``, in which ``raycp`` is the command, in a shell."""
    raycp = f'raycp() {{ {sys.executable} -m raycp.cli.main "$@"; }}'
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONUNBUFFERED", "RAYCP_DEBUG")}
    env["PYTHONPATH"] = str(QUICKSTART.parents[1])
    return subprocess.run(
        ["bash", "-c", f"{raycp}; {line}"], capture_output=True, text=True, timeout=60, check=False, env=env, cwd=directory
    )


@pytest.mark.parametrize("command", ["version", "--help", "version --help", f"{OFFLINE} {QUICKSTART}"])
def test_standard_output_that_is_full(command: str) -> None:
    done = shell(f"raycp {command} >/dev/full")
    assert done.stderr == "error: standard output can't be written: No space left on device; make room there, or redirect it\n"
    assert done.returncode == 2


@pytest.mark.parametrize("command", ["version", "--help", "version --help"])
def test_standard_output_that_is_closed(command: str) -> None:
    done = shell(f"raycp {command} >&-")
    assert done.stderr == "error: standard output is closed; redirect it, to /dev/null where nobody reads it\n"
    assert done.returncode == 2


@pytest.mark.parametrize("command", ["--help", "version", "schema", "schema --help"])
def test_a_reader_that_goes_at_once_is_not_an_error(command: str) -> None:
    done = shell(f"raycp {command} | head -n 0; echo ${{PIPESTATUS[0]}}")
    assert (done.stdout, done.stderr) == ("0\n", "")


@pytest.mark.parametrize("where", ["2>&-", "2>/dev/full", "2>&1 >/dev/null | exec true"])
def test_the_exit_code_stays_where_nobody_reads_the_error(where: str) -> None:
    done = shell(f"raycp xyzzy {where}; exit ${{PIPESTATUS[0]}}")
    assert done.returncode == 2
    assert done.stdout == "", "an error is no result"


def test_a_closed_stream_is_not_where_the_next_file_opens() -> None:
    look = "import os; from raycp.cli.printer import open_closed; open_closed(); "
    look += "print([os.readlink(f'/proc/self/fd/{n}') for n in (0, 2)]); "
    look += "from raycp.cli.confirmation import has_terminal; print(has_terminal())"
    done = subprocess.run(
        ["bash", "-c", f'{sys.executable} -c "{look}" <&- 2>&-'], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "['/dev/null', '/dev/null']\nFalse\n", "nobody is asked, either"


def test_what_a_command_says_on_the_way_may_be_lost_on_standard_error_only(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w", buffering=1) as full:
        monkeypatch.setattr(sys, "stderr", full)
        say("waiting", error=True)
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(OutputError, match="No space left on device"):
            say("ready")
        monkeypatch.undo()
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())


@pytest.mark.parametrize("command", ["status", "embedded", f"run -c {QUICKSTART}", f"{OFFLINE} {QUICKSTART}", "demo"])
def test_a_working_directory_that_is_gone(command: str, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    done = shell(f'rmdir "{gone}"; raycp {command}', gone)
    assert done.stderr == "error: the working directory can't be used: No such file or directory; change to one that exists\n"
    assert done.returncode == 2


@pytest.mark.parametrize("argv", [["check", "-c", "a\0b"], ["status", "--fleet", "a\0b"], ["embedded", "--dir", "a\0b"], ["a\0b"]])
def test_an_argument_with_a_nul(argv: list[str], capsys: Captured) -> None:
    assert cli.main(argv) == 2
    assert capsys.readouterr().err == "error: 'a\\x00b' has a NUL character, which no name and no path can have; remove it\n"


@pytest.mark.parametrize("command", ["run", "apply", "submit", "upgrade"])
def test_a_working_dir_that_is_none(command: str, capsys: Captured) -> None:
    assert cli.main([command, "-c", str(QUICKSTART), "--working-dir", "/dev/null"]) == 2
    assert "error: --working-dir: /dev/null is not a directory; name the one" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["check", "run", "status", "apply", "submit", "down", "demo"])
@pytest.mark.parametrize("kind", ["fifo", "/dev/zero"])
def test_a_fleet_file_that_is_no_file(command: str, kind: str, tmp_path: Path, capsys: Captured) -> None:
    path = kind
    if kind == "fifo":
        path = str(tmp_path / "fleet.yaml")
        os.mkfifo(path)
    assert cli.main([command, "-c", path]) == 2
    remedy = "a fleet file is read more than once: write it to a file"
    assert capsys.readouterr().err == f"error: {path}: can't be read: it is not a regular file; {remedy}\n"


def test_a_fleet_file_of_50_mb_is_refused_by_its_size(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "fleet.yaml"
    with path.open("wb") as file:
        file.truncate(50_000_000)
    begin = time.process_time()
    assert cli.main(["check", "-c", str(path)]) == 2
    assert time.process_time() - begin < 2.0, "seconds of CPU; to parse it takes a minute"
    assert capsys.readouterr().err == f"error: {path}: can't be read: it has more than 4096 KiB; this is not a fleet file\n"


def test_check_tells_of_a_python_that_ray_can_not_start(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setattr(sys, "executable", "/home/me/my projects/venv/bin/python")
    assert cli.main(["check", "--offline", "-c", str(QUICKSTART)]) == 0
    assert "warning: Ray starts no worker with the Python /home/me/my projects/venv/bin/python, since" in capsys.readouterr().err
