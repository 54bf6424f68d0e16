"""``Haste``: keys that ask to be reconciled again at once, again and again. Each reconcile succeeds, and nothing ever ends.

A reconciler that returns ``Result(requeue_after=0)`` for a state that does not pass takes a slot for ever; a poll is slower. Pure
but for what it remembers.
"""

from collections.abc import Callable

from raycp.base.clock import Clock
from raycp.base.keys import RequestKey
from raycp.base.tasks import Done, Outcome

SOON = 0.2
"""Seconds: who asks for more, polls."""

MANY = 50
WITHIN = 10.0
"""So many reconciles of one key that asked for the next one at once, within so many seconds, are a loop."""

REMEMBERED = 10_000

LOOP = "RequeueLoop"
"""The class of the error."""


class Haste:
    """One shard's. Call with reconciles that asked for another one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._counts: dict[RequestKey, tuple[float, int, bool]] = {}
        """When the present span of ``WITHIN`` seconds began, how many there were in it, and whether the one before had ``MANY``."""

    def fault(self, done: Done) -> Done | None:
        """The failure that the end of this reconcile is; None where it is none."""
        after = done.requeue_after
        if done.outcome is not Outcome.OK or after is None or after > SOON:
            return None
        now = self._clock.now()
        begun, count, found = self._counts.get(done.key, (now, 0, False))
        if now - begun > WITHIN:
            begun, count, found = now, 0, count >= MANY
        if len(self._counts) >= REMEMBERED:
            self._counts.clear()
        self._counts[done.key] = begun, count + 1, found
        if count + 1 < MANY and not found:
            return None
        text = f"it asks to be reconciled again at once (requeue_after={after:g}), {MANY} times within {WITHIN:g} s: it never ends"
        return Done(done.id, done.key, Outcome.RETRY, done.seconds, error=text, error_class=LOOP)

    def drop(self, drops: Callable[[RequestKey], bool]) -> None:
        """Forget the keys for which ``drops`` is true."""
        self._counts = {key: count for key, count in self._counts.items() if not drops(key)}
