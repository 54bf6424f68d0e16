"""YAML as kubectl reads it: the first document, with YAML 1.1's booleans (``yes``, ``on``, ``y``), dates and ``12:30`` as text.

kubectl turns YAML into JSON before it looks at types, so that a token ``12345`` without quotes is a number, which it refuses.
Values are built from the parser's events, so that a document of too many is left in the middle. No message contains a value.
"""

import re
from typing import Any

import yaml

from raycp.config.yamltree import BadYaml

_MAX_VALUES = 100_000  # a cluster, its user and its context have about thirty
_MAX_DEPTH = 60

_MERGE = "<<"
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"})
_FALSE = frozenset({"n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"})
_NUMBER = re.compile(
    r"[-+]?(0[bB][01_]+|0[oO]?[0-7_]+|0[xX][0-9a-fA-F_]+|[0-9][0-9_]*|(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|\.(inf|Inf|INF))"
    r"|\.(nan|NaN|NAN)"
)


def parse_kubectl_yaml(content: bytes) -> Any:
    """The first document in ``content``; None if there is none. Of two equal keys the last one counts. Raises ``BadYaml``."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(content)
    try:
        return _Values(loader).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise BadYaml("is not valid YAML", mark.line + 1 if mark else 0, "check it with `kubectl config view`") from None
    except (yaml.YAMLError, RecursionError, ValueError):
        raise BadYaml("is not valid YAML", 0, "save it as UTF-8 text") from None
    finally:
        loader.dispose()


class _Values:
    def __init__(self, loader: Any) -> None:
        self._next = loader.get_event
        self._count = 0
        self._anchors: dict[str, tuple[Any, int]] = {}

    def document(self) -> Any:
        event = self._next()
        while event is not None and not isinstance(event, yaml.DocumentStartEvent):
            event = self._next()
        return None if event is None else self._value(self._next(), 0)

    def _value(self, event: Any, depth: int) -> Any:
        before = self._count
        value: Any
        self._counted(1, event, depth)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, depth)
        if isinstance(event, yaml.MappingStartEvent):
            value = self._mapping(depth)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = []
            while not isinstance(inner := self._next(), yaml.SequenceEndEvent):
                value.append(self._value(inner, depth + 1))
        else:
            value = _scalar(event)
        if event.anchor:
            self._anchors[event.anchor] = value, self._count - before
        return value

    def _alias(self, event: Any, depth: int) -> Any:
        if event.anchor not in self._anchors:
            raise BadYaml("has an alias of no anchor", event.start_mark.line + 1, "write it without aliases")
        value, size = self._anchors[event.anchor]
        self._counted(size, event, depth)
        return value

    def _mapping(self, depth: int) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        values: dict[str, Any] = {}
        while not isinstance(key := self._next(), yaml.MappingEndEvent):
            if not isinstance(key, yaml.ScalarEvent):
                raise BadYaml("has a key that is not text", key.start_mark.line + 1, "keys are plain words")
            value = self._value(self._next(), depth + 1)
            if key.value == _MERGE and not key.style:
                for source in value if isinstance(value, list) else [value]:
                    merged = {**source, **merged} if isinstance(source, dict) else merged
            else:
                values[key.value] = value
        return {**merged, **values}

    def _counted(self, more: int, event: Any, depth: int) -> None:
        self._count += more
        if self._count > _MAX_VALUES or depth > _MAX_DEPTH:
            text = f"has more than {_MAX_VALUES} values, or is nested too deeply"
            raise BadYaml(text, event.start_mark.line + 1, "split it into several files: `path` may name some, joined by ':'")


def _scalar(event: Any) -> Any:
    """A plain scalar as null, boolean or number (its value is of no interest: no field is one), any other as text."""
    text: str = event.value
    if event.style or not event.implicit[0]:
        return text
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    return 0 if _NUMBER.fullmatch(text) else text
