"""YAML to values, from the parser's events: nesting costs no stack, and aliases are bounded.

Resolves as goyaml v2 (YAML 1.1), which sigs.k8s.io/yaml uses: ``y`` is true, times and ``1:30`` are strings. As there, aliases may
expand to so much and no more (``allowedAliasRatio`` in its ``decode.go``).
"""

import json
import re
from typing import Any

import yaml

from raycp.embedded.strategy.depth import MAX_DEPTH, TOO_DEEP
from raycp.embedded.strategy.structural import deep_copy

_TAG = "tag:yaml.org,2002:"
_STR = _TAG + "str"
_MERGE = _TAG + "merge"
MAX_VALUES = 200_000
"""values of a document, behind aliases too: about a second of work"""
TOO_MANY = f"a document of more than {MAX_VALUES} values: send it as JSON"
ALIAS_SHARE = 0.99
"""the largest share of values that may come from aliases, in a document of this size"""


class YamlRefused(Exception):
    """The document can't be read."""


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The parser, and the constructors of scalars."""

    yaml_implicit_resolvers: dict[str, Any] = {}


for _tag, _pattern, _first in (
    ("bool", r"y|Y|yes|Yes|YES|n|N|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF", list("yYnNtTfFoO")),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|0o?[0-7_]+|[1-9][0-9_]*|0)", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+0123456789.")),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(_TAG + _tag, re.compile(f"(?:{_pattern})$"), _first)


def _boolean(loader: Any, node: Any) -> bool:
    return str(node.value).lower() in ("y", "yes", "true", "on")


def _integer(loader: Any, node: Any) -> int:
    text = node.value.replace("_", "")
    sign = -1 if text.startswith("-") else 1
    text = text.lstrip("+-")
    if len(text) > 1 and text[0] == "0" and text[1].isdigit():
        return sign * int(text, 8)
    return sign * int(text, 0)


_Loader.add_constructor(_TAG + "bool", _boolean)
_Loader.add_constructor(_TAG + "int", _integer)


class _Open:
    """A list or map that is being read. ``weight`` counts its values, those behind aliases included; ``height`` its levels."""

    __slots__ = ("anchor", "expects", "height", "items", "key", "merged", "weight")

    def __init__(self, items: Any, anchor: str | None) -> None:
        self.items = items
        self.anchor = anchor
        self.key: str | None = None
        self.expects = type(items) is dict
        """whether a key comes next"""
        self.merged: list[Any] | None = None
        self.weight = 1
        self.height = 1


class _MergeKey(str):
    """The key ``<<``."""


_MERGE_KEY = _MergeKey("<<")


class _Reader:
    def __init__(self, body: bytes) -> None:
        self._loader = _Loader(body)
        self._open: list[_Open] = []
        self._root: Any = None
        self._anchors: dict[str, tuple[Any, int, int]] = {}
        """anchor -> value, weight, height"""
        self._total = 0
        self._by_alias = 0
        self.duplicates: list[str] = []

    def read(self) -> Any:
        """The first document."""
        try:
            while True:
                event = self._loader.get_event()
                kind = type(event)
                if kind is yaml.ScalarEvent:
                    self._scalar(event)
                elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
                    self._begin({} if kind is yaml.MappingStartEvent else [], event.anchor)
                elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
                    self._end(event)
                elif kind is yaml.AliasEvent:
                    self._alias(event)
                elif kind is yaml.DocumentEndEvent or kind is yaml.StreamEndEvent:
                    return self._root
        finally:
            self._loader.dispose()

    def _begin(self, items: Any, anchor: str | None) -> None:
        if len(self._open) >= MAX_DEPTH:
            raise YamlRefused(TOO_DEEP)
        if self._open and self._open[-1].expects:
            raise YamlRefused("invalid map key: a list or map")
        self._open.append(_Open(items, anchor))

    def _end(self, event: Any) -> None:
        made = self._open.pop()
        if made.merged is not None:
            below: dict[str, Any] = {}
            for one in made.merged:
                for key, value in one.items():
                    below.setdefault(key, value)
            made.items = {**below, **made.items}
        if made.anchor is not None:
            self._anchors[made.anchor] = (made.items, made.weight, made.height)
        self._put(made.items, made.weight, made.height, event)

    def _scalar(self, event: Any) -> None:
        tag = event.tag
        if tag is None or tag == "!":
            tag = self._loader.resolve(yaml.ScalarNode, event.value, event.implicit)
        value: Any = event.value
        if tag == _MERGE and self._open and self._open[-1].expects:
            value = _MERGE_KEY
        elif tag not in (_STR, _MERGE):
            value = self._loader.construct_object(yaml.ScalarNode(tag, value, event.start_mark, event.end_mark))
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, 1, 0)
        self._put(value, 1, 0, event)

    def _alias(self, event: Any) -> None:
        found = self._anchors.get(event.anchor)
        if found is None:
            if any(one.anchor == event.anchor for one in self._open):
                raise YamlRefused(f"anchor '{event.anchor}' value contains itself")
            raise YamlRefused(f"unknown anchor '{event.anchor}' referenced")
        value, weight, height = found
        if len(self._open) + height > MAX_DEPTH:
            raise YamlRefused(TOO_DEEP)
        self._by_alias += weight
        self._total += weight - 1
        if self._by_alias > 100 and self._total > 1000 and self._by_alias / self._total > ALIAS_SHARE:
            raise YamlRefused("document contains excessive aliasing")
        if self._total > MAX_VALUES:
            raise YamlRefused(TOO_MANY)
        self._put(deep_copy(value), weight, height, event)

    def _put(self, value: Any, weight: int, height: int, event: Any) -> None:
        """``value``, which is complete, goes into the innermost open list or map."""
        self._total += 1
        if self._total > MAX_VALUES:
            raise YamlRefused(TOO_MANY)
        if not self._open:
            self._root = value
            return
        into = self._open[-1]
        into.weight += weight
        into.height = max(into.height, height + 1)
        if type(into.items) is list:
            into.items.append(value)
        elif into.expects:
            into.expects = False
            into.key = value if isinstance(value, str) else _key_text(value)
        else:
            into.expects = True
            if type(into.key) is _MergeKey:
                into.merged = [*(into.merged or ()), *_mergeable(value)]
                return
            name = str(into.key)
            if name in into.items:
                self.duplicates.append(f"line {event.start_mark.line + 1}: key {json.dumps(name)} already set in map")
            into.items[name] = value


def _key_text(value: Any) -> str:
    if type(value) in (dict, list):
        raise YamlRefused("invalid map key: a list or map")
    return json.dumps(value, default=str)


def _mergeable(value: Any) -> list[dict[str, Any]]:
    found = value if type(value) is list else [value]
    if not all(type(one) is dict for one in found):
        raise YamlRefused("map merge requires map or sequence of maps as the value")
    return found


def read_yaml(body: bytes) -> tuple[Any, list[str]]:
    """The first document of ``body``, None if there is none, and its duplicate keys. Raises ``YamlRefused``."""
    reader = _Reader(body)
    try:
        return reader.read(), reader.duplicates
    except (yaml.YAMLError, ValueError) as error:
        raise YamlRefused(str(error)) from None
