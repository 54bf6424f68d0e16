"""Who did what: each action of the console with its outcome, in the log, the flight recorder, the feed of changes, and the
newest of them here.

What strangers try is logged too, and fills no memory of ours: one line in ``STRANGERS_EVERY`` seconds, with how many were left out.
"""

import logging
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from raycp.base.clock import Clock
from raycp.base.plaintext import one_line
from raycp.metrics.recorder import FlightRecorder
from raycp.metrics.redaction import redact

log = logging.getLogger(__name__)

KEPT = 100
"""Actions that are shown."""

STRANGERS_EVERY = 5.0
"""Seconds between two lines about requests of those who may not write."""

LONGEST = 500
"""Characters of what an action was about, or of its outcome."""


class ActionRecord(msgspec.Struct, frozen=True, rename="camel"):
    """``at`` in Unix seconds; ``about``: the fields of the request; ``by``: token or certificate; ``origin``: the address it came
    from; ``status`` of HTTP; ``outcome`` in words; ``seconds`` that it took."""

    at: float
    action: str
    about: str
    by: str
    origin: str
    status: int
    outcome: str
    seconds: float


class Audit:
    """One per observer. ``acted_upon`` is notified of each action."""

    def __init__(
        self, clock: Clock, recorder: FlightRecorder | None = None, acted_upon: Callable[[ActionRecord], None] = lambda _: None
    ) -> None:
        self._clock = clock
        self._recorder = recorder
        self._acted_upon = acted_upon
        self._records: deque[ActionRecord] = deque(maxlen=KEPT)
        self._told = float("-inf")
        self._left_out = 0

    @property
    def records(self) -> list[ActionRecord]:
        """The newest first, since this observer began."""
        return list(reversed(self._records))

    def acted(self, action: str, about: str, by: str, origin: str, status: int, outcome: str, seconds: float) -> None:
        """Somebody who may write has asked for an action."""
        recorded = _parts(about)
        about, outcome = (one_line(redact(text))[:LONGEST] for text in (about, outcome))  # a body may have anything, also a token
        made = ActionRecord(self._clock.wall(), action, about, by, origin, status, outcome, round(seconds, 3))
        self._records.append(made)
        fields = {name: getattr(made, name) for name in made.__struct_fields__ if name != "at"}
        log.log(logging.INFO if status < 400 else logging.WARNING, "action %s: %s", action, outcome, extra=fields)
        if self._recorder is not None:
            self._recorder.note("action", urgent=True, **{**fields, "about": recorded})
        self._acted_upon(made)

    def refused(self, path: str, by: str, origin: str, status: int, why: str) -> None:
        """Somebody who may not write has tried to."""
        now = self._clock.now()
        if now - self._told < STRANGERS_EVERY:
            self._left_out += 1
            return
        more = f" ({self._left_out} more since the last line)" if self._left_out else ""
        self._told, self._left_out = now, 0
        fields: dict[str, Any] = {"path": one_line(path)[:LONGEST], "by": by or "nobody known", "origin": origin, "status": status}
        log.warning("a write was refused: %s%s", why, more, extra=fields)
        if self._recorder is not None:
            self._recorder.note("refused_write", why=why, **fields)


def _parts(body: str) -> Any:
    """A body for the flight recorder, which cuts a text off at its first brace: JSON in its parts, else as text."""
    try:
        parts = msgspec.json.decode(body) if len(body) <= LONGEST else None
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError):
        parts = None
    return redact(body.lstrip("{ ") if parts is None else parts)
