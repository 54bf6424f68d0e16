"""``run_reconcile``: one task in, one ``Done`` out, whatever the author's function does.

Expected flow: the object is decoded, the function is called with a ``Context``, what it returns or raises becomes an
outcome, and the acknowledgement carries every write and request.

Guarantees:

1. It returns only when the function has ended: a key is never released under a running reconcile (law 1). A function
   that doesn't end after its timeout is cancelled (async) and cut off from its context; if it still runs, this waits,
   and the worker's watchdog ends the process (design, section 3).
2. It raises nothing but ``CancelledError``, when it is itself cancelled; the function has ended then too.
3. Writes whose answers were outstanding are waited for, so that the acknowledgement is complete.

Errors: ``Done.error`` is one line with the author's file and line; the traceback, cut to the author's frames, goes to
the log.
"""

import asyncio
import inspect
import logging
import traceback
from collections.abc import Mapping
from concurrent.futures import Executor
from typing import Any

import msgspec

from raycp.base.clock import Clock
from raycp.base.tasks import Done, Outcome, Task
from raycp.kube.errors import ApiError, CircuitOpen, Fenced, KubeError, Unreachable
from raycp.sdk.backend import Backend
from raycp.sdk.context import Context
from raycp.sdk.controller import Controller
from raycp.sdk.results import Permanent, Result, Retry
from raycp.sdk.session import Revoked, Running, Session
from raycp.sdk.sync import SyncContext

DEFAULT_TIMEOUT = 60.0
_ERROR_LIMIT = 1000
_OURS = ("/raycp/sdk/", "/concurrent/futures/", "/asyncio/")


async def run_reconcile(
    controller: Controller,
    task: Task,
    backend: Backend,
    clock: Clock,
    *,
    timeout: float | None = DEFAULT_TIMEOUT,
    executor: Executor | None = None,
    running: Running | None = None,
    config: Mapping[str, Any] | None = None,
) -> Done:
    """Run ``controller`` for ``task``. See the module for what it guarantees.

    ``timeout`` in seconds holds where the controller names none; None: no limit. ``executor`` runs plain functions.
    ``running`` is the handle by which the caller may revoke it; ``config`` becomes ``ctx.config``.
    """
    running = running or Running()
    session = Session(task, backend, clock, running)
    started = clock.now()
    log = _log(controller, task)
    limit = controller.timeout if controller.timeout is not None else timeout
    timed_out = False
    result: Any = None
    error: BaseException | None = None
    try:
        if task.raw is not None or controller.deleted:
            context = Context(controller, session, log, config)
            obj = _decode(controller, task)
            loop = asyncio.get_running_loop()
            work: asyncio.Future[Any]
            if controller.is_async:
                work = loop.create_task(_call(controller, context, obj))
                running.attach(work)
            else:
                work = loop.run_in_executor(executor, controller.fn, SyncContext(context, loop), obj)
            timed_out = await _finish(work, limit, clock, running)
            result = await work
            if inspect.isawaitable(result):  # a plain function around an async one
                work = asyncio.ensure_future(result)
                running.attach(work)
                timed_out = await _finish(work, limit, clock, running) or timed_out
                result = await work
    except asyncio.CancelledError as cancelled:
        if not running.reason:  # neither revoked nor out of time: we are cancelled, or the author's code cancelled itself
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                await session.settle()
                raise
        error = cancelled
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as raised:  # SystemExit of an author's sys.exit() included
        error = raised
    finally:
        session.ended = True
    await session.settle()
    done = Done(task.id, task.key, Outcome.OK, clock.now() - started, writes=session.writes, calls=session.calls)
    if timed_out:
        done.outcome, done.error = Outcome.RETRY, f"timed out: no result within {limit:g} s"
        log.warning("%s", done.error)
    elif running.reason and (error is not None or session.refused):
        done.outcome, done.error = Outcome.INTERRUPTED, running.reason
    elif error is not None:
        _explain(error, done, log)
    else:
        _interpret(result, controller, done, log)
    return done


async def _call(controller: Controller, context: Context, obj: Any) -> Any:
    try:
        return await controller.fn(context, obj)
    except SystemExit as error:  # asyncio would take the whole loop down with it
        raise RuntimeError(f"a reconciler called sys.exit({error.code!r})") from error


async def _finish(work: "asyncio.Future[Any]", limit: float | None, clock: Clock, running: Running) -> bool:
    """Wait until ``work`` has ended, however long that takes; revoke it at its limit. Returns whether it ran out of
    time."""
    timer = asyncio.create_task(clock.sleep(limit)) if limit is not None else None
    timed_out = False
    try:
        await asyncio.wait({work, timer} if timer is not None else {work}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            timed_out = True
            running.revoke(f"timed out after {limit:g} s")
            await asyncio.wait({work})
    except asyncio.CancelledError:
        running.revoke("the worker stops")
        work.cancel()
        if not work.done():
            await asyncio.wait({work})
        running.reason = ""  # tells the caller that it was itself cancelled
        raise
    finally:
        if timer is not None:
            timer.cancel()
    if timed_out and not work.cancelled():
        work.exception()  # retrieved here: the outcome is the time-out
    return timed_out


def _decode(controller: Controller, task: Task) -> Any:
    if task.raw is None:
        return None
    if controller.takes is None:
        return msgspec.json.decode(task.raw)
    try:
        return controller.takes.model_validate_json(task.raw)
    except ValueError as error:  # pydantic.ValidationError
        told = "; ".join(_problems(error)[:5]) or str(error)
        raise Permanent(f"the object does not fit {controller.takes.__name__}: {told}") from None


def _problems(error: Any) -> list[str]:
    """The violations in a ``pydantic.ValidationError``, without the input (it may hold what does not belong in a
    log)."""
    found = error.errors(include_url=False, include_input=False) if hasattr(error, "errors") else []
    return [f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in found]


def _interpret(result: Any, controller: Controller, done: Done, log: "logging.LoggerAdapter[Any]") -> None:
    """What the function returned, as an outcome."""
    if result is None:
        return
    problem = ""
    if not isinstance(result, Result):
        if isinstance(result, Retry | Permanent):
            problem = f"returned {type(result).__name__}: raise it"
        else:
            problem = f"returned {_short(result)}: a reconciler returns None or a Result"
    elif result.requeue_after is not None and not _seconds(result.requeue_after):
        problem = f"returned Result(requeue_after={_short(result.requeue_after)}): seconds, 0 or more"
    elif result.tier is not None and not (isinstance(result.tier, str) and result.tier):
        problem = f"returned Result(tier={_short(result.tier)}): the name of a tier"
    elif type(result.waiting) is not str:
        problem = f"returned Result(waiting={_short(result.waiting)}): a word for what it waits for"
    if problem:
        done.outcome = Outcome.RETRY
        done.error = f"{controller.name} {problem} ({controller.module}, line {controller.line})"
        log.error("%s", done.error)
        return
    assert isinstance(result, Result)
    done.requeue_after = None if result.requeue_after is None else float(result.requeue_after)
    done.tier, done.waiting = result.tier, result.waiting


def _explain(error: BaseException, done: Done, log: "logging.LoggerAdapter[Any]") -> None:
    """What the function raised, as an outcome. What is expected of a controller is a line in the log; the rest a
    traceback."""
    done.outcome = Outcome.RETRY
    message = str(error) or type(error).__name__
    if isinstance(error, Permanent):
        done.outcome, done.error = Outcome.PERMANENT, message
        log.warning("gave up until the object changes: %s", message)
    elif isinstance(error, Retry):
        done.error = message
        if error.after is not None:
            done.retry_after = float(error.after) if _seconds(error.after) else None
        log.info("will try again: %s", message)
    elif isinstance(error, Fenced | Revoked):
        done.outcome, done.error = Outcome.INTERRUPTED, message
        log.info("interrupted: %s", message)
    elif isinstance(error, ApiError) and error.conflict:
        done.error = f"the object changed meanwhile: {message}"
        log.info("will try again: %s", done.error)
    elif isinstance(error, KubeError):
        done.error = f"{message}{_where(error)}"
        if isinstance(error, ApiError | CircuitOpen):
            done.retry_after = error.retry_after
        level = logging.WARNING if isinstance(error, Unreachable) else logging.ERROR
        log.log(level, "will try again: %s", done.error)
    else:
        label = "cancelled itself" if isinstance(error, asyncio.CancelledError) else f"{type(error).__name__}: {error}"
        done.error = f"{label}{_where(error)}"
        log.error("failed: %s\n%s", done.error, user_traceback(error))
    done.error = done.error[:_ERROR_LIMIT]


def user_traceback(error: BaseException) -> str:
    """The traceback without the frames of raycp, asyncio and thread pools around the author's code."""
    shown = traceback.TracebackException.from_exception(error)
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
    """`` (echo.py, line 12)``: the author's innermost line."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not any(ours in f.filename for ours in _OURS)]
    return f" ({frames[-1].filename.rsplit('/', 1)[-1]}, line {frames[-1].lineno})" if frames else ""


def _seconds(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:
        text = "something without a repr"
    return text if len(text) <= 80 else f"{text[:77]}..."


class _Log(logging.LoggerAdapter[logging.Logger]):
    """Adds the reconcile's fields to each record, beside the caller's own ``extra``."""

    def process(self, msg: Any, kwargs: Any) -> tuple[Any, Any]:
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs


def _log(controller: Controller, task: Task) -> "logging.LoggerAdapter[Any]":
    key = task.key
    fields = {
        "controller": controller.name,
        "cluster": key.cluster,
        "key": f"{key.namespace}/{key.name}" if key.namespace else key.name,
        "attempt": task.attempt,
        "tier": task.tier,
        "reason": task.reason,
    }
    return _Log(logging.getLogger(f"raycp.controller.{controller.name}"), fields)
