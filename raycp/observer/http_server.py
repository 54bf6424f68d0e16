"""Where the observer's HTTP face listens: on the fleet file's port, waited for while somebody else has it still.

A fleet that stands by while another has that port takes any, and moves when it leads and the other has left.
"""

import logging
from collections.abc import Callable

from raycp.base.clock import Clock
from raycp.base.loops import Loops
from raycp.observer.view import View
from raycp.observer.web import WebServer, serve

log = logging.getLogger(__name__)

MOVE_WITHIN = 60.0
"""How long, in seconds, a fleet that has just taken over waits for the port of the one before."""


class HttpServer:
    """One per observer. ``changed`` is called when ``url`` or ``problem`` has."""

    def __init__(self, view: View, clock: Clock, loops: Loops, stands_by: Callable[[], bool], changed: Callable[[], None]) -> None:
        self.problem = "starting"
        """Why it does not listen yet; empty when it does."""
        self._view = view
        self._clock = clock
        self._loops = loops
        self._stands_by = stands_by
        self._changed = changed
        self._web: WebServer | None = None
        self._opened = False
        self._elsewhere = False

    @property
    def url(self) -> str:
        """Where it listens; empty before."""
        return self._web.url if self._web is not None else ""

    def open(self, host: str, port: int) -> None:
        """Begin to listen, once; returns at once."""
        if not self._opened:
            self._opened = True
            self._loops.spawn(self._listen(host, port), "HTTP face")

    def come_home(self, host: str, port: int) -> None:
        """This fleet leads now: the port of the fleet file is for it; returns at once."""
        if self._elsewhere:
            self._loops.spawn(self._move(host, port), "move of the HTTP face")

    async def stop(self) -> None:
        """Answer nobody any more."""
        if self._web is not None:
            await self._web.stop()

    async def _listen(self, host: str, port: int) -> None:
        """Take the port, waiting for it where somebody else has it still."""
        while self._web is None:
            try:
                self._web = await serve(self._view, host, port)
            except OSError as error:
                if self._stands_by() and not self._elsewhere:
                    # The fleet that leads has it: another one will do until it is gone.
                    self._elsewhere, port = True, 0
                    continue
                problem = f"can't listen on {host}:{port}: {error.strerror or error}; free it, or set spec.observer.port"
                if problem != self.problem:
                    log.error("%s", problem)
                self.problem = problem
                self._changed()
                await self._clock.sleep(0.5)
        self.problem = ""
        self._changed()

    async def _move(self, host: str, port: int) -> None:
        """To the port of the fleet file, once the colour that led before has left it."""
        deadline = self._clock.now() + MOVE_WITHIN
        while self._clock.now() < deadline:
            try:
                web = await serve(self._view, host, port)
            except OSError:
                await self._clock.sleep(0.1)
                continue
            before, self._web = self._web, web
            self._elsewhere = False
            self._changed()
            if before is not None:
                await before.stop()
            return
        log.warning("port %d of %s is not free: the HTTP face stays where it is", port, host)
