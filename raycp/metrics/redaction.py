"""Secrets that are told by their shape, or by the name of their field: replaced in whatever is logged or recorded."""

import re
from collections.abc import Mapping
from typing import Any

REDACTED = "[redacted]"

_SECRET_KEY = re.compile(
    r"(?i)^(.*[_.-])?(token|id[_-]?token|refresh[_-]?token|bearer|password|passwd|secret|authorization|api[_-]?key|client[_-]?key(_data|-data)?"
    r"|client[_-]?key[_-]?pem|private[_-]?key|cookie)$"
)
_SECRET_TEXT = (
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"), r"\1 " + REDACTED),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*"), REDACTED),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|$)", re.S), REDACTED),
    (re.compile(r"(?i)(\b(?:id-|refresh-|access-|access_|refresh_|id_)?(?:token|password|passwd|secret|api[_-]?key|client-key-data)"
                r"[\"']?\s*[=:]\s*[\"']?)([^\s\"',;&}]{4,})"), r"\1" + REDACTED),
    # From the scheme's last character on: a search for its first one takes quadratic time in a text of one long word.
    (re.compile(r"(?<=[a-z0-9+.-]://)[^/\s:@]+:[^/\s@]+@"), REDACTED + "@"),
)  # fmt: skip


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
