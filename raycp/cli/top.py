"""``raycp top``: lanes, clusters and latency, live."""

import argparse
import datetime
import sys
from typing import Any

from raycp.cli.console import put, watch
from raycp.cli.observer import add_observer, fetch_list, located
from raycp.cli.output import Column, Page, Row, add_every, add_output, bullets, document, render
from raycp.cli.printer import is_rich
from raycp.cli.slo import REPORT
from raycp.cli.status import readiness_of

LANES = [
    Column("LANE", "tier"),
    Column("READY", "depth", right=True),
    Column("DELAYED", "delayed", right=True),
    Column("IN WORK", "in_work", right=True),
    Column("OLDEST", lambda row: f"{row['oldest_ready_seconds']:.3f} s", right=True),
    Column("PER SECOND", lambda row: f"{row['per_second']:.1f}", right=True),
    Column("SHARE", lambda row: f"{100 * (row.get('share') or 0):.0f} %", right=True),
]
CLUSTERS = [
    Column("CLUSTER", "name"),
    Column("SYNCED", "synced"),
    Column("OBJECTS", "objects", right=True),
    Column("LAG", lambda row: f"{row['lag_seconds'] or 0:.1f} s", right=True),
    Column("BREAKER", "breaker"),
    Column("REASON", "reason"),
]
WORKERS = [
    Column("WORKER", "name"),
    Column("STATE", "state"),
    Column("BUSY", lambda row: f"{row['active']}/{row['slots']}", right=True),
    Column("MEMORY", lambda row: f"{row['memory_bytes'] / 1e6:.0f} MB", right=True),
]


def add_parser(subparsers: Any) -> None:
    """``raycp top``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "top",
        help="a live view of lanes, clusters and latency",
        description="Show lanes, clusters, workers and objectives until Ctrl-C; once where the output is not a terminal.",
    )
    add_every(parser)
    parser.add_argument("--once", action="store_true", help="print once and exit")
    add_observer(parser)
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Show the view until interrupted; once where there is no live view."""
    ask = located(args, lambda url: fetch_list(url, "/api/v1/overview", "status"))

    def draw() -> Page:
        found = ask()
        return document(found, args.output) if args.output in ("json", "yaml") else show(found, args.output)

    if is_rich(sys.stdout) and not args.once and args.output not in ("json", "yaml"):
        watch(draw, args.every)
    put(draw())
    return 0


def show(found: Row, format: Any) -> Page:
    """One screen."""
    status = found["status"]
    leader = status.get("leader") or {}
    ready = readiness_of(status)
    head = f"fleet {status.get('fleet') or '-'} ({ready}), epoch {leader.get('epoch', '-')}, plan {status.get('plan', '-')}"
    if since := leader.get("silentSince"):
        head += f"; the leader has been silent since {datetime.datetime.fromtimestamp(since, datetime.UTC):%H:%M:%S} UTC"
    reasons = bullets(status.get("reasons") or ())
    page = Page(f"{head}\n{reasons}" if reasons else head)
    for rows, columns in (("lanes", LANES), ("clusters", CLUSTERS), ("workers", WORKERS), ("slo", REPORT)):
        if found.get(rows):
            page.add(render(found[rows], columns, format))
    return page
