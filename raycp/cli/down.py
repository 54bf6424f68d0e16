"""``raycp down``: take a fleet down and leave no actor behind."""

import argparse
from typing import Any

from raycp.cli.confirmation import confirmed, has_terminal
from raycp.cli.fleets import add_fleet, at_ray, existing, namespace_of, run_async
from raycp.cli.printer import say
from raycp.cli.seconds import seconds
from raycp.runtime.fleet_home import forget_ray


def add_parser(subparsers: Any) -> None:
    """``raycp down [-c FLEET.yaml | --fleet NAME] [--drain SECONDS]``."""
    parser: argparse.ArgumentParser = subparsers.add_parser("down", help="take a fleet down")
    add_fleet(parser)
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask on a terminal")
    parser.add_argument("--drain", type=seconds, default=10.0, metavar="SECONDS", help="time for running reconciles to end")


def run(args: argparse.Namespace) -> int:
    """Exit code 0 when no actor of the fleet is left."""
    from raycp.driver.fleet_client import FleetClient

    with at_ray(existing(args)) as at_hand:
        namespace = namespace_of(args)
        name = namespace.removeprefix("raycp-")
        asks = not args.yes and has_terminal()
        if asks and not confirmed(f"Take down fleet {name} on the Ray at {at_hand.address}?"):
            say("nothing was done")
            return 1
        ended = run_async(FleetClient(namespace).down(args.drain))
        forget_ray(name, at_hand.address)
    say(f"fleet {name} on the Ray at {at_hand.address} is down: {ended} actors ended" if ended else f"no fleet {name} was running")
    return 0
