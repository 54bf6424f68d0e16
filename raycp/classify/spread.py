"""Random delays for work that nobody waits for."""

from random import Random

WIDEST = 0.9


def spread_width(resync: float, spread: float) -> float:
    """Over how many seconds a round of system work is spread: see ``spread_delay``."""
    return min(spread, resync * WIDEST) if resync > 0 else spread


def spread_delay(rng: Random, resync: float, spread: float) -> float:
    """Seconds to wait: uniform over ``spread``, and over at most nine tenths of ``resync`` (0: no resync), so that a round
    ends before the next begins: the shortest that jitter makes of a period. (Half of it, as first planned, offers twice the
    average rate half of the time.) Raises ``ValueError`` for a negative or undefined duration."""
    _check(resync=resync, spread=spread)
    return rng.uniform(0.0, spread_width(resync, spread))


def resync_period(rng: Random, resync: float, jitter: float = 0.1) -> float:
    """The time to an object's next resync: ``resync`` ± ``jitter`` (a share), so that objects drift apart."""
    _check(resync=resync, jitter=jitter)
    return resync * rng.uniform(1.0 - min(jitter, 1.0), 1.0 + jitter)


def _check(**durations: float) -> None:
    for name, value in durations.items():
        if not 0 <= value < float("inf"):
            raise ValueError(f"{name} is {value}, which is no duration")
