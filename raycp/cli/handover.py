"""``raycp handover``: hand each shard to its warm standby, without a noticeable pause."""

import argparse
from typing import Any

import msgspec

from raycp.cli.console import put
from raycp.cli.fleets import add_fleet, at_ray, existing, namespace_of, run_async
from raycp.cli.operator_name import operator
from raycp.cli.output import Column, add_output, render
from raycp.protocol.control import HandOver

COLUMNS = [
    Column("SHARD", "shard"),
    Column("TO", "to"),
    Column("DRAIN", lambda row: f"{1000 * row['drain']:.0f} ms", right=True),
    Column("TOOK", lambda row: f"{1000 * row['took']:.0f} ms", right=True),
    Column("REVOKED", "revoked", right=True),
    Column("PROBLEM", "problem"),
]


def add_parser(subparsers: Any) -> None:
    """``raycp handover [--shard ID ...] [-c FLEET.yaml | --fleet NAME] [--address HOST:PORT] [-o ...]``."""
    parser: argparse.ArgumentParser = subparsers.add_parser("handover", help="hand shards to their warm standbys")
    parser.add_argument("--shard", action="append", default=[], metavar="ID", help="this shard only; repeatable (default: all)")
    add_fleet(parser)
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Exit code 0 when all were handed over; 1 when one was not, whose primary goes on."""
    from raycp.driver.fleet_client import FleetClient

    with at_ray(existing(args)):
        client = FleetClient(namespace_of(args))
        answer = run_async(client.ask(HandOver(args.shard, operator()), timeout=60.0))
    rows = msgspec.to_builtins(answer)
    put(render(rows, COLUMNS, args.output))
    return 1 if any(row["problem"] for row in rows) else 0
