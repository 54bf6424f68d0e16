"""Where user code runs: an event loop and threads of their own, apart from the actor's loops.

A reconciler that blocks this loop blocks other reconcilers of this process and nothing else: the actor's loop notices
(``silent_for``), names the culprit and ends the process.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from raycp.base.clock import Clock

BEAT = 0.5


class UserLoop:
    """One thread with a running loop, and ``threads`` more for plain functions."""

    def __init__(self, clock: Clock, threads: int) -> None:
        self._clock = clock
        self._beaten = clock.now()
        self._ready = threading.Event()
        self.executor = ThreadPoolExecutor(threads, thread_name_prefix="reconcile")
        self.loop: asyncio.AbstractEventLoop
        self._thread = threading.Thread(target=self._run, name="user-loop", daemon=True)
        self._thread.start()
        self._ready.wait()

    def _run(self) -> None:
        try:
            import uvloop

            self.loop = uvloop.new_event_loop()
        except ImportError:  # not on this platform: the standard loop does
            self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.loop.set_default_executor(self.executor)
        self.loop.call_soon(self._beat)
        self._ready.set()
        self.loop.run_forever()

    def _beat(self) -> None:
        self._beaten = self._clock.now()
        self.loop.call_later(BEAT, self._beat)

    @property
    def thread_id(self) -> int | None:
        """The loop's thread, for a look at its stack."""
        return self._thread.ident

    def silent_for(self) -> float:
        """Seconds since the loop last turned; up to ``BEAT`` is normal."""
        return max(0.0, self._clock.now() - self._beaten)

    def current(self) -> "asyncio.Task[Any] | None":
        """The task that holds the loop at this moment; read from another thread, so only a hint."""
        return asyncio.current_task(self.loop)

    def call(self, function: Callable[..., object], *args: object) -> None:
        """Run ``function`` on the loop soon. Thread-safe."""
        self.loop.call_soon_threadsafe(function, *args)

    def submit(self, work: Coroutine[Any, Any, Any]) -> "Future[Any]":
        """Run a coroutine on the loop. Thread-safe."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def stop(self) -> None:
        """Stop the loop; its thread is a daemon and is not waited for when user code holds it."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.executor.shutdown(wait=False, cancel_futures=True)

    def abort(self) -> None:
        """Stop the loop at once, and wait up to 0.3 s for its thread: what runs there does nothing more."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(0.3)
