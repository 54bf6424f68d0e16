"""Random delays of resyncs and other system work, and of changes that concern many keys."""

from random import Random

WIDEST = 0.9

AT_ONCE = 50
"""Keys that one change of an input may make due at once."""

PACE = 500.0
"""Keys a second beyond ``AT_ONCE`` that it makes due."""

PACED_WITHIN = 10.0
"""Seconds in which all of its keys are due, however many there are. Each is behind the live changes of its tier."""


def pace_width(keys: int) -> float:
    """The seconds over which ``keys`` that one change concerns are spread: a cluster that is lost with 10 000 objects must
    be no storm for the hub, and none of them may wait for long."""
    return 0.0 if keys <= AT_ONCE else min(PACED_WITHIN, keys / PACE)


def spread_width(resync: float, spread: float) -> float:
    """The seconds over which a round of system work is spread: ``spread``, but at most nine tenths of ``resync``.

    0.9 of a period is the shortest that ``resync_period`` returns, so that a round ends before the next one begins. A
    narrower spread offers more load at once: half of the period doubles the average rate for half of the time.
    """
    return min(spread, resync * WIDEST) if resync > 0 else spread


def spread_delay(rng: Random, resync: float, spread: float) -> float:
    """A random delay in seconds, uniform over ``spread_width``. ``resync`` 0 means that there is no resync.

    Raises ``ValueError`` for a negative or infinite duration.
    """
    _check(resync=resync, spread=spread)
    return rng.uniform(0.0, spread_width(resync, spread))


def resync_period(rng: Random, resync: float, jitter: float = 0.1) -> float:
    """Seconds to an object's next resync: ``resync`` ± ``jitter`` (a fraction), so that objects drift apart.

    Raises ``ValueError`` for a negative or infinite duration.
    """
    _check(resync=resync, jitter=jitter)
    return resync * rng.uniform(1.0 - min(jitter, 1.0), 1.0 + jitter)


def _check(**durations: float) -> None:
    for name, value in durations.items():
        if not 0 <= value < float("inf"):
            raise ValueError(f"{name} is {value}, which is no duration")
