"""The errors of one API server. No message and no repr contains a credential."""

from collections.abc import Mapping
from typing import Any

import msgspec

from raycp.base.text import clean

_MESSAGE_LENGTH = 4096
"""Characters of a server's message that are kept."""


class KubeError(Exception):
    """Base of all errors of this package."""


class ConnectError(KubeError):
    """A cluster cannot be used as configured: ``problem`` says what is wrong, ``remedy`` what to do."""

    def __init__(self, cluster: str, problem: str, remedy: str) -> None:
        super().__init__(f"cluster {cluster!r}: {problem}. {remedy}")
        self.cluster = cluster
        self.problem = problem
        self.remedy = remedy


class Unreachable(KubeError):
    """The server did not answer, or not completely.

    ``sent`` is False if the request never left this process, so that it certainly had no effect; True means that a write may or
    may not have taken effect. ``refused`` distinguishes a refused connection (nothing listens; an early retry is safe) from
    silence. ``timed_out`` marks a deadline of this client. ``unanswered`` means that the connection broke before the first byte
    of the answer.
    """

    def __init__(
        self, message: str, *, sent: bool, refused: bool = False, timed_out: bool = False, unanswered: bool = False
    ) -> None:
        super().__init__(message)
        self.sent = sent
        self.refused = refused
        self.timed_out = timed_out
        self.unanswered = unanswered


class CircuitOpen(Unreachable):
    """Refused locally: the cluster's breaker is open. It admits a probe in ``retry_after`` seconds."""

    def __init__(self, cluster: str, reason: str, retry_after: float) -> None:
        super().__init__(f"cluster {cluster!r}: breaker open for {retry_after:.1f} s ({reason})", sent=False)
        self.retry_after = retry_after


class Throttled(Unreachable):
    """Refused locally: the client budget did not admit the request within its deadline."""

    def __init__(self, cluster: str, waited: float) -> None:
        super().__init__(f"cluster {cluster!r}: no request token within {waited:.1f} s (client budget)", sent=False, timed_out=True)


class Fenced(KubeError):
    """A write was refused locally: its permit has expired or was revoked (law 6e)."""


class NoSuchKind(KubeError):
    """The cluster serves no such kind (missing CRD, other version)."""

    def __init__(self, cluster: str, kind: str, hint: str = "") -> None:
        super().__init__(f"cluster {cluster!r} serves no {kind}" + (f"; {hint}" if hint else ""))
        self.cluster = cluster
        self.kind = kind


class ApiError(KubeError):
    """The server answered with an error: ``status`` is the HTTP code; ``reason``, ``message`` and ``details`` are those of the
    ``metav1.Status`` body, cut to 4096 characters; ``retry_after`` is in seconds, None if the server sent none.
    """

    def __init__(
        self,
        status: int,
        reason: str = "",
        message: str = "",
        retry_after: float | None = None,
        details: Mapping[str, Any] | None = None,
        *,
        request: str = "",
    ) -> None:
        reason, message = clean(reason, _MESSAGE_LENGTH), clean(message, _MESSAGE_LENGTH)
        super().__init__(f"{status} {reason or 'Unknown'}: {message or 'no message'}" + (f" ({request})" if request else ""))
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after
        self.details: Mapping[str, Any] = details or {}
        self.request = request

    @property
    def not_found(self) -> bool:
        return self.status == 404

    @property
    def conflict(self) -> bool:
        """A resourceVersion, uid or field-manager conflict; not ``already_exists``."""
        return self.status == 409 and self.reason != "AlreadyExists"

    @property
    def already_exists(self) -> bool:
        return self.status == 409 and self.reason == "AlreadyExists"

    @property
    def expired(self) -> bool:
        """The resourceVersion or continue token is too old: 410, whatever its reason."""
        return self.status == 410 or self.reason == "Expired"

    @property
    def throttled(self) -> bool:
        return self.status == 429

    @property
    def too_large_version(self) -> bool:
        """The server has not reached the requested version, and never will if it was restored (504, cause
        ResourceVersionTooLarge).
        """
        if self.status not in (504, 500):
            return False
        causes = self.details.get("causes") or ()
        return "Too large resource version" in self.message or any(c.get("reason") == "ResourceVersionTooLarge" for c in causes)


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
            retry_after = float(self.details.retryAfterSeconds)
        return ApiError(self.code or 500, self.reason, self.message, retry_after, details, request=request)


_status = msgspec.json.Decoder(Status)


def api_error(http_status: int, body: bytes, retry_after: str | None, request: str = "") -> ApiError:
    """The ``ApiError`` for an answer with an HTTP status of 400 or more. A body that is not a Status is quoted, cut to 200
    characters.
    """
    try:
        seconds = float(retry_after) if retry_after else None
    except ValueError:  # an HTTP date, which is rare: the backoff of the caller suffices
        seconds = None
    try:
        status = _status.decode(body)
    except msgspec.MsgspecError:
        status = Status()
    if status.status != "Failure" and not status.reason:
        text = body[:200].decode("utf-8", "replace").strip()
        return ApiError(http_status, _REASONS.get(http_status, ""), text, seconds, request=request)
    status.code = http_status
    return status.to_error(request, seconds)


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
