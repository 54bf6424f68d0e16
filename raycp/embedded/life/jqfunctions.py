"""jq's functions, and its rules of truth, length and order."""

import json
import re
from collections.abc import Callable
from typing import Any

Filter = Callable[[Any], list[Any]]


class JqError(ValueError):
    """The expression has a syntax error or uses an unsupported feature."""


class Fails(Exception):
    """The expression does not apply to this value."""


def true(value: Any) -> bool:
    return value is not None and value is not False


def each(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        return list(value.values())
    raise Fails


def function(name: str, arguments: list[Filter], error: Callable[[str], JqError]) -> Filter:
    if name in ("select", "map", "any", "all", "has", "first", "last", "recurse") and len(arguments) == 1:
        inner = arguments[0]
        if name == "select":
            return lambda value: [value for test in inner(value) if true(test)]
        if name == "map":
            return lambda value: [[result for one in each(value) for result in inner(one)]]
        if name in ("any", "all"):
            judge = any if name == "any" else all
            return lambda value: [judge(true(test) for one in each(value) for test in inner(one))]
        if name == "has":
            return lambda value: [_has(value, key) for key in inner(value)]
        if name in ("first", "last"):
            at = 0 if name == "first" else -1
            return lambda value: inner(value)[at:][:1]
    if name in _WITH_TEXT and len(arguments) == 1:
        of, argument = _WITH_TEXT[name], arguments[0]
        return lambda value: [of(_text(value), _text(one)) for one in argument(value)]
    if name in _FUNCTIONS and not arguments:
        return _FUNCTIONS[name]
    raise error(f"function {name}/{len(arguments)} is not supported")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise Fails
    return value


def _has(value: Any, key: Any) -> bool:
    if isinstance(value, dict):
        return key in value
    if isinstance(value, list) and isinstance(key, int):
        return 0 <= key < len(value)
    raise Fails


def _length(value: Any) -> list[Any]:
    if value is None:
        return [0]
    if isinstance(value, bool):
        raise Fails
    return [abs(value) if isinstance(value, int | float) else len(value)]


def _tonumber(value: Any) -> list[Any]:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return [value]
    try:
        number = float(_text(value))
    except ValueError:
        raise Fails from None
    return [int(number) if number.is_integer() else number]


def _tostring(value: Any) -> list[Any]:
    return [value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))]


_TYPES = {
    type(None): "null",
    bool: "boolean",
    int: "number",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}

_WITH_TEXT: dict[str, Callable[[str, str], Any]] = {
    "startswith": lambda value, text: value.startswith(text),
    "endswith": lambda value, text: value.endswith(text),
    "contains": lambda value, text: text in value,
    "test": lambda value, text: re.search(text, value) is not None,
    "split": lambda value, text: value.split(text) if value else [],
    "ltrimstr": lambda value, text: value.removeprefix(text),
    "rtrimstr": lambda value, text: value.removesuffix(text),
}

_FUNCTIONS: dict[str, Filter] = {
    "not": lambda value: [not true(value)],
    "empty": lambda value: [],
    "length": _length,
    "keys": lambda value: [sorted(value) if isinstance(value, dict) else list(range(len(each(value))))],
    "values": lambda value: [value] if value is not None else [],
    "type": lambda value: [_TYPES[type(value)]],
    "any": lambda value: [any(true(one) for one in each(value))],
    "all": lambda value: [all(true(one) for one in each(value))],
    "first": lambda value: each(value)[:1],
    "last": lambda value: each(value)[-1:],
    "tonumber": _tonumber,
    "tostring": _tostring,
    "ascii_downcase": lambda value: [_text(value).lower()],
    "ascii_upcase": lambda value: [_text(value).upper()],
}
