"""``raycp queues`` and ``raycp explain job``, of an observer that answers."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from raycp.cli.main import main

USAGE = {"flavor": "default", "resource": "cpu", "nominal": "400", "used": "410", "borrowed": "10"}
QUEUES = [
    {"name": "research", "cohort": "company", "pending": 3, "admitted": 5, "share": 0.25, "namespaces": ["a"], "problem": "",
     "usage": [USAGE], "head": {"job": "a/train", "reason": "NoRoom", "message": "needs room for 64 Pods"}},
    {"name": "held", "cohort": "", "pending": 1, "admitted": 0, "share": 0.0, "namespaces": [], "usage": [],
     "problem": "it is held (stopPolicy)"},
]  # fmt: skip
JOB = {
    "namespace": "a", "name": "train", "state": "Pending", "queue": "research", "position": 2, "pending": 3, "reservedFrom": None,
    "waitsFor": {"reason": "NoRoom", "message": "needs room for 64 Pods"},
    "clusters": [{"name": "east", "fits": True, "count": 24, "reason": "Chosen", "message": "gets 24", "score": 0.61}],
}  # fmt: skip


RUNS = JOB | {"state": "Admitted", "position": 0, "waitsFor": {"reason": "", "message": "Pods by cluster: east: 24"}}
HEAD = JOB | {"reservedFrom": 1_700_000_000.0}


class Observer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        jobs = {f"/api/v1/explain/a/{name}": found for name, found in (("train", JOB), ("runs", RUNS), ("head", HEAD))}
        found: Any = {"/api/v1/queues": {"queues": QUEUES}, **jobs}.get(self.path)
        body = json.dumps(found if found is not None else {"error": "no"}).encode()
        self.send_response(200 if found is not None else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Be quiet."""


@pytest.fixture
def url() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Observer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_queues_are_listed_with_what_is_borrowed(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["queues", "--url", url]) == 0
    shown = capsys.readouterr().out
    assert "cpu 410/400 (+10)" in shown
    assert "it is held (stopPolicy)" in shown
    assert main(["queues", "--url", url, "-o", "wide"]) == 0
    assert "a/train: needs room for 64 Pods" in capsys.readouterr().out
    assert main(["queues", "--url", url, "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == QUEUES


def test_a_job_is_explained(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "job", "train", "-n", "a", "--url", url]) == 0
    shown = capsys.readouterr().out
    assert "position  2 of 3" in shown
    assert "NoRoom: needs room for 64 Pods" in shown
    assert "gets 24" in shown
    assert main(["explain", "job", "train", "-n", "a", "--url", url, "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == JOB


def test_it_is_told_where_a_job_runs_and_from_when_on_room_is_kept_for_one(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "job", "runs", "-n", "a", "--url", url]) == 0
    assert "message   Pods by cluster: east: 24\n" in capsys.readouterr().out
    assert main(["explain", "job", "head", "-n", "a", "--url", url]) == 0
    assert "reserved  room and quota, from 2023-11-14 22:13:20 UTC at the latest\n" in capsys.readouterr().out


def test_an_unknown_job_is_an_error_with_a_remedy(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "job", "nobody", "-n", "a", "--url", url]) == 1
    assert "knows no job a/nobody" in capsys.readouterr().err
