"""``raycp explain job``: where a job is in its queue, what it waits for, and what each cluster says to it."""

import argparse
import datetime
import urllib.parse
from typing import Any

from raycp.base.plaintext import one_line
from raycp.cli.console import put
from raycp.cli.errors import CliError
from raycp.cli.observer import add_observer, fetch, observer_url
from raycp.cli.output import Column, Page, Row, TextTable, add_output, document

COLUMNS = [
    Column("CLUSTER", "name"),
    Column("FITS", lambda row: "yes" if row["fits"] else "no"),
    Column("PODS", "count", right=True),
    Column("SCORE", lambda row: f"{row['score']:.3g}", right=True),
    Column("REASON", "reason"),
    Column("MESSAGE", "message"),
]


def add_parser(subparsers: Any) -> None:
    """``raycp explain job NAME [-n NAMESPACE]``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "explain",
        help="why a job waits, and what each cluster says to it",
        description="Print a job's queue, its position there, what it waits for, and the verdict on each cluster, by the code that "
        "decides. What has happened to it before: `raycp why hub/BatchJob/NAMESPACE/NAME`.",
    )
    parser.add_argument("kind", choices=["job"], help="what to explain")
    parser.add_argument("name", metavar="NAME", help="the job's name")
    parser.add_argument("-n", "--namespace", default="default", help="the job's namespace (default: default)")
    add_observer(parser)
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Print it; 1 for a job that the scheduler does not know."""
    url = observer_url(args)
    path = "/".join(urllib.parse.quote(part, safe="") for part in (args.namespace, args.name))
    found = fetch(url, f"/api/v1/explain/{path}")
    if found is None:
        raise CliError(
            f"the scheduler knows no job {args.namespace}/{args.name}",
            "jobs without a queue, gang or dependsOn are admitted at once, and finished ones are forgotten: "
            "see `kubectl get batchjobs`, or `raycp why`",
        )
    put(document(found, args.output) if args.output in ("json", "yaml") else show(found))
    return 0


def show(found: Row) -> Page:
    """One screen."""
    queue = found["queue"] or "none"
    lines = [f"job       {found['namespace']}/{found['name']}", f"state     {found['state']}", f"queue     {queue}"]
    if found["position"]:
        lines.append(f"position  {found['position']} of {found['pending']}")
    waits = found["waitsFor"]
    if waits["reason"]:
        lines.append(f"waits for {waits['reason']}: {waits['message']}")
    elif waits["message"]:
        lines.append(f"message   {waits['message']}")
    if found["reservedFrom"] is not None:
        at = datetime.datetime.fromtimestamp(found["reservedFrom"], datetime.UTC)
        lines.append(f"reserved  room and quota, from {at:%Y-%m-%d %H:%M:%S} UTC at the latest")
    page = Page("\n".join(one_line(line) for line in lines))
    if found["clusters"]:
        page.add(TextTable(found["clusters"], COLUMNS))
    return page
