"""``raycp pause``: begin no reconcile of a cluster or a controller of a running fleet."""

import argparse
from collections.abc import Sequence
from typing import Any

from raycp.cli.errors import BadInput
from raycp.cli.fleets import add_fleet, at_ray, existing, namespace_of, run_async
from raycp.cli.operator_name import operator
from raycp.cli.printer import say
from raycp.protocol.control import SetPause


def add_parser(subparsers: Any) -> None:
    """``raycp pause [--cluster NAME ...] [--controller NAME ...] [-c FLEET.yaml | --fleet NAME] [--address HOST:PORT]``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "pause",
        help="begin no reconcile of a cluster or a controller",
        description="Begin no reconcile of these clusters' objects, and none by these controllers. What runs ends; what is due "
        "waits in its lane, and counts as late in the service level. It outlives the leader and lasts until `raycp resume`, or "
        "until a file without it in spec.paused is applied.",
    )
    add_names(parser)


def add_names(parser: argparse.ArgumentParser) -> None:
    """What is paused, and of which fleet."""
    parser.add_argument("--cluster", action="append", default=[], metavar="NAME", help="objects of this cluster; repeatable")
    parser.add_argument("--controller", action="append", default=[], metavar="NAME", help="this controller; repeatable")
    add_fleet(parser)


def run(args: argparse.Namespace) -> int:
    """0 when it is paused, or was."""
    return set_pause(args, paused=True)


def set_pause(args: argparse.Namespace, *, paused: bool) -> int:
    """Pause or resume what ``add_names`` has read, and say what came of it."""
    from raycp.driver.fleet_client import FleetClient

    if not (args.cluster or args.controller):
        raise BadInput("nothing is named", "name what with --cluster NAME, --controller NAME, or both")
    with at_ray(existing(args)):
        client = FleetClient(namespace_of(args))
        found = run_async(client.ask(SetPause(paused, args.cluster, args.controller, operator())))
    what = " and ".join([*_named("cluster", args.cluster), *_named("controller", args.controller)])
    done = "paused" if paused else "resumed"
    say(f"{what}: {done}" if found.changed else f"{what}: nothing to change, {'paused' if paused else 'not paused'} before")
    return 0


def _named(what: str, names: Sequence[str]) -> list[str]:
    return [f"{what}{'' if len(names) == 1 else 's'} {', '.join(names)}"] if names else []
