"""Keeps the HTTP server on the port of the fleet file, and waits for the port while another process has it.

A standby fleet takes any port while the active one has that of the file, and moves there when it leads and the port is free.
"""

import logging
from collections.abc import Callable, Collection
from functools import partial

from raycp.base.clock import Clock
from raycp.base.loop_names import LoopName
from raycp.base.loops import Loops
from raycp.observer.view import View
from raycp.observer.web import WebServer, serve

log = logging.getLogger(__name__)

MOVE_WITHIN = 60.0
"""Seconds for which a fleet that has just taken over waits for the port of the fleet that led before."""


class HttpServer:
    """One per observer. ``stands_by``: whether its fleet does; ``changed`` is called when ``url`` or ``problem`` changes."""

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
        self._names: Collection[str] = ()
        self._on_another_port = False

    @property
    def url(self) -> str:
        """Where it listens; empty before."""
        return self._web.url if self._web is not None else ""

    def open(self, host: str, port: int, names: Collection[str] = ()) -> None:
        """Start to listen, once; returns at once. ``names``: see ``serve``."""
        if not self._opened:
            self._opened = True
            self._names = names
            self._loops.supervise(partial(self._listen, host, port), LoopName.HTTP_SERVER)

    def return_to_port(self, host: str, port: int) -> None:
        """This fleet leads now and needs the port of the fleet file; returns at once."""
        if self._on_another_port:
            self._loops.supervise(partial(self._move, host, port), LoopName.HTTP_SERVER)

    async def stop(self) -> None:
        """Close the port."""
        if self._web is not None:
            await self._web.stop()

    async def _listen(self, host: str, port: int) -> None:
        while self._web is None:
            try:
                self._web = await serve(self._view, host, port, self._names)
            except OSError as error:
                if self._stands_by() and not self._on_another_port:
                    self._on_another_port, port = True, 0
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
        deadline = self._clock.now() + MOVE_WITHIN
        while self._clock.now() < deadline:
            try:
                web = await serve(self._view, host, port, self._names)
            except OSError:
                await self._clock.sleep(0.1)
                continue
            before, self._web = self._web, web
            self._on_another_port = False
            self._changed()
            if before is not None:
                await before.stop()
            return
        log.warning("port %d of %s is still in use after %.0f s; the HTTP server stays at %s", port, host, MOVE_WITHIN, self.url)
