"""Request bodies to dicts: JSON and YAML, with the errors and strictness of apimachinery's decoders.

Duplicate keys are detected cheaply: a converter counts the keys that it reads, and ``":`` occurs once per key in JSON.
Only if the two differ is the body parsed again by a slower parser that reports duplicates.
"""

import json
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import msgspec

from raycp.embedded.errors import StatusError, bad_request, unsupported_media_type

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
        return _decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        if body[:1] != b"{" and body.lstrip()[:1] not in (b"{", b"["):
            # a body that does not look like JSON is decoded as YAML, as on a real server
            raise bad_request(f"couldn't get version/kind; json parse error: {error}") from None
        raise bad_request(f"{what} cannot be decoded: invalid JSON: {error}") from None


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
    load, error_type = _yaml()
    try:
        return load(body)
    except (error_type, RecursionError, ValueError) as error:
        raise bad_request(f"{what} cannot be decoded: error converting YAML to JSON: {error}") from None


@lru_cache(maxsize=1)
def _yaml() -> tuple[Callable[[bytes], tuple[Any, list[str]]], type[Exception]]:
    """A loader with the resolution rules of goyaml v2 (YAML 1.1): ``y`` is true, times and ``1:30`` are strings."""
    import re

    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        duplicates: list[str]

    Loader.yaml_implicit_resolvers = {}
    rules = [
        ("bool", r"y|Y|yes|Yes|YES|n|N|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF", "yYnNtTfFoO"),
        ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
        ("int", r"[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|0o?[0-7_]+|[1-9][0-9_]*|0)", "-+0123456789"),
        (
            "float",
            r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
            "-+0123456789.",
        ),
        ("merge", r"<<", "<"),
    ]
    for tag, pattern, first in rules:
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"(?:{pattern})$"), list(first))

    def boolean(loader: Any, node: Any) -> bool:
        return str(node.value).lower() in ("y", "yes", "true", "on")

    def integer(loader: Any, node: Any) -> int:
        text = node.value.replace("_", "")
        sign = -1 if text.startswith("-") else 1
        text = text.lstrip("+-")
        if len(text) > 1 and text[0] == "0" and text[1].isdigit():
            return sign * int(text, 8)
        return sign * int(text, 0)

    def mapping(loader: Any, node: Any) -> dict[str, Any]:
        loader.flatten_mapping(node)
        made: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = loader.construct_object(key_node, deep=True)
            name = key if isinstance(key, str) else json.dumps(key)
            if name in made:
                loader.duplicates.append(f"line {key_node.start_mark.line + 1}: key {json.dumps(name)} already set in map")
            made[name] = loader.construct_object(value_node, deep=True)
        return made

    Loader.add_constructor("tag:yaml.org,2002:bool", boolean)
    Loader.add_constructor("tag:yaml.org,2002:int", integer)
    Loader.add_constructor("tag:yaml.org,2002:map", mapping)

    def load(body: bytes) -> tuple[Any, list[str]]:
        loader = Loader(body)
        loader.duplicates = []
        try:
            value = loader.get_data() if loader.check_data() else None
            return value, loader.duplicates
        finally:
            loader.dispose()

    return load, yaml.YAMLError
