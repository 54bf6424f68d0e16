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

PLUGIN_SECONDS = 30.0
"""Deadline of one run."""

_OUTPUT = 1 << 20  # bytes of output that are kept; a credential has some thousand
_REST = 1.0  # seconds for the output of a plugin that has ended, since a child may hold it open; and for the end of a killed one


class PluginError(Exception):
    """A plugin gave no credential; the text says why. It contains nothing that the plugin printed: the text is logged and shown to
    whoever may read the status, and what a plugin complains about may be the credential."""


async def run_plugin(command: Sequence[str], env: Mapping[str, str]) -> bytes:
    """What the plugin prints. Raises ``PluginError``."""
    loop = asyncio.get_running_loop()
    pipe = asyncio.subprocess.PIPE
    try:
        transport, plugin = await loop.subprocess_exec(
            lambda: _Plugin(loop),
            *command,
            env=env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise PluginError(f"it cannot be started: {error}") from None
    try:
        async with asyncio.timeout(PLUGIN_SECONDS):
            await asyncio.wait([plugin.exited])
            await asyncio.wait([plugin.silent], timeout=_REST)
    except TimeoutError:
        text = f"it did not end within {PLUGIN_SECONDS:g} s, and was killed with its children: does it wait for a login?"
        raise PluginError(text) from None
    finally:
        code = transport.get_returncode()
        if code != 0 or not plugin.silent.done():
            with contextlib.suppress(OSError):
                os.killpg(transport.get_pid(), signal.SIGKILL)
            await asyncio.wait([plugin.exited], timeout=_REST)
        transport.close()
    if code != 0:
        how = f"it was ended by signal {-code}" if code is not None and code < 0 else f"it ended with code {code}"
        raise PluginError(f"{how}; what it printed is not shown here, since credentials may be in it")
    return bytes(plugin.out)


class _Plugin(asyncio.SubprocessProtocol):
    """Keeps what the process prints on standard output, and drops the rest. ``silent``: it has closed both."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.out = bytearray()
        self.exited: asyncio.Future[None] = loop.create_future()
        self.silent: asyncio.Future[None] = loop.create_future()
        self._open = {1, 2}

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 1:
            self.out += data[: _OUTPUT - len(self.out)]

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self._open.discard(fd)
        if not self._open and not self.silent.done():
            self.silent.set_result(None)

    def process_exited(self) -> None:
        if not self.exited.done():
            self.exited.set_result(None)
