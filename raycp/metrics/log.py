"""Structured logs: one JSON object per line, with the fields of the current reconcile, and without secrets.

``bind(cluster=..., controller=...)`` adds fields for the current context: tasks that it starts inherit them, siblings don't.
Redaction works on the values of the finished line, so it also covers exception texts, tracebacks and ``%`` arguments. So does
``harmless``: whoever reads a log in a terminal is not at the command of an API server's error text, or of a name. A message is
one line: it can't begin another that looks like a record of its own.
"""

import contextlib
import contextvars
import json
import logging
import re
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import IO, Any

from raycp.base.plaintext import harmless, one_line

REDACTED = "[redacted]"

_SECRET_KEY = re.compile(
    r"(?i)^(.*[_.-])?(token|id[_-]?token|refresh[_-]?token|bearer|password|passwd|secret|authorization|api[_-]?key|client[_-]?key(_data|-data)?"
    r"|client[_-]?key[_-]?pem|private[_-]?key|cookie)$"
)
_SECRET_TEXT = (
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"), r"\1 " + REDACTED),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*"), REDACTED),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|$)", re.S), REDACTED),
    (re.compile(r"(?i)(\b(?:id-|refresh-|access-|access_|refresh_|id_)?(?:token|password|passwd|secret|api[_-]?key|client-key-data)"
                r"[\"']?\s*[=:]\s*[\"']?)([^\s\"',;&}]{4,})"), r"\1" + REDACTED),
    (re.compile(r"([a-z][a-z0-9+.-]*://)[^/\s:@]+:[^/\s@]+@"), r"\1" + REDACTED + "@"),
)  # fmt: skip

_NO_FIELDS: Mapping[str, Any] = MappingProxyType({})
_bound: contextvars.ContextVar[Mapping[str, Any]] = contextvars.ContextVar("raycp_log_fields", default=_NO_FIELDS)
_STANDARD = frozenset(logging.LogRecord("", 0, "", 0, "", (), None).__dict__) | {"message", "asctime", "taskName"}


@contextlib.contextmanager
def bind(**fields: Any) -> Iterator[None]:
    """Add ``fields`` to every line logged in the block."""
    token = _bound.set({**_bound.get(), **fields})
    try:
        yield
    finally:
        _bound.reset(token)


def redact(value: Any) -> Any:
    """``value`` with secrets replaced: by key name in mappings, by pattern (bearer tokens, JWTs, private keys, URL
    passwords, ``token=...``) in text."""
    if isinstance(value, str):
        for pattern, replacement in _SECRET_TEXT:
            value = pattern.sub(replacement, value)
        return value
    if isinstance(value, Mapping):
        return {str(k): REDACTED if v and _SECRET_KEY.match(str(k)) else redact(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [redact(v) for v in value]
    if isinstance(value, bytes):
        return redact(value.decode("utf-8", "replace"))
    return value


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """The fields of a log record: those bound to the context in which it was made, and its own ``extra``."""
    extra = {k: v for k, v in record.__dict__.items() if k not in _STANDARD}
    return {**_bound.get(), **extra}


class JsonFormatter(logging.Formatter):
    """``{"ts", "level", "logger", "msg", ...fields, "error"}``; ``ts`` is RFC 3339 UTC with milliseconds."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "ts": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": record.getMessage(),
            **fields_of(record),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = "".join(traceback.format_exception(*record.exc_info))
        return harmless(json.dumps(redact(line), default=lambda o: redact(repr(o)), ensure_ascii=False))


class TextFormatter(logging.Formatter):
    """For a person at a terminal: time, level, logger, message, ``key=value`` fields."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%H:%M:%S", time.gmtime(record.created))
        fields = "".join(f" {k}={v}" for k, v in redact(fields_of(record)).items())
        text = f"{stamp}.{int(record.msecs):03d} {record.levelname[0]} {record.name}: {redact(record.getMessage())}"
        text = one_line(text + fields)
        if record.exc_info and record.exc_info[0] is not None:
            text += "\n" + harmless(redact("".join(traceback.format_exception(*record.exc_info)).rstrip()))
        return text


def setup_logging(level: str | int = "info", *, as_json: bool = True, stream: IO[str] | None = None) -> logging.Handler:
    """Send the ``raycp`` loggers to ``stream`` (default stderr). Calling it again replaces the former handler.

    Raises ``ValueError`` for an unknown level.
    """
    number = level if isinstance(level, int) else logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"unknown log level {level!r}: debug, info, warning, error or critical")
    root = logging.getLogger("raycp")
    for old in [h for h in root.handlers if h.get_name() == "raycp"]:
        root.removeHandler(old)
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter())
    handler.set_name("raycp")
    handler.setLevel(number)
    root.addHandler(handler)
    root.setLevel(min(number, logging.WARNING))  # for the flight recorder, whatever is printed
    root.propagate = False
    return handler
