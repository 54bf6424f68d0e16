"""``cached_by_text``: ``functools.lru_cache`` for functions of texts that come from outside."""

from collections.abc import Callable, Iterable
from functools import _lru_cache_wrapper, lru_cache, wraps
from typing import Any, TypeVar

R = TypeVar("R")

LONGEST = 1024
"""Characters, or bytes, of the arguments of one call from which on they are long."""

HELD = 256 << 10
"""Characters of all long ones that are kept, beside those of one call."""


def cached_by_text(maxsize: int, longest: int = LONGEST) -> Callable[[Callable[..., R]], "_lru_cache_wrapper[R]"]:
    """As ``lru_cache(maxsize)``, and of calls with more than ``longest`` characters few are kept: who sends the texts would decide
    how much memory they take for ever. Then the whole cache is emptied; a call that is found costs what it costs without this."""

    def cached(function: Callable[..., R]) -> "_lru_cache_wrapper[R]":
        held = 0

        @wraps(function)
        def computed(*given: Any, **named: Any) -> R:
            nonlocal held
            size = _size(given)
            if size > longest:
                held += size
                if held > max(HELD, size):
                    kept.cache_clear()
                    held = size
            return function(*given, **named)

        kept = lru_cache(maxsize)(computed)
        return kept

    return cached


def _size(given: Iterable[Any]) -> int:
    size = 0
    for each in given:
        if isinstance(each, str | bytes):
            size += len(each)
        elif isinstance(each, tuple):
            size += _size(each)
    return size
