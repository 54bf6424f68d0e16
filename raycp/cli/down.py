"""``raycp down``: take a fleet down and leave no actor behind."""

import argparse
from typing import Any

from raycp.cli.fleets import add_fleet, at_ray, existing, namespace_of, run_async
from raycp.cli.printer import say


def add_parser(subparsers: Any) -> None:
    """``raycp down [-c FLEET.yaml | --fleet NAME] [--drain SECONDS]``."""
    parser: argparse.ArgumentParser = subparsers.add_parser("down", help="take a fleet down")
    add_fleet(parser)
    parser.add_argument("--drain", type=float, default=10.0, metavar="SECONDS", help="time for running reconciles to end")


def run(args: argparse.Namespace) -> int:
    """Exit code 0 when no actor of the fleet is left."""
    from raycp.driver.fleet_client import FleetClient

    with at_ray(existing(args.address)):
        namespace = namespace_of(args)
        ended = run_async(FleetClient(namespace).down(args.drain))
    name = namespace.removeprefix("raycp-")
    say(f"fleet {name} is down: {ended} actors ended" if ended else f"no fleet {name} was running")
    return 0
