"""Regular expressions from clients: RE2's syntax and engine, as Go's ``regexp``. A match costs pattern times text, never more; the
budget of the validation bounds the product.
"""

from typing import Any

import re2

from raycp.embedded.strategy.budget import budget

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.max_mem = 1 << 20
_MATCH = 2_000
"""steps that each match of many costs"""


class PatternRefused(Exception):
    """Not a regular expression of RE2, or one that is too large."""


class MatchTooCostly(Exception):
    """The validation has no budget left for this match."""


class Pattern:
    """A compiled expression. Raises ``PatternRefused``."""

    def __init__(self, text: str) -> None:
        try:
            self._compiled = re2.compile(text.encode(), _OPTIONS)
        except (re2.error, UnicodeEncodeError) as error:
            why = error.args[0] if error.args else ""
            raise PatternRefused(why.decode(errors="replace") if isinstance(why, bytes) else str(error)) from None
        self.size = int(self._compiled.programsize)
        """instructions of its program"""

    def found_in(self, text: str) -> bool:
        """Whether ``text`` has a match. Raises ``MatchTooCostly``."""
        return self._search(text) is not None

    def first(self, text: str) -> str:
        """The first match, empty if there is none. Raises ``MatchTooCostly``."""
        found = self._search(text)
        return str(found.group().decode(errors="replace")) if found is not None else ""

    def each(self, text: str) -> list[str]:
        """All matches that do not overlap; each is paid for as well. Raises ``MatchTooCostly``."""
        found: list[str] = []
        left = budget()
        for match in self._compiled.finditer(self._paid(text)):
            left.steps -= _MATCH
            if left.steps < 0:
                raise MatchTooCostly
            found.append(match.group().decode(errors="replace"))
        return found

    def _search(self, text: str) -> Any:
        return self._compiled.search(self._paid(text))

    def _paid(self, text: str) -> bytes:
        """The text's bytes, when the match is paid for."""
        raw = text.encode(errors="replace")
        left = budget()
        left.steps -= self.size * len(raw)
        if left.steps < 0:
            raise MatchTooCostly
        return raw
