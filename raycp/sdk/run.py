"""``run_reconcile``: one task in, one ``Done`` out, whatever the author's function does.

The object is decoded, the function is called with a ``Context``, what it returns or raises becomes an outcome
(``raycp.sdk.outcome``), and the acknowledgement carries every write and request.

Guarantees:

1. It returns only when the function has ended: a key is never released under a running reconcile (law 1). A function that does
   not end after its timeout is cancelled (async) and cut off from its context; if it still runs, this waits, and the worker's
   watchdog ends the process.
2. It raises nothing but ``CancelledError``, when it is itself cancelled; the function has ended then too.
3. Writes whose answers were outstanding are waited for, so that the acknowledgement is complete.
"""

import asyncio
import contextlib
import contextvars
import inspect
import logging
from collections.abc import Mapping
from concurrent.futures import Executor
from functools import partial
from typing import Any

import msgspec

from raycp.base.tasks import Done, Outcome
from raycp.metrics.log import BOUND
from raycp.sdk.context import Context
from raycp.sdk.controller import Controller
from raycp.sdk.failure_lines import FailureLines
from raycp.sdk.foreign import report_foreign
from raycp.sdk.outcome import TIMED_OUT, FailureLine, explain, interpret
from raycp.sdk.reconcile_log import ReconcileFields
from raycp.sdk.results import Permanent
from raycp.sdk.session import Session
from raycp.sdk.sync import SyncContext

DEFAULT_TIMEOUT = 60.0


async def run_reconcile(
    session: Session,
    *,
    timeout: float | None = DEFAULT_TIMEOUT,
    executor: Executor | None = None,
    config: Mapping[str, Any] | None = None,
    lines: FailureLines | None = None,
) -> Done:
    """Run the controller of ``session`` for its task. See the module for what it guarantees.

    ``timeout`` in seconds holds where the controller names none; None: no limit. ``executor`` runs plain functions. ``config``
    becomes ``ctx.config``. ``lines``: which failures are logged, None: all of them.
    """
    bound = BOUND.set(partial(ReconcileFields, session.task))
    try:
        done, line = await _run(session, timeout, executor, config)
        if line is not None:
            _log(line, session, done, lines)
        return done
    finally:
        with contextlib.suppress(ValueError):  # a coroutine that is thrown away ends in another context
            BOUND.reset(bound)


def _log(line: FailureLine, session: Session, done: Done, lines: FailureLines | None) -> None:
    key = session.task.key
    left_out = 0 if lines is None else lines.admit((key.controller, key.cluster, done.error_class), session.clock.now())
    if left_out is not None:
        line.write(session.log, left_out)


async def _run(
    session: Session, timeout: float | None, executor: Executor | None, config: Mapping[str, Any] | None
) -> tuple[Done, FailureLine | None]:
    controller, task, clock = session.controller, session.task, session.clock
    started = clock.now()
    limit = controller.timeout if controller.timeout is not None else timeout
    timed_out = False
    result: Any = None
    error: BaseException | None = None
    try:
        if task.raw is not None or controller.deleted:
            obj = None if task.raw is None else _decode(controller, task.raw)
            if task.foreign and obj is not None:
                report_foreign(Context(session, config), task.foreign)
            loop = asyncio.get_running_loop()
            work: asyncio.Future[Any]
            if controller.is_async:
                work = session.work = loop.create_task(_call(session, config, obj))
            else:
                called = partial(contextvars.copy_context().run, controller.fn, SyncContext(Context(session, config), loop), obj)
                work = loop.run_in_executor(executor, called)
            timed_out = await _finish(work, limit, session)
            result = await work
            if inspect.isawaitable(result):  # a plain function around an async one
                work = session.work = asyncio.ensure_future(result)
                timed_out = await _finish(work, limit, session) or timed_out
                result = await work
    except asyncio.CancelledError as cancelled:
        if not session.revoked:  # neither revoked nor timed out: this task was cancelled, or the author's code cancelled itself
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
    if session.open:
        await session.settle()
    done = Done(task.id, task.key, Outcome.OK, clock.now() - started, writes=session.writes, calls=session.calls)
    if session.unusable:
        done.unusable = sorted(session.unusable)
    if timed_out:
        done.outcome, done.error, done.error_class = Outcome.RETRY, f"timed out: no result within {limit:g} s", TIMED_OUT
        return done, FailureLine(logging.WARNING, "", done.error)
    if session.revoked and (error is not None or session.refused):
        done.outcome, done.error = Outcome.INTERRUPTED, session.revoked
    elif error is not None:
        return done, explain(error, done)
    elif result is not None:
        return done, interpret(result, controller, done)
    return done, None


async def _call(session: Session, config: Mapping[str, Any] | None, obj: Any) -> Any:
    try:
        return await session.controller.fn(Context(session, config), obj)
    except SystemExit as error:  # asyncio would take the whole loop down with it
        raise RuntimeError(f"a reconciler called sys.exit({error.code!r})") from error


async def _finish(work: "asyncio.Future[Any]", limit: float | None, session: Session) -> bool:
    """Wait until ``work`` has ended, however long that takes; revoke the session at the limit. Returns whether it timed out."""
    if session.revoked and session.work is work:
        work.cancel()
    timer = asyncio.create_task(session.clock.sleep(limit)) if limit is not None else None
    timed_out = False
    try:
        await asyncio.wait({work, timer} if timer is not None else {work}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            timed_out = True
            session.revoke(f"timed out after {limit:g} s")
            await asyncio.wait({work})
    except asyncio.CancelledError:
        session.revoke("the worker stops")
        work.cancel()
        if not work.done():
            await asyncio.wait({work})
        session.revoked = ""  # the caller learns from it that it was itself cancelled
        raise
    finally:
        if timer is not None:
            timer.cancel()
    if timed_out and not work.cancelled():
        work.exception()  # retrieved here: the outcome is the time-out
    return timed_out


def _decode(controller: Controller, raw: bytes) -> Any:
    if controller.takes is None:
        return msgspec.json.decode(raw)
    try:
        return controller.takes.model_validate_json(raw)
    except ValueError as error:  # pydantic.ValidationError
        problems = "; ".join(_problems(error)[:5]) or str(error)
        raise Permanent(f"the object does not fit {controller.takes.__name__}: {problems}") from None


def _problems(error: Any) -> list[str]:
    """The violations in a ``pydantic.ValidationError``, without the input, which may hold what does not belong in a log."""
    found = error.errors(include_url=False, include_input=False) if hasattr(error, "errors") else []
    return [f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in found]
