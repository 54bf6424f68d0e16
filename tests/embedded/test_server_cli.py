"""``raycp embedded`` as a process: serving clusters, kubeconfigs with owner-only permissions, an orderly shutdown."""

import json
import signal
import ssl
import subprocess
import sys
import urllib.request
from base64 import b64decode
from pathlib import Path


def test_two_clusters_of_one_process(tmp_path: Path) -> None:
    code = "import sys; from raycp.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "embedded", "--clusters", "2", "--dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
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
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
        finally:
            process.kill()
