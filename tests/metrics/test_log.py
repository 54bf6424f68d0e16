"""Logs are JSON, carry their context, and hold no secret."""

import errno
import io
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from printed_log import printed

from raycp.base.keys import RequestKey
from raycp.base.plaintext import is_harmless
from raycp.base.tasks import Task, change_of
from raycp.metrics.log import FIELDS, LONGEST_TEXT, JsonFormatter, LineHandler, TextFormatter, bind, setup_logging
from raycp.metrics.recorder.log_files import LogFiles
from raycp.metrics.recorder.scrubber import scrub
from raycp.metrics.redaction import REDACTED, redact

JWT = "eyJhbGciOiJSUzI1NiIsImtpZCI6IiJ9.eyJpc3MiOiJrdWJlcm5ldGVzIn0.c2lnbmF0dXJl"


LOGGER = "raycp.test.log"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Raycp's log, of threads and tasks too that other tests have left."""
    made = io.StringIO()
    with printed("debug", made):
        yield made


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    """What this test has logged."""
    return [line for line in map(json.loads, stream.getvalue().splitlines()) if line["logger"] == LOGGER]


def test_a_log_line_has_the_bound_fields(stream: io.StringIO) -> None:
    with bind(cluster="east", controller="echo"):
        logging.getLogger(LOGGER).info("made %s", "pod-1", extra={"attempt": 2})
    logging.getLogger(LOGGER).info("outside")
    first, second = lines(stream)
    assert {k: first[k] for k in ("level", "msg", "cluster", "controller", "attempt")} == {
        "level": "info", "msg": "made pod-1", "cluster": "east", "controller": "echo", "attempt": 2,
    }  # fmt: skip
    assert "cluster" not in second


def test_secrets_are_redacted_from_log_lines(stream: io.StringIO) -> None:
    log = logging.getLogger(LOGGER)
    log.info("sent Authorization: Bearer %s", JWT)
    log.info("user", extra={"user": {"token": "abcdefgh", "name": "ann", "client-key-data": "LS0tLS1"}})
    log.info("https://ann:hunter22@host/path token=s3cr3tvalue")
    try:
        raise RuntimeError(f"login failed with password: hunter22 and {JWT}")
    except RuntimeError:
        log.exception("failed")
    text = stream.getvalue()
    for secret in (JWT, "abcdefgh", "LS0tLS1", "hunter22", "s3cr3tvalue"):
        assert secret not in text
    assert text.count(REDACTED) >= 5
    assert "ann" in text
    assert len(lines(stream)) == 4


def test_redaction_of_private_keys_spares_harmless_words() -> None:
    assert redact("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----") == REDACTED
    assert redact({"tokens_left": 3, "secretName": "db", "tier": "high"}) == {
        "tokens_left": 3,
        "secretName": "db",
        "tier": "high",
    }


@pytest.mark.parametrize(
    "text",
    [
        "DB_PASSWORD=hunter22",
        "MYSQL_ROOT_PASSWORD: hunter22",
        "dbPassword='hunter22'",
        "Server=db;Uid=ann;Pwd=hunter22;",
        "client_secret=hunter22",
        "sessionToken: hunter22",
        "AWS_SECRET_ACCESS_KEY=hunter22",
        "access-key=hunter22",
        "Authorization: hunter22",
        "Cookie: a=b; sid=hunter22",
        '{"password": "a, b; hunter22"}',
        r'{\"password\":\"hunter22\"}',
        "redis://:hunter22@db:6379/0",
        "postgres://ann:p@hunter22@db/x",
        "https://hunter22@github.com/x",
    ],
)
def test_a_secret_is_told_by_any_name_that_ends_in_a_word_for_it(text: str) -> None:
    assert "hunter22" not in redact(f"could not connect: {text}")
    assert "hunter22" not in scrub(f"could not connect: {text}")


def test_a_field_is_a_secret_by_any_name_that_ends_in_a_word_for_it() -> None:
    names = ("dbPassword", "clientSecret", "access_key", "sessionToken", "pwd", "client-key-data", "proxyAuthorization")
    assert set(redact(dict.fromkeys(names, "hunter22")).values()) == {REDACTED}


def test_what_a_quoted_secret_leaves_open_ends_with_its_line() -> None:
    assert redact("bad token: 'hunter22\n  File \"x.py\", line 1") == f"bad token: '{REDACTED}\n  File \"x.py\", line 1"


@pytest.mark.parametrize(
    "part", ["a", "deadbeef0", "eyJ-", "eyJ12345678.", "password", "token=", "token='", "://a", "cookie: ", "-----BEGIN "]
)
def test_a_long_line_is_redacted_in_time_that_grows_with_its_length(part: str) -> None:
    """A pattern that begins anew at each character would take minutes, and the test's deadline is the proof."""
    redact(part * (600_000 // len(part)))


class Stubborn:
    def __repr__(self) -> str:
        raise ValueError("no")


class Unprintable(Exception):
    def __getattribute__(self, name: str) -> Any:
        if name == "__notes__":
            raise RuntimeError(name)
        return super().__getattribute__(name)

    def __str__(self) -> str:
        raise RuntimeError("no")


def deep_error(depth: int) -> Exception:
    error: Exception | None = None
    for number in range(depth):
        cause, error = error, ValueError(f"number {number}")
        error.__cause__ = cause
    assert error is not None
    return error


@pytest.mark.parametrize(
    ("message", "arguments", "extra", "error"),
    [
        ("%s and %s", ("one",), {}, None),
        ("%d", ("one",), {}, None),
        ("m", (), {"o": Stubborn()}, None),
        ("%s", (Stubborn(),), {}, None),
        ("m", (), {}, Unprintable()),
        ("x" * 5_000_000, (), {}, None),
        ("\u2028" * 50_000, (), {"more": "\u202e" * 50_000}, None),
        ("\U0001f600" * 50_000, (), {"a": "\U0001f600" * 50_000, "b": "\U0001f600" * 50_000}, None),
        ("m", (), {f"field{number}": "v" * 9000 for number in range(20)}, None),
        ("m", (), {"deep": {f"field{number}": "v" * 100 for number in range(5000)}}, None),
        ("m", (), {"name": ["v" * 100] * 5000}, None),
        ("m", (), {"error": b"x" * 500_000}, None),
        ("m", (), {}, deep_error(900)),
        ("m", (), {}, ValueError("a line\n" * 500_000)),
        ("m", (), {}, ValueError("\x1b" * 500_000)),
    ],
)
def test_whatever_its_author_puts_into_it_a_record_is_a_line_that_is_kept(
    message: str, arguments: tuple[Any, ...], extra: dict[str, Any], error: Exception | None, tmp_path: Path
) -> None:
    record = logging.LogRecord(LOGGER, logging.ERROR, "", 0, message, arguments, (type(error), error, None) if error else None)
    record.__dict__.update({FIELDS: extra, "controller": "website"})
    shown = JsonFormatter().format(record)
    found = json.loads(shown)
    assert (found["level"], found["controller"]) == ("error", "website")
    assert found["msg"]
    if error is not None:
        assert found["traceback"].rpartition("\n")[2].startswith(type(error).__name__)
    files = LogFiles(tmp_path, "process")
    files.add(shown)
    assert files.flush(), "it is not too long for raycp logs"
    assert "\n" not in TextFormatter().format(logging.LogRecord(LOGGER, logging.ERROR, "", 0, message, arguments, None))


def test_what_can_not_be_printed_is_kept_for_raycp_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, "no space left on device")

    kept: list[str] = []
    monkeypatch.setattr(logging, "raiseExceptions", False)
    handler = LineHandler(Full(), logging.INFO, {})
    handler.also = kept.append
    handler.handle(logging.LogRecord(LOGGER, logging.ERROR, "", 0, "failed", (), None))
    assert json.loads(kept[0])["msg"] == "failed"


def test_what_is_cut_off_is_said_and_cuts_no_secret_in_half() -> None:
    text = "x" * (LONGEST_TEXT - 13) + " password=hunter22abcdef and more"
    record = logging.LogRecord(LOGGER, logging.INFO, "", 0, text, (), None)
    found = json.loads(JsonFormatter().format(record))["msg"]
    assert "hunt" not in found
    assert found.endswith(" characters more)")


def test_an_unknown_log_level_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown log level"):
        setup_logging("loud")


@given(st.text(max_size=60), st.text(max_size=20))
def test_no_log_line_commands_a_terminal_or_passes_for_another(text: str, field: str) -> None:
    """Whatever others have written: a line of JSON that says it, or one line of text."""
    record = logging.LogRecord(LOGGER, logging.WARNING, "", 0, "cluster east: %s", (text,), None)
    record.cluster = field
    shown = JsonFormatter().format(record)
    assert is_harmless(shown)
    assert "\n" not in shown
    wanted = redact(f"cluster east: {text}").encode("utf-8", "surrogatepass")
    assert json.loads(shown)["msg"].encode("utf-8", "surrogatepass") == wanted
    shown = TextFormatter().format(record)
    assert is_harmless(shown)
    assert "\n" not in shown


def test_a_traceback_commands_no_terminal() -> None:
    try:
        raise RuntimeError("\x1b]0;owned\x07 \x9b2J \u202e")
    except RuntimeError:
        record = logging.LogRecord(LOGGER, logging.ERROR, "", 0, "failed", (), sys.exc_info())
    for formatter in (JsonFormatter(), TextFormatter()):
        shown = formatter.format(record)
        assert is_harmless(shown)
        assert "owned" in shown


@pytest.mark.parametrize(
    ("raw", "change"),
    [
        (b'{"metadata":{"resourceVersion":"48213"}}', "east@48213"),
        (None, ""),
        (b'{"metadata":{}}', ""),
        (b"{", ""),
        (b'{"metadata":{"resourceVersion":"\xff"}}', ""),
        (b'{"metadata":{"resourceVersion":"1\\r\\nX-Raycp-Epoch: 9"}}', ""),
        (b'{"metadata":{"resourceVersion":7}}', ""),
    ],
)
def test_the_id_of_a_change_is_a_word_whatever_a_server_sent(raw: bytes | None, change: str) -> None:
    """It goes into a header of each write."""
    assert change_of(Task(1, RequestKey("c", "east", "d", "a"), "high", "update", 1, 1, "0", 1, 1, 0.0, raw)) == change
