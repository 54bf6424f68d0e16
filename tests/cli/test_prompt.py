"""Commands answer promptly where no Ray does: an error that names the address within seconds, and Ctrl-C within one (law 14)."""

import http.server
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from raycp.cli.prompt import Promptness
from raycp.runtime.head import silence

FLEET = """
apiVersion: raycp.io/v1alpha1
kind: Fleet
metadata: {name: nowhere}
spec:
  clusters: [{name: hub, role: hub, embedded: {}}]
  controllers: [{use: raycp.controllers.batchjob}]
"""


@pytest.fixture
def refused() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture
def silent() -> Iterator[str]:
    """A port that accepts and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def stranger() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def command(tmp_path: Path, *args: str) -> "subprocess.Popen[str]":
    (tmp_path / "fleet.yaml").write_text(FLEET)
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAYCP_HOME": str(tmp_path)}
    environment.pop("RAY_ADDRESS", None)
    return subprocess.Popen(
        [sys.executable, "-m", "raycp.cli.main", *args], cwd=tmp_path, env=environment, text=True, stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )  # fmt: skip


COMMANDS = [
    ("status",), ("down",), ("top",), ("slo",), ("handover",), ("leader",), ("why", "batchjob/hub/default/x"),
    ("run", "-c", "fleet.yaml"), ("apply", "-c", "fleet.yaml"), ("upgrade", "-c", "fleet.yaml"),
]  # fmt: skip


@pytest.mark.parametrize("kind", ["refused", "silent", "stranger"])
def test_no_head_at_an_address_is_known_within_its_deadline(kind: str, request: pytest.FixtureRequest) -> None:
    address = request.getfixturevalue(kind)
    begun = time.monotonic()
    assert silence(address, 1.0)
    assert time.monotonic() - begun < 10.0  # Ray's own call: minutes


@pytest.mark.parametrize("address", ["", "6379", "host:", "127.0.0.1:99999", f"{'x' * 80}.example:6379"])
def test_an_address_that_is_none_is_said_so(address: str) -> None:
    assert silence(address, 1.0)


def test_the_url_of_a_job_server_is_no_address_of_a_head() -> None:
    assert silence("http://127.0.0.1:8265", 1.0) == "'http://127.0.0.1:8265' is not HOST:PORT"


@pytest.mark.parametrize("args", COMMANDS, ids=lambda args: args[0])
def test_a_command_at_an_address_where_nothing_listens(args: tuple[str, ...], tmp_path: Path, refused: str) -> None:
    process = command(tmp_path, *args, "--address", refused)
    _, said = process.communicate(timeout=60)
    assert process.returncode in (1, 2), said
    assert refused in said
    assert "ray start --head" in said
    assert "Traceback" not in said


def test_submit_where_no_job_server_answers(tmp_path: Path, silent: str) -> None:
    process = command(tmp_path, "submit", "-c", "fleet.yaml", "--address", f"http://{silent}")
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1, said
    assert f"no Ray job server answers at http://{silent}" in said


@pytest.mark.parametrize("asked", [signal.SIGINT, signal.SIGTERM])
def test_submit_that_is_ended_leaves_nothing_that_it_would_have_sent(
    asked: signal.Signals, tmp_path: Path, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    process = command(tmp_path, "submit", "-c", "fleet.yaml", "--address", f"http://{silent}")
    deadline = time.monotonic() + 60
    while not list((tmp_path / "tmp").glob("raycp-job-*/job/fleet.yaml")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(asked)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 128 + asked, said
    assert not list((tmp_path / "tmp").glob("raycp-*"))


@pytest.mark.parametrize(("asked", "told"), [(signal.SIGINT, "interrupted\n"), (signal.SIGTERM, "terminated\n")])
def test_a_signal_ends_a_command_whose_main_thread_waits_in_c(asked: signal.Signals, told: str) -> None:
    """As Ray's connection does: the signal does not interrupt it, and Python's handler does not run meanwhile."""
    program = (
        "import ctypes, signal\n"
        f"signal.signal({asked}, lambda *_: None)\n"  # the signal may come just before the wait
        "from raycp.cli.prompt import Promptness, prompt\n"
        "libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(256)\n"
        "libc.pthread_mutex_lock(mutex)\n"
        "with prompt(Promptness(None, print)):\n"
        "    print('waits', flush=True)\n"
        "    libc.pthread_mutex_lock(mutex)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "waits\n"
    process.send_signal(asked)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (128 + asked, told)


def test_sigterm_ends_a_command_as_an_exit_does_so_that_it_gives_the_terminal_back() -> None:
    program = (
        "import time\n"
        "from raycp.cli.prompt import end_on_term\n"
        "end_on_term()\n"
        "try:\n"
        "    print('waits', flush=True)\n"
        "    while True:\n"
        "        time.sleep(0.01)\n"  # a signal that comes just before a long sleep waits for its end
        "finally:\n"
        "    print('gave back')\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "waits\n"
    process.send_signal(signal.SIGTERM)
    shown, said = process.communicate(timeout=30)
    assert (process.returncode, shown, said) == (143, "gave back\n", "")


def test_a_head_that_falls_silent_ends_the_command_and_one_missing_answer_does_not() -> None:
    answers = iter(["", "late", "", "gone", "gone", "never asked"])
    told: list[str] = []
    ended: list[int] = []
    done = threading.Event()

    def end(code: int) -> None:
        ended.append(code)
        done.set()

    promptness = Promptness(lambda: next(answers), told.append, end)
    promptness.begin()
    assert done.wait(30)
    promptness.over()
    assert (told, ended) == (["gone"], [1])
    assert next(answers) == "never asked"


def test_a_command_that_has_ended_is_not_ended_again() -> None:
    ended: list[int] = []
    asked = threading.Event()

    def gone() -> str:
        asked.set()
        return "gone"

    promptness = Promptness(gone, lambda why: None, ended.append)
    promptness.begin()
    assert asked.wait(30)
    promptness.over()
    assert not [thread for thread in threading.enumerate() if thread.name == "head" and thread.join(30)]
    assert ended == []
