"""The end of a benchmark's child process: each ends by itself when its standard input does."""

import asyncio
import contextlib
import signal

ENDS_WITHIN = 5.0
"""Seconds that it may take before it is killed."""


def end_on_term() -> None:
    """SIGTERM cancels the current task, as Ctrl-C does, so that what it has started is stopped. To be called again once Ray is
    connected, which puts a handler of its own in the place. Elsewhere than in the main thread: nothing."""
    task = asyncio.current_task()
    assert task is not None
    with contextlib.suppress(ValueError, RuntimeError):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


async def end_child(process: asyncio.subprocess.Process) -> None:
    """Close its standard input and wait for its end; kill it when it does not come. Ended already: nothing to do."""
    if process.returncode is not None:
        return
    assert process.stdin
    process.stdin.close()
    try:
        await asyncio.wait_for(process.wait(), ENDS_WITHIN)
    except TimeoutError:
        process.kill()
        await process.wait()
