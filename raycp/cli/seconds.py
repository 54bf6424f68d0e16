"""Seconds as an argument."""

import argparse

LONGEST = 7 * 86_400.0
"""Of what a command may be told to wait for."""


def seconds(text: str) -> float:
    """For ``type=`` of an argument. Raises ``ArgumentTypeError``, also for ``nan`` and ``inf``, which ``float`` takes."""
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0.0 <= found <= LONGEST:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to {LONGEST:.0f}")
    return found
