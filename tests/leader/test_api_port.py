"""What the port of an embedded cluster's process says about it: running, frozen (SIGSTOP), killed."""

import json
import signal
import subprocess
import sys
from base64 import b64decode
from pathlib import Path

from inprocess import until

from raycp.kube import ConnectSpec
from raycp.leader.api_port import api_server_life
from raycp.protocol.transport import Life


async def test_a_frozen_process_is_not_dead_and_a_killed_one_is(tmp_path: Path) -> None:
    code = "import sys; from raycp.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "embedded", "--dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: ASYNC220
        try:
            assert process.stdout is not None
            assert process.stdout.readline()
            cluster = json.loads((tmp_path / "embedded-1.kubeconfig").read_text())["clusters"][0]["cluster"]
            pem = b64decode(cluster["certificate-authority-data"]).decode()
            connect = ConnectSpec(name="hub", mode="direct", server=cluster["server"], ca_pem=pem)

            async def is_(life: Life) -> bool:
                return await api_server_life(connect, 10.0 if life is Life.ALIVE else 0.5) is life

            assert await is_(Life.ALIVE)
            process.send_signal(signal.SIGSTOP)
            assert await is_(Life.UNKNOWN)
            process.send_signal(signal.SIGCONT)
            await until(lambda: is_(Life.ALIVE))
        finally:
            process.kill()
            process.wait(30)
    assert await is_(Life.DEAD)
