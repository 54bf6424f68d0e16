"""The outcome of a reconcile: what its function returned (``interpret``) or raised (``explain``), as fields of ``Done``.

``Done.error`` is one line with the author's file and line; the traceback, cut to the author's frames, goes to the log, if
``FailureLines`` admit it. What others wrote is scrubbed there.
"""

import asyncio
import inspect
import logging
import traceback
from typing import Any, NamedTuple

from raycp.base.tasks import Done, Outcome
from raycp.base.text import ERROR_LENGTH, clean, message_of
from raycp.kube.errors import ApiError, CircuitOpen, Fenced, KubeError, Unreachable
from raycp.metrics.log import traceback_of
from raycp.metrics.recorder import scrub_error, scrub_traceback
from raycp.metrics.redaction import redact
from raycp.sdk.controller import Controller
from raycp.sdk.reconcile_log import ReconcileLog
from raycp.sdk.results import Permanent, Result, Retry
from raycp.sdk.session import Revoked

INVALID_RESULT = "InvalidResult"
"""The class of the error where a reconciler returned what it must not."""

TIMED_OUT = "TimedOut"
INTERNAL = "Internal"
"""Of a task that raycp itself could not run."""

_NAME_LENGTH = 253
"""Characters of a tier, or of what an object waits for."""

_LONGEST_WAIT = 1e9
"""Seconds: what asks for more asks for never."""

_OURS = ("/raycp/sdk/", "/concurrent/futures/", "/asyncio/")


class FailureLine(NamedTuple):
    """What is logged of a failure: ``text`` is scrubbed then, and the traceback of ``error`` made, neither of which is cheap."""

    level: int
    before: str
    text: str
    error: BaseException | None = None

    def write(self, log: ReconcileLog, left_out: int) -> None:
        """``left_out``: how many of the same cause were not logged before it."""
        text, more = f"{self.before}{scrub_error(self.text)}", {"unlogged": left_out} if left_out else {}
        if self.error is None:
            log.log(self.level, "%s", text, extra=more)
        else:
            log.failed(text, scrub_traceback(user_traceback(self.error)), more)


def interpret(result: Any, controller: Controller, done: Done) -> FailureLine | None:
    """What the function returned, other than None. The line is one where it must not return that."""
    problem = ""
    if not isinstance(result, Result):
        if isinstance(result, Retry | Permanent):
            problem = f"returned {type(result).__name__}: raise it"
        else:
            problem = f"returned a {type(result).__name__}: a reconciler returns None or a Result"
    elif result.requeue_after is not None and not _seconds(result.requeue_after):
        problem = f"returned Result(requeue_after={_short(result.requeue_after)}): seconds, 0 or more"
    elif result.tier is not None and not (isinstance(result.tier, str) and result.tier):
        problem = f"returned Result(tier={_short(result.tier)}): the name of a tier"
    elif type(result.waiting) is not str:
        problem = f"returned Result(waiting={_short(result.waiting)}): the name of what it waits for"
    if problem:
        done.outcome = Outcome.RETRY
        done.error = clean(f"{controller.name} {problem} ({_file_of(controller)}, line {controller.line})")
        done.error_class = INVALID_RESULT
        return FailureLine(logging.ERROR, "", done.error)
    assert isinstance(result, Result)
    done.requeue_after = None if result.requeue_after is None else float(result.requeue_after)
    done.tier = None if result.tier is None else clean(result.tier, _NAME_LENGTH)
    done.waiting = result.waiting and clean(redact(result.waiting), _NAME_LENGTH)
    return None


def explain(error: BaseException, done: Done) -> FailureLine:
    """What the function raised. Errors that are part of a controller's life are one line in the log, others a traceback."""
    done.outcome, done.error_class = Outcome.RETRY, error_class(error)
    message = message_of(error, ERROR_LENGTH - 200)
    if isinstance(error, Permanent):
        done.outcome, done.error = Outcome.PERMANENT, f"{message}{_where(error)}"
        line = FailureLine(logging.WARNING, "gave up until the object changes: ", done.error)
    elif isinstance(error, Retry):
        done.error = message
        if error.after is not None:
            done.retry_after = float(error.after) if _seconds(error.after) else None
        line = FailureLine(logging.INFO, "will try again: ", message)
    elif isinstance(error, Fenced | Revoked):
        done.outcome, done.error = Outcome.INTERRUPTED, message
        line = FailureLine(logging.INFO, "interrupted: ", message)
    elif isinstance(error, ApiError) and error.conflict:
        done.error = f"the object changed meanwhile: {message}"
        line = FailureLine(logging.INFO, "will try again: ", done.error)
    elif isinstance(error, KubeError):
        done.error = f"{message}{_where(error)}"
        if isinstance(error, ApiError | CircuitOpen):
            done.retry_after = error.retry_after if _seconds(error.retry_after) else None
        line = FailureLine(logging.WARNING if isinstance(error, Unreachable) else logging.ERROR, "will try again: ", done.error)
    else:
        label = "cancelled itself" if isinstance(error, asyncio.CancelledError) else f"{type(error).__name__}: {message}"
        done.error = f"{label}{_where(error)}"
        line = FailureLine(logging.ERROR, "failed: ", done.error, error)
    done.error = clean(done.error)
    return line


def error_class(error: BaseException) -> str:
    """What an error is counted under. Never its text: a text has any number of values."""
    name = type(error).__name__
    return f"{name} {error.status}" if isinstance(error, ApiError) and 400 <= error.status < 600 else name


def user_traceback(error: BaseException) -> str:
    """The traceback without the frames of raycp, asyncio and thread pools around the author's code."""
    try:
        shown = traceback.TracebackException.from_exception(error)
    except Exception:  # of an exception class of the author's own
        return traceback_of(error)
    seen: set[int] = set()
    todo: list[traceback.TracebackException | None] = [shown]
    while todo:
        part = todo.pop()
        if part is None or id(part) in seen:
            continue
        seen.add(id(part))
        theirs = [frame for frame in part.stack if not any(ours in frame.filename for ours in _OURS)]
        part.stack = traceback.StackSummary.from_list(theirs or list(part.stack))
        todo += [part.__cause__, part.__context__, *(getattr(part, "exceptions", None) or ())]
    return "".join(shown.format()).rstrip()


def _where(error: BaseException) -> str:
    """`` (echo.py, line 12)``: the author's innermost line; of an error that raycp or Python made of the author's, that one's."""
    for each in (error, error.__cause__):
        at, found = each.__traceback__ if each is not None else None, None
        while at is not None:
            if not any(ours in at.tb_frame.f_code.co_filename for ours in _OURS):
                found = at
            at = at.tb_next
        if found is not None:
            return f" ({found.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}, line {found.tb_lineno})"
    return ""


def _file_of(controller: Controller) -> str:
    code = getattr(inspect.unwrap(controller.fn), "__code__", None)
    return code.co_filename.rsplit("/", 1)[-1] if code is not None else controller.module


def _seconds(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _LONGEST_WAIT


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:
        text = "something without a repr"
    return text if len(text) <= 80 else f"{text[:77]}..."
