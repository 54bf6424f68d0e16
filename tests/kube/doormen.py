"""Servers and proxies that let some in and note who came: the stage on which kubectl and raycp are compared.

They run on a thread of their own, so that a test may wait for a program.
"""

import asyncio
import base64
import contextlib
import datetime
import ipaddress
import json
import ssl
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

TOKEN = "the-good-token"
GUEST = "the-other-token"  # of another user, who may come in as well
PERSON = "me"
FAR = "api.far.test"  # a name that only the proxies resolve


class Pair(NamedTuple):
    cert: str
    key: str


class Signer:
    """A throw-away CA, or with ``issuer`` an intermediate one."""

    def __init__(self, name: str, issuer: "Signer | None" = None) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.pem = (issuer or self).sign(self.name, self.key, ca=True)

    def sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        *,
        ca: bool = False,
        names: list[str] | None = None,
        days: int = 1,
    ) -> str:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=3))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    def pair(self, common_name: str, names: list[str] | None = None, days: int = 1, passphrase: bytes | None = None) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        cert = self.sign(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]), key, names=names, days=days)
        hidden = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
        form = serialization.PrivateFormat.TraditionalOpenSSL if passphrase else serialization.PrivateFormat.PKCS8
        return Pair(cert, key.private_bytes(serialization.Encoding.PEM, form, hidden).decode())


def _general(name: str) -> x509.GeneralName:
    with contextlib.suppress(ValueError):
        return x509.IPAddress(ipaddress.ip_address(name))
    return x509.DNSName(name)


def id_token(seconds: float, person: str = PERSON) -> str:
    """A JWT that ends in so many seconds; nobody checks its signature."""
    expires = int(datetime.datetime.now(datetime.UTC).timestamp() + seconds)
    parts = ({"alg": "none"}, {"sub": person, "exp": expires})
    return ".".join([*(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts), "x"])


class Visit(NamedTuple):
    """One request: where, as whom, and what else the server saw. ``sni`` is the server name of the TLS handshake."""

    server: str
    path: str
    authorization: str
    certificate: str
    impersonation: tuple[str, ...]
    sni: str


@dataclass
class Doormen:
    """All servers, and what they saw since ``forget``. ``tunnels`` has the name of a proxy for each that was used."""

    folder: Path
    ca: Signer = field(default_factory=lambda: Signer("root"))
    other: Signer = field(default_factory=lambda: Signer("other root"))
    visits: list[Visit] = field(default_factory=list)
    tunnels: list[str] = field(default_factory=list)
    ports: dict[str, int] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=lambda: {TOKEN, GUEST})

    def forget(self) -> None:
        self.visits.clear()
        self.tunnels.clear()

    def __enter__(self) -> "Doormen":
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)

    async def _start(self) -> None:
        middle = Signer("intermediate", self.ca)
        here = ["localhost", "127.0.0.1"]
        leaf = middle.pair("chained", here)
        own = Signer("own")
        alone = own.pair("alone", here)
        servers = {
            "main": self.ca.pair("main", here),
            "far": self.ca.pair("far", [FAR]),
            "nameless": self.ca.pair("localhost"),
            "chained": Pair(leaf.cert + middle.pem, leaf.key),
            "expired": self.ca.pair("expired", here, days=-1),
            "alone": alone,
        }
        for name, pair in servers.items():
            await self._listen(name, self._api(name), self._context(name, pair))
        await self._listen("plain", self._api("plain"), None)
        proxy_pair = self.ca.pair("proxy", here)
        await self._listen("http-proxy", self._http_proxy("http-proxy", ""), None)
        await self._listen("closed-proxy", self._http_proxy("closed-proxy", "me:p@ss"), None)
        await self._listen("https-proxy", self._http_proxy("https-proxy", ""), self._context("https-proxy", proxy_pair))
        await self._listen("socks", self._socks("socks", ""), None)
        await self._listen("closed-socks", self._socks("closed-socks", "me:pw"), None)
        await self._listen("issuer", self._issuer, self._context("issuer", self.ca.pair("issuer", here)))
        person, stranger = self.ca.pair(PERSON), self.other.pair("stranger")
        locked = self.ca.pair(PERSON, passphrase=b"x")
        self.texts = {
            "ca": self.ca.pem,
            "other-ca": self.other.pem,
            "middle-ca": middle.pem,
            "alone-ca": alone.cert,
            "cert": person.cert,
            "key": person.key,
            "stranger-cert": stranger.cert,
            "stranger-key": stranger.key,
            "locked-cert": locked.cert,
            "locked-key": locked.key,
            "good-jwt": id_token(3600),
            "old-jwt": id_token(-3600),
        }
        self.tokens |= {self.texts["good-jwt"], self.texts["old-jwt"]}

    async def _listen(self, name: str, serve: Callable[..., Awaitable[None]], context: ssl.SSLContext | None) -> None:
        async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await serve(reader, writer)
            writer.close()

        server = await asyncio.start_server(guarded, "127.0.0.1", 0, ssl=context)
        self.ports[name] = server.sockets[0].getsockname()[1]

    def _context(self, name: str, pair: Pair) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(cadata=self.ca.pem)
        path = self.folder / f"{name}.pem"
        path.write_text(pair.cert + pair.key)
        context.load_cert_chain(path)

        def note(connection: Any, server_name: str | None, _: ssl.SSLContext) -> None:
            connection.asked_for = (server_name or "").lower()

        context.sni_callback = note
        return context

    # -- what they do

    def _api(self, name: str) -> Callable[..., Awaitable[None]]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").splitlines()
                headers = [(key.lower(), value.strip()) for key, _, value in (line.partition(":") for line in lines[1:])]
                connection = writer.get_extra_info("ssl_object")
                subject = dict(part[0] for part in ((connection.getpeercert() or {}) if connection else {}).get("subject", ()))
                visit = Visit(
                    name,
                    lines[0].split()[1].partition("?")[0],
                    next((value for key, value in headers if key == "authorization"), ""),
                    subject.get("commonName", ""),
                    tuple(sorted(f"{key}={value}" for key, value in headers if key.startswith("impersonate"))),
                    getattr(connection, "asked_for", ""),
                )
                self.visits.append(visit)
                known = visit.authorization.removeprefix("Bearer ") in self.tokens or visit.certificate == PERSON
                body: dict[str, Any] = {
                    "kind": "Status",
                    "apiVersion": "v1",
                    "code": 401,
                    "reason": "Unauthorized",
                    "status": "Failure",
                }
                if known or name == "plain":
                    body = {"major": "1", "minor": "34", "gitVersion": "v1.34.0"}
                self._answer(writer, "401 Unauthorized" if "code" in body else "200 OK", body)

        return serve

    @staticmethod
    def _answer(writer: asyncio.StreamWriter, status: str, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        writer.write(head.encode() + content)

    async def _issuer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """An OpenID provider: renews whatever it is asked for."""
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next((int(line.split(b":")[1]) for line in head.splitlines() if line.lower().startswith(b"content-length")), 0)
            form = (await reader.readexactly(length)).decode()
            url = f"https://127.0.0.1:{self.ports['issuer']}"
            if b"/.well-known/" in head:
                self._answer(writer, "200 OK", {"issuer": url, "token_endpoint": f"{url}/token"})
            elif "refresh_token=renew-me" in form:
                token = self.texts["good-jwt"]
                self._answer(
                    writer, "200 OK", {"id_token": token, "access_token": "x", "token_type": "Bearer", "refresh_token": "renew-me"}
                )
            else:
                self._answer(writer, "400 Bad Request", {"error": "invalid_grant"})

    def _http_proxy(self, name: str, login: str) -> Callable[..., Awaitable[None]]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            self.tunnels.append(name)
            expected = f"proxy-authorization: basic {base64.b64encode(login.encode()).decode()}".lower()
            if login and expected not in head.lower():
                writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                return
            verb, where = head.split()[:2]
            if verb == "CONNECT" and where.endswith(f":{self.ports['plain']}"):  # as most proxies: tunnels are for TLS
                writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                return
            if verb == "CONNECT":
                there = await self._there(*where.rsplit(":", 1))
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:  # a request in absolute form
                host, _, port = where.split("/")[2].partition(":")
                there = await self._there(host, port)
                there[1].write(head.replace(where, "/" + where.split("/", 3)[3], 1).encode("latin-1"))
            await _pump(reader, writer, there)

        return serve

    def _socks(self, name: str, login: str) -> Callable[..., Awaitable[None]]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            methods = await reader.readexactly((await reader.readexactly(2))[1])
            self.tunnels.append(name)
            wanted = 2 if login else 0
            writer.write(bytes([5, wanted if wanted in methods else 255]))
            if wanted not in methods:
                return
            if login:
                user = await reader.readexactly((await reader.readexactly(2))[1])
                password = await reader.readexactly((await reader.readexactly(1))[0])
                right = user + b":" + password == login.encode()
                writer.write(bytes([1, 0 if right else 1]))
                if not right:
                    return
            kind = (await reader.readexactly(4))[3]
            if kind == 3:
                host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
            else:
                host = str(ipaddress.ip_address(await reader.readexactly(4 if kind == 1 else 16)))
            port = int.from_bytes(await reader.readexactly(2), "big")
            there = await self._there(host, str(port))
            writer.write(b"\x05\x00\x00\x03\x05proxy\x00\x01")
            await _pump(reader, writer, there)

        return serve

    async def _there(self, host: str, port: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if host == FAR:
            return await asyncio.open_connection("127.0.0.1", self.ports["far"])
        if host == "10.1.2.3":
            return await asyncio.open_connection("127.0.0.1", self.ports["main"])
        return await asyncio.open_connection(host, int(port))


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, there: tuple[asyncio.StreamReader, asyncio.StreamWriter]
) -> None:
    async def one(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                sink.write(data)
        sink.close()

    await asyncio.gather(one(reader, there[1]), one(there[0], writer))
