"""``raycp leader``: who leads, the history of switches, and the release of a dead holder's lock."""

import argparse
import datetime
from pathlib import Path
from typing import Any

from raycp.cli.console import put
from raycp.cli.fleets import add_fleet, at_ray, existing, namespace_of, run_async
from raycp.cli.output import Column, Row, add_output, render
from raycp.protocol.control import Switches


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
    Column("WAITING", lambda row: row.get("waiting") or "-"),
    Column("UP", lambda row: f"{row['uptimeSeconds']:.0f} s", right=True),
]


def add_parser(subparsers: Any) -> None:
    """``raycp leader [show | history | unlock] [-c FLEET.yaml | --fleet NAME] [--address HOST:PORT] [-o ...]``."""
    parser: argparse.ArgumentParser = subparsers.add_parser("leader", help="who leads, the history of switches; free a lock")
    parser.add_argument(
        "what",
        nargs="?",
        choices=("show", "history", "unlock"),
        default="show",
        help="show (the default), history, or unlock: free the lock of a holder that is dead for good",
    )
    parser.add_argument("--kubeconfig", type=Path, metavar="FILE", help="kubeconfig of an embedded hub, for unlock")
    add_fleet(parser)
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Print it; for unlock, exit code 1 where the holder is alive."""
    from raycp.driver.fleet_client import FleetClient

    if args.what == "unlock":
        from raycp.cli import unlock

        return unlock.run(args.config, args.kubeconfig)
    with at_ray(existing(args)):
        client = FleetClient(namespace_of(args))
        rows: list[Row]
        if args.what == "history":
            rows = [*run_async(client.ask(Switches()))]
            columns = HISTORY
        else:
            leader = run_async(client.status()).get("leader")
            rows, columns = ([leader] if leader else []), SHOW
    put(render(rows, columns, args.output))
    return 0
