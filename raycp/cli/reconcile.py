"""``raycp reconcile``: have an object reconciled now, although it has not changed."""

import argparse
from typing import Any

import msgspec

from raycp.cli.console import put
from raycp.cli.fleets import add_fleet, at_ray, existing, namespace_of, run_async
from raycp.cli.operator_name import operator
from raycp.cli.output import Column, add_output, render
from raycp.cli.why import parse_object
from raycp.protocol.control import ReconcileNow

COLUMNS = [Column("CONTROLLER", "controller"), Column("STATE", "state"), Column("WAITS FOR", "waitsFor")]


def add_parser(subparsers: Any) -> None:
    """``raycp reconcile CLUSTER/KIND/NAMESPACE/NAME [--controller NAME] [-c FLEET.yaml | --fleet NAME] [-o ...]``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "reconcile",
        help="reconcile an object now, although it has not changed",
        description="Queue an object for its controllers, as urgent as a user's change of it; a backoff ends. What is paused or "
        "held stays so, and is reconciled after. `raycp why` shows what came of it.",
    )
    parser.add_argument(
        "object",
        metavar="CLUSTER/KIND/NAMESPACE/NAME",
        help="KIND is ConfigMap, v1/ConfigMap or GROUP/VERSION/Kind; NAMESPACE is - for objects without one",
    )
    parser.add_argument("--controller", default="", metavar="NAME", help="by this controller only (default: by all of its)")
    add_fleet(parser)
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """0 when it is queued, for each controller with what it waits for."""
    from raycp.driver.fleet_client import FleetClient

    cluster, kind, namespace, name = parse_object(args.object)
    order = ReconcileNow(cluster, kind, namespace, name, args.controller, operator())
    with at_ray(existing(args)):
        client = FleetClient(namespace_of(args))
        found = run_async(client.ask(order))
    put(render(msgspec.to_builtins(found), COLUMNS, args.output))
    return 0
