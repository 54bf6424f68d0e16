"""``FailureLines``: which failures get a line in the log of their worker.

A line with its traceback costs ten times what a small reconcile does. Where a cluster refuses everything, or a controller fails for
each of its objects, thousands of equal ones would take the worker from all other clusters, and add nothing to the first. What each
object failed with, and how often, is in ``raycp errors`` and the object's timeline, whatever is logged.
"""

from raycp.base.budgets import KeyedBudgets

BURST = 20
PER_SECOND = 2.0
KNOWN = 1000
"""Causes that are remembered: controller, cluster, class of the error."""

Cause = tuple[str, str, str]


class FailureLines:
    """One worker's. Call on the user loop."""

    def __init__(self) -> None:
        self._budgets: KeyedBudgets[Cause] = KeyedBudgets(BURST, PER_SECOND, KNOWN)
        self._left_out: dict[Cause, int] = {}

    def admit(self, cause: Cause, now: float) -> int | None:
        """None where a failure gets no line; else how many of its cause got none since the last that did."""
        if self._budgets.take(cause, now):
            return self._left_out.pop(cause, 0)
        if len(self._left_out) >= KNOWN and cause not in self._left_out:
            self._left_out.clear()
        self._left_out[cause] = self._left_out.get(cause, 0) + 1
        return None
