"""Nothing that a text of others says about a secret enters a record."""

import string
import traceback
from collections.abc import Callable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from raycp.metrics.recorder.scrubber import LONGEST, scrub, scrub_traceback, scrubbed
from raycp.metrics.redaction import redact

MIXED = st.text(string.ascii_letters + string.digits, min_size=20, max_size=60).filter(
    lambda text: any(c.islower() for c in text) and any(c.isupper() for c in text) and any(c.isdigit() for c in text)
)
VALUES = st.text(string.ascii_letters + string.digits + "!$%&/()*#+-_.:,;<>| ", min_size=4, max_size=40).filter(
    lambda text: text.strip() == text and any(c.isdigit() for c in text)
)
TOKENS = (
    "401 Unauthorized: {}",
    "GET https://api.example/x?y={} failed",
    "kubelet said {} and closed",
    "{}",
)
"""A token alone, wherever it is."""

QUOTED = (
    'Secret "db" in "default": password is \'{}\'',
    'admission webhook denied: secrets "db" has token "{}"',
    "KeyError in credentials: `{}`",
    "{{'kind': 'Secret', 'data': {{'p': '{}'}}}}",
    'Secret "db" is invalid: data[p]: Invalid value: "{}": must be short',
    'ConfigMap "db" is invalid: data[p]: Invalid value: "{}": must be short',
    "ValueError: {{'p': '{}'",
    "got b'{}'",
    "ValueError: invalid value: '{}'",
    'the body was {{"data":{{"p":"{}"}}}}',
)
"""A value of any shape, as error texts quote it."""


@given(st.sampled_from(TOKENS), MIXED)
def test_a_token_does_not_get_through(template: str, token: str) -> None:
    assert token not in scrub(template.format(token))


@given(st.sampled_from(QUOTED), VALUES)
def test_a_quoted_value_does_not_get_through(template: str, value: str) -> None:
    assume(value not in template)
    assert value not in scrub(template.format(value))


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("Authorization: Bearer abcdefgh12345", "abcdefgh12345"),
        ("password=hunter22", "hunter22"),
        ("KeyError: 'hunter22'", "hunter22"),
        ("no such token: KeyError: 'hunter'", "hunter'"),
        ("the password was hunter22, twice", "hunter22"),
        ("token: s3cr3t", "s3cr3t"),
        ("https://ann:hunter22@host/x", "hunter22"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nIBAAK\n-----END RSA PRIVATE KEY-----", "MIIEow"),
        ("c3VwZXJzZWNyZXRwYXNzd29yZA== is no number", "c3VwZXJzZWNyZXRwYXNzd29yZA"),
        ("digest 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "9f86d081"),
        ("x" * 10_000 + " tail eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJr.c2lnbmF0dXJl", "c2lnbmF0dXJl"),
    ],
)
def test_known_shapes(text: str, secret: str) -> None:
    assert secret in text
    assert secret not in scrub(text)


@pytest.mark.parametrize(
    "text",
    [
        "ZeroDivisionError: on purpose",
        "KeyError: 'data'",
        "KeyError: 'app.kubernetes.io/name'",
        "TypeError: size() got an unexpected keyword argument 'unit'",
        "connection to https://10.0.0.1:6443 refused",
        'pods "web-5d4f8c7b9-x2x7q" not found',
        "timed out: no result within 60 s",
        "shard 0 has a new primary, of term 3",
        "raycp::worker::standard/0::g12 is dead: 3 of its keys return",
        "field spec.qosTier of batch.raycp.io/v1alpha1/BatchJob",
        "uid 0b0f8a7e-3f6c-4b0e-9d0a-0a1b2c3d4e5f differs",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert scrub(text) == text


@given(st.text(max_size=5000))
def test_any_text_becomes_a_short_line_that_can_be_written(text: str) -> None:
    found = scrub(text)
    assert len(found) <= LONGEST
    assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 for c in found)
    found.encode()


def raised(make: Callable[[], BaseException]) -> str:
    try:
        try:
            raise ValueError("the first cause")
        except ValueError as first:
            raise make() from first
    except BaseException as error:
        return "".join(traceback.format_exception(error))


@pytest.mark.parametrize(
    "make",
    [
        lambda: RuntimeError('remote:\n  File "x.py", line 3\n    password hunter22\n'),
        lambda: RuntimeError('remote:\n  File "x.py", line 3, in f\n    login("hunter22") # token\nKeyError: \'hunter22\''),
        lambda: RuntimeError("one\n\n    password hunter22\n    ^^^^"),
        lambda: ExceptionGroup("g", [ValueError('a\n  File "x", line 1\n    key hunter22'), KeyError("token hunter22")]),
        lambda: SyntaxError("secret hunter22"),
    ],
)
def test_what_a_message_says_of_frames_is_a_message(make: Callable[[], BaseException]) -> None:
    """A text of another process, with a traceback of its own, is quoted in many a message."""
    found = scrub_traceback(raised(make))
    assert "hunter22" not in found
    assert "ValueError: the first cause" in found
    assert found.count("direct cause of the following exception") == 1
    assert "raise make() from first" in found
    assert "test_scrubber.py" in found


def test_half_a_character_is_replaced() -> None:
    assert scrub("file \udce9").isascii()


def test_values_inside_lists_and_maps_are_scrubbed_and_strange_ones_become_text() -> None:
    class Strange:
        def __str__(self) -> str:
            return "password=hunter22"

    found = scrubbed({"a": ["token: s3cr3t", 1, None, 2.5, True], "b": Strange()})
    assert found == {"a": ["token: [redacted]", 1, None, 2.5, True], "b": "password=[redacted]"}


def test_a_long_hostile_text_takes_no_time() -> None:
    """Each pattern is linear: these would take minutes otherwise, and the test's deadline is the proof."""
    for part in ("a1B", "password ", "'", '"\\', "=", "{", "b'", "A" * 50 + "=", "Invalid value: "):
        scrub(part * 4000)


@pytest.mark.parametrize("part", ["a", "a.", "eyJ-", "eyJa.", "-", "- ", " | ", "+-", "'", "token ", "bearer ", "-----BEGIN ", "a://b:"])
def test_a_long_hostile_line_of_a_log_takes_no_time(part: str) -> None:
    """A controller's error may quote an object, of a megabyte and a half, and any of it be a tenant's: see above."""
    text = part * (300_000 // len(part)) + "x"
    redact({"msg": text})
    scrub_traceback(f"Traceback (most recent call last):\nValueError: no\n{text}")


def test_what_a_long_run_hides_is_found_all_the_same() -> None:
    assert redact("a" * 100 + "://user:pa55word@host") == "a" * 100 + "://[redacted]@host"
    token = "eyJ" + "h" * 5_000 + ".eyJpYXQiOjF9.c2lnbmF0dXJl"
    assert redact(f"x-{token} eyJ-eyJabcdefgh {token}") == "x-[redacted] eyJ-eyJabcdefgh [redacted]"


@pytest.mark.parametrize(
    "message", [3_000_000 * "x", 300_000 * "-eyJaaaaaaaa", 100_000 * "- x\n", 2_000 * "-" + "x", 400_000 * "a://"]
)
def test_an_error_of_megabytes_holds_nobody_up(message: str) -> None:
    """An expression that takes quadratic time would hold the interpreter until the watchdog ends the worker."""
    frame = 'Traceback (most recent call last):\n  File "echo.py", line 12, in echo\n    fail()\n'
    shown = scrub_traceback(f"{frame}ValueError: {message}")
    assert shown.startswith(f"{frame}ValueError:")
    assert len(shown) < 1000


def test_a_long_word_costs_no_more_than_its_length() -> None:
    assert redact(3_000_000 * "x" + " ftp://me:hunter22@host").endswith("x ftp://[redacted]@host")


def test_the_password_of_an_address_is_told_by_what_follows_its_scheme() -> None:
    text = "http://me:pw@host 9https://a:b@c git+ssh://u:p@h/db https://host/a:b@c"
    assert redact(text) == "http://[redacted]@host 9https://[redacted]@c git+ssh://[redacted]@h/db https://host/a:b@c"
