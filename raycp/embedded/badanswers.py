"""What arrives when something else answers at an API server's address: a proxy's login page, a cache's half of a body, nonsense."""

from raycp.config.embedded import BadAnswerKind
from raycp.embedded.httpio import HttpResponse, header_line

DEEP = 10_000
"""Levels of ``deep``."""

HTML = b"<!doctype html><html><head><title>Sign in</title></head><body>Please sign in</body></html>"

_PAGE = "text/html; charset=utf-8"
_JSON = "application/json"
_NEST = b"[" * DEEP + b"]" * DEEP

BODIES: dict[BadAnswerKind, tuple[str, bytes]] = {
    "html": (_PAGE, HTML),
    "htmlAsJson": (_JSON, HTML),
    "text": ("text/plain", b"hello"),
    "empty": (_JSON, b""),
    "truncated": (_JSON, b'{"gitVersion":"v1","metadata":{"resourceVersion":"5","uid":"u"},"items":[{"metadata":{"name":"a'),
    "list": (_JSON, b"[1,2,3]"),
    "nothing": (_JSON, b"null"),
    "wrongTypes": (_JSON, b'{"gitVersion":5,"metadata":[],"items":{},"resources":7,"type":[],"object":3}'),
    "emptyObject": (_JSON, b"{}"),
    "invalidUtf8": (_JSON, b'{"gitVersion":"\xff","metadata":{"uid":"\xfe","resourceVersion":"\xff"},"items":["\xff"]}'),
    "nan": (_JSON, b'{"gitVersion":NaN,"metadata":{"uid":NaN,"resourceVersion":NaN},"items":NaN,"resources":NaN}'),
    "duplicateKeys": (_JSON, b'{"metadata":{"uid":"a"},"metadata":7,"items":[],"items":{},"resources":[],"resources":1}'),
    "deep": (_JSON, b'{"metadata":' + _NEST + b',"items":' + _NEST + b"}"),
    "huge": (_JSON, b'{"a":"' + b"x" * (8 << 20) + b'"'),
}
"""Content type and body of answers that come with status 200."""


def bad_answer(kind: BadAnswerKind, path: str) -> HttpResponse:
    """The answer to a request for ``path`` that was not served."""
    if kind == "redirect":
        where = header_line("Location", f"https://login.invalid/sign-in?return={path}")
        return HttpResponse(302, HTML, _PAGE, where)
    content_type, body = BODIES[kind]
    return HttpResponse(200, body, content_type)


def cut_answer(answer: HttpResponse) -> HttpResponse:
    """An answer of which the second half never arrives. What it answers has taken effect."""
    return HttpResponse(answer.status, answer.body, answer.content_type, answer.headers, cut=True)


CUT_WATCH = HttpResponse(200, b'{"type":"MODIFIED","object":{"metadata":{"name":"a","resourceVersion":"5"}}}', _JSON, cut=True)
"""A watch that ends within its first line."""
