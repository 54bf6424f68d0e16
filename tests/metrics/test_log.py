"""Logs are JSON, carry their context, and hold no secret."""

import io
import json
import logging

import pytest

from raycp.metrics.log import REDACTED, bind, redact, setup_logging

JWT = "eyJhbGciOiJSUzI1NiIsImtpZCI6IiJ9.eyJpc3MiOiJrdWJlcm5ldGVzIn0.c2lnbmF0dXJl"


@pytest.fixture
def lines() -> io.StringIO:
    stream = io.StringIO()
    setup_logging("debug", stream=stream)
    return stream


def test_a_log_line_has_the_bound_fields(lines: io.StringIO) -> None:
    with bind(cluster="east", controller="echo"):
        logging.getLogger("raycp.test").info("made %s", "pod-1", extra={"attempt": 2})
    logging.getLogger("raycp.test").info("outside")
    first, second = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert {k: first[k] for k in ("level", "msg", "cluster", "controller", "attempt")} == {
        "level": "info", "msg": "made pod-1", "cluster": "east", "controller": "echo", "attempt": 2,
    }  # fmt: skip
    assert "cluster" not in second


def test_secrets_are_redacted_from_log_lines(lines: io.StringIO) -> None:
    log = logging.getLogger("raycp.test")
    log.info("sent Authorization: Bearer %s", JWT)
    log.info("user", extra={"user": {"token": "abcdefgh", "name": "ann", "client-key-data": "LS0tLS1"}})
    log.info("https://ann:hunter22@host/path token=s3cr3tvalue")
    try:
        raise RuntimeError(f"login failed with password: hunter22 and {JWT}")
    except RuntimeError:
        log.exception("failed")
    text = lines.getvalue()
    for secret in (JWT, "abcdefgh", "LS0tLS1", "hunter22", "s3cr3tvalue"):
        assert secret not in text
    assert text.count(REDACTED) >= 5
    assert "ann" in text
    assert all(json.loads(line) for line in text.splitlines())


def test_redaction_of_private_keys_spares_harmless_words() -> None:
    assert redact("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----") == REDACTED
    assert redact({"tokens_left": 3, "secretName": "db", "tier": "high"}) == {
        "tokens_left": 3,
        "secretName": "db",
        "tier": "high",
    }


def test_an_unknown_log_level_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown log level"):
        setup_logging("loud")
