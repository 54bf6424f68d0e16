"""What all answers of the HTTP server have: headers that keep others' pages away, and JSON."""

import hashlib
from typing import Any

import msgspec
from aiohttp import web

SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}
"""Headers of each answer."""


def json_answer(value: Any, status: int = 200) -> web.Response:
    """``value`` as JSON."""
    body = msgspec.json.encode(value)
    return web.Response(body=body, status=status, content_type="application/json", headers=SECURITY, zlib_executor_size=4096)


def tagged_answer(value: Any, known: str | None) -> web.Response:
    """``value`` as JSON with its ETag; 304 to who has it, by the tag ``known``."""
    body = msgspec.json.encode(value)
    headers = {**SECURITY, "ETag": f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'}
    if known == headers["ETag"]:
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, content_type="application/json", headers=headers)
