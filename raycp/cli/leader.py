"""``raycp leader``: who leads, and the history of switches."""

import argparse
import datetime
from typing import Any

import msgspec

from raycp.cli.fleets import add_fleet, at_ray, existing, namespace_of, run_async
from raycp.cli.output import Column, Row, add_output, document, render


def _ms(phase: str) -> Any:
    return lambda row: "-" if row[phase] is None else f"{1000 * row[phase]:.0f} ms"


HISTORY = [
    Column("AT", lambda row: datetime.datetime.fromtimestamp(row["at"], datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")),
    Column("WHAT", "what"),
    Column("CAUSE", "cause"),
    Column("EPOCH", "epoch", right=True),
    Column("TERM", "term", right=True),
    Column("DRAIN", _ms("drain"), right=True),
    Column("LEADERLESS", _ms("leaderless"), right=True),
    Column("RAMP-UP", _ms("rampUp"), right=True),
    Column("BACKLOG", _ms("backlog"), right=True),
    Column("HOLDER", "holder", wide=True),
    Column("BEFORE", "before", wide=True),
]
SHOW = [
    Column("EPOCH", "epoch", right=True),
    Column("INCARNATION", "incarnation", right=True),
    Column("LOCK", "lock"),
    Column("HOLDER", "holder"),
    Column("UP", lambda row: f"{row['uptimeSeconds']:.0f} s", right=True),
]


def add_parser(subparsers: Any) -> None:
    """``raycp leader [show | history] [-c FLEET.yaml | --fleet NAME] [--address HOST:PORT] [-o ...]``."""
    parser: argparse.ArgumentParser = subparsers.add_parser("leader", help="who leads, and the history of switches")
    parser.add_argument("what", nargs="?", choices=("show", "history"), default="show", help="default: show")
    add_fleet(parser)
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """0."""
    from raycp.fleet.launch import FleetClient

    with at_ray(existing(args.address)):
        client = FleetClient(namespace_of(args))
        rows: list[Row]
        if args.what == "history":
            rows = msgspec.json.decode(run_async(client.ask("switches")))
            columns = HISTORY
        else:
            leader = run_async(client.status()).get("leader")
            rows, columns = ([leader] if leader else []), SHOW
    print(document(rows, args.output) if args.output in ("json", "yaml") else render(rows, columns, args.output))
    return 0
