"""``raycp kubeconfig``: the kubeconfig of an embedded cluster, on standard output."""

import argparse
from typing import Any

from raycp.cli.fleets import add_fleet, at_ray, existing, namespace_of, run_async
from raycp.cli.printer import say


def add_parser(subparsers: Any) -> None:
    """``raycp kubeconfig CLUSTER``."""
    parser: argparse.ArgumentParser = subparsers.add_parser("kubeconfig", help="print the kubeconfig of an embedded cluster")
    parser.add_argument("cluster", help="the cluster's name in the fleet")
    add_fleet(parser)


def run(args: argparse.Namespace) -> int:
    """Print the kubeconfig; it holds the cluster's admin token."""
    from raycp.driver.fleet_client import FleetClient

    with at_ray(existing(args)):
        say(run_async(FleetClient(namespace_of(args)).kubeconfig(args.cluster)), end="")
    return 0
