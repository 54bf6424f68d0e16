"""Request bodies to dicts: JSON and YAML, with the errors and strictness of apimachinery's decoders.

Duplicate keys are detected cheaply: a converter counts the keys that it reads, and ``":`` occurs once per key in JSON.
Only if the two differ is the body parsed again by a slower parser that reports duplicates.
"""

import json
from collections.abc import Iterator
from typing import Any

import msgspec

from raycp.embedded.errors import StatusError, bad_request, unsupported_media_type
from raycp.embedded.strategy.depth import TOO_DEEP, json_too_deep

JSON, YAML, PROTOBUF = "application/json", "application/yaml", "application/vnd.kubernetes.protobuf"
ACCEPTED = (JSON, YAML, PROTOBUF)

_decode = msgspec.json.Decoder().decode


def media_type(content_type: str) -> str:
    """``application/json; charset=utf-8`` -> ``application/json``; JSON if none is given."""
    if content_type == JSON or not content_type:
        return JSON
    return content_type.partition(";")[0].strip().lower() or JSON


def parse(body: bytes, content_type: str, what: str) -> Any:
    """The decoded body. ``what`` names the kind for messages. Raises 400 and 415."""
    kind = media_type(content_type)
    if kind == JSON:
        return parse_json(body, what)
    if kind == YAML:
        return parse_yaml(body, what)[0]
    raise unsupported_media_type(ACCEPTED)


def parse_json(body: bytes, what: str = "object") -> Any:
    """Decode JSON. Raises 400."""
    try:
        found = _decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        if body[:1] != b"{" and body.lstrip()[:1] not in (b"{", b"["):
            # a body that does not look like JSON is decoded as YAML, as on a real server
            raise bad_request(f"couldn't get version/kind; json parse error: {error}") from None
        raise bad_request(f"{what} cannot be decoded: invalid JSON: {error}") from None
    if json_too_deep(body, found):
        raise bad_request(f"{what} cannot be decoded: invalid JSON: {TOO_DEEP}")
    return found


def cannot_handle(kind: str, version: str, why: str) -> StatusError:
    """400 in the wording of ``runtime.NotRegisteredError`` and of decoding errors."""
    return bad_request(f'{kind} in version "{version}" cannot be handled as a {kind}: {why}')


def may_have_duplicates(body: bytes, keys: int) -> bool:
    """Whether ``body`` (JSON) may have more keys than the ``keys`` that a decoder read: exact for usual formatting."""
    found = body.count(b'":')
    if b"\\" in body:
        found -= body.count(b'\\":')
        if b'\\\\":' in body:
            return True
    return found != keys or b'" :' in body


def duplicate_fields(body: bytes) -> list[str]:
    """Paths of keys that occur twice in one object."""

    def pairs(found: list[tuple[str, Any]]) -> Any:
        names = [name for name, _ in found]
        made = _Pairs(found)
        if len(made) != len(names):
            seen: set[str] = set()
            made.twice = [n for n in names if n in seen or seen.add(n)]  # type: ignore[func-returns-value]
        return made

    return list(_twice(json.loads(body, object_pairs_hook=pairs), ""))


def _twice(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, _Pairs):
        yield from (f"{path}.{name}" if path else name for name in dict.fromkeys(value.twice))
        for name, one in value.items():
            yield from _twice(one, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for index, one in enumerate(value):
            yield from _twice(one, f"{path}[{index}]")


class _Pairs(dict[str, Any]):
    twice: list[str] = []


def parse_yaml(body: bytes, what: str = "object") -> tuple[Any, list[str]]:
    """The first YAML document as sigs.k8s.io/yaml reads it, and its duplicate keys. Raises 400."""
    from raycp.embedded.strategy.yamldoc import YamlRefused, read_yaml

    try:
        return read_yaml(body)
    except YamlRefused as error:
        raise bad_request(f"{what} cannot be decoded: error converting YAML to JSON: yaml: {error}") from None
