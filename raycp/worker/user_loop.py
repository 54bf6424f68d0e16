"""Where user code runs: an event loop and threads of their own, apart from the actor's loops.

A reconciler that blocks this loop blocks other reconcilers of this process and nothing else: the watchdog on the actor's loop
notices (``silent_for``), names the culprit and ends the process.
"""

import asyncio
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from raycp.base.clock import Clock

BEAT = 0.5
"""Seconds between two signs of life of the loop."""


class UserLoop:
    """One thread with a running loop, and more threads for plain functions. ``start`` before any use."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._beaten = clock.now()
        self._ready = threading.Event()
        self._thread: threading.Thread | None = None
        self.loop: asyncio.AbstractEventLoop
        self.executor: ThreadPoolExecutor
        self.call: Callable[..., object]
        """``call(function, *arguments)`` runs a function on the loop soon; thread-safe. The loop's own method: no frame between."""

    def start(self, threads: int) -> None:
        """Start the loop, with ``threads`` threads for plain functions. Does nothing the second time."""
        if self._thread is None:
            self.executor = ThreadPoolExecutor(threads, thread_name_prefix="reconcile")
            self._thread = threading.Thread(target=self._run, name="user-loop", daemon=True)
            self._thread.start()
            self._ready.wait()
            self.call = self.loop.call_soon_threadsafe

    def _run(self) -> None:
        try:
            import uvloop

            self.loop = uvloop.new_event_loop()
        except ImportError:  # not available on this platform
            self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.loop.set_default_executor(self.executor)
        self._beat()
        self._ready.set()
        self.loop.run_forever()
        for task in asyncio.all_tasks(self.loop):  # they end where they stand; the interpreter need not say so of each
            task._log_destroy_pending = False  # type: ignore[attr-defined]

    def _beat(self) -> None:
        self._beaten = self._clock.now()
        self.loop.call_later(BEAT, self._beat)

    @property
    def thread_id(self) -> int | None:
        """The identifier of the loop's thread; None before ``start``."""
        return self._thread.ident if self._thread is not None else None

    def silent_for(self) -> float:
        """Seconds since the loop last turned; up to ``BEAT`` is normal."""
        return max(0.0, self._clock.now() - self._beaten)

    def current(self) -> "asyncio.Task[Any] | None":
        """The task that holds the loop at this moment; read from another thread, so only a hint."""
        return asyncio.current_task(self.loop)

    def stack(self) -> str:
        """The stack of the loop's thread, for the log."""
        frame = sys._current_frames().get(self.thread_id or 0)
        return "".join(traceback.format_stack(frame))[-1500:] if frame is not None else ""

    def submit(self, work: Coroutine[Any, Any, Any]) -> "Future[Any]":
        """Run a coroutine on the loop. Thread-safe."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def abort(self) -> None:
        """Stop the loop at once, and wait up to 0.3 s for its thread, a daemon: user code that blocks it is left behind."""
        if self._thread is not None:
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join(0.3)
