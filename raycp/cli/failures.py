"""``raycp errors``: the objects that fail, of all clusters."""

import argparse
import time
from typing import Any

from raycp.cli.console import put_found
from raycp.cli.observer import add_observer, fetch_list, located
from raycp.cli.output import Column, Page, Row, add_every, add_output, render
from raycp.cli.status import PROBLEMS, since

COLUMNS = [
    Column("CLUSTER", "cluster"),
    Column("CONTROLLER", "controller"),
    Column("OBJECT", "object"),
    Column("CAUSE", "cause"),
    Column("AT", "frame"),
    Column("ATTEMPTS", "attempts", right=True),
    Column("NEXT TRY", lambda row: _next_try(row["nextTry"], time.time())),
    Column("SINCE", lambda row: since(row["since"])),
]


def add_parser(subparsers: Any) -> None:
    """``raycp errors [-w]``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "errors",
        help="the objects that fail, of all clusters, and why",
        description="List the objects whose last reconcile failed: cause, the controller's line, attempts, next try, since when. "
        "Then what is wrong beyond single objects. Of many objects that fail alike some are listed. `raycp why OBJECT` shows one "
        "with its API calls.",
    )
    parser.add_argument("-w", "--watch", action="store_true", help="go on until Ctrl-C")
    add_every(parser)
    add_observer(parser)
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Print them; until interrupted with ``-w``."""
    put_found(args, located(args, failures_at), show)
    return 0


def failures_at(url: str) -> dict[str, Any]:
    """What fails, as the observer at ``url`` knows it. Raises ``CliError``."""
    return fetch_list(url, "/api/v1/errors", "items", "failing")


def show(found: Row, format: Any) -> Page:
    """One screen."""
    page = render(found["items"], COLUMNS, format, empty="no object fails")
    if problems := found.get("problems"):  # a raycp before these answers without
        page.add(render(problems, PROBLEMS, format))
    more = found["failing"] - len(found["items"])
    if more > 0:
        page.add(f"{more} more objects fail like these")
    return page


def _next_try(at: float | None, now: float) -> str:
    """In words; a controller that gave up is not called before the object changes."""
    if at is None:
        return "when it changes"
    return f"in {at - now:.0f} s" if at - now >= 0.5 else "now"
