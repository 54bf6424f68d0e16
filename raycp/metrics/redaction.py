"""Secrets that are told by their shape, or by the name before them: replaced in whatever is logged or recorded.

A name is one of a secret wherever it ends in such a word: ``DB_PASSWORD``, ``clientSecret``, ``AWS_SECRET_ACCESS_KEY``. Texts are
as long as their authors make them, and are read in a reconcile's loop: no pattern looks at a character more often than a fixed
number of times, so none begins with a repetition, and a repetition that begins at many places has a bound.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

REDACTED = "[redacted]"

_NAMES = (
    r"(?:token|bearer|pass[_-]?w(?:or)?d|passphrase|pwd|secret|authorization|credential|cookie"
    r"|(?:api|access|secret|private|signing|encryption|client)[_-]?key(?:[_-]?(?:data|pem))?)"
)
_SECRET_KEY = re.compile(rf"(?i).*{_NAMES}$", re.S)
_ASSIGNED = rf"{_NAMES}\\*[\"']?\s*[=:]\s*"


def _of_jwt(found: re.Match[str]) -> str:
    """A header of a JWT with what follows it; one without that is passed by as a whole, with all that may begin another in it."""
    return REDACTED if found[1] is not None else found[0]


_SECRET_TEXT: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"), r"\1 " + REDACTED),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}+((?:\.[A-Za-z0-9_-]*+)+)?"), _of_jwt),
    (re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(-----END [A-Z ]{0,40}PRIVATE KEY-----|$)", re.S), REDACTED),
    (re.compile(r"(?i)(cookie\\*[\"']?\s*[=:]\s*\\*[\"']?)[^\"'\\\r\n]{4,}"), r"\1" + REDACTED),
    (re.compile(rf"(?i)({_ASSIGNED}([\"']))(?:(?!\2)[^\\\r\n]|\\.){{4,}}+"), r"\1" + REDACTED),
    (re.compile(rf"(?i)({_ASSIGNED}(?:\\+[\"'])?)(?:(?:bearer|basic)\s+)?[^\s\"',;&}}\\]{{4,}}"), r"\1" + REDACTED),
    (re.compile(r"(://)[^/\s@]{1,4096}+@(?:[^/\s@]{1,4096}+@)*"), r"\1" + REDACTED + "@"),
)


def redact(value: Any) -> Any:
    """``value`` with secrets replaced: by key name in mappings, by pattern (bearer tokens, JWTs, private keys, what stands before
    the host of a URL, ``token=...``) in text."""
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
