"""The end of a benchmark's child process: each ends by itself when its standard input does."""

import asyncio

ENDS_WITHIN = 5.0
"""Seconds that it may take before it is killed."""


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
