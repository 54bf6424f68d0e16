"""What reaches a terminal and what reaches a pipe: tables, live views, progress; text from outside does no harm in either."""

import ast
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raycp.base.plaintext import grid_text, harmless
from raycp.cli.console import progress, watch
from raycp.cli.errors import CliError, report
from raycp.cli.output import Column, Page, document, render
from raycp.cli.printer import without_colours

CLI = Path(__file__).parents[2] / "raycp" / "cli"
NASTY = "[red]\x1b[31mgone\x9b2J\u202e\r\nnext[/red]"
SHOWN = "[red]\\u001b[31mgone\\u009b2J\\u202e\\u000d\\nnext[/red]"
DEADLINE = 60.0


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, *command: str, **env: str) -> None:
        self.screen = ""
        self._master, slave = pty.openpty()
        clean = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TERM", "COLUMNS")}
        env = clean | {"TERM": "xterm", "COLUMNS": "200"} | env
        self.process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=env, preexec_fn=_interruptible)
        os.close(slave)

    def until(self, text: str) -> None:
        """Read until the command has written ``text``."""
        end = time.monotonic() + DEADLINE
        while text not in self.screen:
            assert self._read(end), f"{text!r} is not in {self.screen[-2000:]!r}"

    def result(self) -> int:
        """Read to the end; the exit code."""
        end = time.monotonic() + DEADLINE
        while self._read(end):
            pass
        os.close(self._master)
        return self.process.wait(DEADLINE)

    def _read(self, end: float) -> bool:
        if not select.select([self._master], [], [], max(0.0, end - time.monotonic()))[0]:
            self.process.kill()
            raise AssertionError(f"nothing more within {DEADLINE} s: {self.screen[-2000:]!r}")
        try:
            piece = os.read(self._master, 65536)
        except OSError:  # its other end is closed
            return False
        self.screen += piece.decode(errors="replace")
        return bool(piece)


def _interruptible() -> None:
    """Where the tests run in the background of a script, SIGINT is ignored, by their children too."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def raycp(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "raycp.cli.main", *arguments]


@pytest.mark.parametrize(
    ("env", "colours"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)], ids=["xterm", "NO_COLOR", "dumb"]
)
def test_a_terminal_gets_colours_unless_it_wants_none(env: dict[str, str], colours: bool) -> None:
    terminal = Terminal(*raycp("version"), **env)
    assert terminal.result() == 0
    assert ("\x1b[" in terminal.screen) is colours
    assert "msgspec" in terminal.screen


def test_a_pipe_gets_what_a_terminal_without_colours_gets() -> None:
    terminal = Terminal(*raycp("version"), NO_COLOR="1")
    assert terminal.result() == 0
    piped = subprocess.run(raycp("version"), capture_output=True, text=True, timeout=DEADLINE, check=True).stdout
    assert terminal.screen.replace("\r\n", "\n") == piped
    assert re.match(r"NAME +VERSION\nraycp +\d", piped)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(st.lists(st.text(max_size=20), min_size=2, max_size=2), max_size=5))
def test_plain_tables_keep_their_columns_and_hold_no_control_characters(rows: list[list[str]]) -> None:
    lines = grid_text(["A", "B"], [[f"<{cell}>" for cell in row] for row in rows]).split("\n")
    assert len(lines) == 1 + len(rows)
    for line, row in zip(lines[1:], rows, strict=True):
        assert not re.search(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", line)
        first, second = (harmless(f"<{cell}>").replace("\n", "\\n").replace("\t", "\\t") for cell in row)
        assert line.startswith(first)
        assert line.endswith(second.rstrip())


def test_columns_are_aligned_by_what_a_terminal_shows() -> None:
    assert grid_text(["NAME", "N"], [["東京", "1"], ["ab", "20"]], {1}).splitlines() == ["NAME    N", "東京    1", "ab     20"]


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.dictionaries(st.text(max_size=20), st.text(max_size=20) | st.integers() | st.none()))
def test_json_and_yaml_stay_what_they_are(content: dict[str, Any]) -> None:
    assert json.loads(str(document(content, "json"))) == content
    readable = json.loads(json.dumps(content))
    if not re.search("[\ud800-\udfff]", str(document(content, "json")) + repr(readable)):
        assert yaml.safe_load(str(document(content, "yaml"))) == readable


def test_text_from_outside_is_shown_and_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    page = render([{"reason": NASTY}], [Column("REASON", "reason")], "table")
    assert str(page).splitlines() == ["REASON", SHOWN]
    assert report(CliError(f"the hub answered {NASTY}")) == 1
    assert "\x1b" not in (err := capsys.readouterr().err)
    assert "\\u001b[31mgone" in err


def test_text_from_outside_is_no_markup_on_a_terminal_either() -> None:
    code = (
        "from raycp.cli.console import progress, put; from raycp.cli.output import Column, Page, render\n"
        f"nasty = {NASTY!r}\n"
        "page = Page('head ' + nasty); page.add(render([{'r': nasty}], [Column('R', 'r')], 'table')); put(page)\n"
        "with progress('work', 3) as report: report(nasty, 1)\n"
    )
    terminal = Terminal(sys.executable, "-c", code)
    assert terminal.result() == 0
    assert terminal.screen.count("[red]\\u001b[31mgone\\u009b2J\\u202e") == 3
    assert "\x1b[31mgone" not in terminal.screen
    assert "\u202e" not in terminal.screen


class Observer:
    """Serves an overview, or fails."""

    def __init__(self) -> None:
        self.reasons = ["starting"]
        self.fails = False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps({"status": {"fleet": "t", "reasons": outer.reasons}}).encode()
                self.send_response(500 if outer.fails else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def observer() -> Iterator[Observer]:
    made = Observer()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


def test_a_live_view_follows_outlives_errors_and_ends_with_ctrl_c(observer: Observer) -> None:
    terminal = Terminal(*raycp("top", "--every", "0.1", "--url", observer.url))
    terminal.until("starting")
    observer.reasons = [NASTY]
    terminal.until("[red]\\u001b[31mgone")
    observer.fails = True
    terminal.until("trying again")
    observer.fails, observer.reasons = False, ["back"]
    terminal.until("back")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.result() == 130
    assert "\x1b[?1049l" in terminal.screen, "the terminal has its old contents again"


def test_a_view_that_never_worked_is_an_error(observer: Observer) -> None:
    observer.fails = True
    terminal = Terminal(*raycp("top", "--url", observer.url))
    assert terminal.result() == 1
    assert "answered 500" in terminal.screen
    assert "\x1b[?1049h" not in terminal.screen


def test_a_pipe_gets_a_live_view_once(observer: Observer) -> None:
    done = subprocess.run(raycp("top", "--url", observer.url), capture_output=True, text=True, timeout=DEADLINE, check=True)
    assert done.stdout == "fleet t (not ready), epoch -, plan -\n  - starting\n"


def test_a_watch_into_a_pipe_prints_page_after_page(capsys: pytest.CaptureFixture[str]) -> None:
    pages = iter([Page("one"), CliError("no answer"), Page("two")])

    def draw() -> Page:
        found = next(pages, None)
        if found is None:
            raise KeyboardInterrupt
        if isinstance(found, CliError):
            raise found
        return found

    with pytest.raises(KeyboardInterrupt):
        watch(draw, 0.0)
    assert capsys.readouterr().out == "one\n\nno answer; trying again\n\ntwo\n\n"


def test_progress_into_a_pipe_is_a_line_per_change(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("waiting") as notify:
        for state in ("a", "a", "", "b"):
            notify(state, 0)
    assert capsys.readouterr().out == "  a\n  b\n"


def test_a_log_loses_its_colours() -> None:
    assert without_colours("\x1b[36m(actor pid=1)\x1b[0m up\x1b[2J") == "(actor pid=1) up\x1b[2J"


def test_warnings_of_modules_are_harmless_too() -> None:
    code = (
        "from raycp.cli.main import main; main(['version'])\n"
        "import logging; logging.getLogger('raycp.x').warning('answered %s', '\\x1b[2J')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLINE, check=True)
    assert done.stderr == "answered \\u001b[2J\n"


def test_only_the_printer_prints() -> None:
    """Escaping happens in one place because there is one place."""
    found = [
        f"{file.name}:{node.lineno}"
        for file in sorted(CLI.glob("*.py"))
        for node in ast.walk(ast.parse(file.read_text()))
        if (isinstance(node, ast.Name) and node.id == "print")
        or (isinstance(node, ast.Attribute) and ast.unparse(node) in ("sys.stdout.write", "sys.stderr.write", "print_exception"))
    ]
    assert [each.split(":")[0] for each in found] == ["printer.py"], "use say, put or watch (raycp/cli/console.py)"


def test_only_a_view_imports_rich() -> None:
    code = (
        "import sys; from raycp.cli.main import main; main(['--help']); main(['status', '--help'])\n"
        "sys.exit(', '.join(each for each in sys.modules if each.split('.')[0] == 'rich') or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 0, done.stderr
