"""``raycp kubeconfig``: the kubeconfig of an embedded cluster, on standard output."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from raycp.cli.errors import BadInput
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
        client = FleetClient(namespace_of(args))
        status = run_async(client.status())
        if why := refusal(str(status.get("fleet") or ""), status["clusters"], args.cluster):
            raise why
        say(run_async(client.kubeconfig(args.cluster)), end="")
    return 0


def refusal(fleet: str, clusters: Sequence[Mapping[str, Any]], wanted: str) -> BadInput | None:
    """Why no kubeconfig of that cluster can be printed; ``clusters`` of the fleet's status."""
    modes = {str(row["name"]): str(row["mode"]) for row in clusters}
    if modes.get(wanted) == "embedded":
        return None
    embedded = ", ".join(sorted(name for name, mode in modes.items() if mode == "embedded")) or "none"
    if wanted in modes:
        return BadInput(f"cluster {wanted!r} is not embedded", f"its kubeconfig is the one in the fleet file; embedded: {embedded}")
    return BadInput(f"fleet {fleet} has no cluster {wanted!r}", f"embedded clusters of it: {embedded}")
