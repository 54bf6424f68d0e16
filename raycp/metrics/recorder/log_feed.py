"""The log handler that notes warnings and errors in the flight recorder, with the fields of the reconcile that they are about."""

import logging
import traceback
from pathlib import PurePath

from raycp.base.keys import RequestKey
from raycp.base.text import message_of
from raycp.metrics.log import fields_of, text_of
from raycp.metrics.recorder.flight_recorder import FlightRecorder

LOGGERS = ("raycp", "asyncio")
"""The trees whose records are noted: raycp with its controllers, and what no task has retrieved."""

_SUBJECT = ("controller", "cluster", "namespace", "name")
_KEPT = ("change", "attempt", "tier", "reason")
"""Further fields that are kept: the id of the change, where a log line has one, and those of ``reconcile_log``."""


class LogFeed(logging.Handler):
    """Notes each record of ``WARNING`` and above, urgently: the text scrubbed; of an exception its class, its first line and the
    innermost frame, and no traceback, whose source lines may hold anything."""

    def __init__(self, recorder: FlightRecorder) -> None:
        super().__init__(logging.WARNING)
        self._recorder = recorder

    def emit(self, record: logging.LogRecord) -> None:
        """See ``logging.Handler.emit``."""
        try:
            fields = fields_of(record)
            details = {name: fields[name] for name in _KEPT if fields.get(name) not in (None, "")}
            error = record.exc_info[1] if record.exc_info else None
            if error is not None:
                details["error"] = f"{type(error).__name__}: {message_of(error)}"
                details["frame"] = _innermost(error)
            what = "error" if record.levelno >= logging.ERROR else "warning"
            self._recorder.note(what, _subject(fields), urgent=True, logger=record.name, text=text_of(record), **details)
        except Exception:
            self.handleError(record)

    def install(self) -> None:
        """Receive the records of ``LOGGERS``."""
        for name in LOGGERS:
            logging.getLogger(name).addHandler(self)

    def remove(self) -> None:
        """Receive none any longer."""
        for name in LOGGERS:
            logging.getLogger(name).removeHandler(self)


def _subject(fields: dict[str, object]) -> RequestKey | str:
    """The key that a reconcile's log line is about; else its cluster."""
    controller, cluster, namespace, name = (str(fields.get(each) or "") for each in _SUBJECT)
    return RequestKey(controller, cluster, namespace, name) if controller and cluster and name else cluster


def _innermost(error: BaseException) -> str:
    """``file:line`` of the frame that raised."""
    frames = list(traceback.walk_tb(error.__traceback__))
    return f"{PurePath(frames[-1][0].f_code.co_filename).name}:{frames[-1][1]}" if frames else ""
