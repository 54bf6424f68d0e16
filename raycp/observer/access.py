"""Who may read the observer, and who may write: by token or client certificate (``spec.observer``).

Rules:

1. Without tokens and client certificates everybody may read, and nobody may write.
2. With any of them, who has none of them gets health and readiness without reasons, and nothing else.
3. A method other than GET and HEAD is a write. It needs the right to write, by a bearer token or a client certificate: never by
   what a browser sends to any page that asks (the password of a dialog). So that no page of others writes with a browser's
   certificate, a write has the header ``WRITE_HEADER``, which a browser sends to another server only if that agrees beforehand
   (Fetch Standard, "CORS-preflight request"), and is refused where it names another ``Origin`` than this server or a
   ``Sec-Fetch-Site`` other than ``same-origin``.
4. What can't be read or is unfit (a file, a token that is too short) lets nobody in: the server does not listen, and says why.
5. Files are read again when they have changed, before a request is answered or a TLS connection begins: who has a certificate of a
   new authority, or does not take one that has expired, comes to no request. One that can't be read then changes nothing, and is
   logged.
"""

import base64
import hmac
import logging
import os
import ssl
import urllib.parse
from collections.abc import Mapping
from enum import IntEnum
from typing import Any, NamedTuple

from raycp.base.clock import Clock
from raycp.base.regular_files import read_regular
from raycp.config.observer import ObserverSpec

log = logging.getLogger(__name__)

SHORTEST_TOKEN = 16
LONGEST_FILE = 64 * 1024
LARGEST_PEM = 1 << 20

LOOK_EVERY = 5.0
"""Seconds between two looks at the files."""


WRITE_HEADER = "X-Raycp-Action"
"""The header without which nothing is written; its value does not matter."""


class AccessError(Exception):
    """The settings can't be used; the message names the file and what to do."""


class Right(IntEnum):
    """What a request may do."""

    NOTHING = 0
    READ = 1
    WRITE = 2


class Caller(NamedTuple):
    """Who sends a request, as far as it shows: ``name`` says by what it is known, and is empty for nobody."""

    right: Right
    name: str = ""


class ObserverAccess:
    """One per server. Raises ``AccessError`` where it can't be set up (rule 4). Reads files: make it off the loop."""

    def __init__(self, spec: ObserverSpec, clock: Clock) -> None:
        self._spec = spec
        self._clock = clock
        self._looked = clock.now()
        self.open = spec.tokens is None and spec.clients is None
        """Whether everybody may read."""
        if spec.clients is not None and spec.tls is None:
            raise AccessError("spec.observer.clients needs spec.observer.tls: a client certificate is shown in TLS only")
        self._times = self._changes()  # before they are read: what changes meanwhile is read again
        self._tokens, self._newest = self._read()
        self.tls = self._newest
        """The context to listen with; None for HTTP. Each connection changes to the newest as it begins."""
        if self.tls is not None:
            self.tls.sni_callback = self._begins

    @property
    def writable(self) -> bool:
        """Whether anybody may write."""
        spec = self._spec
        return Right.WRITE in self._tokens or (spec.clients is not None and bool(spec.clients.write))

    def caller(self, headers: Mapping[str, str], certificate: Mapping[str, Any] | None) -> Caller:
        """Who sends a request with these headers, and what it may do; ``certificate``: the client's, verified, as ``ssl`` shows
        it."""
        self._look()
        found = Caller(Right.READ if self.open else Right.NOTHING)
        if certificate and self._spec.clients is not None:
            names = {value for part in certificate.get("subject", ()) for name, value in part if name == "commonName"}
            right = Right.WRITE if names & set(self._spec.clients.write) else Right.READ
            found = Caller(right, f"certificate {', '.join(sorted(names))}")
        scheme, _, given = headers.get("Authorization", "").partition(" ")
        shown = Right.NOTHING
        if scheme.lower() == "bearer":
            shown = self._of_token(given.strip())
        elif scheme.lower() == "basic":  # of a browser: it sends this wherever it is asked to
            shown = min(Right.READ, self._of_token(_password(given)))
        return Caller(shown, f"{shown.name.lower()} token") if shown > found.right else found

    def _of_token(self, given: str) -> Right:
        token = given.encode("utf-8", "replace")
        fits = [right for right, known in self._tokens.items() if hmac.compare_digest(known, token)]
        return max(fits, default=Right.NOTHING)

    # files

    def _paths(self) -> list[str]:
        spec = self._spec
        tokens = [spec.tokens.read, spec.tokens.write] if spec.tokens is not None else []
        tls = [spec.tls.cert, spec.tls.key] if spec.tls is not None else []
        clients = [spec.clients.ca] if spec.clients is not None else []
        return [path for path in [*tokens, *tls, *clients] if path is not None]

    def _changes(self) -> dict[str, int]:
        found = {}
        for path in self._paths():
            try:
                found[path] = os.stat(path).st_mtime_ns
            except OSError:
                found[path] = 0
        return found

    def _begins(self, connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _listening: ssl.SSLContext) -> None:
        self._look()
        if self._newest is not None:
            connection.context = self._newest

    def _look(self) -> None:
        if self._clock.now() - self._looked < LOOK_EVERY:
            return
        self._looked = self._clock.now()
        changes = self._changes()
        if changes == self._times:
            return
        self._times = changes
        try:
            self._tokens, self._newest = self._read()
        except AccessError as error:
            log.warning("the observer goes on with what it has: %s", error)

    def _read(self) -> tuple[dict[Right, bytes], ssl.SSLContext | None]:
        spec = self._spec
        tokens: dict[Right, bytes] = {}
        if spec.tokens is not None:
            for right, path in ((Right.READ, spec.tokens.read), (Right.WRITE, spec.tokens.write)):
                if path is not None:
                    tokens[right] = _token(path)
            if not tokens:
                raise AccessError("spec.observer.tokens names no file: set read, write, or both")
        return tokens, self._context()

    def _context(self) -> ssl.SSLContext | None:
        """What the files say now; None for HTTP. A new one each time, since an authority can't be taken out of one."""
        spec = self._spec
        if spec.tls is None:
            return None
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            _readable(spec.tls.cert, spec.tls.key)
            made.load_cert_chain(spec.tls.cert, spec.tls.key, password=lambda: "")
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise AccessError(f"{spec.tls.cert} and {spec.tls.key} can't be used as certificate and key: {error}") from error
        if spec.clients is not None:
            try:
                _readable(spec.clients.ca)
                made.load_verify_locations(spec.clients.ca)
            except (OSError, ValueError) as error:
                raise AccessError(f"{spec.clients.ca} can't be used as certificate authority: {error}") from error
            made.verify_mode = ssl.CERT_OPTIONAL
            made.num_tickets = 0  # a session that is resumed shows no certificate
        return made


def forged(headers: Mapping[str, str]) -> str:
    """Why a write may be another page's doing; empty where it is not."""
    origin = headers.get("Origin")
    if origin is not None and _server_of(origin) != headers.get("Host", "").lower():
        return "a page of another server may not write here"
    if headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
        return "only this server's own page may write here"
    return "" if headers.get(WRITE_HEADER) else f"a write needs the header {WRITE_HEADER}, with any value"


def _server_of(origin: str) -> str | None:
    """Host and port of an ``Origin``; None where it is none."""
    try:
        return urllib.parse.urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def _token(path: str) -> bytes:
    try:
        token = read_regular(path, LONGEST_FILE).strip()
    except OSError as error:
        raise AccessError(f"{path} can't be read: {error.strerror or error}") from error
    if len(token) < SHORTEST_TOKEN:
        raise AccessError(f"the token in {path} has fewer than {SHORTEST_TOKEN} characters: make one with `openssl rand -hex 32`")
    return token


def _readable(*paths: str) -> None:
    """Raises ``OSError`` for what is no file of reasonable size: OpenSSL would wait at a FIFO for ever."""
    for path in paths:
        read_regular(path, LARGEST_PEM)


def _password(given: str) -> str:
    try:
        return base64.b64decode(given, validate=True).decode().partition(":")[2]
    except ValueError:  # no base64, or no text
        return ""
