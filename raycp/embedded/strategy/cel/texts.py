"""CEL's functions of strings, as version 2 of cel-go's library has them (``ext/strings.go``). Places count characters."""

import string
from collections.abc import Callable
from typing import Any

from raycp.embedded.strategy.cel.operators import CelError, no_overload

_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_UPPER = str.maketrans(string.ascii_lowercase, string.ascii_uppercase)


def text_of(value: Any) -> str:
    """The value, which is a string. Raises ``CelError``."""
    if not isinstance(value, str):
        raise no_overload(value)
    return value


def _count(value: Any, most: int) -> int:
    """A number of parts, or of replacements: a negative one means all, and none needs to be above ``most``."""
    if type(value) is not int:
        raise no_overload(value)
    return min(value, most) if value >= 0 else -1


def _place(value: Any, length: int | None = None) -> int:
    """A place in a string of that length, or any place. Raises ``CelError``."""
    if type(value) is not int:
        raise no_overload(value)
    if value < 0 or (length is not None and value > length):
        raise CelError(f"index out of range: {value}")
    return value


def _split(value: Any, by: Any, limit: Any = -1) -> list[str]:
    text, separator = text_of(value), text_of(by)
    count = _count(limit, len(text) + 1)
    if not count:
        return []
    if separator:
        return text.split(separator, count - 1 if count > 0 else -1)
    if count < 0 or count >= len(text):
        return list(text)
    return [*text[: count - 1], text[count - 1 :]]


def _replace(value: Any, old: Any, new: Any, limit: Any = -1) -> str:
    text = text_of(value)
    return text.replace(text_of(old), text_of(new), _count(limit, len(text) + 1))


def _substring(value: Any, start: Any, end: Any = None) -> str:
    text = text_of(value)
    first = _place(start, len(text))
    last = len(text) if end is None else _place(end, len(text))
    if first > last:
        raise CelError(f"invalid substring range. start: {first}, end: {last}")
    return text[first:last]


def _char_at(value: Any, at: Any) -> str:
    text = text_of(value)
    place = _place(at, len(text))
    return text[place : place + 1]


def index_of(value: Any, wanted: Any, start: Any = 0) -> int:
    """The first place of ``wanted`` from ``start`` on; -1 if there is none."""
    text, part = text_of(value), text_of(wanted)
    if not part:
        return int(start)
    return text.find(part, _place(start))


def last_index_of(value: Any, wanted: Any, start: Any = None) -> int:
    """The last place of ``wanted``, up to ``start``; -1 if there is none."""
    text, part = text_of(value), text_of(wanted)
    if start is None:
        return text.rfind(part)
    if not part:
        return int(start)
    place = _place(start)
    return text.rfind(part, 0, place + len(part)) if place < len(text) else -1


TEXT_METHODS: dict[str, tuple[tuple[int, ...], Callable[..., Any]]] = {
    "startsWith": ((1,), lambda s, part: text_of(s).startswith(text_of(part))),
    "endsWith": ((1,), lambda s, part: text_of(s).endswith(text_of(part))),
    "contains": ((1,), lambda s, part: text_of(part) in text_of(s)),
    "lowerAscii": ((0,), lambda s: text_of(s).translate(_LOWER)),
    "upperAscii": ((0,), lambda s: text_of(s).translate(_UPPER)),
    "trim": ((0,), lambda s: text_of(s).strip()),
    "split": ((1, 2), _split),
    "replace": ((2, 3), _replace),
    "substring": ((1, 2), _substring),
    "charAt": ((1,), _char_at),
}
