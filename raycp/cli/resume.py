"""``raycp resume``: the end of a pause."""

import argparse
from typing import Any

from raycp.cli.pause import add_names, set_pause


def add_parser(subparsers: Any) -> None:
    """``raycp resume [--cluster NAME ...] [--controller NAME ...] [-c FLEET.yaml | --fleet NAME] [--address HOST:PORT]``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "resume",
        help="reconcile what a pause has left waiting",
        description="Reconcile these clusters' objects again, and by these controllers; first what has become due meanwhile.",
    )
    add_names(parser)


def run(args: argparse.Namespace) -> int:
    """0 when it is not paused any more, or was not."""
    return set_pause(args, paused=False)
