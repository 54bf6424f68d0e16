"""How a reconciler ends: with ``None``, a ``Result``, or one of two exceptions.

| it ends with | then |
|---|---|
| ``return None`` or ``Result()`` | done; called again at the next change |
| ``Result(requeue_after=30)`` | done; called again after 30 s, or at the next change if that is sooner |
| ``raise Retry("why")`` | not done: called again with exponential backoff, or after ``Retry("why", after=5)`` |
| ``raise Permanent("why")`` | not done: called again when the object changes |
| any other exception | as ``Retry``, with its traceback in the log |
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Result:
    """Success.

    ``requeue_after``: seconds until the key is requeued (0: at once), as a poll: background tier unless ``tier`` names another.
    ``waiting`` says what the object waits for (``"quota"``, ``"capacity"``): the SLI counts that time apart. A key that waits for
    a ``"cluster"`` is requeued as soon as an unreachable cluster answers again.
    """

    requeue_after: float | None = None
    tier: str | None = None
    waiting: str = ""


class Retry(Exception):
    """Not done; try again later. ``after`` is in seconds and replaces the backoff; None leaves it to the backoff."""

    def __init__(self, message: str = "", *, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class Permanent(Exception):
    """Not done; try again when the object changes."""
