"""Runs a credential plugin: a program that prints a credential (client-go credential plugins, API doc of
``client.authentication.k8s.io``).

A plugin may wait for a login that nobody will make, print without end, or leave children behind. It gets no terminal,
``PLUGIN_SECONDS``, and a process group of its own, which is killed with everything in it when it fails or its time is over.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence

from raycp.kube.tls import safe_text

PLUGIN_SECONDS = 30.0
"""Deadline of one run."""

_OUTPUT = 1 << 20  # bytes of output that are read; a credential has some thousand
_REST = 1.0  # seconds for the output of a plugin that has ended: a child may hold it open


class PluginError(Exception):
    """A plugin gave no credential; the text says why and contains no output but the last line of its stderr."""


async def run_plugin(command: Sequence[str], env: Mapping[str, str]) -> bytes:
    """What the plugin prints. Raises ``PluginError``."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            env=env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise PluginError(f"it cannot be started: {error}") from None
    assert process.stdout is not None
    assert process.stderr is not None
    out, err = bytearray(), bytearray()
    readers = [asyncio.ensure_future(_read(process.stdout, out)), asyncio.ensure_future(_read(process.stderr, err))]
    code: int | None = None
    open_pipes = set(readers)
    try:
        async with asyncio.timeout(PLUGIN_SECONDS):
            code = await process.wait()
            _, open_pipes = await asyncio.wait(readers, timeout=_REST)
    except TimeoutError:
        text = f"it did not end within {PLUGIN_SECONDS:g} s, and was killed with its children: does it wait for a login?"
        raise PluginError(text) from None
    finally:
        if code != 0 or open_pipes:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
        for reader in readers:
            reader.cancel()
    if code != 0:
        last = err.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise PluginError(f"it ended with code {code}" + (f": {safe_text(ValueError(last[0]))}" if last else ""))
    return bytes(out)


async def _read(pipe: asyncio.StreamReader, into: bytearray) -> None:
    """Read to the end, and keep the first ``_OUTPUT`` bytes."""
    while chunk := await pipe.read(1 << 16):
        into += chunk[: _OUTPUT - len(into)]
