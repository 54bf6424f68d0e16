"""Finds the parts of JSON text that a decoder refuses as a whole, so that one bad object does not take its list or watch with it.

A scan over strings and brackets, without recursion and without a look at what is in between: a part that is nested 10 000 levels,
or contains NaN, has bounds like any other. It is about a hundred times slower than a decoder, and used after one has failed.
"""

import re
from collections.abc import Iterator

import msgspec

from raycp.base.objects import Meta

# A string without an end runs to the end of the text: trying each of its quotes as a beginning would take quadratic time.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[][{},]', re.DOTALL)
_BLANK = b" \t\r\n"


def members(raw: bytes) -> dict[str, bytes] | None:
    """The members of a JSON object by name, each as its text; of repeated names the last one counts. None for anything else."""
    found: dict[str, bytes] = {}
    parts = _parts(raw, b"{", b"}")
    if parts is None:
        return None
    for part in parts:
        key = _TOKEN.match(part)
        rest = part[key.end() :].lstrip(_BLANK) if key is not None else b""
        name = _text(key.group()) if key is not None else None
        if name is None or not rest.startswith(b":"):
            return None
        found[name] = rest[1:].strip(_BLANK)
    return found


def elements(raw: bytes) -> list[bytes] | None:
    """The elements of a JSON array, each as its text; None for anything else."""
    return _parts(raw, b"[", b"]")


def metadata(raw: bytes) -> Meta | None:
    """Name, namespace, uid and resourceVersion of an object, as far as they can be read; None without a name."""
    fields = members((members(raw) or {}).get("metadata", b""))
    if not fields:
        return None
    name, namespace, uid, version = (
        _text(fields.get(field, b"")) or "" for field in ("name", "namespace", "uid", "resourceVersion")
    )
    return Meta(name, namespace, uid, version) if name else None


def _parts(raw: bytes, opening: bytes, closing: bytes) -> list[bytes] | None:
    """What stands between the commas of one object or array that is all of ``raw``."""
    raw = raw.strip(_BLANK)
    if not (raw.startswith(opening) and raw.endswith(closing)):
        return None
    found: list[bytes] = []
    depth, begin, end = 0, 1, 0
    for token, start in _tokens(raw):
        if token in b"{[":
            depth += 1
        elif token in b"}]":
            depth -= 1
            if depth == 0:
                end = start
                break
        elif depth == 1:  # a comma
            found.append(raw[begin:start].strip(_BLANK))
            begin = start + 1
    if end != len(raw) - 1:  # cut off, or something follows
        return None
    last = raw[begin:end].strip(_BLANK)
    if last or found:
        found.append(last)
    return found if all(found) else None


def _tokens(raw: bytes) -> Iterator[tuple[bytes, int]]:
    """Brackets and commas outside of strings."""
    for match in _TOKEN.finditer(raw):
        token = match.group()
        if len(token) == 1:
            yield token, match.start()


def _text(raw: bytes) -> str | None:
    try:
        return msgspec.json.decode(raw, type=str)
    except Exception:  # not a string, or one with bytes that are no text
        return None
