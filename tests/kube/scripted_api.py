"""A small scripted API server on real sockets, for fault matrices: ConfigMaps, over TLS.

``server.faults`` holds callables tried in turn before each request; one that returns not None is used up.
"""

import asyncio
import datetime
import ipaddress
import itertools
import json
import ssl
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from raycp.kube import ConnectSpec

Fault = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


class Authority:
    """A throw-away CA."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "scripted-ca")])
        self.cert = self._build(name, name, self.key.public_key(), ca=True)
        self.pem = self.cert.public_bytes(serialization.Encoding.PEM).decode()

    def _build(self, subject: x509.Name, issuer: x509.Name, public: Any, *, ca: bool) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if not ca:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def issue(self, common_name: str) -> tuple[str, str]:
        """Certificate and key, as PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        cert = self._build(subject, self.cert.subject, key.public_key(), ca=False)
        form = serialization.PrivateFormat.PKCS8
        pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
        return cert.public_bytes(serialization.Encoding.PEM).decode(), pem


def status(code: int, reason: str, message: str = "", **details: Any) -> dict[str, Any]:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message or reason,
        "details": details,
    }


class ScriptedApi:
    """``watchlist``: whether it has sendInitialEvents. ``versions``: the running resourceVersion."""

    def __init__(self, *, watchlist: bool = False, tls: bool = True, require_client_cert: bool = False) -> None:
        self.authority = Authority()
        self.watchlist = watchlist
        self.tls = tls
        self.require_client_cert = require_client_cert
        self.token: str | None = "secret-token-1"
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.history: list[tuple[int, str, dict[str, Any]]] = []
        self.compacted = 0
        self.rv = 100
        self.uids = itertools.count(1)
        self.system_uid = "kube-system-1"
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.headers: list[dict[str, str]] = []
        self.bookmark_every = 0.05
        self.skip_initial_end = False
        self.mute_watch = False
        self._changed = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    async def start(self, port: int = 0) -> None:
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        context = None
        if self.tls:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            cert, key = self.authority.issue("scripted")
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "pair.pem")
                path.write_text(cert + key)  # noqa: ASYNC240
                context.load_cert_chain(path)
            if self.require_client_cert:
                context.load_verify_locations(cadata=self.authority.pem)
                context.verify_mode = ssl.CERT_REQUIRED
        site = web.TCPSite(self._runner, "127.0.0.1", port, ssl_context=context)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            self.mute_watch = False
            await self._runner.cleanup()
            self._runner = None

    # -- content

    def put(self, name: str, namespace: str = "default", **change: Any) -> dict[str, Any]:
        """Create or change a ConfigMap; ``change`` is merged into ``data``, ``labels`` replaces the labels."""
        self.rv += 1
        old = self.objects.get((namespace, name))
        labels = change.pop("labels", (old or {"metadata": {}})["metadata"].get("labels"))
        meta = {
            "name": name,
            "namespace": namespace,
            "uid": old["metadata"]["uid"] if old else f"uid-{next(self.uids)}",
            "resourceVersion": str(self.rv),
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "managedFields": [{"manager": "m", "operation": "Update", "time": "2026-01-01T00:00:05Z"}],
        }
        if labels:
            meta["labels"] = labels
        found = {
            "kind": "ConfigMap",
            "apiVersion": "v1",
            "metadata": meta,
            "data": {**((old or {}).get("data") or {}), **{k: str(v) for k, v in change.items()}},
        }
        self.objects[namespace, name] = found
        self._note("MODIFIED" if old else "ADDED", found)
        return found

    def drop(self, name: str, namespace: str = "default") -> dict[str, Any]:
        self.rv += 1
        deleted = self.objects.pop((namespace, name))
        deleted = {**deleted, "metadata": {**deleted["metadata"], "resourceVersion": str(self.rv)}}
        self._note("DELETED", deleted)
        return deleted

    def compact(self) -> None:
        """Forget all history: watches from earlier versions get 410."""
        self.compacted = self.rv
        self.history.clear()

    def _note(self, kind: str, obj: dict[str, Any]) -> None:
        self.history.append((self.rv, kind, obj))
        self._changed.set()
        self._changed = asyncio.Event()

    def count(self, method: str, **query: str) -> int:
        """Requests seen with that method and those query values."""
        return sum(m == method and all(q.get(k) == v for k, v in query.items()) for m, _, q in self.requests)

    # -- HTTP

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        query = dict(request.query)
        self.requests.append((request.method, request.path, query))
        self.headers.append(dict(request.headers))
        for fault in list(self.faults):
            answer = await fault(request)
            if answer is not None:
                if fault in self.faults:
                    self.faults.remove(fault)
                return answer
        if self.token and not self.require_client_cert and request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.json_response(status(401, "Unauthorized"), status=401)
        path = request.path
        if path == "/version":
            return web.json_response({"gitVersion": "v1.36.0-scripted", "major": "1", "minor": "36"})
        if path == "/api/v1":
            verbs = ["create", "delete", "get", "list", "patch", "update", "watch"]
            resources = [
                {"name": "configmaps", "kind": "ConfigMap", "namespaced": True, "verbs": verbs},
                {"name": "pods", "kind": "Pod", "namespaced": True, "verbs": verbs},
                {"name": "pods/status", "kind": "Pod", "namespaced": True, "verbs": ["get", "patch", "update"]},
            ]
            return web.json_response({"kind": "APIResourceList", "groupVersion": "v1", "resources": resources})
        if path == "/api/v1/namespaces/kube-system":
            return web.json_response({"kind": "Namespace", "metadata": {"name": "kube-system", "uid": self.system_uid}})
        if path == "/api/v1/configmaps":
            return await self._watch(request, query) if query.get("watch") == "true" else self._list(query)
        parts = path.strip("/").split("/")
        if parts[:3] == ["api", "v1", "namespaces"] and parts[4:5] == ["configmaps"]:
            return await self._one(request, parts[3], parts[5] if len(parts) > 5 else "")
        return web.json_response(status(404, "NotFound", "the server could not find the requested resource"), status=404)

    def _list(self, query: dict[str, str]) -> web.StreamResponse:
        items = [self.objects[key] for key in sorted(self.objects)]
        start = int(query.get("continue") or 0)
        limit = int(query.get("limit") or 0) or len(items)
        wanted = int(query.get("resourceVersion") or 0)
        if wanted > self.rv:
            body = status(504, "Timeout", f"Too large resource version: {wanted}, current: {self.rv}", retryAfterSeconds=1)
            return web.json_response(body, status=504)
        meta = {"resourceVersion": str(self.rv)}
        if start + limit < len(items):
            meta["continue"] = str(start + limit)
        page = [{k: v for k, v in i.items() if k not in ("kind", "apiVersion")} for i in items[start : start + limit]]
        return web.json_response({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": meta, "items": page})

    async def _watch(self, request: web.Request, query: dict[str, str]) -> web.StreamResponse:
        since = int(query.get("resourceVersion") or 0)
        initial = query.get("sendInitialEvents") == "true"
        if initial and not self.watchlist:
            body = status(422, "Invalid", "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled")
            return web.json_response(body, status=422)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)

        async def send(kind: str, obj: dict[str, Any]) -> None:
            await response.write(json.dumps({"type": kind, "object": obj}).encode() + b"\n")

        def bookmark(rv: int, *, end: bool = False) -> dict[str, Any]:
            meta: dict[str, Any] = {"resourceVersion": str(rv)}
            if end:
                meta["annotations"] = {"k8s.io/initial-events-end": "true"}
            return {"kind": "ConfigMap", "apiVersion": "v1", "metadata": meta}

        if since and since < self.compacted and not initial:
            await send("ERROR", status(410, "Expired", f"too old resource version: {since} ({self.compacted})"))
            return response
        if initial:
            since = self.rv
            for key in sorted(self.objects):
                await send("ADDED", self.objects[key])
            if self.skip_initial_end:
                return response
            await send("BOOKMARK", bookmark(since, end=True))
        elif not since:
            since = self.rv
        end = asyncio.get_running_loop().time() + float(query.get("timeoutSeconds") or 3600)
        while asyncio.get_running_loop().time() < end:
            if self.mute_watch:
                await asyncio.sleep(0.02)
                continue
            for rv, kind, obj in [entry for entry in self.history if entry[0] > since]:
                await send(kind, obj)
                since = rv
            changed = self._changed
            try:
                await asyncio.wait_for(changed.wait(), self.bookmark_every)
            except TimeoutError:
                if not self.mute_watch:
                    since = max(since, self.rv if not self.history or self.history[-1][0] <= since else since)
                    await send("BOOKMARK", bookmark(since))
        return response

    async def _one(self, request: web.Request, namespace: str, name: str) -> web.StreamResponse:
        if request.method == "POST":
            body = await request.json()
            name = body["metadata"]["name"]
            if (namespace, name) in self.objects:
                return web.json_response(status(409, "AlreadyExists"), status=409)
            labels = body["metadata"].get("labels") or {}
            return web.json_response(self.put(name, namespace, labels=labels, **(body.get("data") or {})), status=201)
        found = self.objects.get((namespace, name))
        if found is None:
            return web.json_response(status(404, "NotFound", f'configmaps "{name}" not found', name=name), status=404)
        if request.method == "DELETE":
            self.drop(name, namespace)
            return web.json_response({"kind": "Status", "status": "Success"})
        if request.method in ("PUT", "PATCH"):
            return web.json_response(self.put(name, namespace, **((await request.json()).get("data") or {})))
        return web.json_response(found)


# -- clients


def direct(server: ScriptedApi, /, **change: object) -> ConnectSpec:
    fields: dict[str, object] = {
        "server": server.url,
        "ca_pem": server.authority.pem,
        "token": server.token,
        "timeout": 5.0,
    }
    return ConnectSpec(name="c1", mode="direct", **{**fields, **change})  # type: ignore[arg-type]


# -- faults


def once_for(match: Callable[[web.Request], bool], act: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Fault:
    """Act on the first request that matches."""

    used = False

    async def fault(request: web.Request) -> web.StreamResponse | None:
        nonlocal used
        if used or not match(request):
            return None
        used = True
        return await act(request)

    return fault


def is_watch(request: web.Request) -> bool:
    return request.query.get("watch") == "true" and "sendInitialEvents" not in request.query


def is_list(request: web.Request) -> bool:
    return request.method == "GET" and request.path == "/api/v1/configmaps" and "watch" not in request.query


def answer(code: int, reason: str, headers: dict[str, str] | None = None) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def act(request: web.Request) -> web.StreamResponse:
        return web.json_response(status(code, reason), status=code, headers=headers)

    return act


async def reset(request: web.Request) -> web.StreamResponse:
    """RST instead of an answer."""
    import socket
    import struct

    assert request.transport is not None
    sock = request.transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.transport.abort()
    return web.Response()


async def hang(request: web.Request) -> web.StreamResponse:
    """Half-open: the request was read, nothing is ever answered."""
    await asyncio.sleep(3600)
    return web.Response()


async def short_watch(request: web.Request) -> web.StreamResponse:
    """A watch that ends at once, without events."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    return response


async def cut_in_line(request: web.Request) -> web.StreamResponse:
    """A watch that breaks off in the middle of a line."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    await response.write(b'{"type":"ADDED","object":{"metadata":{"name":"ha')
    assert request.transport is not None
    request.transport.abort()
    return response
