"""What texts of others (errors, log lines, reasons) must not carry into a file, nor to who reads timelines and status: values of
Secrets, tokens, contents of objects.

Rules, each on top of ``raycp.metrics.redaction.redact``:

1. What follows a brace is an object, or a part of one: left out, to the end of the text, since what was cut off closes no brace.
   Likewise ``b'...'``, and the value that an API server quotes after ``Invalid value:``.
2. A text that speaks of a secret, a password, a token, a credential, or a key loses everything in quotes, and the word that follows
   where it has a digit. Python's own words do not count: a ``keyword`` argument, and the ``KeyError`` of a plain name, which is
   what a field that is missing looks like.
3. A long run of mixed letters and digits, of hex digits, or of base64 is taken for a token. Names in Kubernetes are lower case.
4. Control characters become spaces: a record is a line, and no terminal obeys it.

A record says which key and cluster it is about in fields of its own, so that a text that loses much is still of use.
"""

import functools
import re

from raycp.metrics.redaction import REDACTED, redact

LONGEST = 500
"""Characters of a text that are kept."""

_LOOKED_AT = 4000
_LONGEST_TRACEBACK = 65_536
_LONGEST_HEADING = 200
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_BRACES = re.compile(r"\{.*", re.S)
_BYTES = re.compile(r"""\bb(?:'(?:[^'\\]|\\.)*(?:'|$)|"(?:[^"\\]|\\.)*(?:"|$))""")
_INVALID = re.compile(r"""(?i)(invalid value: *)(?:"(?:[^"\\]|\\.)*(?:"|$)|'(?:[^'\\]|\\.)*(?:'|$)|[^:]*)""")
_SECRETS = ("secret", "passw", "passphrase", "token", "credential", "authori", "bearer", "basic", "key")
"""A text without any of these, in lower case, speaks of no secret. One by one: an expression takes thirty times as long."""
_SHAPES = ("eyJ", "://", "-----BEGIN")
"""Of what ``redact`` finds without such a word."""
_QUOTED = re.compile(r""""(?:[^"\\]|\\.)*(?:"|$)|'(?:[^'\\]|\\.)*(?:'|$)|`[^`]*(?:`|$)""")
_FOLLOWS = re.compile(
    r"(?i)\b((?:secret|password|passwd|passphrase|token|credential|key|bearer)s?\b[\s:=]*(?:(?:is|was|of|for|value)\b[\s:=]*)*)"
    r"(?=\S*\d)[^\s,;]{4,}"
)
_MISSING = re.compile(r"""KeyError: (['"])[A-Za-z_][A-Za-z_./-]{0,62}\1|(?i:keyword)""")
"""Speaks of no secret. A key with a digit in it may be one."""
_PLACE = re.compile(r" \([\w.-]{1,100}, line \d{1,7}\)$")
_FRAME = re.compile(r"[ |]*  File \".*\", line \d+")
_HEADING = re.compile(
    r"[ |+-]*(?:(?:Exception Group )?Traceback \(most recent call last\):"
    r"|During handling of the above exception, another exception occurred:"
    r"|The above exception was the direct cause of the following exception:"
    r"|\[Previous line repeated \d+ more times?\]|-*(?: \d+ )?-+)$"
)
_BARS = re.compile(r"(?: *\| )+")
_RUNS = (
    re.compile(r"(?<![\w+-])(?=[\w+-]*[a-z])(?=[\w+-]*[A-Z])(?=[\w+-]*\d)[\w+-]{16,}={0,2}"),
    re.compile(r"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{15,}={1,2}"),
    re.compile(r"\b[0-9A-Fa-f]{32,}\b"),
)


def scrub(text: str) -> str:
    """``text`` as it may be kept, at most ``LONGEST`` characters of it. A text that was scrubbed lately costs one look-up."""
    return _scrub(_cut(text))


def _cut(text: str) -> str:
    """What is looked at of ``text``; not through the middle of a word: half a token looks like none."""
    return text if len(text) <= _LOOKED_AT else text[:_LOOKED_AT].rpartition(" ")[0]


def scrub_error(text: str) -> str:
    """``scrub`` of a reconcile's error, whose place in the author's code (``(echo.py, line 12)``, at its end) stays."""
    place = _PLACE.search(text)
    return scrub(text) if place is None else scrub(text[: place.start()]) + place[0]


def scrub_traceback(text: str) -> str:
    """A traceback with the messages of its exceptions scrubbed; its frames, and the lines of the author's code, as they are. A
    message of several lines becomes one. Of megabytes only the beginning is looked at: the interpreter is held meanwhile."""
    kept: list[str] = []
    message: list[str] = []

    def end_message() -> None:
        if message:
            words = [line.strip(" |") for line in message]
            kept.append(message[0][: _margin(message[0])] + scrub_error(" ".join(words)))
            kept.extend([""] if not words[-1] else [])
            message.clear()

    looked_at = "\n".join(_cut(line) for line in text[: 2 * _LONGEST_TRACEBACK].splitlines())[:_LONGEST_TRACEBACK]
    for line in redact(looked_at).splitlines():
        if _FRAME.match(line) or (len(line) <= _LONGEST_HEADING and _HEADING.match(line)):
            end_message()
            kept.append(line)
        elif not message and (not line.strip(" |~^") or (_is_code(line) and kept and _FRAME.match(kept[-1]))):
            kept.append(line)
        else:
            message.append(line)
    end_message()
    return "\n".join(kept).rstrip()


def _is_code(line: str) -> bool:
    return line.startswith("    ", _margin(line))


def _margin(line: str) -> int:
    """Where a line of an exception group begins, behind its bars."""
    found = _BARS.match(line)
    return found.end() if found is not None else 0


def split_place(error: str) -> tuple[str, str]:
    """A reconcile's error without its place in the author's code, and the place as ``echo.py:12``; empty where it names none."""
    place = _PLACE.search(error)
    if place is None:
        return error, ""
    file, _, line = place[0][2:-1].rpartition(", line ")
    return error[: place.start()], f"{file}:{line}"


@functools.lru_cache(1024)
def _scrub(text: str) -> str:
    if not text.isascii():  # half a character, which a file's name may hold, can't be written
        text = text.encode("utf-8", "replace").decode()
    text = _CONTROL.sub(" ", text)
    lowered = _MISSING.sub("", text).lower()
    speaks_of_secrets = any(word in lowered for word in _SECRETS)
    if speaks_of_secrets or any(shape in text for shape in _SHAPES):
        text = redact(text)
    text = _BYTES.sub(REDACTED, _BRACES.sub("{...", text))
    text = _INVALID.sub(rf"\1{REDACTED}", text)
    if speaks_of_secrets:
        text = _FOLLOWS.sub(rf"\1{REDACTED}", _QUOTED.sub(f'"{REDACTED}"', text))
    for run in _RUNS:
        text = run.sub(REDACTED, text)
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def scrubbed(value: object) -> object:
    """``value`` as it may be kept: texts scrubbed, also in lists and maps; numbers as they are; anything else as its text."""
    if isinstance(value, str):
        return scrub(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, dict):
        return {str(name): scrubbed(each) for name, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [scrubbed(each) for each in value]
    return scrub(str(value))
