"""kube-apiserver's errors: one exception that holds a ``metav1.Status``.

Reasons, codes and wording follow ``k8s.io/apimachinery/pkg/api/errors`` and ``pkg/util/validation/field``.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol


class Named(Protocol):
    """The part of a resource that an error names; ``ResourceInfo`` implements it."""

    @property
    def group(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def plural(self) -> str: ...


class FieldError(NamedTuple):
    """One cause of an ``Invalid``: ``type`` is a reason (``FieldValueInvalid``), ``field`` a path (``spec.x[0]``)."""

    type: str
    field: str
    message: str

    def text(self) -> str:
        """As ``field.Error.Error()`` prints it."""
        return f"{self.field}: {self.message}" if self.field else self.message


class StatusError(Exception):
    """An error answer. ``details`` are ``StatusDetails`` (name, group, kind, uid, causes, retryAfterSeconds)."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        details: dict[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.metadata = metadata or {}
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.headers = dict(headers or {})

    def status(self) -> dict[str, Any]:
        """The full ``v1.Status``."""
        answer: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": self.metadata,
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            answer["reason"] = self.reason
        if self.details is not None:
            answer["details"] = {k: v for k, v in self.details.items() if v}
        answer["code"] = self.code
        return answer


def _details(info: Named, name: str = "", *, by_kind: bool = False, **more: Any) -> dict[str, Any]:
    return {"name": name, "group": info.group, "kind": info.kind if by_kind else info.plural, **more}


def _qualified(info: Named) -> str:
    return f"{info.plural}.{info.group}" if info.group else info.plural


def not_found(info: Named, name: str) -> StatusError:
    """404: no such object."""
    return StatusError(404, "NotFound", f'{_qualified(info)} "{name}" not found', _details(info, name))


def no_such_path() -> StatusError:
    """404: no such resource or subresource."""
    return StatusError(404, "NotFound", "the server could not find the requested resource", {})


def already_exists(info: Named, name: str) -> StatusError:
    """409: the name to create exists."""
    return StatusError(409, "AlreadyExists", f'{_qualified(info)} "{name}" already exists', _details(info, name))


def generate_name_conflict(info: Named, name: str) -> StatusError:
    """409: eight generated names in a row existed already."""
    return StatusError(
        409,
        "AlreadyExists",
        f'{_qualified(info)} "{name}" already exists, the server was not able to generate a unique name for the object',
        _details(info, name, retryAfterSeconds=1),
        {"Retry-After": "1"},
    )


OLD_VERSION = "the object has been modified; please apply your changes to the latest version and try again"


def conflict(info: Named, name: str, why: str = OLD_VERSION, *, by_kind: bool = False) -> StatusError:
    """409: a stale version or a failed precondition. ``by_kind``: name the kind instead of the plural, as deletions do."""
    kind = info.kind if by_kind else info.plural
    said = f"{kind}.{info.group}" if info.group else kind
    return StatusError(
        409,
        "Conflict",
        f'Operation cannot be fulfilled on {said} "{name}": {why}',
        _details(info, name, by_kind=by_kind),
    )


def manager_conflict(causes: Iterable[FieldError], message: str) -> StatusError:
    """409: server-side apply would change fields of other managers. Causes have type ``FieldManagerConflict``."""
    return StatusError(409, "Conflict", message, {"causes": _causes(causes)})


def _causes(causes: Iterable[FieldError]) -> list[dict[str, str]]:
    return [
        {"reason": c.type, "message": c.message, **({"field": c.field} if c.field else {})}  # field is omitempty
        for c in causes
    ]


def invalid(info: Named, name: str, causes: Iterable[FieldError]) -> StatusError:
    """422 with causes."""
    return invalid_kind(info.group, info.kind, name, causes)


def invalid_kind(group: str, kind: str, name: str, causes: Iterable[FieldError]) -> StatusError:
    """422 about a kind that is no resource, such as ``meta.k8s.io`` ``ListOptions``."""
    found = list(causes)
    texts = [c.text() for c in found]
    said = texts[0] if len(texts) == 1 else "[" + ", ".join(texts) + "]"
    qualified = f"{kind}.{group}" if group else kind
    return StatusError(
        422,
        "Invalid",
        f'{qualified} "{name}" is invalid: {said}' if texts else f'{qualified} "{name}" is invalid',
        {"name": name, "group": group, "kind": kind, "causes": _causes(found)},
    )


def bad_request(message: str) -> StatusError:
    """400."""
    return StatusError(400, "BadRequest", message)


def unauthorized() -> StatusError:
    """401: invalid credentials."""
    return StatusError(401, "Unauthorized", "Unauthorized")


def forbidden(info: Named, name: str, why: str, *, causes: Iterable[FieldError] = ()) -> StatusError:
    """403 about a resource. ``why`` follows the colon."""
    details = _details(info, name)
    found = _causes(causes)
    if found:
        details["causes"] = found
    quoted = f'{_qualified(info)} "{name}"' if name else _qualified(info)
    return StatusError(403, "Forbidden", f"{quoted} is forbidden: {why}", details)


def forbidden_path(user: str, verb: str, path: str) -> StatusError:
    """403 about a non-resource path."""
    return StatusError(403, "Forbidden", f'forbidden: User "{user}" cannot {verb} path "{path}"', {})


def expired(message: str, continue_token: str = "") -> StatusError:
    """410: the requested version is compacted. ``continue_token`` continues the list at a newer version."""
    return StatusError(410, "Expired", message, metadata={"continue": continue_token} if continue_token else None)


def too_large_version(asked: int, current: int) -> StatusError:
    """504: the requested version is newer than the server's."""
    return StatusError(
        504,
        "Timeout",
        f"Too large resource version: {asked}, current: {current}",
        {
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
            "retryAfterSeconds": 1,
        },
        {"Retry-After": "1"},
    )


def method_not_allowed(info: Named | None = None, action: str = "") -> StatusError:
    """405."""
    if info is not None and action:
        return StatusError(
            405,
            "MethodNotAllowed",
            f'{action} is not supported on resources of kind "{_qualified(info)}"',
            _details(info),
        )
    return StatusError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource", {})


def unsupported_media_type(accepted: Iterable[str]) -> StatusError:
    """415. The Status has no details for a body to decode, and empty ones for a patch."""
    known = list(accepted)
    return StatusError(
        415,
        "UnsupportedMediaType",
        f"the body of the request was in an unknown format - accepted media types include: {', '.join(known)}",
        None if "application/json" in known else {},
    )


def not_acceptable(accepted: Iterable[str]) -> StatusError:
    """406."""
    listed = ", ".join(accepted)
    return StatusError(406, "NotAcceptable", f"only the following media types are accepted: {listed}", {})


def too_large(limit: int) -> StatusError:
    """413: a body beyond ``limit`` bytes."""
    return StatusError(413, "RequestEntityTooLarge", f"Request entity too large: limit is {limit}", {})


def too_many_requests(message: str, retry_after: int) -> StatusError:
    """429 with ``Retry-After``."""
    return StatusError(429, "TooManyRequests", message, {"retryAfterSeconds": retry_after}, {"Retry-After": str(retry_after)})


def internal(message: str) -> StatusError:
    """500 as ``NewInternalError`` makes it."""
    return StatusError(500, "InternalError", f"Internal error occurred: {message}", {"causes": [{"message": message}]})
