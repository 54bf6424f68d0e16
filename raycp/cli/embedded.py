"""``raycp embedded``: Kubernetes API servers in one process, with their kubeconfigs."""

import argparse
from pathlib import Path
from typing import Any

from raycp.cli.errors import BadInput
from raycp.cli.ports import refusal
from raycp.cli.printer import say

LAST_PORT = 65535


def add_parser(subparsers: Any) -> None:
    """Declare the command."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "embedded",
        help="run embedded clusters alone and write their kubeconfigs",
        description="Run embedded Kubernetes API servers until interrupted. Prints one line per cluster (name, "
        "address, kubeconfig) when it serves. Without --life there is no scheduler and no garbage collection, and "
        "Pods do not run.",
    )
    parser.add_argument("--clusters", type=_count, default=1, metavar="N", help="number of clusters (default: 1)")
    parser.add_argument(
        "--dir", type=Path, default=Path(), metavar="DIR", help="directory of NAME.kubeconfig (default: the working directory)"
    )
    parser.add_argument("--life", action="store_true", help="schedule and run Pods, collect garbage, empty namespaces")
    parser.add_argument("--nodes", type=_nodes, default=0, metavar="N", help="simulated nodes per cluster, with --life")
    parser.add_argument("--rbac", action="store_true", help="enforce RBAC")
    parser.add_argument("--seed", type=int, default=0, help="seed of all random choices")
    parser.add_argument("--port", type=_port, default=0, help="port of the first cluster; others follow (default: free ones)")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="keep state in DIR/NAME across runs")


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted."""
    from raycp.embedded.standalone import main, specs

    if args.port and args.port + args.clusters - 1 > LAST_PORT:
        raise BadInput(f"--port {args.port}: {args.clusters} clusters need the ports from there on", f"they end at {LAST_PORT}")
    wanted = specs(
        args.clusters,
        life=args.life,
        nodes=args.nodes,
        rbac=args.rbac,
        seed=args.seed,
        port=args.port,
        data_dir=args.data_dir,
    )
    for name, spec in wanted:
        if spec.port and (why := refusal(spec.host, spec.port)):
            raise BadInput(f"--port: {spec.port}, that of {name}, {why} on {spec.host}", "give another; 0 takes any")
    main(wanted, args.dir, say)
    return 0


def _count(text: str) -> int:
    return _within(text, 1, 1000)


def _nodes(text: str) -> int:
    return _within(text, 0, 100_000)


def _port(text: str) -> int:
    return _within(text, 0, LAST_PORT)


def _within(text: str, least: int, most: int) -> int:
    if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
    return int(text)
