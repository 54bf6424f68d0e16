"""Routing, authentication, authorization and non-resource paths. ``verbs`` handles requests of resources."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any
from urllib.parse import quote, unquote

import msgspec

from raycp.embedded.access import Access, Attributes
from raycp.embedded.admin import Admin
from raycp.embedded.auth import ANONYMOUS, Authenticator, User, certificate_user
from raycp.embedded.badanswers import CUT_WATCH, bad_answer, cut_answer
from raycp.embedded.discovery import DiscoveryEndpoints
from raycp.embedded.errors import (
    StatusError,
    bad_request,
    forbidden_path,
    internal,
    method_not_allowed,
    no_such_path,
    too_large,
)
from raycp.embedded.faults import Faults
from raycp.embedded.forms import error_in_protobuf, protobuf_answer, wants_protobuf
from raycp.embedded.health import health
from raycp.embedded.httpio import Answer, HttpConnection, HttpRequest, HttpResponse, header_line
from raycp.embedded.impersonation import PREFIX, impersonation
from raycp.embedded.intake import STRANGER_BODY, Heads
from raycp.embedded.options import check_timeout, first, flag, parse_query
from raycp.embedded.registry import Registry
from raycp.embedded.reviews import Reviews
from raycp.embedded.selectors import exact_name
from raycp.embedded.strategy.decode import PROTOBUF
from raycp.embedded.strategy.depth import TOO_DEEP
from raycp.embedded.subresources import Subresources
from raycp.embedded.verbs import ResourceRequest, Verbs

log = logging.getLogger(__name__)

_WRITES = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
LARGE = 1 << 20
"""bytes of an answer from which on it is made protobuf in a thread"""
_NOT_FOUND = HttpResponse(404, b"404 page not found\n", "text/plain; charset=utf-8")


class ApiServer:
    """Implements ``httpio.Handler``."""

    def __init__(
        self,
        registry: Registry,
        verbs: Verbs,
        subresources: Subresources,
        auth: Authenticator,
        access: Access,
        discovery: DiscoveryEndpoints,
        reviews: Reviews,
        admin: Admin,
        faults: Faults,
        max_body: int,
        gzip: bool,
    ) -> None:
        self.registry = registry
        self.verbs = verbs
        self.subresources = subresources
        self.auth = auth
        self.access = access
        self.discovery = discovery
        self.reviews = reviews
        self.admin = admin
        self.faults = faults
        self.max_body = max_body
        self.gzip = gzip
        self.heads = Heads()
        self.connections: set[HttpConnection] = set()
        self.wall = verbs.pipeline.times.wall

    # ---- httpio.Handler

    def certificate(self, transport: asyncio.BaseTransport) -> User | None:
        return certificate_user(transport.get_extra_info("peercert"))

    def body_limit(self, request: HttpRequest) -> int:
        """How many bytes of its body to keep: few of a client without credentials, none of one with wrong ones."""
        try:
            user = self.auth.user_of(request.headers.get(b"authorization"), request.connection.certificate)
        except StatusError:
            return 0
        return self.max_body if user is not ANONYMOUS else min(STRANGER_BODY, self.max_body)

    def handle(self, request: HttpRequest) -> Answer | Coroutine[Any, Any, Answer]:
        """Never raises."""
        if self.faults.armed:
            return self._under_faults(request)
        return self._answer(request)

    def _answer(self, request: HttpRequest) -> Answer | Coroutine[Any, Any, Answer]:
        try:
            answer = self._route(request)
        except Exception as error:
            return self.refusal(error, request)
        if isinstance(answer, HttpResponse) or not asyncio.iscoroutine(answer):
            return answer
        return self._guarded(answer, request)

    async def _guarded(self, answer: Coroutine[Any, Any, Answer], request: HttpRequest) -> Answer:
        try:
            return await answer
        except Exception as error:
            return self.refusal(error, request)

    async def _under_faults(self, request: HttpRequest) -> Answer:
        watch = flag(parse_query(request.query), "watch")
        fault = await self.faults.before(request.method, request.path, watch)
        cut = fault is not None and fault.action == "badAnswer" and fault.bad == "truncated"
        if cut and watch:
            return CUT_WATCH
        if fault is not None and not cut:
            if fault.action == "badAnswer":
                return bad_answer(fault.bad, request.path)
            if fault.action == "answer" and fault.error is not None:
                return self.refusal(fault.error, request)
            if fault.action == "halfOpen":
                await asyncio.Event().wait()  # until the client closes the connection
            return None
        answer = self._answer(request)
        if asyncio.iscoroutine(answer):
            answer = await answer
        return cut_answer(answer) if cut and isinstance(answer, HttpResponse) else answer

    @staticmethod
    def refusal(error: Exception, request: HttpRequest) -> HttpResponse:
        """The Status of an error."""
        if isinstance(error, RecursionError):
            error = bad_request(TOO_DEEP)
        elif not isinstance(error, StatusError):
            log.error("a request failed", exc_info=error)
            error = internal(f"{type(error).__name__}: {error}")
        headers = b"".join(header_line(name, value) for name, value in error.headers.items())
        body = msgspec.json.encode(error.status())
        if error_in_protobuf(request.headers.get(b"accept")):
            return HttpResponse(error.code, protobuf_answer(body), PROTOBUF, headers)
        return HttpResponse(error.code, body, "application/json", headers)

    async def _in_protobuf(self, answer: Answer | Coroutine[Any, Any, Answer]) -> Answer:
        """An answer of a resource in protobuf. A large one is encoded beside the loop."""
        if asyncio.iscoroutine(answer):
            answer = await answer
        if isinstance(answer, HttpResponse) and answer.content_type == "application/json":
            if len(answer.body) < LARGE:
                answer.body = protobuf_answer(answer.body)
            else:
                answer.body = await asyncio.get_running_loop().run_in_executor(None, protobuf_answer, answer.body)
            answer.content_type = PROTOBUF
        return answer

    # ---- routing

    def _route(self, request: HttpRequest) -> Answer | Coroutine[Any, Any, Answer]:
        if "timeout=" in request.query:
            check_timeout(request.path, request.query)
        user = self.auth.user_of(request.headers.get(b"authorization"), request.connection.certificate)
        for name in request.headers:
            if name.startswith(PREFIX):
                user = self._impersonate(request, user)
                break
        if request.too_large:
            raise too_large(self.max_body)
        path = request.path
        if path.startswith(("/api/", "/apis/")):
            parts = path.split("/")
            if "%" in path:
                parts = [unquote(part) for part in parts]
            if parts[-1] == "":
                parts.pop()
            core = parts[1] == "api"
            at = 3 if core else 4
            if len(parts) > at:
                answer = self._resource(request, user, "" if core else parts[2], parts[at - 1], parts[at:])
                return self._in_protobuf(answer) if wants_protobuf(request.headers.get(b"accept")) else answer
        return self._other(request, user, path.rstrip("/") or "/")

    def _impersonate(self, request: HttpRequest, user: User) -> User:
        wanted = impersonation(request.pairs)
        if wanted is None:
            return user
        for each in wanted.asked:
            self.access.check(user, each)
        return wanted.user

    def _resource(
        self, request: HttpRequest, user: User, group: str, version: str, rest: list[str]
    ) -> Answer | Coroutine[Any, Any, Answer]:
        method = request.method
        query = request.query
        watching = bool(query) and "watch" in query and flag(parse_query(query), "watch")
        if rest[0] == "watch" and len(rest) > 1:  # the legacy prefix
            watching, rest = True, rest[1:]
        ns = ""
        if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize"):
            ns, rest = rest[1], rest[2:]
        plural = rest[0]
        name = rest[1] if len(rest) > 1 else ""
        sub = rest[2] if len(rest) > 2 else ""
        if method in ("GET", "HEAD"):
            verb = "get" if name else "list"
            if watching and not sub:
                verb = "watch"
        elif method == "DELETE" and not name:
            verb = "deletecollection"
        else:
            verb = _WRITES.get(method, "")
        if self.access.enforced or user is ANONYMOUS or user.name == ANONYMOUS.name:
            # a request of a namespace is in that namespace, and a list or watch of one name is of that object, as in RequestInfo
            inside = ns or (name if plural == "namespaces" and not group else "")
            named = name if verb not in ("list", "watch") else name or _selected_name(query)
            self.access.check(user, Attributes(verb, group, version, plural, sub, inside, named))
        resource = self.registry.find(group, version, plural)
        if resource is None:
            if not any(g == group and v == version for g, v, _ in self.registry.resources):
                return _NOT_FOUND
            raise no_such_path()
        info = resource.info
        if bool(ns) and not info.namespaced:
            raise no_such_path()
        if not verb:
            raise method_not_allowed()
        if name and verb == "watch":
            request.query = _of_name(query, name)
            name = ""
        call = ResourceRequest(request, user, resource, ns, name, sub, verb)
        if len(rest) > 2:
            return self.subresources.handle(call, rest[3:])
        if info.plural == "bindings" and not info.group and method == "POST" and ns and not name:
            return self.subresources.bind_collection(call)
        if resource.virtual:
            if method != "POST" or name:
                if info.plural == "componentstatuses" and method == "GET":
                    return self.reviews.components(call)
                raise method_not_allowed()
            return self.reviews.handle(call)
        if info.namespaced and not ns and (name or verb not in ("list", "watch")):
            raise no_such_path() if name and verb == "get" else method_not_allowed()
        if (verb == "create") is bool(name) and verb in ("create", "update", "patch"):
            raise method_not_allowed()
        return self.verbs.handle(call)

    def _other(self, request: HttpRequest, user: User, path: str) -> Answer | Coroutine[Any, Any, Answer]:
        verb = request.method.lower()
        if not self.access.may_path(user, verb, path):
            raise forbidden_path(user.name, verb, path)
        if path.startswith("/raycp/admin"):
            return self.admin.handle(request, user)
        healthy = health(path, request.query)
        if healthy is not None:
            return healthy
        accept, host, known = (request.header(name) for name in (b"accept", b"host", b"if-none-match"))
        found = self.discovery.handle(path, request.query, accept, host, known)
        if found is None:
            return HttpResponse(404, _NOT_FOUND.body, _NOT_FOUND.content_type)
        if request.method not in ("GET", "HEAD"):
            raise method_not_allowed()
        return found


def _of_name(query: str, name: str) -> str:
    """The query of a watch of the object ``name``, which the user may watch. Raises 400 where its own field selector is of others
    (``ListResource`` of the API server)."""
    given = first(parse_query(query), "fieldSelector")
    if not given:
        return f"fieldSelector=metadata.name%3D{quote(name, safe='')}&{query}"
    if exact_name(given) != name:
        raise bad_request("fieldSelector metadata.name doesn't match requested name")
    return query


def _selected_name(query: str) -> str:
    """The only name that the field selector of a list or watch leaves, or an empty string."""
    given = parse_query(query).get("fieldSelector") if "fieldSelector" in query else None
    try:
        return exact_name(given[0]) if given else ""
    except StatusError:  # the list itself says so
        return ""
