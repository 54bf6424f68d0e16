"""The observer's HTTP routes, over any ``View``.

``/metrics``, as text or OpenMetrics; ``/healthz``, ``/livez`` and ``/readyz`` as a kube-apiserver answers them (``ok``, or all
checks where one that is required fails, where the fleet is degraded, and with ``?verbose``), the last after the verdict;
``/api/v1/...`` JSON; ``/`` the status page (one HTML file, no external asset). A view that raises is answered with 500 and a JSON
reason, a ``Host`` that is not this server's with 421 (``known_hosts``), who may not read with 401, who may not write with 401 or
403 (``access``). No page of others may show one of these in a frame. What is written are the console's actions (``action_routes``).
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Middleware

from raycp.base.clock import Clock, SystemClock
from raycp.base.hosts import LOOPBACK, reached_at
from raycp.base.plaintext import one_line
from raycp.config.observer import ObserverSpec
from raycp.observer.access import ObserverAccess, Right, forged
from raycp.observer.action_routes import ActionRoutes, caller_of
from raycp.observer.answers import SECURITY, json_answer, tagged_answer
from raycp.observer.audit import Audit
from raycp.observer.known_hosts import KnownHosts, own_names
from raycp.observer.status_page import status_page
from raycp.observer.view import View
from raycp.protocol.control import Question
from raycp.protocol.job_query import read_query
from raycp.protocol.status import Check
from raycp.protocol.substrate import LeaderAsk, MemberUnavailable

log = logging.getLogger(__name__)

_NUMBER = re.compile(r"-1|[0-9]{1,15}")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class _NotTheirs(logging.Filter):
    """aiohttp logs a traceback of whatever is no HTTP: that is what a port scan sends, it has its answer, and anybody may send it
    without end."""

    def filter(self, record: logging.LogRecord) -> bool:
        """See ``logging.Filter.filter``."""
        return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_HTTP_LOG = logging.getLogger(f"{__name__}.http")
_HTTP_LOG.addFilter(_NotTheirs())


def _checks(checks: list[Check], what: str, verbose: bool, sentence: str = "") -> web.Response:
    passed = all(c.ok for c in checks if c.required)
    lines = [one_line(sentence)] if sentence else []
    for check in checks:
        mark = "+" if check.ok else "-"
        found = "ok" if check.ok else "failed" if check.required else "failed, not required"
        found += f": {check.reason}" if check.reason or not check.ok else ""
        lines.append(f"[{mark}]{check.name} {found}")
    degraded = what == "readyz" and not all(c.ok for c in checks)
    verdict = ("passed, degraded" if degraded else "passed") if passed else "failed"
    text = "ok" if passed and not degraded and not verbose else "\n".join([*lines, f"{what} check {verdict}", ""])
    return web.Response(text=text, status=200 if passed else 503, headers=SECURITY)


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as refusal:
        return json_answer({"error": refusal.reason, "path": request.path}, refusal.status)
    except Exception as error:
        log.exception("the observer could not answer a request", extra={"path": request.path})
        return json_answer({"error": f"{type(error).__name__}: {error}", "path": request.path}, 500)


def _hosts(known: KnownHosts) -> Middleware:
    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        host = request.headers.get("Host", "")
        if known.knows(host):
            return await handler(request)
        error = "this observer has no such name: use its address, or add the name to spec.observer.hosts"
        return json_answer({"error": error, "host": host}, 421)

    return check


_SAFE = ("GET", "HEAD")
_PROBES = ("/healthz", "/livez", "/readyz")


LARGEST_BODY = 64 * 1024
"""Bytes of a request's body."""


def _rights(access: ObserverAccess, audit: Audit) -> Middleware:
    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        caller = caller_of(access, request)
        right = caller.right
        if request.method not in _SAFE:
            if request.match_info.http_exception is not None:  # nothing of that name, or not by that method
                return await handler(request)
            if no_write := _no_write(request, access, right):
                audit.refused(request.path, caller.name, request.remote or "", *no_write)
                status, why = no_write
                refusal = json_answer({"error": why}, status)
                if status == 401:
                    refusal.headers["WWW-Authenticate"] = 'Bearer realm="raycp"'
                return refusal
        elif right < Right.READ:
            if request.path in _PROBES:
                answer = await handler(request)
                return web.Response(text="ok" if answer.status == 200 else "failed", status=answer.status, headers=SECURITY)
            refusal = json_answer({"error": "reading needs a token (spec.observer.tokens) or a client certificate"}, 401)
            refusal.headers["WWW-Authenticate"] = 'Basic realm="raycp: any name, the token as password", charset="UTF-8"'
            return refusal
        return await handler(request)

    return check


def _no_write(request: web.Request, access: ObserverAccess, right: Right) -> tuple[int, str] | None:
    """The status and the reason with which a write is refused; None where it is not."""
    if why := forged(request.headers):
        return 403, why
    if right is Right.WRITE:
        return None
    if not access.writable:
        return 403, "nobody may write here: set spec.observer.tokens.write, or spec.observer.clients.write"
    what = "writing needs the token of spec.observer.tokens.write as a bearer token, or a certificate that may write"
    return 401 if right is Right.NOTHING else 403, what


async def no_leader(question: Question[Any], timeout: float) -> Any:
    """Of a server that is no fleet's."""
    raise MemberUnavailable("there is no leader")


def make_app(
    view: View,
    known: KnownHosts,
    access: ObserverAccess,
    clock: Clock | None = None,
    ask: LeaderAsk = no_leader,
    audit: Audit | None = None,
) -> web.Application:
    """The aiohttp application; ``serve`` runs it. ``ask`` reaches the leader, ``audit`` keeps what it was asked for."""
    page, clock = status_page(), clock or SystemClock()
    audit = audit or Audit(clock)

    async def index(_: web.Request) -> web.Response:
        return web.Response(body=page, content_type="text/html", charset="utf-8", headers=SECURITY)

    async def metrics(request: web.Request) -> web.Response:
        accept, encodings = (",".join(request.headers.getall(name, [])) for name in ("Accept", "Accept-Encoding"))
        page = await view.metrics(accept, encodings, frozenset(request.query.getall("name[]", [])))
        headers = {**SECURITY, "Content-Type": page.content_type, "Vary": "Accept, Accept-Encoding"}
        if page.encoding:
            headers["Content-Encoding"] = page.encoding
        return web.Response(body=page.body, headers=headers)

    async def healthz(request: web.Request) -> web.Response:
        return _checks(await view.healthy(), "healthz", "verbose" in request.query)

    async def readyz(request: web.Request) -> web.Response:
        return _checks(await view.ready(), "readyz", "verbose" in request.query, str(await view.verdict()))

    async def timeline(request: web.Request) -> web.Response:
        parts = request.match_info
        namespace = "" if parts["namespace"] in ("-", "_") else parts["namespace"]
        found = await view.timeline(parts["cluster"], parts["kind"], namespace, parts["name"])
        if found is None:
            return json_answer({"error": "no recent step of this object is known", "path": request.path}, 404)
        return json_answer(found)

    async def explain(request: web.Request) -> web.Response:
        found = await view.explain(request.match_info["namespace"], request.match_info["name"])
        if found is None:
            return json_answer({"error": "the scheduler knows no such job", "path": request.path}, 404)
        return json_answer(found)

    async def jobs(request: web.Request) -> web.Response:
        try:
            query = read_query(request.query)
        except ValueError as refusal:
            return json_answer({"error": str(refusal), "path": request.path}, 400)
        found = await view.jobs(query)
        if found is None:
            error = "the hub's shard, which has the jobs, does not answer, or the fleet runs no BatchJob"
            return json_answer({"error": error, "path": request.path}, 503)
        return tagged_answer(found, request.headers.get("If-None-Match"))

    def listing(name: str, call: Callable[[], Awaitable[list[dict[str, Any]]]]) -> web.RouteDef:
        async def handler(_: web.Request) -> web.Response:
            return json_answer({name: await call()})

        return web.get(f"/api/v1/{name}", handler)

    async def status(_: web.Request) -> web.Response:
        return json_answer(await view.status())

    async def errors(_: web.Request) -> web.Response:
        return json_answer(await view.errors())

    async def history(request: web.Request) -> web.Response:
        query = request.query
        numbers = []
        for name in ("after", "seq"):
            given = query.get(name, "-1")
            if not _NUMBER.fullmatch(given):
                error = f"{name} is {given!r}: give the number of an earlier answer"
                return json_answer({"error": error, "path": request.path}, 400)
            numbers.append(int(given))
        answer = json_answer(await view.history(query.get("instance", ""), *numbers))
        answer.enable_compression()
        return answer

    async def changes(_: web.Request) -> web.Response:
        return json_answer({"changes": await view.changes()})

    async def overview(_: web.Request) -> web.Response:
        """All that the status page shows, in one answer."""
        return json_answer(
            {
                "status": await view.status(),
                "verdict": await view.verdict(),
                "attention": await view.attention(),
                "failing": (await view.errors())["failing"],
                "ready": await view.ready(),
                "controllers": await view.controllers(),
                "clusters": await view.clusters(),
                "shards": await view.shards(),
                "workers": await view.workers(),
                "lanes": await view.lanes(),
                "slo": await view.slo(),
                "errors": await view.errors(),
            }
        )

    app = web.Application(middlewares=[_errors, _hosts(known), _rights(access, audit)], client_max_size=LARGEST_BODY)
    app.add_routes(ActionRoutes(ask, clock, audit, access).routes())
    app.add_routes(
        [
            web.get("/", index),
            web.get("/metrics", metrics),
            web.get("/healthz", healthz),
            web.get("/livez", healthz),
            web.get("/readyz", readyz),
            web.get("/api/v1/status", status),
            web.get("/api/v1/overview", overview),
            web.get("/api/v1/history", history),
            web.get("/api/v1/changes", changes),
            web.get("/changes.json", changes),
            web.get("/api/v1/errors", errors),
            listing("attention", view.attention),
            listing("controllers", view.controllers),
            listing("clusters", view.clusters),
            listing("shards", view.shards),
            listing("workers", view.workers),
            listing("lanes", view.lanes),
            listing("slo", view.slo),
            web.get("/api/v1/jobs", jobs),
            listing("queues", view.queues),
            listing("capacity", view.capacity),
            web.get("/api/v1/explain/{namespace}/{name}", explain),
            # a namespace of "-" means cluster-scoped; a kind is VERSION/Kind or GROUP/VERSION/Kind, or Kind alone
            web.get("/api/v1/timeline/{cluster}/{kind:[^/]+(?:/[^/]+){0,2}}/{namespace}/{name}", timeline),
        ]
    )
    return app


class WebServer:
    """A running server."""

    def __init__(self, runner: web.AppRunner, host: str, port: int, scheme: str, node: str = LOOPBACK) -> None:
        self._scheme = scheme
        self._runner = runner
        self._node = node
        self.host = host
        self.port = port

    @property
    def url(self) -> str:
        """Where it is reached, from other nodes too where it listens on all addresses of its own."""
        return f"{self._scheme}://{reached_at(self.host, self._node)}:{self.port}"

    async def stop(self) -> None:
        await self._runner.cleanup()


ANYWHERE = ObserverSpec(port=0)
"""Any port of this host's own address, without access control."""


async def serve(
    view: View,
    spec: ObserverSpec = ANYWHERE,
    clock: Clock | None = None,
    port: int | None = None,
    ask: LeaderAsk = no_leader,
    audit: Audit | None = None,
    node: str = LOOPBACK,
) -> WebServer:
    """Listen as ``spec`` says, or on ``port`` (0: any free one), until ``stop``; ``ask`` and ``audit`` as in ``make_app``; ``node``
    is the address of this node. Raises ``OSError`` when the port is taken, ``AccessError`` where its files can't be used."""
    clock = clock or SystemClock()
    access = await asyncio.to_thread(ObserverAccess, spec, clock)
    host = spec.host
    app = make_app(view, KnownHosts([host, *spec.hosts, *await own_names()]), access, clock, ask, audit)
    runner = web.AppRunner(app, access_log=None, logger=_HTTP_LOG, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, host, spec.port if port is None else port, reuse_address=True, ssl_context=access.tls)
    try:
        await site.start()
    except OSError:
        await runner.cleanup()
        raise
    bound = runner.addresses[0]
    return WebServer(runner, host, int(bound[1]), "https" if access.tls is not None else "http", node)
