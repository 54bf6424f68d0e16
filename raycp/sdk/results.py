"""What a reconciler says at its end: ``None``, a ``Result``, or one of two exceptions.

| it ends with | then |
|---|---|
| ``return None`` or ``Result()`` | done; the next call comes with the next change |
| ``Result(requeue_after=30)`` | done; called again after 30 s, or at the next change if that is sooner |
| ``raise Retry("why")`` | not done: again with exponential backoff, or after ``Retry("why", after=5)`` |
| ``raise Permanent("why")`` | not done and no use in trying again before the object changes |
| any other exception | as ``Retry``, with its traceback in the log |
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Result:
    """Success.

    ``requeue_after``: seconds until the next look (0: at once), counted as a poll: background tier unless ``tier``
    names another. ``waiting`` says what the object waits for (``"quota"``, ``"capacity"``): that time is counted
    apart in the SLI. Who waits for a ``"cluster"`` is looked at again as soon as one that was silent answers.
    """

    requeue_after: float | None = None
    tier: str | None = None
    waiting: str = ""


class Retry(Exception):
    """Not done, again later. ``after`` is in seconds and replaces the backoff; None leaves it to the backoff."""

    def __init__(self, message: str = "", *, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class Permanent(Exception):
    """Not done, and not to be tried again until the object changes."""
