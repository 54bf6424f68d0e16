"""Keeps the HTTP server on the port of the fleet file, and waits for the port while another process has it.

A standby fleet takes any port while the active one has that of the file, and moves there when it leads and the port is free.
"""

import logging
from collections.abc import Callable
from functools import partial

from raycp.base.clock import Clock
from raycp.base.hosts import LOOPBACK
from raycp.base.loop_names import LoopName
from raycp.base.loops import Loops
from raycp.config.observer import ObserverSpec
from raycp.observer.access import AccessError
from raycp.observer.audit import Audit
from raycp.observer.view import View
from raycp.observer.web import WebServer, no_leader, serve
from raycp.protocol.substrate import LeaderAsk

log = logging.getLogger(__name__)

MOVE_WITHIN = 60.0
"""Seconds for which a fleet that has just taken over waits for the port of the fleet that led before."""


class HttpServer:
    """One per observer. ``stands_by``: whether its fleet does; ``changed`` is called when ``url`` or ``problem`` changes; ``ask``
    reaches the leader, ``audit`` keeps the console's actions; ``node`` is the address of this node."""

    def __init__(
        self,
        view: View,
        clock: Clock,
        loops: Loops,
        stands_by: Callable[[], bool],
        changed: Callable[[], None],
        ask: LeaderAsk = no_leader,
        audit: Audit | None = None,
        node: str = LOOPBACK,
    ) -> None:
        self.problem = "starting"
        """Why it does not listen yet; empty when it does."""
        self._view = view
        self._clock = clock
        self._loops = loops
        self._stands_by = stands_by
        self._changed = changed
        self._web: WebServer | None = None
        self._node = node
        self._ask = ask
        self._audit = audit or Audit(clock)
        self._opened = False
        self._on_another_port = False

    @property
    def url(self) -> str:
        """Where it listens; empty before."""
        return self._web.url if self._web is not None else ""

    def open(self, spec: ObserverSpec) -> None:
        """Start to listen, once; returns at once."""
        if not self._opened:
            self._opened = True
            self._loops.supervise(partial(self._listen, spec), LoopName.HTTP_SERVER)

    def return_to_port(self, spec: ObserverSpec) -> None:
        """This fleet leads now and needs the port of the fleet file; returns at once."""
        if self._on_another_port:
            self._loops.supervise(partial(self._move, spec), LoopName.HTTP_SERVER)

    async def stop(self) -> None:
        """Close the port."""
        if self._web is not None:
            await self._web.stop()

    async def _listen(self, spec: ObserverSpec) -> None:
        port = spec.port
        if not _is_loopback(spec.host) and spec.tokens is None and spec.clients is None:
            what = "the observer listens on %s: whoever reaches it reads names of objects; set spec.observer.tokens or .clients"
            log.warning(what, spec.host)
        while self._web is None:
            try:
                self._web = await serve(self._view, spec, self._clock, port, self._ask, self._audit, self._node)
            except AccessError as error:
                await self._wait(str(error))
            except OSError as error:
                if self._stands_by() and not self._on_another_port:
                    self._on_another_port, port = True, 0
                    continue
                why = error.strerror or error
                await self._wait(f"can't listen on {spec.host}:{port}: {why}; free it, or set spec.observer.port")
        self.problem = ""
        self._changed()

    async def _wait(self, problem: str) -> None:
        """It can't listen; for a moment."""
        if problem != self.problem:
            log.error("%s", problem)
        self.problem = problem
        self._changed()
        await self._clock.sleep(0.5)

    async def _move(self, spec: ObserverSpec) -> None:
        deadline = self._clock.now() + MOVE_WITHIN
        while self._clock.now() < deadline:
            try:
                web = await serve(self._view, spec, self._clock, None, self._ask, self._audit, self._node)
            except (OSError, AccessError):
                await self._clock.sleep(0.1)
                continue
            before, self._web = self._web, web
            self._on_another_port = False
            self._changed()
            if before is not None:
                await before.stop()
            return
        what = "port %d of %s is still in use after %.0f s; the HTTP server stays at %s"
        log.warning(what, spec.port, spec.host, MOVE_WITHIN, self.url)


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")
