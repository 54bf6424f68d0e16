"""``raycp changes``: what changed in the fleet lately."""

import argparse
import datetime
from collections.abc import Sequence
from typing import Any

from raycp.cli.console import put_found
from raycp.cli.observer import add_observer, fetch_list, located
from raycp.cli.output import Column, Page, Row, add_every, add_output, render

COLUMNS = [
    Column("TIME (UTC)", lambda row: _time(row["at"])),
    Column("KIND", "kind"),
    Column("SUBJECT", "subject"),
    Column("WHAT", "what"),
    Column("TIMES", lambda row: row["count"] if row["count"] > 1 else "", right=True),
    Column("DETAILS", "text"),
    Column("OBJECT", "object", wide=True),
]


def add_parser(subparsers: Any) -> None:
    """``raycp changes [-w]``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "changes",
        help="what changed in the fleet: switches, applies, deaths, clusters",
        description="List the last changes of the fleet, the newest last: switches and hand-overs, applied fleet files, processes "
        "that died, clusters that went and came, controllers that fail, alerts, drains, other code. The observer keeps 200, "
        "over its own restarts too.",
    )
    parser.add_argument("-n", "--last", type=_count, default=0, metavar="N", help="only the newest N")
    parser.add_argument("-w", "--watch", action="store_true", help="go on until Ctrl-C")
    add_every(parser)
    add_observer(parser)
    add_output(parser)


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return value


def run(args: argparse.Namespace) -> int:
    """Print them; until interrupted with ``-w``."""
    ask = located(args, changes_at)
    put_found(args, lambda: ask()["changes"][-args.last :], show)
    return 0


def changes_at(url: str) -> dict[str, Any]:
    """``changes``: those that the observer at ``url`` knows, the oldest first. Raises ``CliError``."""
    return fetch_list(url, "/api/v1/changes", "changes")


def show(rows: Sequence[Row], format: Any) -> Page:
    """One screen."""
    return render(rows, COLUMNS, format, empty="nothing has changed since an observer began to look")


def _time(at: float) -> str:
    return f"{datetime.datetime.fromtimestamp(at, datetime.UTC):%Y-%m-%d %H:%M:%S}"
