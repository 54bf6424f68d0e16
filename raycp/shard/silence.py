"""How long a worker has not answered: one whose loop or interpreter is blocked by a reconciler must not collect others' keys.

A hand-out never expires under a living worker, so what is sent to a blocked one waits until it ends itself, some seconds later. A
worker that has work, and from which nothing was received for a moment, is therefore asked first (``LivenessQuery``), and gets
nothing more before it has answered. The answer comes from the loop on which reconciles run.
"""

from raycp.protocol.frames import LivenessQuery

QUIET = 0.05
"""Seconds after the last frame of a worker that has work, or after its first hand-out, for which it counts as answering."""

BLOCKED = 3.0
"""Seconds for which a question was open when the connection broke, from which the worker counts as having been blocked: it has
ended itself (``raycp.worker.watchdog``), and was not killed at a moment that anybody else chose."""


class Silence:
    """One worker's. Times as ``Clock.now()``. ``answers``: whether it knows ``LivenessQuery``. ``heard_at``: when a reconcile of it
    ended last, or it began to work: its loop turned then. An attribute, since it is set for each acknowledgement."""

    __slots__ = ("_asked_at", "_number", "answers", "heard_at")

    def __init__(self) -> None:
        self.answers = False
        self.heard_at = float("-inf")
        self._asked_at = float("-inf")
        self._number = 0

    @property
    def _open(self) -> bool:
        return self._asked_at > self.heard_at

    def answered(self, number: int, now: float) -> None:
        """It has answered a question; answers to earlier ones than the last are as good."""
        if number <= self._number:
            self.heard_at = now

    def quiet(self, now: float) -> bool:
        """Whether it has to be asked before it gets more."""
        return self.answers and now - self.heard_at > QUIET

    def question(self, now: float) -> LivenessQuery | None:
        """The question to send; None while one is open."""
        if self._open or not self.answers:
            return None
        self._asked_at = now
        self._number += 1
        return LivenessQuery(self._number)

    def unanswered(self, now: float) -> float:
        """Seconds for which a question is open; 0 without one."""
        return now - self._asked_at if self._open else 0.0
