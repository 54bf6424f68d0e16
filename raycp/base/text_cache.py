"""``cached_by_text``: a cache of what is computed from texts that come from outside."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, Concatenate, TypeVar

T = TypeVar("T", bound=str | bytes)
R = TypeVar("R")

LONGEST = 1024
"""Characters, or bytes, of a text that is kept."""


def cached_by_text(
    maxsize: int, longest: int = LONGEST
) -> Callable[[Callable[Concatenate[T, ...], R]], Callable[Concatenate[T, ...], R]]:
    """As ``functools.lru_cache``, of a function whose first argument is the text. What it makes of one with more than ``longest``
    characters is not kept: who sends the texts, and not their number alone, decides how much memory they take. Further arguments
    must be few, or short."""

    def cached(function: Callable[Concatenate[T, ...], R]) -> Callable[Concatenate[T, ...], R]:
        kept: Any = lru_cache(maxsize)(function)

        @wraps(function)
        def call(text: T, *more: Any, **named: Any) -> R:
            found: R = kept(text, *more, **named) if len(text) <= longest else function(text, *more, **named)
            return found

        return call

    return cached
