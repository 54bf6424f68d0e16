"""How a benchmark's child process ends: by itself, when its standard input is closed."""

import asyncio
import contextlib
import signal

ENDS_WITHIN = 5.0
"""Seconds until it is killed."""


def end_on_term() -> None:
    """Make SIGTERM cancel the current task, as Ctrl-C does, so that everything it has started is stopped. Call it again after
    connecting to Ray, which installs a handler of its own. Outside the main thread it does nothing."""
    task = asyncio.current_task()
    assert task is not None
    with contextlib.suppress(ValueError, RuntimeError):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


async def end_child(process: asyncio.subprocess.Process) -> None:
    """Close its standard input and wait for its exit; kill it after a deadline. Does nothing if it has exited."""
    if process.returncode is not None:
        return
    assert process.stdin
    process.stdin.close()
    try:
        await asyncio.wait_for(process.wait(), ENDS_WITHIN)
    except TimeoutError:
        process.kill()
        await process.wait()
