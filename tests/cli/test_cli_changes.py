"""``raycp changes``, of an observer that answers."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from raycp.cli.main import main

CHANGES: list[dict[str, Any]] = [
    {"at": 1_795_786_860.0, "kind": "switch", "level": "bad", "subject": "shard 0", "what": "switched", "text": "cause death",
     "cluster": "", "controller": "", "object": "", "section": "leadership", "id": 1, "seq": 1, "count": 1,
     "firstAt": 1_795_786_860.0},
    {"at": 1_795_786_920.0, "kind": "cluster", "level": "bad", "subject": "cluster east", "what": "unreachable",
     "text": "refused \u001b[31m", "cluster": "east", "controller": "", "object": "", "section": "clusters", "id": 2, "seq": 9,
     "count": 7, "firstAt": 1_795_786_870.0},
]  # fmt: skip


class Observer(BaseHTTPRequestHandler):
    changes = CHANGES

    def do_GET(self) -> None:
        body = json.dumps({"changes": self.changes}).encode()
        self.send_response(200 if self.path == "/api/v1/changes" else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Be quiet."""


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Observer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_changes_are_listed_the_newest_last(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["changes", "--url", url]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["2026-11-27", "13:41:00", "switch", "shard", "0", "switched", "-", "cause", "death"]
    assert "cluster east" in lines[2]
    assert " 7 " in lines[2]
    assert "refused \\u001b[31m" in lines[2]


def test_the_last_of_them_as_json(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["changes", "--url", url, "-n", "1", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == CHANGES[1:]
    assert main(["changes", "--url", url, "-n", "0"]) == 2
    assert "0 is less than 1" in capsys.readouterr().err


def test_nothing_has_changed(url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Observer, "changes", [])
    assert main(["changes", "--url", url]) == 0
    assert capsys.readouterr().out == "nothing has changed since an observer began to look\n"


def test_an_observer_that_is_older_is_said(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["changes", "--url", f"{url}/old"]) == 1
    assert "does not serve /api/v1/changes" in capsys.readouterr().err
