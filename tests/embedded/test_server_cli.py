"""``raycp embedded`` as a process: serving clusters, kubeconfigs with owner-only permissions, an orderly shutdown."""

import asyncio
import json
import signal
import socket
import ssl
import subprocess
import sys
import urllib.request
from base64 import b64decode
from pathlib import Path

import pytest

from raycp.cli.main import main
from raycp.config.embedded import EmbeddedControllers, EmbeddedSpec
from raycp.embedded.standalone import serve


def test_two_clusters_of_one_process(tmp_path: Path) -> None:
    code = "import sys; from raycp.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "embedded", "--clusters", "2", "--dir", str(tmp_path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL)
    ) as process:
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline().split() for _ in range(2)]
            assert [line[0] for line in lines] == ["embedded-1", "embedded-2"]
            assert lines[0][1] != lines[1][1]
            for _, server, path in lines:
                assert Path(path).stat().st_mode & 0o777 == 0o600
                config = json.loads(Path(path).read_text())
                cluster, token = config["clusters"][0]["cluster"], config["users"][0]["user"]["token"]
                assert cluster["server"] == server
                tls = ssl.create_default_context(cadata=b64decode(cluster["certificate-authority-data"]).decode())
                asked = urllib.request.Request(f"{server}/api/v1/namespaces", headers={"Authorization": f"Bearer {token}"})
                with urllib.request.urlopen(asked, context=tls, timeout=10) as answer:
                    names = [item["metadata"]["name"] for item in json.load(answer)["items"]]
                assert names == ["default", "kube-node-lease", "kube-public", "kube-system"]
            process.send_signal(signal.SIGHUP)
            assert process.wait(10) == 0
            assert list(tmp_path.iterdir()) == [], "an administrator's token"
        finally:
            process.kill()


def test_ports_that_can_not_be_had_are_said_before_anything_is_started(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["embedded", "--clusters", "2", "--port", str(port - 1), "--dir", str(tmp_path)]) == 2
        told = capsys.readouterr().err
    assert f"--port: {port}, that of embedded-2, is taken on 127.0.0.1" in told or f"--port: {port - 1}, that of embedded-1" in told
    assert main(["embedded", "--clusters", "2", "--port", "65535", "--dir", str(tmp_path)]) == 2
    assert "they end at 65535" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


async def test_kubeconfigs_of_kept_clusters_are_kept_and_those_of_a_failed_start_are_not(tmp_path: Path) -> None:
    kept = [("one", EmbeddedSpec(controllers=EmbeddedControllers.none(), data_dir=tmp_path / "state"))]
    until = asyncio.Event()
    await serve(kept * 2, tmp_path / "kept", announce=lambda _: until.set(), until=until)  # asked to end before the second
    assert [each.name for each in (tmp_path / "kept").iterdir()] == ["one.kubeconfig"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        specs = [EmbeddedSpec(controllers=EmbeddedControllers.none(), port=port) for port in (0, taken.getsockname()[1])]
        with pytest.raises(OSError, match="in use"):
            await serve([("one", specs[0]), ("two", specs[1])], tmp_path / "failed", announce=lambda _: None, until=asyncio.Event())
    assert list((tmp_path / "failed").iterdir()) == []
