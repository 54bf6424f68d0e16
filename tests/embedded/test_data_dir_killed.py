"""``raycp embedded --data-dir`` as a process whose files may grow to a limit: the kernel cuts writes short, then it is killed."""

import contextlib
import json
import resource
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOM = 42_000
"""bytes of a file: more than the log of a new cluster has, less than 52 objects"""


class Served:
    """A cluster of another process."""

    def __init__(self, kubeconfig: Path) -> None:
        config = json.loads(kubeconfig.read_text())
        cluster, self._token = config["clusters"][0]["cluster"], config["users"][0]["user"]["token"]
        self._tls = ssl.create_default_context(cadata=b64decode(cluster["certificate-authority-data"]).decode())
        self._maps = cluster["server"] + "/api/v1/namespaces/default/configmaps"

    def ask(self, body: Any = None) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        data = json.dumps(body).encode() if body is not None else None
        try:
            with urllib.request.urlopen(urllib.request.Request(self._maps, data, headers), context=self._tls, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)


def command_for(directory: Path) -> list[str]:
    code = "import sys; from raycp.cli.main import main; sys.exit(main(sys.argv[1:]))"
    return [sys.executable, "-c", code, "embedded", "--dir", str(directory), "--data-dir", str(directory / "state")]


@contextlib.contextmanager
def serving(directory: Path, room: int | None = None) -> Iterator[Served]:
    """The cluster until it is killed."""

    def limit() -> None:
        if room is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    with subprocess.Popen(command_for(directory), stdout=subprocess.PIPE, text=True, preexec_fn=limit) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("embedded-1 ")
            yield Served(directory / "embedded-1.kubeconfig")
        finally:
            process.kill()


def test_all_that_was_acknowledged_survives_a_kill_and_nothing_else(tmp_path: Path) -> None:
    acknowledged, refused = [], []
    with serving(tmp_path, ROOM) as cluster:
        for number in range(52):
            name = f"m{number:02}"
            size = 3_000 if number % 2 else 10  # small ones fit where a large one did not
            status, told = cluster.ask({"metadata": {"name": name}, "data": {"x": "y" * size}})
            (acknowledged if status == 201 else refused).append(name)
            assert status == 201 or (status == 500 and "cannot be written: File too large" in told["message"])
        seen = sorted(one["metadata"]["name"] for one in cluster.ask()[1]["items"])
        assert seen == acknowledged
    assert len(refused) > 10
    assert acknowledged[-1] > refused[0], "a write after the first short one was acknowledged"
    with serving(tmp_path) as cluster:
        assert sorted(one["metadata"]["name"] for one in cluster.ask()[1]["items"]) == acknowledged
        assert cluster.ask({"metadata": {"name": "after"}})[0] == 201


def test_a_directory_that_can_not_be_used_is_bad_input(tmp_path: Path) -> None:
    with serving(tmp_path):
        second = subprocess.run(command_for(tmp_path), capture_output=True, text=True, timeout=60)
    assert second.returncode == 2
    assert second.stderr.startswith(f"error: {tmp_path}/state/embedded-1 is in use by another cluster: end it, or choose")
    assert len(second.stderr.splitlines()) == 1
    (tmp_path / "state" / "embedded-1" / "objects.log").write_bytes(b"something else")
    other = subprocess.run(command_for(tmp_path), capture_output=True, text=True, timeout=60)
    assert other.returncode == 2
    assert "is no log of this release of raycp" in other.stderr
