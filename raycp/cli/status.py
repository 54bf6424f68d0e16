"""``raycp status``: the fleet's status (``raycp.protocol.status.FleetStatus``) as the leader gives it."""

import argparse
import datetime
from typing import Any

import msgspec

from raycp.base.clock import SystemClock
from raycp.base.plaintext import one_line
from raycp.base.problems import FleetProblem, ProblemOwner, runbook_of
from raycp.cli.console import put, watch
from raycp.cli.fleets import add_fleet, at_ray, existing, namespace_of, note_release, run_async
from raycp.cli.output import Column, Page, Row, add_every, add_output, bullets, document, render, text
from raycp.driver.fleet_client import FleetClient
from raycp.protocol.fleet_verdict import VerdictLevel
from raycp.protocol.status import ACCUSED, FleetStatus
from raycp.protocol.verdict import FAILING, verdict

MOST_FAILING = 4
"""Lines on what fails beside the first; as many stand below the status page's sentence."""


def lag_of(row: Row) -> str:
    """Seconds since the newest sign of life; ``-`` before the first."""
    return "-" if row["lagSeconds"] is None else f"{row['lagSeconds']:.3f} s"


CLUSTERS = [
    Column("CLUSTER", "name"),
    Column("ROLE", "role"),
    Column("REACHABLE", "reachable"),
    Column("SYNCED", "synced"),
    Column("OBJECTS", "objects", right=True),
    Column("LAG", lag_of, right=True),
    Column("SHARD", "shard"),
    Column("BREAKER", "breaker", wide=True),
    Column("VERSION", "version", wide=True),
    Column("LABELS", "labels", wide=True),
    Column("KUBECONFIG", "kubeconfig", wide=True),
    Column("REASON", lambda row: "; ".join(filter(None, (row.get("paused") and "paused", row.get("closed"), row["reason"])))),
]
SHARDS = [
    Column("SHARD", "shard"),
    Column("STATE", "state"),
    Column("TERM", "term", right=True),
    Column("STANDBYS", "standbys", right=True),
    Column("CLUSTERS", "clusters"),
    Column("CACHED", lambda row: f"{row['cachedBytes'] / 1e6:.1f} MB", right=True),
    Column("PID", "pid", wide=True, right=True),
    Column("NODE", "node", wide=True),
]
STANDBYS = [
    Column("STANDBY", "standby"),
    Column("STATE", "state"),
    Column("LAG", lag_of, right=True),
    Column("CACHED", lambda row: f"{row['cachedBytes'] / 1e6:.1f} MB", right=True),
    Column("PID", "pid", wide=True, right=True),
    Column("NODE", "node", wide=True),
]
WORKERS = [
    Column("WORKER", "worker"),
    Column("STATE", "state"),
    Column("SLOTS", "slots", right=True),
    Column("BUSY", "busy", right=True),
    Column("PID", "pid", wide=True, right=True),
    Column("NODE", "node", wide=True),
]
POOLS = [
    Column("POOL", "tier"),
    Column("WORKERS", "workers", right=True),
    Column("MIN", "min", right=True),
    Column("MAX", "max", right=True),
    Column("WHY", "reason"),
]
LANES = [
    Column("LANE", "tier"),
    Column("READY", "ready", right=True),
    Column("DELAYED", "delayed", right=True),
    Column("IN FLIGHT", "inFlight", right=True),
    Column("OLDEST", lambda row: f"{row['oldestSeconds']:.3f} s", right=True),
    Column("SHARE", lambda row: f"{100 * row.get('share', 0):.0f} %", right=True),
]
SUSPECTS = [
    Column("SUSPECT", "object"),
    Column("CONTROLLER", "controller"),
    Column("STATE", lambda row: "convicted" if row["convicted"] else "suspect"),
    Column("DEATHS", "deaths", right=True),
    Column("WHY", "reason"),
]
NODES = [
    Column("NODE", "address"),
    Column("STATE", lambda row: "draining" if row["draining"] else "doubted" if row["doubted"] else "ready"),
    Column("HEAD", lambda row: "head" if row["head"] else ""),
    Column("MEMBERS", lambda row: ", ".join([*(["leader"] if row["leader"] else []), *row["members"]])),
]
PROBLEMS = [
    Column("PROBLEM", "code"),
    Column("OF", lambda row: str(msgspec.convert(row["owner"], ProblemOwner))),
    Column("SINCE", lambda row: since(row["since"])),
    Column("WHAT", "message"),
    Column("RUNBOOK", lambda row: runbook_of(row["code"])),
]
TABLES = (
    ("clusters", CLUSTERS),
    ("shards", SHARDS),
    ("standbys", STANDBYS),
    ("workers", WORKERS),
    ("pools", POOLS),
    ("lanes", LANES),
    ("suspects", SUSPECTS),
)


def add_parser(subparsers: Any) -> None:
    """``raycp status [-w] [-c FLEET.yaml | --fleet NAME] [--address HOST:PORT] [-o ...]``."""
    parser: argparse.ArgumentParser = subparsers.add_parser("status", help="leader, shards, workers, clusters and lanes of a fleet")
    parser.add_argument("-w", "--watch", action="store_true", help="show it again and again, until Ctrl-C")
    add_every(parser)
    add_fleet(parser)
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Print the status; 1 where the verdict is that the fleet is not ready; a degraded one is at work. With ``-w`` only Ctrl-C
    ends it."""
    with at_ray(existing(args)):
        client = FleetClient(namespace_of(args))
        if args.watch:
            watch(lambda: show(run_async(_status(client)), args.output), args.every)
        status = run_async(_status(client))
    note_release(status)
    put(show(status, args.output))
    return 1 if judged(status)["verdict"]["level"] == VerdictLevel.NOT_READY else 0


async def _status(client: FleetClient) -> Row:
    status = await client.status()
    beside = await client.beside()
    return status | {"standing": beside} if beside is not None else status  # the standby fleet


def judged(status: Row) -> Row:
    """The status, the verdict first: the leader's, else one made here. The leader of an earlier release reports neither it nor what
    fails."""
    rest = dict(status)
    found = rest.pop("verdict", None)
    if found is None:
        found = msgspec.to_builtins(verdict(msgspec.convert(status, FleetStatus), [], 0, SystemClock().wall()))
    return {"verdict": found, **rest}


def verdict_lines(status: Row) -> list[str]:
    """The verdict as lines: the sentence, and what fails beside it, which no table here shows."""
    found = status["verdict"]
    details = found.get("details") or ()
    if found["level"] == VerdictLevel.FAILING:  # the notes among them are problems, which have a table
        messages = [row["message"] for row in status.get("problems") or []]
        failing = [each for each in details if not any(message in each for message in messages)]
    else:
        failing = [each for each in details if each.startswith(FAILING)]
    more = [f"and {len(failing) - MOST_FAILING} more: see `raycp errors`"] if len(failing) > MOST_FAILING else []
    return [one_line(each) for each in (f"{found['word']}: {found['text']}", *failing[:MOST_FAILING], *more)]


def readiness_of(status: Row) -> str:
    """``ready``, ``degraded`` or ``not ready``, as people read it."""
    return str(status.get("readiness") or ("ready" if status.get("ready") else "not-ready")).replace("-", " ")


def since(seconds: float) -> str:
    """Unix seconds as a time of this machine's zone; nothing for 0."""
    return datetime.datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S") if seconds else ""


def show_standby(beside: Row, format: Any) -> Page:
    """The status of a standby fleet."""
    warm = "warm" if beside.get("warm") else "not warm"
    observer = (beside.get("observer") or {}).get("url", "")
    page = Page(f"standby fleet ({warm}): generation {beside.get('generation', '-')}, observer {observer or '-'}")
    if beside.get("reasons"):
        page.add(bullets(beside["reasons"]))
    if beside.get("standbys"):
        page.add(render(beside["standbys"], STANDBYS, format))
    return page


def show(status: Row, format: Any) -> Page:
    """The status, which begins with the verdict."""
    status = judged(status)
    if format in ("json", "yaml"):
        return document(status, format)
    leader = status.get("leader") or {}
    observer = status.get("observer") or {}
    ready = readiness_of(status)
    lines = "".join(f"{line}\n" for line in verdict_lines(status))
    page = Page(
        f"{lines}fleet {status.get('fleet') or '-'} ({ready}), generation {status.get('generation', '-')}\n"
        f"leader: epoch {text(leader.get('epoch'))}, incarnation {text(leader.get('incarnation'))}, "
        f"lock {text(leader.get('lock'))}, up {leader.get('uptimeSeconds', 0):.0f} s"
        + (f"; a candidate, {leader['heldBy']} leads\n" if leader.get("heldBy") else "\n")
        + f"observer: {text(observer.get('url'))}"
    )
    problems = [row for row in status.get("problems") or [] if row["code"] not in ACCUSED]
    known = {str(msgspec.convert(row, FleetProblem)) for row in problems}
    if reasons := [reason for reason in status.get("reasons") or [] if reason not in known]:
        page.add(bullets(reasons))
    for rows, columns in TABLES:
        if status.get(rows):
            page.add(render(status[rows], columns, format))
    nodes = status.get("nodes") or []
    if len(nodes) > 1 or any(row["draining"] for row in nodes):
        page.add(render(nodes, NODES, format))
    if status.get("standing"):
        page.add(show_standby(status["standing"], format))
    if problems:
        page.add(render(problems, PROBLEMS, format))
    return page
