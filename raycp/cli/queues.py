"""``raycp queues``: who uses how much, and who waits."""

import argparse
from typing import Any

from raycp.cli.console import put_found
from raycp.cli.observer import add_observer, fetch_list, observer_url
from raycp.cli.output import Column, Page, Row, add_every, add_output, render

COLUMNS = [
    Column("NAME", "name"),
    Column("COHORT", lambda row: row["cohort"] or "-"),
    Column("PENDING", "pending", right=True),
    Column("ADMITTED", "admitted", right=True),
    Column("USAGE", lambda row: usage_text(row["usage"])),
    Column("SHARE", lambda row: f"{row['share']:.3g}", right=True, wide=True),
    Column("NAMESPACES", lambda row: ", ".join(row["namespaces"]) or "-", wide=True),
    Column("NEXT", lambda row: head_text(row.get("head")), wide=True),
    Column("PROBLEM", "problem"),
]


def add_parser(subparsers: Any) -> None:
    """``raycp queues [-w]``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "queues",
        help="the queues: usage, jobs that wait and that are admitted",
        description="List the queues of the fleet: quota in use of quota owned, what is borrowed, how many jobs wait and are "
        "admitted. `raycp explain job NAME` says why one waits.",
    )
    parser.add_argument("-w", "--watch", action="store_true", help="go on until Ctrl-C")
    add_every(parser)
    add_observer(parser)
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Print them; until interrupted with ``-w``."""
    url = observer_url(args)
    put_found(args, lambda: queues_at(url), show)
    return 0


def queues_at(url: str) -> list[dict[str, Any]]:
    """The queues, as the observer at ``url`` hears of them. Raises ``CliError``."""
    rows: list[dict[str, Any]] = fetch_list(url, "/api/v1/queues", "queues")["queues"]
    return rows


def show(rows: list[dict[str, Any]], format: Any) -> Page:
    """One screen."""
    return render(rows, COLUMNS, format, empty="no queue: every job is admitted at once (docs/batchjob.md#queues)")


def head_text(head: Row | None) -> str:
    """The next job, and what it waits for; an observer of an earlier release does not report it."""
    return f"{head['job']}: {head['message'] or head['reason']}" if head else "-"


def usage_text(usage: list[Row]) -> str:
    """``cpu 3/8, memory 4Gi/16Gi (+1Gi)``: used of owned, and what of it is borrowed."""
    parts = []
    for each in usage:
        flavor = f"{each['flavor']}/" if each["flavor"] not in ("", "default") else ""
        borrowed = f" (+{each['borrowed']})" if each["borrowed"] != "0" else ""
        parts.append(f"{flavor}{each['resource']} {each['used']}/{each['nominal']}{borrowed}")
    return ", ".join(parts) or "-"
