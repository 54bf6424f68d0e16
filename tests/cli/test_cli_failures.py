"""``raycp errors``, and what ``raycp run`` says of failing objects."""

import argparse
import contextlib
import http.server
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from raycp.cli import failure_watch
from raycp.cli import main as cli
from raycp.cli.errors import CliError
from raycp.cli.failure_notices import AGAIN_EVERY, AT_ONCE, FailureNotices
from raycp.cli.failure_watch import FailureWatch
from raycp.cli.observer import located
from raycp.driver.fleet_client import NoFleet

Captured = pytest.CaptureFixture[str]


def row(name: str = "a", attempts: int = 1, **fields: Any) -> dict[str, Any]:
    found = {
        "cluster": "east",
        "object": f"east/v1/ConfigMap/default/{name}",
        "controller": "website",
        "cause": "TypeError: no",
        "frame": "website.py:40",
        "attempts": attempts,
        "nextTry": None,
        "since": 1.8e9,
    }
    return found | fields


class Observer(http.server.BaseHTTPRequestHandler):
    """Answers with ``answer``."""

    answer: dict[str, Any] = {}

    def do_GET(self) -> None:
        known = self.path == "/api/v1/errors"
        self.send_response(200 if known else 404)
        self.end_headers()
        self.wfile.write(json.dumps(self.answer if known else {}).encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def observer() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Observer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_errors_lists_what_fails(observer: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Observer, "answer", {"items": [row(), row("b", 3, cause="no\x1b[2J")], "failing": 400})
    assert cli.main(["errors", "--url", observer]) == 0
    out = capsys.readouterr().out
    assert "TypeError: no" in out
    assert "website.py:40" in out
    assert "when it changes" in out
    assert "398 more objects fail like these" in out
    assert "\x1b" not in out
    assert cli.main(["errors", "--url", observer, "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["items"][0] == row()


JSON = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        "SSH-2.0-OpenSSH_9.6\r\n",
        f"{JSON}Content-Length: 100\r\n\r\n{{",
        f"{JSON}Content-Length: 2\r\n\r\n[]",
        f"{JSON}Content-Length: 2\r\n\r\n{{}}",
        f"{JSON}Content-Length: 200000\r\n\r\n{'[' * 200_000}",
        f"HTTP/1.1 200 OK\r\n{'X: y' * 200}",
        "HTTP/1.1 200 OK\r\n" + "X: y\r\n" * 200 + "\r\n",
    ],
    ids=["another protocol", "broken off", "a list", "nothing", "nested", "half a header", "many headers"],
)
def test_an_answer_that_is_none_of_an_observers_is_an_error_that_says_so(answer: str, capsys: Captured) -> None:
    """``-w`` shows it and goes on; anything but a ``CliError`` would end it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        connection.recv(4096)
                        connection.sendall(answer.encode())

        threading.Thread(target=serve, daemon=True).start()
        for command in (["errors"], ["changes"], ["slo"], ["top", "--once"], ["why", "east/v1/ConfigMap/default/a"]):
            assert cli.main([*command, "--url", url]) == 1
            told = capsys.readouterr().err
            assert "--url" in told
            assert "bug" not in told
            assert len(told.splitlines()) == 1
        server.shutdown(socket.SHUT_RDWR)


def test_who_watches_finds_an_observer_that_was_replaced_on_another_node(monkeypatch: pytest.MonkeyPatch) -> None:
    places = ["http://first", "http://second"]
    monkeypatch.setattr("raycp.cli.observer.observer_url", lambda args: places.pop(0))

    def ask(url: str) -> dict[str, Any]:
        if url == "http://first" and len(asked) > 1:
            raise CliError("gone")
        return {"at": url}

    asked = list[str]()
    found = located(argparse.Namespace(), ask)
    for wanted in ("http://first", "http://first", "", "http://second", "http://second"):
        if wanted:
            assert found()["at"] == wanted
        else:
            with pytest.raises(CliError, match="gone"):
                found()
        asked.append(wanted)


def test_errors_says_that_nothing_fails(observer: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Observer, "answer", {"items": [], "failing": 0})
    assert cli.main(["errors", "--url", observer]) == 0
    assert "no object fails" in capsys.readouterr().out


def test_an_error_is_told_once_and_then_counted() -> None:
    notices = FailureNotices()
    assert notices.lines([row()], 0.0) == ["error: controller website: TypeError: no (website.py:40): east/v1/ConfigMap/default/a"]
    assert notices.lines([row(attempts=2)], 1.0) == []
    later = [row(attempts=9), row("b", attempts=3)]
    assert notices.lines(later, AGAIN_EVERY) == ["error: controller website: TypeError: no (website.py:40): 12 times, 2 objects"]
    assert notices.lines(later, 3 * AGAIN_EVERY) == [], "nothing new"
    other = row(frame="website.py:51", cause="KeyError: 'x'\nforged")
    assert notices.lines([other], 3 * AGAIN_EVERY) == [
        "error: controller website: KeyError: 'x'\\nforged (website.py:51): east/v1/ConfigMap/default/a"
    ]


def test_an_error_that_passed_and_comes_back_is_told_again_though_it_failed_as_often() -> None:
    """As one that the controller gives up at once (``Permanent``): it never fails twice."""
    notices = FailureNotices()
    gave_up = row(attempts=1, nextTry=None, since=1000.0)
    assert len(notices.lines([gave_up], 0.0)) == 1
    assert notices.lines([], 5.0) == []
    assert notices.lines([gave_up], 2 * AGAIN_EVERY) == [], "the observer was away, and the object fails as it did"
    for again in ({**gave_up, "since": 2000.0}, row("b", attempts=1, nextTry=None, since=3000.0)):
        now = again["since"]
        assert len(notices.lines([again], now)) == 1
        assert notices.lines([again], now + AGAIN_EVERY) == []


def test_who_reads_of_many_objects_learns_that_there_are_more_than_are_listed() -> None:
    listed = [row(), row("b")]
    assert FailureNotices().lines(listed, 0.0, 400)[0].endswith(": 2 objects or more")
    assert FailureNotices().lines(listed, 0.0, 2)[0].endswith(": 2 objects")


def test_many_errors_at_once_are_told_in_part_and_the_rest_later() -> None:
    notices = FailureNotices()
    many = [row(frame=f"website.py:{number}") for number in range(AT_ONCE + 5)]
    first = notices.lines(many, 0.0)
    assert len(first) == AT_ONCE + 1
    assert first[-1] == "error: 5 further errors; `raycp errors` lists them"
    assert len(notices.lines(many, 1.0)) == 5


def test_run_goes_on_telling_whatever_was_answered_at_the_observers_port(
    observer: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failure_watch, "EVERY", 0.01)
    monkeypatch.setattr(failure_watch, "FIND_EVERY", 0.01)
    monkeypatch.setattr(Observer, "answer", {"nothing": "known"})
    told = threading.Event()
    monkeypatch.setattr(failure_watch, "say", lambda text, *, error: told.set() if "website.py:40" in text and error else None)
    looked = threading.Event()

    def find() -> str:
        if looked.is_set():
            Observer.answer = {"items": [row()], "failing": 1}
        looked.set()
        raise ValueError("no plan can be read")

    with FailureWatch(observer, find):
        assert told.wait(10.0)


def test_run_tells_what_fails_and_finds_an_observer_that_was_replaced(
    observer: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failure_watch, "EVERY", 0.01)
    monkeypatch.setattr(failure_watch, "FIND_EVERY", 0.01)
    monkeypatch.setattr(Observer, "answer", {"items": [row()], "failing": 1})
    told = threading.Event()
    monkeypatch.setattr(failure_watch, "say", lambda text, *, error: told.set() if "website.py:40" in text and error else None)
    with FailureWatch("http://127.0.0.1:1", lambda: observer):
        assert told.wait(10.0)


def test_run_says_once_that_it_can_not_show_what_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failure_watch, "EVERY", 0.01)
    monkeypatch.setattr(failure_watch, "FIND_EVERY", 0.01)
    said, looks = list[str](), list[str]()
    often = threading.Event()
    monkeypatch.setattr(failure_watch, "say", lambda text, *, error: said.append(text))

    def find() -> str:
        looks.append("")
        if len(looks) > 3 * failure_watch.SAID_AFTER:
            often.set()
        return ""

    with FailureWatch("http://127.0.0.1:1", find):
        assert often.wait(10.0)
    assert len(said) == 1
    assert said[0].startswith("note: what fails can't be shown here: the observer at http://127.0.0.1:1 does not answer")


def test_run_says_once_that_its_fleet_was_taken_down_by_another_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failure_watch, "EVERY", 0.01)
    monkeypatch.setattr(failure_watch, "FIND_EVERY", 0.01)
    said, looks = list[str](), list[str]()
    often = threading.Event()
    monkeypatch.setattr(failure_watch, "say", lambda text, *, error: said.append(text))

    def find() -> str:
        looks.append("")
        if len(looks) > 3 * failure_watch.SAID_AFTER:
            often.set()
        raise CliError("no fleet runs") from NoFleet("no fleet runs")

    with FailureWatch("http://127.0.0.1:1", find):
        assert often.wait(10.0)
    assert len(said) == 1
    assert said[0].startswith("note: the fleet was taken down by another command")


PROBLEM = {
    "code": "KindFailed",
    "owner": {"cluster": "east", "kind": "example.com/v1beta9/Website"},
    "message": "not served\x1b[2J",
    "since": 1.8e9,
}


def test_errors_shows_what_is_wrong_beyond_single_objects(
    observer: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Observer, "answer", {"items": [], "failing": 0, "problems": [PROBLEM]})
    assert cli.main(["errors", "--url", observer]) == 0
    out = capsys.readouterr().out
    assert "no object fails" in out
    assert "KindFailed" in out
    assert "example.com/v1beta9/Website" in out
    assert "\x1b" not in out


def test_a_problem_is_told_once_while_it_stands_and_not_for_a_moment() -> None:
    notices = FailureNotices()
    other = {**PROBLEM, "code": "ClusterNotSynced"}
    looks = ([PROBLEM, other], [PROBLEM], [{**PROBLEM, "message": "still"}], [], [PROBLEM], [PROBLEM])
    told = [notices.problems(rows) for rows in looks]
    assert [len(lines) for lines in told] == [0, 1, 0, 0, 0, 1]
    assert told[1] == [
        r"problem: KindFailed (cluster east, kind example.com/v1beta9/Website): not served\u001b[2J; see docs/runbook.md#kindfailed"
    ]
