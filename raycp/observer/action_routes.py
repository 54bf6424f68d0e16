"""The HTTP routes of the console's actions: ``GET /api/v1/actions`` says who may, and what was done; ``POST /api/v1/actions/NAME``
does it. Who may write is decided before a request comes here (``web``, ``access``)."""

import asyncio

import msgspec
from aiohttp import web

from raycp.base.clock import Clock
from raycp.observer.access import Caller, ObserverAccess, Right
from raycp.observer.actions import ACTIONS, UNKNOWN, ActionOutcome, failed, perform, read
from raycp.observer.answers import json_answer
from raycp.observer.audit import Audit
from raycp.protocol.substrate import LeaderAsk

BODY_WITHIN = 5.0
"""Seconds that a request's body may take to arrive."""

MARGIN = 5.0
"""Seconds beyond the leader's deadline after which an action is given up, whatever it waits for."""


class ActionRoutes:
    """One per server. ``ask`` reaches the leader."""

    def __init__(self, ask: LeaderAsk, clock: Clock, audit: Audit, access: ObserverAccess) -> None:
        self._ask = ask
        self._clock = clock
        self._audit = audit
        self._access = access

    def routes(self) -> list[web.RouteDef]:
        """To be added to the application."""
        return [web.get("/api/v1/actions", self._rights), web.post("/api/v1/actions/{action}", self._act)]

    async def _rights(self, request: web.Request) -> web.Response:
        caller = caller_of(self._access, request)
        shown = {"write": caller.right is Right.WRITE, "writable": self._access.writable, "by": caller.name}
        return json_answer({**shown, "actions": msgspec.to_builtins(self._audit.records)})

    async def _act(self, request: web.Request) -> web.Response:
        action, caller, begun = request.match_info["action"], caller_of(self._access, request), self._clock.now()
        if action not in ACTIONS:
            raise web.HTTPNotFound(reason=f"no such action; there are: {', '.join(ACTIONS)}")
        about, outcome = "", failed(500, "it failed; the observer's log says why")
        try:
            about, outcome = await self._done(request, action, caller)
        finally:
            took = self._clock.now() - begun
            origin = request.remote or ""
            self._audit.acted(action, about, caller.name, origin, outcome.status, str(outcome), took)
        return json_answer({"action": action, **outcome.answer}, outcome.status)

    async def _done(self, request: web.Request, action: str, caller: Caller) -> tuple[str, ActionOutcome]:
        """What the request was about, and what came of it."""
        if request.content_type != "application/json":
            return "", failed(415, "the body must be JSON, with Content-Type: application/json")
        try:
            async with asyncio.timeout(BODY_WITHIN):
                body = await request.read()
        except TimeoutError:
            return "", failed(408, f"the body did not arrive within {BODY_WITHIN:g} s")
        except web.HTTPRequestEntityTooLarge:
            return "", failed(413, "the body is too large")
        about = body.decode("utf-8", "replace")
        try:
            fields = read(action, body)
            order = fields.order(action, f"{caller.name} from {request.remote}")
        except ValueError as error:
            return about, failed(400, str(error))
        try:
            async with asyncio.timeout(fields.within + MARGIN):
                return about, await perform(self._ask, order, fields.within)
        except TimeoutError:
            return about, failed(503, UNKNOWN.format("in time"))


def caller_of(access: ObserverAccess, request: web.Request) -> Caller:
    """Who sends ``request``."""
    connection = request.transport.get_extra_info("ssl_object") if request.transport is not None else None
    return access.caller(request.headers, connection.getpeercert() if connection is not None else None)
