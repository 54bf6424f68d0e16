"""``GilAlarm``: ends this process while a reconciler holds the interpreter (a regular expression, a loop in C): no Python of ours
runs then, so the watchdog can't act.

The thread that ends it is ``faulthandler``'s, which needs no GIL. The stacks of all threads go to the log first. Nobody can be
told which reconcile it was: the shard knows what was in flight, and that the worker did not answer (``raycp.shard.silence``).
"""

import faulthandler

STDERR = 2


class GilAlarm:
    """One per process, since ``faulthandler`` has one timer."""

    def postpone(self, seconds: float) -> None:
        """End the process in ``seconds``, unless it is postponed again or cancelled before."""
        faulthandler.dump_traceback_later(seconds, exit=True, file=STDERR)

    def cancel(self) -> None:
        """Don't end it."""
        faulthandler.cancel_dump_traceback_later()
