"""What all answers of the HTTP server have: headers that keep others' pages away, and JSON."""

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
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json", headers=SECURITY)
