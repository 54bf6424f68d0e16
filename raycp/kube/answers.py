"""Whether an answer is the API server's: judged by status, content type and form before anything acts on it.

What answers at a cluster's address may be a proxy, a login page or a half-dead load balancer. Rules:

1. 2xx counts with JSON only, and below ``/api`` and ``/apis`` with an object that names a ``kind``, as every answer there does.
   A redirect is never followed, since that would hand the credentials to another host, and is never success: it is a
   ``BadAnswer``, like a page of HTML.
2. An error on which callers act (``_DECIDES``: 404 means that an object is gone) counts only with a ``metav1.Status``; 404 as plain
   text, apiserver's answer for a path that it does not serve, is a ``NoSuchPath``. Other errors count by their status alone.
3. Bodies are decoded by ``decode_answer``: whatever its decoder raises becomes a ``BadAnswer`` (law 12).
"""

import email.utils
import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from raycp.kube.connection import Response
from raycp.kube.errors import RETRY_AFTER_MAX, ApiError, BadAnswer, KubeError, NoSuchPath

T = TypeVar("T")

_DECIDES = frozenset({400, 404, 405, 409, 410, 422})
_TITLE = re.compile(rb"<title[^>]*>([^<]{1,80})", re.IGNORECASE)
_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    410: "Gone",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class _Details(msgspec.Struct):
    name: str = ""
    group: str = ""
    kind: str = ""
    uid: str = ""
    causes: list[dict[str, str]] | None = None
    retryAfterSeconds: int = 0


class Status(msgspec.Struct):
    """``metav1.Status``, as in error bodies and in ERROR lines of a watch."""

    code: int = 0
    reason: str = ""
    message: str = ""
    status: str = ""
    details: _Details | None = None

    def to_error(self, request: str = "", retry_after: float | None = None) -> ApiError:
        """The error that this status describes."""
        details = {k: v for k, v in msgspec.structs.asdict(self.details).items() if v} if self.details else {}
        if retry_after is None and self.details and self.details.retryAfterSeconds:
            retry_after = float(min(RETRY_AFTER_MAX, max(0, self.details.retryAfterSeconds)))
        return ApiError(self.code or 500, self.reason, self.message, retry_after, details, request=request)


_status = msgspec.json.Decoder(Status)


def answer_error(answer: Response, request: str) -> KubeError | None:
    """None for an answer of success, else the error that it is: ``ApiError``, or ``BadAnswer`` for what is no API server's."""
    status = answer.status
    if 200 <= status < 300:
        body = answer.body
        if b"json" not in answer.content_type and (answer.content_type or body[:1] != b"{"):
            return BadAnswer(f"{request}: {_shown(answer)} instead of JSON; no API server answers so")
        # Not decoded here, since many callers want the bytes only: its ends and a name tell it from what else is said with 200.
        if " /api" in request:
            if body[:64].lstrip()[:1] != b"{" or body[-64:].rstrip()[-1:] != b"}":
                return BadAnswer(f"{request}: {len(body)} bytes that are no JSON object; no API server answers so")
            if b'"kind"' not in body:
                return BadAnswer(f"{request}: a JSON object without a kind; no API server answers so")
        return None
    if status < 400:
        where = answer.headers.get("location", "").partition("?")[0][:200]
        return BadAnswer(f"{request}: redirected ({status}{f' to {where}' if where else ''}); redirects are not followed")
    pause = retry_after_seconds(answer.headers.get("retry-after"), answer.headers.get("date"))
    try:
        stated = _status.decode(answer.body)
    except Exception:  # whatever else it is
        stated = Status()
    if stated.status == "Failure" or stated.reason:
        stated.code = status
        return stated.to_error(request, pause)
    if status == 404 and answer.content_type.startswith(b"text/plain"):
        return NoSuchPath(f"{request}: 404 page not found: the server does not serve this path")
    if status in _DECIDES:
        return BadAnswer(f"{request}: {_shown(answer)} instead of a Status; no API server answers so")
    text = answer.body[:200].decode("utf-8", "replace").strip()
    return ApiError(status, _REASONS.get(status, ""), text, pause, request=request)


def decode_answer(body: bytes, type: type[T], request: str) -> T:
    """The JSON of an answer to ``request``. Raises ``BadAnswer``, whatever is wrong with it."""
    return decoded(lambda: msgspec.json.decode(body, type=type), request)


def decoded(decode: Callable[[], T], request: str) -> T:
    """What ``decode`` returns. Raises ``BadAnswer`` instead of what it raises."""
    try:
        return decode()
    except Exception as error:
        raise BadAnswer(f"{request}: the answer cannot be read: {problem_of(error)}") from None


def problem_of(error: BaseException) -> str:
    """What a decoder's error says, in one short line."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, MemoryError):
        return "it is too large"
    lines = str(error).splitlines()
    return lines[0][:200] if lines else type(error).__name__


def retry_after_seconds(text: str | None, date: str | None = None) -> float | None:
    """The pause that a Retry-After header asks for (RFC 9110, 10.2.3): seconds, or a date, which is compared with the ``Date`` of
    the same answer, since only that is by the same clock. Between 0 and ``RETRY_AFTER_MAX``; None for anything else.
    """
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            until, now = email.utils.parsedate_to_datetime(text), email.utils.parsedate_to_datetime(date or "")
            seconds = (until - now).total_seconds()
        except Exception:  # it is no date, or there is none to compare it with
            return None
    return None if math.isnan(seconds) else min(RETRY_AFTER_MAX, max(0.0, seconds))


_LAST_CLOCK = datetime(2200, 1, 1, tzinfo=UTC).timestamp()
"""No clock shows this or more; with it, no sum of times and what clocks are off leaves the years that a text can have."""


def seconds_ahead(date: str | None, wall: float) -> float | None:
    """By how much the clock that made a ``Date`` header is ahead of ``wall``; 0 below the header's resolution, None for what is no
    date. It never fails: the answer that has it may be that of a write.
    """
    try:
        found = email.utils.parsedate_to_datetime(date or "")
        at = (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()
    except Exception:  # of several types: the zone alone may overflow
        return None
    if not 0.0 <= at < _LAST_CLOCK:
        return None
    ahead = at + 0.5 - wall
    return ahead if abs(ahead) > 1.0 else 0.0


def _shown(answer: Response) -> str:
    kind = answer.content_type.decode("latin-1")[:60] or "no content type"
    title: Any = _TITLE.search(answer.body[:4096])
    named = f' with title "{title.group(1).decode("utf-8", "replace").strip()}"' if title else ""
    return f"{answer.status} with {kind}{named}"
