"""The errors of one API server. No message and no repr contains a credential."""

from collections.abc import Mapping
from typing import Any

from raycp.base.objects import Meta
from raycp.base.text import clean

RETRY_AFTER_MAX = 60.0
"""Longest pause in seconds that a server's Retry-After can ask for, whatever it says."""

_MESSAGE_LENGTH = 4096
"""Characters of a server's message that are kept."""


UNABLE = frozenset({401, 502, 503, 504})
"""Statuses of a server that can serve this client nothing at present: it, or what stands before it, is not well, or does not accept
the credentials any more (401), although the client has renewed them if it could."""


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


class NoCredentials(Unreachable):
    """Nothing was sent, since the credentials are not there in time: they have expired, or their plugin still runs."""

    def __init__(self, message: str) -> None:
        super().__init__(message, sent=False, timed_out=True)


class BadAnswer(Unreachable):
    """Something answered that is no API server, or not as one: a page of HTML, a redirect, JSON that is no answer to the request.

    To its caller that is the same as no answer: a write may or may not have taken effect.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message, sent=True)


class TooLarge(BadAnswer):
    """An answer beyond the cluster's limits (``raycp.kube.limits``), perhaps without end. It names the limit."""


class NoSuchPath(BadAnswer):
    """404 as plain text: apiserver's answer for a path that it does not serve, but also that of many a proxy. It never means that
    an object is gone.
    """


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


class BadLine(KubeError):
    """A line of a watch that is no event: what it stood for is unknown."""


class UnreadableObject(KubeError):
    """An object that cannot be decoded: nested too deeply, not JSON, a field of the wrong type. ``meta`` holds what could be read
    of its metadata (name, namespace, uid, resourceVersion), None for nothing; ``reason`` says what is wrong.
    """

    def __init__(self, meta: Meta | None, reason: str) -> None:
        name = f"{meta.namespace}/{meta.name}" if meta is not None and meta.namespace else meta.name if meta is not None else ""
        super().__init__(f"object {name or 'without a readable name'} cannot be read: {reason}")
        self.meta = meta
        self.reason = reason


class ApiError(KubeError):
    """The server answered with an error: ``status`` is the HTTP code; ``reason``, ``message`` and ``details`` are those of the
    ``metav1.Status`` body, cut to 4096 characters; ``retry_after`` is in seconds, at most ``RETRY_AFTER_MAX``, None if the server
    sent none.
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


def unserved(error: KubeError) -> bool:
    """Whether a request failed because its path is not served, as that of a CRD that was deleted, or made anew with another plural,
    scope or version: a 404 that names no object.
    """
    return isinstance(error, NoSuchPath) or (isinstance(error, ApiError) and error.status == 404 and not error.details.get("name"))
