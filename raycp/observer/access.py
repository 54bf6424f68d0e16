"""Who may read the observer, and who may write: by token or client certificate (``spec.observer``).

Rules:

1. Without tokens and client certificates everybody may read, and nobody may write.
2. With any of them, who has none of them gets health and readiness without reasons, and nothing else.
3. A method other than GET and HEAD is a write. It needs the right to write, by a bearer token or a client certificate: never by
   what a browser sends to any page that asks (the password of a dialog). A request that names another ``Origin`` than this
   server is refused (Fetch Standard, "Origin header"): a page of others can't write with a browser's certificate.
4. What can't be read or is unfit (a file, a token that is too short) lets nobody in: the server does not listen, and says why.
5. Files are read again when they have changed. One that can't be read then changes nothing, and is logged.
"""

import base64
import binascii
import hmac
import logging
import os
import ssl
import urllib.parse
from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from raycp.base.clock import Clock
from raycp.base.regular_files import read_regular
from raycp.config.observer import ObserverSpec

log = logging.getLogger(__name__)

SHORTEST_TOKEN = 16
LONGEST_FILE = 64 * 1024

LOOK_EVERY = 5.0
"""Seconds between two looks at the files."""


class AccessError(Exception):
    """The settings can't be used; the message names the file and what to do."""


class Right(IntEnum):
    """What a request may do."""

    NOTHING = 0
    READ = 1
    WRITE = 2


class ObserverAccess:
    """One per server. Raises ``AccessError`` where it can't be set up (rule 4). Reads files: make it off the loop."""

    def __init__(self, spec: ObserverSpec, clock: Clock) -> None:
        self._spec = spec
        self._clock = clock
        self._tokens: dict[Right, bytes] = {}
        self._times: dict[str, int] = {}
        self._looked = clock.now()
        self.open = spec.tokens is None and spec.clients is None
        """Whether everybody may read."""
        if spec.clients is not None and spec.tls is None:
            raise AccessError("spec.observer.clients needs spec.observer.tls: a client certificate is shown in TLS only")
        self.tls: ssl.SSLContext | None = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if spec.tls is not None else None
        """The context to listen with; None for HTTP."""
        self._load()
        self._times = self._changes()

    def right(self, headers: Mapping[str, str], certificate: Mapping[str, Any] | None) -> Right:
        """What a request with these headers may do; ``certificate``: the client's, verified, as ``ssl`` shows it."""
        if self._clock.now() - self._looked >= LOOK_EVERY:
            self._look()
        found = Right.READ if self.open else Right.NOTHING
        if certificate and self._spec.clients is not None:
            names = {value for part in certificate.get("subject", ()) for name, value in part if name == "commonName"}
            found = Right.WRITE if names & set(self._spec.clients.write) else Right.READ
        scheme, _, given = headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return max(found, self._of_token(given.strip()))
        if scheme.lower() == "basic":  # of a browser: it sends this wherever it is asked to
            return max(found, min(Right.READ, self._of_token(_password(given))))
        return found

    def _of_token(self, given: str) -> Right:
        token = given.encode("utf-8", "replace")
        fits = [right for right, known in self._tokens.items() if hmac.compare_digest(known, token)]
        return max(fits, default=Right.NOTHING)

    # files

    def _paths(self) -> list[str]:
        spec = self._spec
        tokens = [spec.tokens.read, spec.tokens.write] if spec.tokens is not None else []
        tls = [spec.tls.cert, spec.tls.key] if spec.tls is not None else []
        return [path for path in [*tokens, *tls] if path is not None]

    def _changes(self) -> dict[str, int]:
        found = {}
        for path in self._paths():
            try:
                found[path] = os.stat(path).st_mtime_ns
            except OSError:
                found[path] = 0
        return found

    def _look(self) -> None:
        self._looked = self._clock.now()
        changes = self._changes()
        if changes == self._times:
            return
        self._times = changes
        try:
            self._load()
        except AccessError as error:
            log.warning("the observer goes on with what it has: %s", error)

    def _load(self) -> None:
        spec = self._spec
        tokens: dict[Right, bytes] = {}
        if spec.tokens is not None:
            for right, path in ((Right.READ, spec.tokens.read), (Right.WRITE, spec.tokens.write)):
                if path is not None:
                    tokens[right] = _token(path)
            if not tokens:
                raise AccessError("spec.observer.tokens names no file: set read, write, or both")
        if spec.tls is not None and self.tls is not None:
            try:
                self.tls.load_cert_chain(spec.tls.cert, spec.tls.key, password=lambda: "")
            except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
                raise AccessError(f"{spec.tls.cert} and {spec.tls.key} can't be used as certificate and key: {error}") from error
            if spec.clients is not None:
                try:
                    self.tls.load_verify_locations(spec.clients.ca)
                except (OSError, ValueError) as error:
                    raise AccessError(f"{spec.clients.ca} can't be used as certificate authority: {error}") from error
                self.tls.verify_mode = ssl.CERT_OPTIONAL
        self._tokens = tokens


def foreign_origin(headers: Mapping[str, str]) -> bool:
    """Whether a page of another server sends this request."""
    origin = headers.get("Origin")
    return origin is not None and urllib.parse.urlsplit(origin).netloc.lower() != headers.get("Host", "").lower()


def _token(path: str) -> bytes:
    try:
        token = read_regular(path, LONGEST_FILE).strip()
    except OSError as error:
        raise AccessError(f"{path} can't be read: {error.strerror or error}") from error
    if len(token) < SHORTEST_TOKEN:
        raise AccessError(f"the token in {path} has fewer than {SHORTEST_TOKEN} characters: make one with `openssl rand -hex 32`")
    return token


def _password(given: str) -> str:
    try:
        return base64.b64decode(given, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""
