"""The bytes of a request: head and body in one piece, which is one TLS record and one system call."""

from collections.abc import Iterable, Mapping
from urllib.parse import quote

from raycp.kube.objects import JSON, Query
from raycp.kube.proxies import proxy_authorization
from raycp.kube.target import Target


class Payloads:
    """Makes the requests of one client. ``use`` sets what all of them have in common."""

    def __init__(self, user_agent: str) -> None:
        self._user_agent = user_agent
        self._prefix = b""
        self._base = ""

    def use(self, target: Target, authorization: str | None, headers: Iterable[tuple[str, str]] = ()) -> None:
        """Address ``target`` with these credentials from now on."""
        lines = [f" HTTP/1.1\r\nHost: {target.authority}", f"User-Agent: {self._user_agent}"]
        if authorization:
            lines.append(f"Authorization: {authorization}")
        lines += [f"{name}: {value}" for name, value in headers]
        self._base = target.base
        if target.forwarded:
            lines += proxy_authorization(str(target.proxy))
            self._base = f"http://{target.authority}{target.base}"
        self._prefix = "\r\n".join(lines).encode("latin-1") + b"\r\n"

    def make(
        self,
        verb: str,
        path: str,
        body: bytes | None = None,
        query: Query | None = None,
        content_type: str = JSON,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """One request. Raises ``ValueError`` for a path or a header with characters that are not allowed there."""
        head = f"{verb} {self._base}{path}?{encode_query(query)}" if query else f"{verb} {self._base}{path}"
        if not head.isascii() or any(c in head[len(verb) + 1 :] for c in " \r\n"):
            raise ValueError(f"path {path!r} contains characters that are not allowed in a URL")
        parts = [head.encode(), self._prefix]
        for key, value in (headers or {}).items():
            if "\n" in value or "\r" in value:
                raise ValueError(f"header {key} contains a line break")
            parts.append(f"{key}: {value}\r\n".encode("latin-1"))
        if body is None:
            parts.append(f"Accept: {JSON}\r\n\r\n".encode())
        else:
            parts.append(f"Accept: {JSON}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n".encode())
            parts.append(body)
        return b"".join(parts)


def encode_query(query: Query) -> str:
    """``a=1&force=true``, with values percent-encoded where necessary."""
    return "&".join(f"{key}={_text(value)}" for key, value in query.items())


def _text(value: str | int | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    return text if text.isascii() and text.isalnum() else quote(text, safe="-._~")
