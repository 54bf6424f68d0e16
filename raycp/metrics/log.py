"""Structured logs: one JSON object per line, with the fields of the current reconcile, and without secrets.

Of an exception a line has ``error``, its class and message, and ``traceback``; both are scrubbed as for the flight recorder.

``bind(cluster=..., controller=...)`` adds fields for the current context: tasks that it starts inherit them, siblings don't.
Redaction works on the values of the finished line, so it also covers exception texts, tracebacks and ``%`` arguments. So does
``harmless``: whoever reads a log in a terminal is not at the command of an API server's error text, or of a name. A message is
one line: it can't begin another that looks like a record of its own.
"""

import contextlib
import contextvars
import json
import logging
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import IO, Any

from raycp.base.plaintext import harmless, one_line
from raycp.base.text import message_of
from raycp.metrics.recorder.log_files import LONGEST_LINE
from raycp.metrics.recorder.scrubber import scrub_error, scrub_traceback
from raycp.metrics.redaction import redact

TRACEBACK = "traceback"
"""The field of a line that has a traceback."""

FIELDS = "raycp_fields"
"""In ``extra``: a mapping of further fields, whose names are those of attributes of a record (``name``)."""

LONGEST_TEXT = 8192
"""Characters of a message, or of a field but the traceback, that are kept."""

SHORT_TEXT = 256
"""The same where a line has so many fields that it is too long all the same: then it has those of ``_PLACE`` only."""

_FIRST = ("ts", "level", "logger", "msg", "process", "pid")
_PLACE = (*_FIRST, "controller", "cluster", "namespace", "name", "attempt", "change", "error")
_NO_FIELDS: Mapping[str, Any] = MappingProxyType({})
BOUND: contextvars.ContextVar[Callable[[], Mapping[str, Any]]] = contextvars.ContextVar("raycp_log_fields", default=dict)
"""Makes the fields of the lines that are logged in this context. A reconcile sets it: it is called where a line is logged, and most
reconciles log nothing."""
_STANDARD = frozenset(logging.LogRecord("", 0, "", 0, "", (), None).__dict__) | {"message", "asctime", "taskName"}


@contextlib.contextmanager
def bind(**fields: Any) -> Iterator[None]:
    """Add ``fields`` to every line logged in the block."""
    bound = {**BOUND.get()(), **fields}
    token = BOUND.set(lambda: bound)
    try:
        yield
    finally:
        BOUND.reset(token)


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """The fields of a log record: those bound to the context in which it was made, and its own ``extra``; no empty ones."""
    own = {k: v for k, v in record.__dict__.items() if k not in _STANDARD and k[0] != "_"}  # Ray adds some of its own
    found = {**BOUND.get()(), **own.pop(FIELDS, _NO_FIELDS), **own}
    return {name: value for name, value in found.items() if value is not None and value != ""}


def _shown(record: logging.LogRecord) -> dict[str, Any]:
    """Its fields, and of an exception class and message, and the traceback."""
    fields = fields_of(record)
    if record.exc_info and record.exc_info[1] is not None:
        error = record.exc_info[1]
        fields["error"] = scrub_error(f"{type(error).__name__}: {message_of(error)}")
        fields[TRACEBACK] = traceback_of(error)
    elif record.exc_text:
        fields[TRACEBACK] = record.exc_text
    if TRACEBACK in fields:
        fields[TRACEBACK] = scrub_traceback(str(fields[TRACEBACK]))
    return fields


def traceback_of(error: BaseException) -> str:
    """As Python prints it; of an exception of its author's own making that can't be printed, its frames."""
    try:
        return "".join(traceback.format_exception(error))
    except Exception:
        return "".join(["Traceback (most recent call last):\n", *traceback.format_tb(error.__traceback__), type(error).__name__])


def text_of(record: logging.LogRecord) -> str:
    """Its message, also where its arguments do not fit."""
    try:
        return record.getMessage()
    except Exception as error:
        return f"{record.msg!s} (its arguments can't be filled in: {type(error).__name__})"


def _kept(value: Any, most: int = LONGEST_TEXT) -> Any:
    """``value`` with its texts cut. What is cut off is looked at for secrets some way, so that none is cut in half."""
    if isinstance(value, bytes):
        value = value[: 4 * most].decode("utf-8", "replace")
    if isinstance(value, str):
        cut = len(value) - most
        return value if cut <= 0 else f"{redact(value[: 4 * most])[:most]}... ({cut} characters more)"
    if isinstance(value, Mapping):
        return {name: each if name == TRACEBACK else _kept(each, most) for name, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_kept(each, most) for each in value]
    return value


def _cut(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What a line has that is too long with all of its fields."""
    short = {
        name: _kept(each if isinstance(each, str | int) else _of_another_kind(each), SHORT_TEXT)
        for name, each in fields.items()
        if name in _PLACE
    }
    if TRACEBACK in fields:
        short[TRACEBACK] = str(fields[TRACEBACK])[-LONGEST_TEXT // 2 :]
    return short | {"left_out": len(fields) - len(short)}


def _of_another_kind(value: Any) -> str:
    """What JSON has no form for."""
    try:
        return str(redact(_kept(repr(value))))
    except Exception as error:
        return f"a {type(value).__name__} whose repr raises {type(error).__name__}"


def _as_json(fields: Mapping[str, Any]) -> str:
    return harmless(json.dumps(redact(fields), default=_of_another_kind, ensure_ascii=False))


class JsonFormatter(logging.Formatter):
    """``{"ts", "level", "logger", "msg", ...process, ...fields}``; ``ts`` is RFC 3339 UTC with milliseconds, ``process`` the
    fields that all lines of the process have."""

    def __init__(self, process: Mapping[str, Any] = _NO_FIELDS) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            **_shown(record),
            "ts": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": text_of(record),
            **self._process,
        }
        ordered = {name: line[name] for name in _FIRST if name in line} | line
        text = _as_json(_kept(ordered))
        return text if len(text.encode("utf-8", "replace")) < LONGEST_LINE else _as_json(_cut(ordered))


class TextFormatter(logging.Formatter):
    """For a person at a terminal: time, level, logger, message, ``key=value`` fields."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%H:%M:%S", time.gmtime(record.created))
        shown = redact(_kept(_shown(record)))
        trace = shown.pop(TRACEBACK, "")
        text = f"{stamp}.{int(record.msecs):03d} {record.levelname[0]} {record.name}: {redact(_kept(text_of(record)))}"
        text = one_line(text + "".join(f" {k}={v}" for k, v in shown.items()))
        return f"{text}\n{harmless(trace)}" if trace else text


class LineHandler(logging.StreamHandler[IO[str]]):
    """Writes lines to a stream, those of ``least`` and above, as JSON or as ``text``. ``also`` receives each line, those of
    warnings in any case, as JSON."""

    def __init__(self, stream: IO[str], least: int, process: Mapping[str, Any], *, text: bool = False) -> None:
        super().__init__(stream)
        self.also: Callable[[str], None] | None = None
        self._least = least
        self._json = JsonFormatter(process)
        self._text = TextFormatter() if text else None
        self.set_name("raycp")
        self.setLevel(min(least, logging.WARNING))

    def emit(self, record: logging.LogRecord) -> None:
        """See ``logging.Handler.emit``."""
        try:
            line = self._json.format(record) if self.also is not None or self._text is None else ""
            if self.also is not None:
                self.also(line)
            if record.levelno >= self._least:  # afterwards: a disk that is full, or a terminal that is gone, costs this only
                self.stream.write((self._text.format(record) if self._text is not None else line) + "\n")
                self.flush()
        except RecursionError:
            raise
        except Exception:
            self.handleError(record)


def setup_logging(
    level: str | int = "info", *, text: bool = False, stream: IO[str] | None = None, process: Mapping[str, Any] = _NO_FIELDS
) -> LineHandler:
    """Send the ``raycp`` loggers to ``stream`` (default stderr), as JSON or as ``text``; ``process``: fields of all JSON
    lines. Calling it again replaces the former handler.

    Raises ``ValueError`` for an unknown level.
    """
    number = level if isinstance(level, int) else logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"unknown log level {level!r}: debug, info, warning, error or critical")
    root = logging.getLogger("raycp")
    for old in [h for h in root.handlers if h.get_name() == "raycp"]:
        root.removeHandler(old)
    handler = LineHandler(stream or sys.stderr, number, process, text=text)
    root.addHandler(handler)
    root.setLevel(min(number, logging.WARNING))  # for the flight recorder, whatever is printed
    root.propagate = False
    return handler
