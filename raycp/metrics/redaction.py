"""Secrets that are told by their shape, or by the name of their field: replaced in whatever is logged or recorded."""

import re
from collections.abc import Callable, Mapping
from typing import Any

REDACTED = "[redacted]"

_SECRET_KEY = re.compile(
    r"(?i)^(.*[_.-])?(token|id[_-]?token|refresh[_-]?token|bearer|password|passwd|secret|authorization|api[_-]?key|client[_-]?key(_data|-data)?"
    r"|client[_-]?key[_-]?pem|private[_-]?key|cookie)$"
)
def _of_jwt(found: re.Match[str]) -> str:
    """A header of a JWT with what follows it; one without that is passed by as a whole, with all that may begin another in it."""
    return REDACTED if found[1] is not None else found[0]


_SECRET_TEXT: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"), r"\1 " + REDACTED),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}+(\.[A-Za-z0-9_-]{4,}+\.[A-Za-z0-9_-]*+)?"), _of_jwt),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|$)", re.S), REDACTED),
    (re.compile(r"(?i)(\b(?:id-|refresh-|access-|access_|refresh_|id_)?(?:token|password|passwd|secret|api[_-]?key|client-key-data)"
                r"[\"']?\s*[=:]\s*[\"']?)([^\s\"',;&}]{4,})"), r"\1" + REDACTED),
    (re.compile(r"([a-z][a-z0-9+.-]{0,40}://)[^/\s:@]+:[^/\s@]+@"), r"\1" + REDACTED + "@"),
)  # fmt: skip
"""Each takes time in proportion to the text, whoever wrote that: a run of letters without bound before ``://`` took its square."""


def redact(value: Any) -> Any:
    """``value`` with secrets replaced: by key name in mappings, by pattern (bearer tokens, JWTs, private keys, URL
    passwords, ``token=...``) in text."""
    if isinstance(value, str):
        for pattern, replacement in _SECRET_TEXT:
            value = pattern.sub(replacement, value)
        return value
    if isinstance(value, Mapping):
        return {str(k): REDACTED if v and _SECRET_KEY.match(str(k)) else redact(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [redact(v) for v in value]
    if isinstance(value, bytes):
        return redact(value.decode("utf-8", "replace"))
    return value
